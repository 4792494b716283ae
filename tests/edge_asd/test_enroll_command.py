"""`edge-asd enroll` from clips, with a network small enough to be computed by hand: what goes live, what is refused."""

import os
import re
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import soundfile
import yaml

from edge_asd.cli import main


@pytest.fixture
def device(tmp_path, make_hand_bundle):
    """A device with one machine that is to be enrolled, and one that the bundle was trained on."""
    config = {
        "schema": 1,
        "site": "hall",
        "device": "orin",
        "bundle": str(make_hand_bundle(threshold=5.0).path),
        "trust": {"require_signature": False},
        "state_dir": "state",
        "engine": {"prefer": ["onnxruntime"]},
        "machines": [{"name": "press", "listens_to": "enrolled"}, {"name": "motor", "listens_to": "bldc/M1"}],
        "enroll": {"false_alarms_per_week": 1e4},
    }
    path = tmp_path / "device.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


@pytest.fixture
def make_clips(tmp_path):
    """A function: a folder of n clips of a noise, each a window long, drawn by the seed."""

    def make(n, *, seed=0, offset=0.0):
        random = np.random.default_rng(seed)
        folder = tmp_path / f"clips-{seed}-{n}-{offset}"
        folder.mkdir()
        for index in range(n):
            samples = offset + 0.1 * random.standard_normal(4_200) * (1.0 + 0.2 * random.random())
            soundfile.write(folder / f"{index:03}.flac", np.clip(samples, -1.0, 1.0), 16_000)
        return folder

    return make


@pytest.fixture
def enroll(device, capsys):
    """A function that runs the command: exit code, stdout, stderr."""

    def run(*arguments, machine="press"):
        code = main(["enroll", machine, "--config", str(device), *map(str, arguments)])
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


def n_windows(out):
    """How many the summary tells."""
    return int(re.search(r"(\d+) windows", out)[1])


def test_clips_are_learned_and_go_live(enroll, make_clips, device, capsys) -> None:
    """The summary says what was learned, check-config shows it, and the report finds fresh clips unchanged."""
    code, out, err = enroll("--clips", make_clips(40))
    assert (code, n_windows(out)) == (0, 40), err
    assert main(["check-config", str(device)]) == 0
    assert "enrolled" in capsys.readouterr().out
    code, out, _ = enroll("--report", "--clips", make_clips(40, seed=1))
    assert (code, "it sounds as it was learned" in out) == (0, True)


def test_more_is_added_and_forgotten(enroll, make_clips) -> None:
    """By --add, and by the time range of all that was learned but the sound added after it."""
    clips = make_clips(20)
    assert enroll("--clips", clips)[0] == 0
    code, _, err = enroll("--clips", clips)
    assert (code, "expected --add" in err) == (2, True)
    code, out, _ = enroll("--add", "--clips", clips, make_clips(15, seed=2))
    assert (code, n_windows(out)) == (0, 35)  # the first twenty are known
    code, _, err = enroll("--forget", "2001-01-01T00:00:00Z", "2002-01-01T00:00:00+00:00")
    assert (code, "nothing was learned between" in err) == (2, True)
    code, _, err = enroll("--forget", "2001-01-01T00:00:00Z", "2100-01-01T00:00:00Z")
    assert (code, "expected at least 10" in err) == (65, True)
    assert n_windows(enroll("--report", "--clips", clips)[1]) == 35  # what is live stays


def test_what_is_no_normal_sound_is_refused(enroll, make_clips, tmp_path) -> None:
    """A faulty ear, copies under other names, too few clips; nothing of it goes live."""
    code, _, err = enroll("--clips", make_clips(12, offset=0.3))
    assert (code, "refused: 3 s dc" in err, "0 windows" in err) == (65, True, True)
    enroll("--cancel")
    code, _, err = enroll("--clips", make_clips(4))
    assert (code, "4 windows" in err) == (65, True)
    enroll("--cancel")
    (one,) = make_clips(1, seed=3).iterdir()
    copies = tmp_path / "copies"
    copies.mkdir()
    for index in range(12):
        (copies / f"{index}.flac").write_bytes(one.read_bytes())
    code, _, err = enroll("--clips", copies)
    assert (code, "1 windows" in err) == (65, True)
    assert enroll("--report")[0] == 2


def test_clips_that_were_heard_are_not_heard_again(enroll, make_clips) -> None:
    """Too few at first: what was collected stays, and the next call adds to it."""
    assert enroll("--clips", make_clips(6))[0] == 65
    code, out, err = enroll("--clips", make_clips(6, seed=1))
    assert (code, n_windows(out)) == (0, 12)
    assert "going on after 6 clips" in err


def test_only_a_machine_that_is_to_be_enrolled_is(enroll, make_clips) -> None:
    """Not one that the bundle was trained on, nor one that is not there; and not more added than there is."""
    clips = make_clips(1)
    assert "which the bundle was trained on" in enroll("--clips", clips, machine="motor")[2]
    assert "has no machine 'mixer'" in enroll("--clips", clips, machine="mixer")[2]
    assert "is not enrolled with this model" in enroll("--add", "--clips", clips)[2]
    assert "expected 5 to 1440" in enroll("--minutes", "1")[2]


def test_memory_of_another_network_is_not_used(enroll, make_clips, device, make_hand_bundle) -> None:
    """A new model needs an enrolment of its own; the old one's memory is there again when it comes back."""
    assert enroll("--clips", make_clips(12))[0] == 0
    config = yaml.safe_load(device.read_text())
    old, config["bundle"] = config["bundle"], str(make_hand_bundle(n_classes=4, version="2.0.0", threshold=5.0).path)
    device.write_text(yaml.safe_dump(config))
    assert "is not enrolled with model hand 2.0.0" in enroll("--report")[2]
    config["bundle"] = old
    device.write_text(yaml.safe_dump(config))
    assert "12 windows" in enroll("--report", "--clips", make_clips(1, seed=9))[1]


def test_damaged_memory_is_refused_and_learned_anew(enroll, make_clips, device) -> None:
    """--anew is the way out, and the message names it."""
    assert enroll("--clips", make_clips(12))[0] == 0
    (live,) = (device.parent / "state" / "enrolled" / "press").glob("live-*.learned")
    data = live.read_bytes()
    live.write_bytes(data[:900] + bytes([data[900] ^ 1]) + data[901:])
    code, _, err = enroll("--report")
    assert (code, "altered or damaged" in err) == (78, True)
    code, out, _ = enroll("--anew", "--clips", make_clips(11, seed=1))
    assert (code, n_windows(out)) == (0, 11)


def test_what_went_live_is_not_added_twice(enroll, make_clips, device) -> None:
    """A command that is killed just after the exchange leaves what was collected; --add then finds nothing new."""
    clips = make_clips(12)
    assert enroll("--clips", clips)[0] == 0
    (live,) = (device.parent / "state" / "enrolled" / "press").glob("live-*.learned")
    live.with_name(live.name.replace("live", "collected")).write_bytes(live.read_bytes())
    code, out, _ = enroll("--add", "--clips", clips)
    assert (code, n_windows(out)) == (0, 12)


@pytest.fixture
def follower(enroll, device):
    """The command that asks for sound and follows, in a thread: its exit code and stderr, once it ends."""
    with ThreadPoolExecutor(1) as threads:
        found = threads.submit(main, ["enroll", "press", "--config", str(device), "--minutes", "5"])
        request = device.parent / "state" / "enrolled" / "press" / "request.json"
        give_up_s = time.monotonic() + 60.0
        while not request.exists() and time.monotonic() < give_up_s:
            time.sleep(0.05)
        yield found
        enroll("--cancel")


def test_cancel_ends_the_command_that_follows(enroll, follower) -> None:
    """It holds the lock; what it says is that it was dropped."""
    code, _, err = enroll("--cancel")
    assert code == 0, err
    assert follower.result(10.0) == 75


@pytest.mark.usefixtures("follower")
def test_report_needs_no_lock(enroll) -> None:
    """It is told of what is live while more is learned."""
    code, _, err = enroll("--report")
    assert (code, "is not enrolled with model" in err) == (2, True)
    assert enroll("--minutes", "5")[0] == 75  # which another enrolment does


def test_more_than_has_room_is_refused_ahead(enroll, make_clips, device) -> None:
    """Not after a day was collected: 8,640 windows of 0.25 s are 36 min."""
    assert enroll("--clips", make_clips(12))[0] == 0
    code, _, err = enroll("--add", "--minutes", "36")
    assert (code, "35.9 min have room beside the 12 windows" in err) == (2, True)
    assert not (device.parent / "state" / "enrolled" / "press" / "request.json").exists()


def test_what_a_kill_within_a_write_left_is_removed(enroll, make_clips, device) -> None:
    """But what the daemon may be writing this moment."""
    folder = device.parent / "state" / "enrolled" / "press"
    folder.mkdir(parents=True)
    for name in (".live-1.learned.ab12", ".collected-1.learned.cd34", ".request.json.ef56", ".recent-1.json.ab12"):
        (folder / name).touch()
    old = folder / ".recent-1.json.cd34"
    old.touch()
    os.utime(old, (time.time() - 120.0, time.time() - 120.0))
    assert enroll("--clips", make_clips(12))[0] == 0
    assert [each.name for each in folder.glob(".*")] == [".recent-1.json.ab12"]
