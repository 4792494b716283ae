"""`edge-asd doctor` on devices with real faults."""

import json
import socket

import pytest

PASSWORD = "quiet-1"  # noqa: S105  # of a broker that lives as long as the test


@pytest.fixture
def examine(edge_asd):
    """A function: writes a device's configuration and examines it; exit code and findings by subject."""

    def run(device, **mqtt):
        device.config["mqtt"] = mqtt
        device.path.write_text(json.dumps(device.config))
        code, out, said = edge_asd("doctor", "--config", device.path, "--json")
        assert out, said
        return code, {finding["subject"]: (finding["verdict"], finding["text"]) for finding in json.loads(out)}

    return run


@pytest.fixture
def password_file(tmp_path):
    path = tmp_path / "password"
    path.write_text(f"{PASSWORD}\n")
    path.chmod(0o600)
    return path


def test_a_device_that_is_well(make_mosquitto, make_device, examine, edge_asd, password_file):
    """With broker, login, model and folder in order nothing is bad: exit code 0, and people read the same."""
    broker = make_mosquitto(accounts={"fan": PASSWORD})
    broker.start()
    device = make_device()
    code, found = examine(device, url=broker.url, username="fan", password_file=str(password_file))
    assert code == 0, found
    assert {subject for subject, (verdict, _) in found.items() if verdict == "good"} >= {
        "state",
        "secrets",
        "model",
        "broker",
    }
    assert "passes its self-test on openvino int8" in found["model"][1]
    code, out, said = edge_asd("doctor", "--config", device.path)
    assert code == 0, said
    assert "good  broker: " in out


def test_each_fault_is_found_and_says_what_to_do(make_mosquitto, make_device, examine, password_file, tmp_path):
    """A folder that is none, a card that is not there, an open secret and a refused login show at once: exit code 1."""
    broker = make_mosquitto(accounts={"fan": "another"})
    broker.start()
    (tmp_path / "file").touch()
    device = make_device(state_dir=str(tmp_path / "file" / "state"))
    device.machine["source"] = {"device": "no such card"}
    device.config["engine"]["prefer"] = ["tensorrt", "openvino"]
    password_file.chmod(0o644)
    code, found = examine(device, url=broker.url, username="fan", password_file=str(password_file))
    assert code == 1
    assert found["state"][0] == "bad"
    assert "expected a folder that the daemon may write" in found["state"][1]
    assert found["secrets"][0] == "poor"
    assert f"chmod 600 {password_file}" in found["secrets"][1]
    assert found["broker"][0] == "bad"
    assert "refused" in found["broker"][1]
    sound = next(finding for subject, finding in found.items() if subject.startswith("sound"))
    assert sound[0] == "bad"
    assert "card" in sound[1] or "PortAudio" in sound[1]


def test_a_machine_that_the_daemon_hears_is_not_disturbed(mosquitto, make_device, subscribe, examine):
    """While the daemon runs, its spool and port stay its own, and the doctor looks on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    device = make_device(metrics={"port": port})
    device.machine["source"].update(speed=10.0, repeat=True)
    subscriber = subscribe(mosquitto)
    process = device.start(mosquitto.url)
    subscriber.wait_for(lambda heard: any(message.leaf == "score" for message in heard), 60)
    code, found = examine(device, url=mosquitto.url)
    assert code == 0, found
    assert process.poll() is None
