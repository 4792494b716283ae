"""A device's configuration, good and bad."""

import re
import textwrap
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_asd.config import ClipsSource, SoundCardSource, check_classes, load_config
from edge_asd.config.values import HOP_STEP_SAMPLES, MAX_HOP_SAMPLES
from edge_asd.errors import ConfigError
from edge_asd.messages import TOPIC_NAME_RULE

GOOD = """\
schema: 1
site: plant-1
device: line-3
bundle: motors-1.0.0.asd
machines:
  - name: motor-1
    listens_to: bldc/M1
"""


def write(folder: Path, text: str) -> Path:
    """A configuration beside an (empty) bundle and a clip."""
    (folder / "motors-1.0.0.asd").touch()
    (folder / "a.flac").touch()
    path = folder / "device.yaml"
    path.write_text(textwrap.dedent(text), encoding="utf-8")
    return path


def faults(path: Path) -> list[str]:
    """The lines of the error, without the file's name."""
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    assert caught.value.exit_code == 78
    lines = str(caught.value).splitlines()
    assert all(line.startswith(str(path)) for line in lines)
    return [line.removeprefix(str(path)).strip() for line in lines]


def test_what_is_not_given_has_a_default(tmp_path):
    """A short file is enough: one sound card, a hop of 0.96 s, a local broker."""
    config = load_config(write(tmp_path, GOOD))
    assert (config.site, config.device, config.schema_version) == ("plant-1", "line-3", 1)
    assert config.bundle == tmp_path / "motors-1.0.0.asd"
    assert config.state_dir == Path("/var/lib/edge-asd")
    assert config.engine.prefer == ("tensorrt", "openvino", "onnxruntime")
    (machine,) = config.machines
    assert machine.source == SoundCardSource(device=None, channel=0)
    assert (machine.hop_samples, machine.threshold) == (15_360, None)
    assert (config.mqtt.host, config.mqtt.port, config.mqtt.password_file) == ("localhost", 1883, None)


def test_recordings_and_paths_are_relative_to_the_file(tmp_path, monkeypatch):
    """Clips, bundle, state folder and password file are found beside the file, wherever the program was started."""
    (tmp_path / "password").write_text("hunter2\nnot this\n")
    text = GOOD + (
        "    source: {clips: [a.flac], speed: 20, repeat: true}\n"
        "state_dir: state\nmqtt: {url: 'mqtt://[::1]:2883', username: line-3, password_file: password}\n"
    )
    path = write(tmp_path, text)
    monkeypatch.chdir("/")
    config = load_config(path)
    assert config.machines[0].source == ClipsSource(clips=(tmp_path / "a.flac",), speed=20.0, repeat=True)
    assert config.state_dir == tmp_path / "state"
    assert config.mqtt.broker_settings(site="hall", device="orin").password == "hunter2"  # noqa: S105 (of this test)
    assert (config.mqtt.host, config.mqtt.port) == ("::1", 2883)


def test_machines_may_share_a_card_on_different_channels(tmp_path):
    """Two machines on one card, each on its own channel, are a good configuration."""
    second = "  - {name: motor-2, listens_to: bldc/M2, source: {device: USB, channel: 1}}\n"
    config = load_config(write(tmp_path, GOOD + "    source: {device: USB, channel: 0}\n" + second))
    assert [machine.source.channel for machine in config.machines] == [0, 1]


def test_all_faults_are_told_at_once_with_their_lines(tmp_path):
    """Every fault of a file is one line of one error: file, line, key, what was found, expected and to do."""
    path = write(
        tmp_path,
        """\
        schema: 1
        site: plant/1
        device: 12
        bundle: nope.asd
        colour: red
        engine: {prefer: [openvino, openvino], precision: int4, threads: 0}
        machines:
          - name: motor-1
            listens_too: bldc/M1
            source: {device: 3, chanel: 0}
            hop_samples: 16000
          - name: motor-1
            listens_to: bldc
            source: {clips: a.flac, speed: "20", repeat: maybe}
            threshold: .nan
            alarm: {on_delay_s: -1}
        mqtt: {url: "mqtt://user:secret@host", keepalive_s: 1.5}
        bundle: again.asd
        log:
        """,
    )
    topic = f"expected {TOPIC_NAME_RULE}"
    assert faults(path) == [
        f'line 2: site is "plant/1"; {topic}; correct it',
        f"line 3: device is 12; {topic}; put it in quotes",
        f'line 4: bundle is "nope.asd"; there is no file {tmp_path}/nope.asd; expected one; check the path',
        (
            "line 5: colour is not a key; expected one of schema, site, device, bundle, trust, shadow, state_dir, "
            "engine, machines, enroll, mqtt, spool, evidence, log, metrics; remove it"
        ),
        'line 6: engine.precision is "int4"; expected one of int8, fp16, fp32; correct it',
        'line 6: engine.prefer is ["openvino", "openvino"]; expected each name once; remove the repeated one',
        "line 6: engine.threads is 0; expected a whole number from 1 to 64 or null; correct it",
        "line 8: machines[0].listens_to is missing; expected TYPE/ID, as bldc/M1, or enrolled; add it",
        (
            "line 9: machines[0].listens_too is not a key; did you mean listens_to? The keys here are name, "
            "listens_to, source, hop_samples, scorer, threshold, alarm, sensor"
        ),
        (
            "line 10: machines[0].source.chanel is not a key; did you mean channel? The keys here are device, alsa_id, "
            "usb_path, channel"
        ),
        "line 10: machines[0].source.device is 3; expected the name of a sound card or null; put it in quotes",
        "line 11: machines[0].hop_samples is 16000; expected a multiple of 2560; use 15360 (0.96 s)",
        (
            'line 12: machines[1].name is "motor-1", as is machines[0].name in line 8; expected a name of its own; '
            "rename one"
        ),
        'line 13: machines[1].listens_to is "bldc"; expected TYPE/ID, as bldc/M1, or enrolled; correct it',
        'line 14: machines[1].source.clips is "a.flac"; expected a list of clips or folders; put it in [ ]',
        'line 14: machines[1].source.repeat is "maybe"; expected true or false; correct it',
        (
            'line 14: machines[1].source.speed is "20"; expected a number above 0 and up to 1000; write the number '
            "without quotes, and without an exponent"
        ),
        "line 15: machines[1].threshold is NaN; expected a number or null; correct it",
        "line 16: machines[1].alarm.on_delay_s is -1; expected a number from 0 to 86400; correct it",
        "line 17: mqtt.keepalive_s is 1.5; expected a whole number from 5 to 3600; correct it",
        (
            'line 17: mqtt.url is "mqtt://...@host"; expected mqtt://HOST:PORT or mqtts://HOST:PORT, with the login in '
            "username and password_file; correct it"
        ),
        "line 18: bundle is given again, after line 4; expected each key once; remove one",
        "line 19: log is null; expected the keys level, format; give one, or remove the key where it has a default",
    ]


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("    source: {clips: [b.flac]}", r"line 8: machines\[0\].source.clips\[0\] is .*there is no file or folder"),
        ("    source: {clips: []}", r"line 8: machines\[0\].source.clips is \[\]; expected a list of clips"),
        ("    source: {clips: [a.flac], device: USB}", "source.device is not a key; expected one of clips, speed"),
        (
            "    source: {device: USB, usb_path: 1-2}",
            r"line 8: machines\[0\].source: device and usb_path are given; expected one alone .*; remove the others",
        ),
        ("    source: {usb_path: usb1}", r'source.usb_path is "usb1"; expected a USB port, as 1-2.3, or null'),
        ("    source: {alsa_id: 1}", "source.alsa_id is 1; expected a card's id in /proc/asound or null"),
        ("    source: USB", 'source is "USB"; expected a sound card .* or recordings'),
        ("    hop_samples: 160000", "expected a multiple of 2560 and at most 158720, within one window; use 158720"),
        ("    hop_samples: 0", r"hop_samples is 0; expected a multiple of 2560; use 2560 \(0.16 s\)"),
        ("    threshold: '7'", 'threshold is "7"; expected a number or null; write the number without quotes'),
        (
            "  - {name: press, listens_to: enrolled, scorer: fusion}",
            r"line 8: machines\[1\]: scorer is fusion with .*; expected knn or null.*; remove scorer",
        ),
        ("  - motor", r'line 8: machines\[1\] is "motor"; expected the keys name, listens_to'),
        ("site: again", "line 8: site is given again, after line 2"),
        ("mqtt: {url: 'http://host'}", "expected mqtt://HOST:PORT or mqtts://HOST:PORT"),
        ("mqtt: {protocol: 3}", "line 8: mqtt.protocol is 3; expected one of 5, 3.1.1; correct it"),
        ("mqtt: {ca_file: a.flac}", "line 8: mqtt: ca_file and cert_file are for TLS; expected mqtts://HOST in url"),
        ("mqtt: {url: 'mqtts://h', cert_file: a.flac}", "line 8: mqtt: cert_file and key_file go together"),
        ("mqtt: {username: me, username_file: a.flac}", "line 8: mqtt: username and username_file are given"),
        ("mqtt: {url: 'mqtt://host:99999'}", "with a port from 1 to 65535"),
        ("mqtt: {password_file: a.flac}", "line 8: mqtt: password_file is given without username; expected both"),
        ("mqtt: {username: me, password_file: none}", "mqtt.password_file is .*there is no file"),
        ("spool: {max_bytes: 1e8}", 'max_bytes is "1e8"; expected a whole number from 1048576 .*without an exponent'),
        ("log: {level: loud}", "log.level is .*expected one of debug, info, warning, error"),
        ("spool: &s {max_bytes: 2000000}\nlog: *s", r"line 9: found the alias \*s; expected the value itself"),
        ("? [a]\n: 1", "line 8: a key of the file is a list or mapping"),
        ("mqtt: {client_id: 2024-13-45}", "mqtt.client_id is 2024-13-45, which YAML cannot read .*put it in quotes"),
        ("log: [1", "not valid YAML .*quotes, colons and indentation"),
        ("log:\n\tlevel: info", "line 9: it is not valid YAML .*; indent with spaces"),
        ("log: !!python/object:os.system x", "line 8: it is not valid YAML .*constructor"),
        ("log: " + "[" * 100_000, "line 8: found more than 32 levels of nesting"),
        ("log: {level: \x01}", "line 8: character 0x0001 cannot stand in YAML"),
        ('log: {level: "\\ud800"}', "holds an escape that is no character"),
        ("---\nmore: 1", "line 8: .*another document"),
    ],
)
def test_a_fault_names_its_line_and_what_to_do(tmp_path, line, fault):
    """Each kind of fault, in an otherwise good file, gives one line that says where it is and what was expected."""
    (found,) = faults(write(tmp_path, GOOD + line + "\n"))
    assert re.search(fault, found), found


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (None, "cannot be read (No such file or directory)"),
        (b"", "it is empty; expected a device's YAML configuration"),
        (b"# nothing\n", "it is empty"),
        (b"- a\n", 'line 1: the file is ["a"]; expected the keys schema, site'),
        (b"site: \xff\n", "it is not UTF-8 text"),
        (b"#" * 1_000_001, "larger than 1 MB"),
    ],
)
def test_a_file_that_is_no_configuration_says_so(tmp_path, content, text):
    """No file, an empty one, another encoding, another kind of document: one clear line."""
    path = tmp_path / "device.yaml"
    if content is not None:
        path.write_bytes(content)
    assert any(text in fault for fault in faults(path))


def test_names_that_cannot_be_topics_are_refused(tmp_path):
    """Wildcards, slashes, control characters, spaces around and over-long names are no part of a topic."""
    for name in ("a/b", "a+", "#", "*", "$SYS", " a", "a ", "a\\tb", "a\\u200bb", "", "x" * 65):
        path = write(tmp_path, GOOD.replace("motor-1", f'"{name}"'))
        assert any("machines[0].name is" in fault for fault in faults(path)), name
    for name in ("Halle 2", "prüfstand.7", "x", "x" * 64):
        assert load_config(write(tmp_path, GOOD.replace("motor-1", f'"{name}"'))).machines[0].name == name


@settings(deadline=None, max_examples=40)
@given(hop=st.integers(-(10**6), 10**6))
def test_every_hop_is_good_or_told_which_would_be(tmp_path_factory, hop):
    """A hop is a multiple of 2560 within a window; for any other, the error names one that is good."""
    path = write(tmp_path_factory.mktemp("hop"), f"{GOOD}    hop_samples: {hop}\n")
    if hop % HOP_STEP_SAMPLES == 0 and 0 < hop <= MAX_HOP_SAMPLES:
        assert load_config(path).machines[0].hop_samples == hop
        return
    (fault,) = faults(path)
    use = int(fault.rsplit("use ", 1)[1].split()[0])
    path.write_text(f"{GOOD}    hop_samples: {use}\n")
    assert abs(load_config(path).machines[0].hop_samples - hop) <= max(HOP_STEP_SAMPLES / 2, abs(hop - use))


def test_files_need_not_exist_when_asked(tmp_path):
    """A configuration can be checked ahead of the bundle, clips and password that it names."""
    text = (
        GOOD.replace("motors-1", "later-1")
        + "    source: {clips: [later.flac]}\nmqtt: {username: a, password_file: b}\n"
    )
    path = write(tmp_path, text)
    assert len(faults(path)) == 3
    assert load_config(path, files_must_exist=False).bundle == tmp_path / "later-1.0.0.asd"


def test_a_class_that_the_bundle_lacks_is_told_with_its_line(tmp_path):
    """What machines listen to is held against the classes of the bundle."""
    config = load_config(write(tmp_path, GOOD + "  - {name: motor-2, listens_to: bldc/M9}\n"))
    check_classes(config, ["bldc/M1", "bldc/M9"], bundle="motors 1.0.0")
    with pytest.raises(ConfigError) as caught:
        check_classes(config, ["bldc/M1", "bldc/M2"], bundle="motors 1.0.0")
    assert str(caught.value) == (
        f'{tmp_path}/device.yaml line 8: machines[1].listens_to is "bldc/M9"; expected a class of motors 1.0.0: '
        "bldc/M1, bldc/M2; choose one, or a bundle that was trained on it, or write enrolled and have the device learn "
        "it: edge-asd enroll"
    )


@pytest.mark.parametrize(("content", "text"), [(b"\n", "first line is empty"), (b"\xff", "not UTF-8")])
def test_a_password_that_cannot_be_read_says_why(tmp_path, content, text):
    """An empty or garbled password file is an error that names it, and does not show it."""
    (tmp_path / "password").write_bytes(content)
    config = load_config(write(tmp_path, GOOD + "mqtt: {username: me, password_file: password}\n"))
    with pytest.raises(ConfigError, match=text):
        config.mqtt.broker_settings(site="hall", device="orin")


def test_login_comes_from_credentials_of_the_unit(tmp_path, monkeypatch):
    """Under systemd secrets lie in a folder of the unit's: what was loaded there is found."""
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    (credentials / "user").write_text("hall/orin\n")
    (credentials / "password").write_text("a secret\n")
    path = write(
        tmp_path,
        GOOD + "mqtt: {username_file: $CREDENTIALS_DIRECTORY/user, password_file: $CREDENTIALS_DIRECTORY/password}\n",
    )
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(credentials))
    settings = load_config(path).mqtt.broker_settings(site="hall", device="orin")
    assert (settings.username, settings.password) == ("hall/orin", "a secret")
    assert settings.client_id == "edge-asd-hall-orin"
    (credentials / "password").unlink()
    [fault] = faults(path)
    assert f'mqtt.password_file is "$CREDENTIALS_DIRECTORY/password"; there is no file {credentials}/password' in fault


def test_credentials_are_asked_for_only_where_the_unit_runs(tmp_path, monkeypatch):
    """check-config by hand finds the file good; a start without the unit says what is missing."""
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    path = write(tmp_path, GOOD + "mqtt: {username: me, password_file: $CREDENTIALS_DIRECTORY/password}\n")
    config = load_config(path)
    with pytest.raises(ConfigError, match=r"CREDENTIALS_DIRECTORY is not set; expected it from systemd"):
        config.mqtt.broker_settings(site="hall", device="orin")


def test_tls_files_are_tried_at_the_start(tmp_path):
    """A file that is no certificate ends the start with a message that names it, instead of failing for ever."""
    (tmp_path / "no.pem").write_text("no certificate")
    path = write(tmp_path, GOOD + "mqtt: {url: mqtts://broker, ca_file: no.pem}\n")
    config = load_config(path)
    assert config.mqtt.port == 8883
    with pytest.raises(ConfigError, match=r"no\.pem: .*expected certificates of authorities in PEM; check the files"):
        config.mqtt.broker_settings(site="hall", device="orin")
    path = write(tmp_path, GOOD + "mqtt: {url: mqtts://broker, cert_file: no.pem, key_file: no.pem}\n")
    with pytest.raises(ConfigError, match=r"no\.pem with the key .*expected a certificate and its own key in PEM"):
        load_config(path).mqtt.broker_settings(site="hall", device="orin")
