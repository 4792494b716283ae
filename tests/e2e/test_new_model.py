"""A new model for a device at work: heard beside the old one, it takes over by itself, or does not and says why."""

import json
import time
import zipfile

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from edge_asd.bundle import sign_bundle
from edge_asd.bundle.archive import sealed_zip
from edge_asd.bundle.signature import public_key

pytestmark = pytest.mark.timeout(400)  # a dozen processes that import everything, on a machine that may be busy
KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))


@pytest.fixture
def make_version(example_bundle, tmp_path):
    """A function: the example as another version, its thresholds moved, signed."""

    def make(version: str, *, moved: float = 0.0):
        with zipfile.ZipFile(example_bundle) as archive:
            contents = {name: archive.read(name) for name in archive.namelist()}
        manifest = json.loads(contents["manifest.json"])
        manifest["version"] = version
        for threshold in manifest["thresholds"].values():
            threshold["threshold"] += moved
        path = tmp_path / f"bldc-motor-{version}.asd"
        path.write_bytes(sealed_zip({**contents, "manifest.json": json.dumps(manifest).encode()}))
        sign_bundle(path, KEY, path)
        return path

    return make


@pytest.fixture
def device(make_device, example_clips):
    """A device that listens to healthy sound without end and runs what KEY signed and was installed."""
    device = make_device(
        bundle=None,
        engine={"prefer": ["onnxruntime", "openvino"], "threads": 1},  # the quickest to open, four times in a test
        trust={"public_keys": [str(public_key(KEY))]},
        shadow={"period_s": 12.0, "max_extra_alarms": 0, "max_drift": 4.0, "trial_s": 60.0},
    )
    device.machine["source"] = {"clips": example_clips("M1", "healthy"), "speed": 8.0, "repeat": True}
    return device


def versions(heard):
    """The model of each score, in order."""
    return [message.payload["model"]["version"] for message in heard if message.leaf == "score"]


def status(edge_asd, device):
    """The installed models, as scripts read them."""
    code, out, err = edge_asd("bundle", "status", "--config", device.path, "--json")
    assert code == 0, err
    return json.loads(out)


def test_new_model_takes_over_while_the_daemon_listens(device, mosquitto, subscribe, make_version, edge_asd):
    """Installed beside the running daemon, it passes its shadow period, serves, and proves itself; seq has no gap."""
    device.write(mosquitto.url)
    assert edge_asd("bundle", "install", make_version("1.0.0"), "--config", device.path, timeout_s=180)[0] == 0
    subscriber = subscribe(mosquitto)
    process = device.start(mosquitto.url)
    subscriber.wait_for(lambda heard: "1.0.0" in versions(heard), 120)
    code, _, err = edge_asd("bundle", "install", make_version("1.1.0"), "--config", device.path, timeout_s=180)
    assert code == 0, err
    heard = subscriber.wait_for(lambda heard: versions(heard).count("1.1.0") > 5, 180)
    assert process.poll() is None
    seqs = [message.payload["seq"] for message in heard if message.topic.split("/")[3] == "motor-1"]
    assert seqs == list(range(seqs[0], seqs[0] + len(seqs)))
    assert versions(heard) == sorted(versions(heard))  # never back again
    record = status(edge_asd, device)
    assert (record["slots"]["b"]["state"], record["slots"]["a"]["state"]) == ("trial", "good")


@pytest.mark.slow
def test_model_that_would_alarm_falsely_never_serves(device, mosquitto, subscribe, make_version, edge_asd):
    """Its thresholds lie below healthy sound: the old model serves on, nobody hears of an alarm, status says why."""
    device.write(mosquitto.url)
    for path in (make_version("1.0.0"), make_version("1.1.0", moved=-60.0)):
        assert edge_asd("bundle", "install", path, "--config", device.path, timeout_s=180)[0] == 0
    subscriber = subscribe(mosquitto)
    device.start(mosquitto.url)
    give_up_s = time.monotonic() + 90
    while status(edge_asd, device)["slots"]["b"]["state"] == "shadow":
        assert time.monotonic() < give_up_s
        time.sleep(0.5)
    heard = subscriber.wait_for(lambda heard: versions(heard).count("1.0.0") > 20, 60)
    assert set(versions(heard)) == {"1.0.0"}
    assert not [message for message in heard if message.leaf == "alarm"]
    failed = status(edge_asd, device)["slots"]["b"]
    assert (failed["state"], "motor-1" in failed["why"]) == ("failed", True)


@pytest.mark.slow
def test_model_that_crashes_the_daemon_on_trial_gives_way(device, mosquitto, subscribe, make_version, edge_asd):
    """Three SIGKILLs in a row while it is on trial, as crashes would be: the start after them serves the old one."""
    device.config["shadow"]["trial_s"] = 1e6
    device.write(mosquitto.url)
    for version in ("1.0.0", "1.1.0"):
        assert edge_asd("bundle", "install", make_version(version), "--config", device.path, timeout_s=180)[0] == 0
    subscriber = subscribe(mosquitto)
    process = device.start(mosquitto.url)
    subscriber.wait_for(lambda heard: "1.1.0" in versions(heard), 120)
    for crash in range(3):
        process.kill()
        process.wait()
        n_heard = len(subscriber.heard)
        process = device.start(mosquitto.url)
        expected = "1.1.0" if crash < 2 else "1.0.0"
        subscriber.wait_for(lambda heard, n=n_heard, name=expected: name in versions(heard[n:]), 120)
    record = status(edge_asd, device)["slots"]
    assert (record["a"]["state"], record["b"]["state"]) == ("good", "failed")
    assert "crashed 3 times in a row" in record["b"]["why"]
