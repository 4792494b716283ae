"""`edge-asd enroll` from clips, with a network small enough to be computed by hand: what goes live, what is refused."""

import os
import re
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile
import yaml

from edge_asd.bundle.extension import begun
from edge_asd.cli import main
from edge_asd.config import load_config
from edge_asd.daemon.enrolment_folder import EnrolmentFolder
from edge_asd.daemon.enrolment_notes import Collecting
from edge_asd.daemon.models import encoder_of, verified_bundle
from edge_asd.enroll.collector import Kept, memory_with
from edge_asd.enroll.learn import UnreachableError

START_UTC_S = 1_795_000_000.0


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
        "enroll": {"false_alarms_per_week": 500.0},
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
    assert "40 clips, one window each, show rates down to" in out
    assert main(["check-config", str(device)]) == 0
    assert "enrolled" in capsys.readouterr().out
    code, out, _ = enroll("--report", "--clips", make_clips(40, seed=1))
    assert (code, "it sounds as it was learned" in out) == (0, True)


@pytest.mark.parametrize(("on_delay_s", "is_told"), [(0.0, True), (2.0, False)])
def test_short_on_delay_is_told(enroll, make_clips, device, on_delay_s, is_told) -> None:
    """The threshold is for windows side by side; overlapping ones judge the same sound again and again."""
    config = yaml.safe_load(device.read_text())
    config["machines"][0] |= {"hop_samples": 2_560, "alarm": {"on_delay_s": on_delay_s}}
    device.write_text(yaml.safe_dump(config))
    code, told, err = enroll("--clips", make_clips(40))
    assert code == 0, err
    assert ("is judged 2 times" in told) == is_told


def test_configured_threshold_is_told_to_be_in_force(enroll, make_clips, device) -> None:
    """Where an enrolment ends and by --report, whose share above the threshold is above that one."""
    config = yaml.safe_load(device.read_text())
    config["machines"][0]["threshold"] = -100.0
    device.write_text(yaml.safe_dump(config))
    line = next(n for n, text in enumerate(device.read_text().splitlines(), 1) if "threshold: -100" in text)
    words = f"that is not in force: {device} line {line} sets threshold -100 for press; remove it"
    code, out, err = enroll("--clips", make_clips(40))
    assert (code, words in out) == (0, True), err
    _, out, _ = enroll("--report", "--clips", make_clips(40, seed=1))
    assert (words in out, "above the threshold 100%" in out) == (True, True)


@pytest.mark.parametrize(
    "options", [("--clips", "x"), ("--minutes", "5"), ("--add",), ("--anew",), ("--forget", "a"), ("--cancel",)]
)
def test_who_is_not_the_daemons_user_writes_nothing(enroll, device, monkeypatch, options) -> None:
    """What root learns is root's, and the daemon could not take it up; he is told as whom to run the command."""
    state = device.parent / "state"
    state.mkdir()
    monkeypatch.setattr(os, "geteuid", lambda: 4_242)
    code, _, err = enroll(*options)
    assert (code, "sudo -u" in err, "edge-asd enroll press" in err) == (2, True, True)
    assert not list(state.iterdir())


def test_whoever_may_look_gets_a_report(enrolled, enroll, make_clips, monkeypatch) -> None:
    """It writes nothing."""
    monkeypatch.setattr(os, "geteuid", lambda: 4_242)
    before = sorted((path, path.stat().st_mtime_ns) for path in enrolled.parents[1].rglob("*"))
    assert enroll("--report", "--clips", make_clips(30, seed=1))[0] == 0
    assert sorted((path, path.stat().st_mtime_ns) for path in enrolled.parents[1].rglob("*")) == before


@pytest.fixture
def enrolled(enroll, make_clips, device):
    """The folder of a machine's files, once it is enrolled."""
    assert enroll("--clips", make_clips(12))[0] == 0
    return device.parent / "state" / "enrolled" / "press"


def test_configuration_is_good_whoever_asks(enrolled, device, forbid, capsys) -> None:
    """Who may not look at what is enrolled is told so."""
    capsys.readouterr()
    with forbid(enrolled):
        assert main(["check-config", str(device)]) == 0
    told = capsys.readouterr()
    assert "this user cannot tell" in told.out
    assert "press: this user cannot tell whether it is enrolled: " in told.err
    assert "Permission denied" in told.err


def test_who_may_not_look_gets_no_report(enrolled, enroll, forbid) -> None:
    """It says as whom to ask."""
    with forbid(enrolled):
        code, _, err = enroll("--report")
    assert (code, "run as the daemon's user" in err) == (69, True)


def test_reading_makes_no_key(enrolled, enroll) -> None:
    """It could be root's, whose key the daemon could not read; what the lost one signed is enrolled anew."""
    key = enrolled.parent / "device.key"
    key.unlink()
    code, _, err = enroll("--report")
    assert (code, "--anew" in err, key.exists()) == (78, True, False)


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


WAY_OUT = "if nobody speaks there, set enroll.refuse_speech: false"


@pytest.mark.parametrize(("rhythm_s", "is_told"), [(100.0, True), (40.0, False)])
@pytest.mark.usefixtures("follower")
def test_who_follows_is_told_the_way_out_of_a_rhythm_that_is_taken_for_speech(
    folder, capsys, rhythm_s, is_told
) -> None:
    """A hammer's, say, where most of what is refused is such: nothing is collected, and nobody speaks."""
    notes = EnrolmentFolder(folder.parents[1], "press", SimpleNamespace(sha256="a" * 64))
    refused_s = {"speech": rhythm_s, "silence": 50.0}
    told = ""
    give_up_s = time.monotonic() + 30.0
    notes.tell_collecting(Collecting(request=notes.request().id, n_windows=0, refused_s=refused_s))
    while "0.0 of 5 min" not in told and time.monotonic() < give_up_s:
        time.sleep(0.05)
        told += capsys.readouterr().err
    assert f"0.0 of 5 min, refused: {rhythm_s:.0f} s speech, 50 s silence" in told
    assert (WAY_OUT in told) == is_told


def test_clips_whose_rhythm_is_taken_for_speech_are_refused_with_the_way_out(enroll, make_clips, monkeypatch) -> None:
    """It is named beside how much was refused."""
    monkeypatch.setattr("edge_asd.enroll.clips.has_speech", lambda *_: True)
    code, _, err = enroll("--clips", make_clips(12))
    assert (code, "refused: 3 s speech" in err, WAY_OUT in err) == (65, True, True)


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


@pytest.fixture
def folder(device):
    """Of the machine's files."""
    return device.parent / "state" / "enrolled" / "press"


def test_refused_clips_are_not_learned_with_others(enroll, make_clips, folder, tmp_path) -> None:
    """Twelve files of one noise are refused as all alike; then good ones are given, and they alone go live."""
    alike = tmp_path / "alike"
    alike.mkdir()
    noise = 0.1 * np.random.default_rng(7).standard_normal(4_200)
    for index in range(12):
        soundfile.write(alike / f"{index}.flac", np.concatenate((noise, np.zeros(index + 1))), 16_000)
    code, _, err = enroll("--clips", alike)
    assert (code, "all alike" in err, "is dropped" in err) == (65, True, True)
    assert not list(folder.glob("collected-*"))
    code, out, _ = enroll("--clips", make_clips(14))
    assert (code, n_windows(out)) == (0, 14)


def test_interrupted_clips_that_are_not_given_again_are_left_out(enroll, make_clips, folder) -> None:
    """They may be of the wrong folder; those that are given again are not heard again."""
    wrong, right = make_clips(12), make_clips(12, seed=1)
    assert enroll("--clips", wrong, right)[0] == 0
    (live,) = folder.glob("live-*.learned")
    live.rename(live.with_name(live.name.replace("live", "collected")))
    code, out, err = enroll("--clips", right)
    assert (code, n_windows(out)) == (0, 12)
    assert "12 clips that were heard before are not among those given, and left out: 000.flac, " in err
    assert "going on after 12 clips" in err
    assert "known" not in err


def test_refused_sound_of_the_microphone_is_kept_and_cancel_named(enroll, monkeypatch) -> None:
    """Half an hour of it is not thrown away; and nobody is left with a command that is refused each time."""
    monkeypatch.setattr("edge_asd.commands.enroll.collect_live", lambda site, **_: alike_windows(site))
    code, _, err = enroll("--minutes", "5")
    assert (code, "all alike" in err, "--cancel" in err) == (65, True, True)


@pytest.fixture
def make_collected(device):
    """A function: 1,200 windows that the daemon collected, with works in the hall among them; the folder of them.

    Windows 700 to 739 are like no other, and so are windows 900 to 919.
    """

    def make(*, wanted_s=300.0):
        config = load_config(device)
        folder = EnrolmentFolder(config.state_dir, "press", encoder_of(verified_bundle(config), "int8"))
        vectors = np.eye(1, 128) + 0.05 / np.sqrt(128) * np.random.default_rng(0).standard_normal((1_200, 128))
        vectors[700:740], vectors[900:920] = np.eye(128)[10:50], np.eye(128)[60:80]
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        request = folder.ask(wanted_s)
        extension = begun("press", folder.encoder, model="hand", engine="x", vector_size=128, request=request.id)
        kept = [
            Kept(vector=vector, group=n // 6, begin_utc_s=START_UTC_S + n, end_utc_s=START_UTC_S + n + 1.0)
            for n, vector in enumerate(vectors.astype(np.float32))
        ]
        folder.put(folder.collected_path, replace(extension, memory=memory_with(extension.memory, kept)))
        return folder

    return make


DRILL = ["2026-11-18T11:18:20Z", "2026-11-18T11:19:00Z"]
HAMMER = ["2026-11-18T11:21:40Z", "2026-11-18T11:22:00Z"]


def test_collected_sound_that_is_refused_for_works_in_the_hall_goes_live_without_them(enroll, make_collected) -> None:
    """The refusal has the command ready, and nothing needs to be heard again."""
    folder = make_collected()
    code, _, err = enroll("--minutes", "5")
    assert (code, "no fault would raise an alarm" in err, "is kept" in err) == (2, True, True), err
    words = re.search(r"like no other, .*: 60, --forget ((?:\S+Z ?)+)", err)[1].split()
    assert sorted(words) == sorted(DRILL + HAMMER)
    code, out, err = enroll("--forget", *words)
    assert (code, n_windows(out)) == (0, 1_140), err
    assert (folder.request(), folder.collected()) == (None, None)


def test_one_stretch_after_the_other_may_be_forgotten(enroll, make_collected) -> None:
    """What is left of the first is refused and kept, with the second named."""
    make_collected()
    code, _, err = enroll("--forget", *DRILL)
    assert (code, "40 windows that were collected are forgotten" in err) == (2, True), err
    assert f": 20, --forget {' '.join(HAMMER)}" in err
    assert "what is left of what was collected is kept" in err
    code, out, err = enroll("--forget", *HAMMER)
    assert (code, n_windows(out)) == (0, 1_140), err


def test_forgetting_while_the_daemon_collects_only_forgets(enroll, make_collected) -> None:
    """What was asked for is not there yet."""
    folder = make_collected(wanted_s=600.0)
    code, out, err = enroll("--forget", *DRILL)
    assert (code, out, "goes on collecting" in err) == (0, "", True), err
    assert len(folder.collected().memory) == 1_160
    assert folder.request().wanted_s == 600.0


def test_forgetting_beside_what_is_live_leaves_that(enrolled, enroll, make_collected) -> None:
    """Whether it was to be added or to replace that, the command that asked for it knows."""
    before = {path: path.read_bytes() for path in enrolled.glob("live-*")}
    folder = make_collected()
    code, _, err = enroll("--forget", *DRILL, *HAMMER)
    assert (code, "--add or --anew" in err) == (0, True), err
    assert len(folder.collected().memory) == 1_140
    assert {path: path.read_bytes() for path in enrolled.glob("live-*")} == before


def test_forgetting_works_where_what_is_live_is_damaged(enrolled, enroll, make_collected) -> None:
    """What is collected then can only come in its place."""
    (live,) = enrolled.glob("live-*")
    live.write_bytes(b"damaged")
    assert enroll("--forget", *DRILL)[0] == 78
    make_collected()
    code, out, err = enroll("--forget", *DRILL, *HAMMER)
    assert (code, n_windows(out)) == (0, 1_140), err


def test_nothing_to_forget_is_told(enroll, make_collected) -> None:
    """Of what is neither live nor collected, or at times at which nothing was heard."""
    code, _, err = enroll("--forget", *DRILL)
    assert (code, "nothing was collected" in err) == (2, True)
    make_collected()
    code, _, err = enroll("--forget", "2001-01-01T00:00:00Z", "2002-01-01T00:00:00Z")
    assert (code, "nor collected" in err) == (2, True)


def alike_windows(site):
    """A collection of one window many times."""
    extension = begun("press", site.folder.encoder, model=site.model, engine="x", vector_size=site.vector_size)
    vector = np.eye(1, site.vector_size, dtype=np.float32)[0]
    kept = [Kept(vector=vector, group=n, begin_utc_s=60.0 * n, end_utc_s=60.0 * n + 10.0) for n in range(20)]
    return replace(extension, memory=memory_with(extension.memory, kept))


@pytest.fixture
def clips_and_door(tmp_path):
    """Twenty clips that are much alike, one of something else, and a copy of one of them."""
    random = np.random.default_rng(11)
    folder = tmp_path / "hall"
    folder.mkdir()
    machine, door = 0.1 * random.standard_normal((2, 4_200))
    for index in range(20):
        soundfile.write(folder / f"{index:03}.flac", machine + 0.01 * random.standard_normal(4_200), 16_000)
    soundfile.write(folder / "door.flac", door, 16_000)
    (folder / "copy.flac").write_bytes((folder / "000.flac").read_bytes())
    return folder


def test_strange_clip_is_named_forgotten_and_learned_again(enroll, clips_and_door) -> None:
    """Alone, by the times that are told or by its name; --add takes it again, and says what it knows."""
    code, out, err = enroll("--clips", clips_and_door)
    assert (code, n_windows(out)) == (0, 21), err
    assert "1 clips skipped: known" in err
    told = re.search(r"like no other: (\S+) to (\S+), of (\S+),", out)
    assert told[3] == "door.flac"
    code, out, err = enroll("--forget", told[1], told[2])
    assert (code, n_windows(out)) == (0, 20), err
    assert "1 windows are forgotten" in err
    assert "door.flac" not in out
    code, out, err = enroll("--add", "--clips", clips_and_door)
    assert (code, n_windows(out)) == (0, 21), err
    assert "21 clips skipped: known" in err
    code, out, err = enroll("--forget", "door.flac", "003.flac")
    assert (code, n_windows(out)) == (0, 19), err
    code, _, err = enroll("--forget", "door.flac")
    assert (code, "no clip that was learned is called so" in err) == (2, True)


def test_clips_that_make_a_threshold_unreachable_are_named(enroll, clips_and_door, monkeypatch) -> None:
    """There is nothing to forget of clips that are refused: they are given without it."""

    def unreachable(memory, **_):
        raise UnreachableError("no fault would raise an alarm", np.array([len(memory) - 1]))

    monkeypatch.setattr("edge_asd.commands.enroll_exchange.learn", unreachable)
    code, _, err = enroll("--clips", clips_and_door)
    assert (code, "no fault would raise an alarm" in err, "--forget" in err) == (2, True, False), err
    assert "like no other, to be left out where they are not the machine's: 1, clips door.flac; what was heard" in err


def test_clips_of_one_name_are_forgotten_by_their_times(enroll, make_clips) -> None:
    """Each folder has its 000.flac; the message tells the times of each."""
    assert enroll("--clips", make_clips(12), make_clips(12, seed=1))[0] == 0
    code, _, err = enroll("--forget", "000.flac")
    assert (code, "2 clips that were learned are called so" in err) == (2, True)
    begin, end = re.search(r"\((\S+) to (\S+),", err).groups()
    code, out, _ = enroll("--forget", begin, end)
    assert (code, n_windows(out)) == (0, 23)


def test_refused_forgetting_tells_of_none(enroll, make_clips) -> None:
    """What is live stays, so nothing was forgotten."""
    assert enroll("--clips", make_clips(12))[0] == 0
    code, _, err = enroll("--forget", "001.flac", "002.flac", "003.flac")
    assert (code, "are forgotten" in err) == (65, False)


def test_clip_that_was_refused_is_heard_again(enroll, make_clips) -> None:
    """It may be fit with other settings; what was refused of it is told once."""
    bad, good = make_clips(3, offset=0.3), make_clips(12)
    assert enroll("--clips", bad)[0] == 65
    code, out, err = enroll("--clips", bad, good)
    assert (code, n_windows(out)) == (0, 12)
    assert out.count("not learned") == 1
    assert "not learned: 1 s, dc" in out
    assert "0.flac: 0 s are not learned: dc" in err


@pytest.mark.parametrize(
    "options",
    [
        ("--minutes", "30", "--clips", "x"),
        ("--clips", "x", "--forget", "a", "b"),
        ("--minutes", "30", "--report"),
        ("--clips", "x", "--cancel"),
        ("--channel", "1"),
    ],
)
def test_options_that_would_be_ignored_are_refused(enroll, options) -> None:
    """Rather than learning from what nobody meant."""
    code, _, err = enroll(*options)
    assert (code, "leave" in err) == (2, True)


def test_progress_is_told_without_a_terminal(enroll, make_clips) -> None:
    """A line each tenth."""
    _, _, err = enroll("--clips", make_clips(20))
    assert [line for line in err.splitlines() if line.startswith("learning press: ")] == [
        f"learning press: {n} of 20 clips" for n in range(2, 21, 2)
    ]


def test_interrupt_while_the_model_loads_is_no_traceback(enroll, monkeypatch) -> None:
    """As shells expect it: 130."""

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("edge_asd.commands.enroll_site.open_pipeline", interrupted)
    code, _, err = enroll("--report")
    assert (code, err) == (130, "edge-asd: interrupted\n")


def test_more_false_alarms_than_any_threshold_could_have_are_refused(enroll, device) -> None:
    """By the configuration, rather than by the self-test after the sound was collected."""
    device.write_text(device.read_text().replace("500.0", "3000.0"))
    code, _, err = enroll("--minutes", "5")
    assert (code, "false_alarms_per_week is 3000.0; expected" in err, "500" in err) == (78, True, True), err
