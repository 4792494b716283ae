"""The daemon's side of an enrolment, with made-up vectors: what is collected, what survives, when it goes live."""

import errno
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from edge_asd.bundle import Encoder
from edge_asd.bundle.extension import begun
from edge_asd.daemon.enrolment import Enrolment
from edge_asd.daemon.enrolment_folder import EnrolmentFolder
from edge_asd.daemon.enrolment_notes import Request
from edge_asd.enroll.learn import learn
from edge_asd.errors import UnavailableError
from edge_asd.sensor import SensorFault
from edge_asd.types import EngineOutputs, FeatureSpec, Window

SPEC = FeatureSpec(window_samples=4_000, n_fft=256, hop_samples=64, n_mels=20)  # 0.25 s
ENCODER = Encoder(sha256="a" * 64, precision="int8", layer="embedding", feature_spec=SPEC)
START_UTC_S = 1_795_252_000.0
SILENCE = SensorFault(kind="silence", reason="silence")


class Press:
    """A machine whose windows have random vectors, a minute apart each, and the enrolment that hears them."""

    wave = 0.01 * np.random.default_rng(1).standard_normal(4_000).astype(np.float32)

    def __init__(self, state_dir):
        self.folder = EnrolmentFolder(state_dir, "press", ENCODER)
        self.now_s = 0.0
        self._random = np.random.default_rng(0)
        self._n = 0
        self.start()

    def start(self):
        """As a new daemon does."""
        manifest = SimpleNamespace(feature_spec=SPEC, feature_map_size=None, name="motors", version="1.0.0")
        model = SimpleNamespace(manifest=manifest, pipeline=SimpleNamespace(engine="fake-int8"))
        self.enrolment = Enrolment(self.folder, model, refuse_speech=False, clock=lambda: self.now_s)

    def hear(self, n=1, *, fault=None, vector=None, every_s=60.0):
        """Windows that do not overlap; whether another memory serves after one of them."""
        changed = False
        for _ in range(n):
            self._n += 1
            self.now_s += every_s
            found = np.ones(128) + self._random.standard_normal(128) if vector is None else vector
            outputs = EngineOutputs(
                embedding=np.asarray(found, np.float32)[np.newaxis], cosine=np.zeros((1, 2), np.float32)
            )
            score = float(self.enrolment.scorer.score(outputs)[0])
            changed |= self.enrolment.hear(self.window(), score, fault)
        return changed

    def window(self):
        """The one that ends now."""
        return Window(
            wave=self.wave,
            end_monotonic_s=self.now_s,
            end_utc_s=START_UTC_S + self.now_s,
            fresh_samples=4_000,
            heard_samples=4_000,
            lost_samples=0,
        )

    def go_live(self):
        """What the command does with what was collected."""
        collected = self.folder.collected()
        learned = learn(collected.memory, false_alarms_per_week=1.0, window_s=0.25, precision="int8")
        facts = collected.facts.model_copy(update={"calibration": learned.calibration})
        self.folder.put(self.folder.live_path, replace(collected, facts=facts))
        self.folder.drop_collected()


@pytest.fixture
def press(tmp_path):
    """A machine that nothing is known of."""
    return Press(tmp_path)


def test_nothing_is_learned_unasked(press) -> None:
    """It is for a person to say that the machine is well."""
    press.hear(20)
    assert press.folder.collected() is None
    assert "edge-asd enroll press" in press.enrolment.learning


def test_what_was_asked_for_is_collected_and_no_more(press) -> None:
    """5 s of windows of 0.25 s."""
    press.folder.ask(5.0)
    press.hear(60)
    assert len(press.folder.collected().memory) == 20


def test_a_daemon_that_is_killed_goes_on_where_it_was(press) -> None:
    """No close: what was written is there, and at most a twentieth is lost."""
    press.folder.ask(5.0)
    press.hear(12)
    press.start()
    n_before = len(press.folder.collected().memory)
    assert n_before >= 11
    press.hear(30)
    assert len(press.folder.collected().memory) == 20


def test_faulty_sound_and_nan_are_refused_and_told(press) -> None:
    """By how many seconds, and why."""
    press.folder.ask(5.0)
    press.hear(4)
    press.hear(8, fault=SILENCE)
    press.hear(2, vector=np.full(128, np.nan))
    press.hear(2)
    found = press.folder.collected()
    assert found.facts.refused_s == {"silence": 2.0, "not_finite": 0.5}
    assert len(found.memory) == 6


def test_what_was_learned_is_taken_up_while_it_runs(press) -> None:
    """The memory serves from the next window on, and its threshold with it."""
    press.folder.ask(5.0)
    press.hear(21)
    assert press.enrolment.threshold is None
    press.go_live()
    assert press.hear(2)
    assert press.enrolment.learning is None
    assert press.enrolment.threshold > 0.0
    own = press.folder.live().memory.vectors[:1]
    other = EngineOutputs(embedding=-own, cosine=np.zeros((1, 2), np.float32))
    assert press.enrolment.scorer.score(other)[0] > press.enrolment.threshold


def test_altered_memory_is_not_taken_up(press) -> None:
    """What served before goes on serving."""
    press.folder.ask(5.0)
    press.hear(21)
    press.go_live()
    press.hear(2)
    threshold = press.enrolment.threshold
    data = press.folder.live_path.read_bytes()
    press.folder.live_path.write_bytes(data[:500] + bytes([data[500] ^ 1]) + data[501:])
    assert not press.hear(3)
    assert press.enrolment.threshold == threshold


def test_more_is_learned_while_the_machine_is_scored(press) -> None:
    """--add asks again; what is live serves meanwhile."""
    press.folder.ask(5.0)
    press.hear(21)
    press.go_live()
    press.hear(2)
    press.folder.ask(2.5)
    press.hear(15)
    assert press.enrolment.learning is None
    assert len(press.folder.collected().memory) == 10


def test_recent_scores_are_kept_for_the_report(press) -> None:
    """By which memory, from when to when."""
    press.folder.ask(5.0)
    press.hear(21)
    press.go_live()
    press.hear(2)
    press.hear(70)
    press.enrolment.close()
    recent = press.folder.recent()
    assert recent.memory_sha256 == press.folder.live().facts.memory_sha256
    assert len(recent.scores) >= 70


def test_hearing_that_follows_another_loses_nothing_of_what_that_collected(press) -> None:
    """A reload opens the new one beside the old, which goes on for a while."""
    press.folder.ask(5.0)
    press.hear(4)
    old = press.enrolment
    press.start()
    new, press.enrolment = press.enrolment, old
    press.hear(6)
    old.close()
    press.enrolment = new
    press.hear(20)
    assert len(press.folder.collected().memory) == 20
    assert len(np.unique(press.folder.collected().memory.vectors, axis=0)) == 20
    assert press.folder.collected().memory.end_utc_s.max() == START_UTC_S + 20 * 60.0


def test_what_was_dropped_does_not_come_back(press) -> None:
    """Dropped while the daemon collects; the next request begins with nothing."""
    press.folder.ask(3_600.0)
    press.hear(45, every_s=10.0)
    press.folder.drop_collected()
    press.hear(1, every_s=0.5)  # before the daemon looks
    press.enrolment.close()
    assert press.folder.collected() is None
    press.hear(5, every_s=10.0)
    assert press.folder.collected() is None
    press.folder.ask(3_600.0)
    press.hear(3, every_s=10.0)
    assert len(press.folder.collected().memory) <= 3


@pytest.mark.parametrize("wanted_s", [5.0, 3_600.0])
def test_the_same_asked_for_again_at_once_is_another_request(press, wanted_s) -> None:
    """Dropped, or gone live, and as much asked for before the daemon looks again: nothing old is in it."""
    press.folder.ask(wanted_s)
    press.hear(45, every_s=10.0)
    n_before = len(press.folder.collected().memory)
    first_utc_s = press.folder.collected().memory.begin_utc_s.min()
    press.folder.drop_collected()
    press.folder.ask(wanted_s)
    press.hear(n_before, every_s=10.0)
    press.enrolment.close()
    found = press.folder.collected()
    assert len(found.memory) == n_before
    assert found.memory.begin_utc_s.min() > first_utc_s + n_before * 5.0


def test_what_another_request_left_behind_is_not_gone_on_with(press) -> None:
    """A write that was under way while it was dropped."""
    press.folder.ask(3_600.0)
    press.hear(30, every_s=10.0)
    data = press.folder.collected_path.read_bytes()
    press.folder.drop_collected()
    press.folder.collected_path.write_bytes(data)
    press.folder.ask(3_600.0)
    press.start()
    press.hear(2, every_s=10.0)
    assert len(press.folder.collected().memory) == 2


def forget(press, first, last):
    """Leave out of what is collected the windows of these minutes."""
    times = (START_UTC_S + 60.0 * first - 1.0, START_UTC_S + 60.0 * last + 1.0)
    press.folder.change(press.folder.request().forgetting([times], wanted_s=5.0))


def minutes(found):
    """Of the windows in a collection, as they were heard."""
    return ((found.memory.end_utc_s - START_UTC_S) / 60.0).tolist()


@pytest.mark.parametrize("n_heard", [12, 25])
@pytest.mark.parametrize("is_killed", [False, True])
def test_what_is_forgotten_of_a_collection_is_left_out_and_collected_afresh(press, n_heard, is_killed) -> None:
    """While it goes on and once all was there; a daemon that is killed between knows of it too."""
    press.folder.ask(5.0)
    press.hear(n_heard)
    forget(press, 4, 6)
    assert not {4.0, 5.0, 6.0} & set(minutes(press.folder.collected()))
    if is_killed:
        press.start()
    press.hear(30)
    found = minutes(press.folder.collected())
    assert len(found) == len(set(found)) == 20
    assert not {4.0, 5.0, 6.0} & set(found)
    assert found[:5] == [1.0, 2.0, 3.0, 7.0, 8.0]


def test_what_the_daemon_writes_ahead_of_its_next_look_brings_nothing_back(press) -> None:
    """The window that is forgotten was not even on disk."""
    press.folder.ask(3_600.0)
    press.hear(45)
    written = minutes(press.folder.collected())
    assert 45.0 not in written
    forget(press, 44, 45)
    press.enrolment.close()
    assert minutes(press.folder.collected()) == [float(n) for n in range(1, 44)]


def test_asking_again_forgets_no_less(press) -> None:
    """The command that goes on asks under the same id."""
    press.folder.ask(5.0)
    press.hear(10)
    forget(press, 1, 3)
    press.folder.ask(10.0)
    assert min(minutes(press.folder.collected())) == 4.0


def test_times_to_forget_are_joined_and_bounded() -> None:
    """What overlaps is one; a request stays a small file."""
    request = Request(id="a", wanted_s=5.0).forgetting([(5.0, 9.0), (1.0, 2.0)], wanted_s=4.0)
    assert request.forgetting([(2.0, 3.0), (6.0, 7.0)], wanted_s=4.0).forgotten == ((1.0, 3.0), (5.0, 9.0))
    with pytest.raises(ValueError, match="forgotten"):
        request.forgetting([(10.0 * n, 10.0 * n + 1.0) for n in range(2, 120)], wanted_s=4.0)


def test_asking_for_more_goes_on(press) -> None:
    """The same request, longer."""
    press.folder.ask(5.0)
    press.hear(30)
    press.folder.ask(7.5)
    press.hear(30)
    assert len(press.folder.collected().memory) == 30


def test_a_long_collection_is_written_twenty_times_its_size(press, monkeypatch) -> None:
    """Flash wears: writes come with a twentieth more, not with the clock; who follows is told by a small note."""
    written = []

    def put(path, extension):
        found = EnrolmentFolder.put(press.folder, path, extension)
        written.append(path.stat().st_size)
        return found

    monkeypatch.setattr(press.folder, "put", put)
    told = set()
    press.folder.ask(0.25 * 1_000)
    for _ in range(1_010):
        press.hear(1, every_s=10.0)
        told.add(press.folder.collecting_stamp())
    assert len(press.folder.collected().memory) == 1_000
    assert sum(written) < 25 * written[-1]
    assert len(told) > 300


def test_sound_that_is_refused_is_told_without_a_write(press) -> None:
    """Or who follows would give up while the machine stands still."""
    press.folder.ask(5.0)
    press.hear(2)
    stamp = press.folder.collected_stamp()
    press.hear(20, fault=SILENCE, every_s=10.0)
    assert press.folder.collected_stamp() == stamp
    collecting = press.folder.collecting()
    assert collecting.n_windows == 2
    assert collecting.refused_s["silence"] >= 4.0
    press.enrolment.close()
    assert press.folder.collected().facts.refused_s == {"silence": 5.0}


def test_what_the_disk_refused_is_written_later(press, monkeypatch) -> None:
    """Also where the last window that was asked for is among it."""
    press.folder.ask(5.0)
    press.hear(15)

    def full(*_):
        raise UnavailableError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(press.folder, "put", full)
        press.hear(10)
    press.hear(2)
    assert len(press.folder.collected().memory) == 20


def test_damaged_memory_at_the_start_is_told_as_such(press) -> None:
    """Not as a machine that nobody enrolled; and what is put back is taken up."""
    press.folder.ask(5.0)
    press.hear(21)
    press.go_live()
    data = press.folder.live_path.read_bytes()
    press.folder.live_path.write_bytes(data[:500] + bytes([data[500] ^ 1]) + data[501:])
    press.start()
    press.hear(2)
    assert "altered or" in press.enrolment.learning
    assert "edge-asd enroll press --anew" in press.enrolment.learning
    press.folder.live_path.unlink()
    press.folder.live_path.write_bytes(data)
    press.hear(2)
    assert press.enrolment.learning is None


@pytest.mark.parametrize("what", ["folder", "live_path"])
def test_memory_of_another_user_is_told_once_and_taken_up_once_it_is_given_back(press, forbid, caplog, what) -> None:
    """As root it was enrolled: the daemon goes on hearing, does not repeat itself, and needs no other file."""
    press.folder.ask(5.0)
    press.hear(21)
    press.go_live()
    with forbid(getattr(press.folder, what)):
        press.start()
        caplog.clear()
        press.hear(5)
        told = [record.getMessage() for record in caplog.records]
        assert len([text for text in told if "is not taken up" in text]) <= 1
        assert len(set(told)) == len(told)
        assert "chown" in press.enrolment.learning
        assert "--anew" not in press.enrolment.learning
    assert press.hear(1)
    assert press.enrolment.learning is None


def test_clock_that_nothing_set_ends_no_enrolment(press) -> None:
    """The first window begins before 1970, as far as the clock says."""
    press.folder.ask(5.0)
    press.now_s = -START_UTC_S - 59.9
    press.enrolment.close()
    press.start()
    press.hear(1)
    press.now_s = 0.0
    press.start()
    press.hear(25)
    found = press.folder.collected()
    assert len(found.memory) == 20
    assert found.memory.begin_utc_s.min() == 0.0


def test_near_silence_is_not_learned(press) -> None:
    """What the ear lets pass may still be no machine: noise at -88 dBFS."""
    press.folder.ask(5.0)
    press.wave = 0.004 * Press.wave
    press.hear(5)
    press.wave = Press.wave
    press.hear(60)
    collected = press.folder.collected()
    assert len(collected.memory) == 20
    assert collected.facts.refused_s == {"too_quiet": pytest.approx(1.25)}


def test_window_that_no_engine_took_is_not_learned(press) -> None:
    """Its score is NaN, and the vector is that of the window before."""
    press.folder.ask(5.0)
    press.hear(1)
    press.now_s += 60.0
    press.enrolment.hear(press.window(), float("nan"), None)
    press.enrolment.close()
    found = press.folder.collected()
    assert (len(found.memory), found.facts.refused_s) == (1, {"not_finite": 0.25})


def collected_in(folder, encoder=ENCODER):
    """Write an empty collection there, which needs the device's key; what the key signed is read back."""
    extension = begun("press", encoder, model="motors 1.0.0", engine="fake-int8", vector_size=128)
    folder.put(folder.collected_path, extension)
    return folder.collected()


def test_empty_key_of_a_power_cut_is_as_good_as_none(tmp_path) -> None:
    """One is made in its place."""
    key = tmp_path / "enrolled" / "device.key"
    key.parent.mkdir()
    key.touch(mode=0o600)
    (key.parent / ".device.key.ab12").touch()
    assert collected_in(EnrolmentFolder(tmp_path, "press", ENCODER)) is not None
    assert key.stat().st_size > 0
    assert not list(key.parent.glob(".*"))


def test_full_disk_at_the_first_enrolment_leaves_no_key(tmp_path, monkeypatch) -> None:
    """It is told as what it is, and the next enrolment makes one."""
    folder = EnrolmentFolder(tmp_path, "press", ENCODER)

    def full(_descriptor):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(UnavailableError, match="No space left"):
            collected_in(folder)
    assert not (tmp_path / "enrolled" / "device.key").exists()
    assert collected_in(folder) is not None


def test_two_first_enrolments_at_once_make_one_key(tmp_path) -> None:
    """Or what one of them wrote would be foreign."""
    (tmp_path / "enrolled").mkdir()
    (tmp_path / "enrolled" / "device.key").touch(mode=0o600)
    encoders = [replace(ENCODER, sha256=f"{n:064x}"[::-1]) for n in range(8)]
    with ThreadPoolExecutor(8) as threads:
        found = list(
            threads.map(lambda encoder: collected_in(EnrolmentFolder(tmp_path, "press", encoder), encoder), encoders)
        )
    assert all(found)
    assert all(EnrolmentFolder(tmp_path, "press", encoder).collected() for encoder in encoders)
