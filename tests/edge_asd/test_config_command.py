"""`edge-asd check-config`: what a technician sees."""

from pathlib import Path

import pytest

from edge_asd.cli import main

CONFIG = """\
schema: 1
site: plant-1
device: line-3
bundle: hand-1.0.0.asd
machines:
  - {name: motor-1, listens_to: bldc/M1, threshold: 1.25, source: {device: USB Audio, channel: 1}}
  - {name: motor-2, listens_to: bldc/M3, threshold: 2, source: {clips: [clips], speed: 20, repeat: true}}
trust: {require_signature: false}
"""


@pytest.fixture
def config(tmp_path, make_hand_bundle) -> Path:
    """A good configuration beside its bundle and clips."""
    make_hand_bundle()
    (tmp_path / "clips").mkdir()
    path = tmp_path / "device.yaml"
    path.write_text(CONFIG)
    return path


def test_a_good_configuration_is_summed_up(config, capsys):
    """The summary names the device, broker, model, and each machine with its source, hop and threshold."""
    assert main(["check-config", str(config)]) == 0
    heading, _, *rows = capsys.readouterr().out.splitlines()
    assert heading == f"{config} is good: plant-1/line-3 reports to localhost:1883, model hand 1.0.0"
    assert [row.split() for row in rows] == [
        ["motor-1", "bldc/M1", "USB", "Audio,", "channel", "1", "0.96", "s", "1.25"],
        ["motor-2", "bldc/M3", "clips", "at", "20", "times", "real", "time,", "repeated", "0.96", "s", "2.00"],
    ]


def test_all_faults_go_to_stderr_with_exit_code_78(config, capsys):
    """Every fault is a line on stderr; nothing is on stdout."""
    config.write_text(CONFIG.replace("plant-1", "a/b").replace("hand-1", "none-1"))
    assert main(["check-config", str(config)]) == 78
    out, err = capsys.readouterr()
    assert out == ""
    assert [line.split("; ")[0] for line in err.removeprefix("edge-asd: ").splitlines()] == [
        f'{config} line 2: site is "a/b"',
        f'{config} line 4: bundle is "none-1.0.0.asd"',
    ]


def test_a_class_that_the_bundle_lacks_is_a_fault_of_the_configuration(config, capsys):
    """The bundle is opened, and each machine's class must be in it."""
    config.write_text(CONFIG.replace("bldc/M3", "bldc/M4"))
    assert main(["check-config", str(config)]) == 78
    found = 'line 7: machines[1].listens_to is "bldc/M4"; expected a class of hand 1.0.0: bldc/M1, bldc/M2, bldc/M3; '
    assert f"edge-asd: {config} {found}" in capsys.readouterr().err


def test_a_class_without_a_threshold_is_told(config, capsys):
    """A machine that takes the bundle's threshold needs one there."""
    config.write_text(CONFIG.replace("threshold: 1.25, ", ""))
    assert main(["check-config", str(config)]) == 78
    assert "no threshold for bldc/M1" in capsys.readouterr().err


def test_a_bundle_that_is_none_is_told(config, tmp_path, capsys):
    """A bundle is verified whole, not only looked for."""
    (tmp_path / "hand-1.0.0.asd").write_bytes(b"no bundle")
    assert main(["check-config", str(config)]) == 78
    assert "hand-1.0.0.asd" in capsys.readouterr().err


def test_a_bundle_that_nobody_signed_is_refused_where_a_signature_is_required(config, capsys):
    """By default it is, and the message says what to do."""
    config.write_text(CONFIG.replace("trust: {require_signature: false}\n", ""))
    assert main(["check-config", str(config)]) == 78
    assert "hand-1.0.0.asd: is not signed" in capsys.readouterr().err


def test_a_key_that_anyones_signature_fits_is_a_fault_of_the_configuration(config, capsys):
    """All zeros are no placeholder."""
    config.write_text(CONFIG.replace("require_signature: false", f"public_keys: ['ed25519:{'A' * 43}=']"))
    assert main(["check-config", str(config)]) == 78
    assert "line 8: trust.public_keys[0]" in capsys.readouterr().err
