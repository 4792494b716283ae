"""edge-asd bundle from a new key to a rollback, as people type it; the self-test runs in a real process."""

from __future__ import annotations

import json
import os

import numpy as np
import pytest

from edge_asd.cli import main

CONFIG = """\
schema: 1
site: hall
device: bench
trust: {public_keys: [KEY]}
state_dir: state
engine: {prefer: [onnxruntime, openvino], precision: fp32}
machines:
  - {name: m1, listens_to: bldc/M1, source: {clips: [clips]}}
"""


@pytest.fixture
def say(capsys):
    """A function that runs `edge-asd bundle ...`: exit code, stdout, stderr."""

    def say(*arguments):
        code = main(["bundle", *map(str, arguments)])
        out, err = capsys.readouterr()
        return code, out, err

    return say


@pytest.fixture
def config(tmp_path, say):
    """A device that trusts a new key, models.key beside it."""
    code, key, _ = say("keygen", tmp_path / "models.key")
    assert code == 0
    (tmp_path / "clips").mkdir()
    (tmp_path / "device.yaml").write_text(CONFIG.replace("KEY", key.strip()))
    return tmp_path / "device.yaml"


@pytest.fixture
def signed(make_hand_bundle, tmp_path, say):
    """A function that makes a version of the hand network and signs it."""

    def make(version, **changes):
        path = make_hand_bundle(version=version, threshold=50.0, **changes).path
        code, out, _ = say("sign", path, "--key", tmp_path / "models.key")
        assert code == 0
        assert "signed by ed25519:" in out
        return path

    return make


def status(say, config) -> dict:
    """The record, as scripts read it."""
    code, out, _ = say("status", "--config", config, "--json")
    assert code == 0
    return json.loads(out)


def test_models_from_key_to_rollback(say, config, signed):
    """The first serves, the second waits in shadow, a rollback ends that; status says which and why."""
    assert "no model is installed" in say("status", "--config", config)[1]
    assert say("install", signed("1.0.0"), "--config", config)[0] == 0
    code, out, _ = say("install", signed("2.0.0"), "--config", config)
    assert code == 0
    assert "hand 2.0.0 is in slot b, in shadow beside hand 1.0.0, which serves" in out
    record = status(say, config)
    assert (record["active"], record["slots"]["b"]["state"]) == ("a", "shadow")
    code, out, _ = say("rollback", "--config", config, "--why", "too loud")
    assert (code, out) == (0, "hand 2.0.0 will not take over; hand 1.0.0 serves on\n")
    assert status(say, config)["slots"]["b"]["why"] == "rolled back: too loud"
    code, _, err = say("rollback", "--config", config)
    assert (code, "no model to go back to" in err) == (2, True)
    code, _, err = say("install", signed("1.0.0"), "--config", config)
    assert (code, "serves already" in err) == (2, True)


def test_status_is_a_table_for_people(say, config, signed, monkeypatch):
    """With who signed, the state and why."""
    monkeypatch.setenv("COLUMNS", "200")
    say("install", signed("1.0.0"), "--config", config)
    _, out, _ = say("status", "--config", config)
    for text in ("serves", "hand 1.0.0", "trial", "the first model of this device", "ed25519:"):
        assert text in out


def test_model_that_nobody_trusted_signed_is_not_installed(say, config, make_hand_bundle, tmp_path):
    """Unsigned or of another key; nothing is written."""
    path = make_hand_bundle(threshold=50.0).path
    code, _, err = say("install", path, "--config", config)
    assert (code, "is not signed" in err) == (78, True)
    say("keygen", tmp_path / "other.key")
    say("sign", path, "--key", tmp_path / "other.key")
    code, _, err = say("install", path, "--config", config)
    assert (code, "which is not trusted" in err) == (78, True)
    assert not (tmp_path / "state").exists()


def test_model_that_fails_its_self_test_here_is_not_installed(say, config, signed, tmp_path):
    """The serving one stays, and no file is left."""
    say("install", signed("1.0.0"), "--config", config)
    before = status(say, config)
    code, _, err = say("install", signed("2.0.0", score=np.array([1e3, 1e3], np.float32)), "--config", config)
    assert (code, "self-test" in err) == (78, True)
    assert status(say, config) == before
    assert [path.name for path in (tmp_path / "state" / "models").glob("*.asd")] == ["model-1.asd"]


def test_model_without_a_threshold_for_what_is_listened_to_is_not_installed(say, config, make_hand_bundle, tmp_path):
    """It could not serve."""
    path = make_hand_bundle().path
    say("sign", path, "--key", tmp_path / "models.key")
    code, _, err = say("install", path, "--config", config)
    assert (code, "no threshold for bldc/M1" in err) == (78, True)


def test_device_whose_configuration_names_a_file_installs_nothing(say, config, signed):
    """It would not run it."""
    path = signed("1.0.0")
    config.write_text(config.read_text() + f"bundle: {path.name}\n")
    code, _, err = say("install", path, "--config", config)
    assert (code, "line 9: bundle names the file" in err, "bundle: null" in err) == (2, True, True)


def test_install_as_another_user_than_the_daemons_is_refused(say, config, signed, tmp_path, monkeypatch):
    """What root writes the daemon could not change."""
    (tmp_path / "state").mkdir()
    monkeypatch.setattr(os, "geteuid", lambda: 4_242)
    code, _, err = say("install", signed("1.0.0"), "--config", config)
    assert (code, "sudo -u" in err) == (2, True)


def test_verify_tells_the_signer_and_holds_it_against_whom_one_names(say, config, signed, tmp_path):
    """By a device's configuration or by keys."""
    path = signed("1.0.0")
    _, out, _ = say("verify", path)
    key = out.split("signed by ")[1].split(",")[0]
    assert "who is trusted" in say("verify", path, "--config", config)[1]
    assert "who is trusted" in say("verify", path, "--key", key)[1]
    _, other, _ = say("keygen", tmp_path / "other.key")
    code, _, err = say("verify", path, "--key", other.strip())
    assert (code, "which is not trusted" in err) == (78, True)


def test_test_runs_the_golden_windows(say, config, signed):
    """On the engine that the configuration prefers."""
    code, out, _ = say("test", signed("1.0.0"), "--config", config)
    assert (code, "passes its self-test with" in out) == (0, True)
