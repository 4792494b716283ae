"""The daemon's side of an enrolment, with made-up vectors: what is collected, what survives, when it goes live."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from edge_asd.bundle import Encoder
from edge_asd.daemon.enrolment import Enrolment
from edge_asd.daemon.enrolment_folder import EnrolmentFolder
from edge_asd.enroll.learn import learn
from edge_asd.sensor import SensorFault
from edge_asd.types import EngineOutputs, FeatureSpec, Window

SPEC = FeatureSpec(window_samples=4_000, n_fft=256, hop_samples=64, n_mels=20)  # 0.25 s
ENCODER = Encoder(sha256="a" * 64, precision="int8", layer="embedding", feature_spec=SPEC)
START_UTC_S = 1_795_252_000.0
SILENCE = SensorFault(kind="silence", reason="silence")


class Press:
    """A machine whose windows have random vectors, a minute apart each, and the enrolment that hears them."""

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

    def hear(self, n=1, *, fault=None, vector=None):
        """Windows that do not overlap; whether another memory serves after one of them."""
        changed = False
        for _ in range(n):
            self._n += 1
            self.now_s += 60.0
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
            wave=np.zeros(4_000, np.float32),
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
