"""One machine from blocks to committed messages, with scores that a test makes up: gaps, silence, clocks, restarts."""

from types import SimpleNamespace

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_asd.config import load_config
from edge_asd.counters import Counters
from edge_asd.daemon.listener import Listener
from edge_asd.daemon.together import hear_together
from edge_asd.messages import Messages, ModelIdentity
from edge_asd.outbox import Outbox
from edge_asd.pipeline import Scored
from edge_asd.types import Block, FeatureSpec, NoSound

SPEC = FeatureSpec(window_samples=4_000, n_fft=256, hop_samples=64, n_mels=20)
HOP_S = 0.16
START_UTC_S = 1_795_252_000.0
DAY_S = 86_400.0
NOISE = (0.1 * np.random.default_rng(0).standard_normal(4_000)).astype(np.float32)
SENSOR_OFF = {
    "silence_dbfs": None,
    "repeats": False,
    "dc_offset": None,
    "clipping_share": None,
    "drop_out_share": None,
    "muffled_db": None,
    "quieter_db": None,
}


class Machine:
    """A listener whose windows get the scores of a list, and the spool that its messages go to."""

    def __init__(self, folder, name="fan", **alarm):
        path = folder / "device.yaml"
        machine = {"name": name, "listens_to": "bldc/M1", "hop_samples": 2_560, "threshold": 5.0}
        machine |= {"alarm": {"on_delay_s": 0.0, "off_delay_s": 0.0, **alarm}, "sensor": SENSOR_OFF}
        keys = {"schema": 1, "site": "hall", "device": "orin", "bundle": "none.asd", "state_dir": "state"}
        path.write_text(yaml.safe_dump({**keys, "machines": [machine]}))
        self.config = load_config(path, files_must_exist=False)
        self.outbox = Outbox(folder / "spool.sqlite", max_bytes=10_000_000)
        self.scores = []
        self.now_s = 1_000.0
        self.utc_ahead_s = START_UTC_S - self.now_s
        self.start()

    def start(self):
        """Begin as the daemon does, with what was committed."""
        self.listener = Listener(
            self.config.machines[0],
            manifest=SimpleNamespace(feature_spec=SPEC),
            pipeline=SimpleNamespace(ear=lambda *_: self),
            messages=Messages(model=ModelIdentity(name="x", version="1", sha256="0" * 64), boot_id="b" * 36),
            counters=Counters((self.config.machines[0].name,)),
            succession=SimpleNamespace(hear=lambda *_: None),
            evidence=None,
            config=self.config,
        )
        self.listener.restore(self.outbox.records())
        self._is_first = True

    def score(self, windows):
        return [
            Scored(score=self.scores.pop(0), fault=None, engine="fake", features_ms=0.0, engine_ms=0.0) for _ in windows
        ]

    def hear(self, *scores, lost_samples=0):
        """Sound for one window a score; the first after a start or a gap takes a whole window."""
        for score in scores:
            samples = NOISE if self._is_first or lost_samples else NOISE[:2_560]
            self._is_first = False
            self.now_s += (samples.size + lost_samples) / 16_000
            self.scores.append(score)
            self.take([self.block(samples, lost_samples=lost_samples)])
            lost_samples = 0
            assert not self.scores

    def block(self, samples, *, lost_samples=0):
        """Sound that ends now."""
        return Block(
            samples=samples,
            end_monotonic_s=self.now_s,
            end_utc_s=self.now_s + self.utc_ahead_s,
            lost_samples=lost_samples,
        )

    def take(self, heard):
        for messages in hear_together(self, [(self.listener, heard)]):
            self.outbox.put_many(messages, records=self.listener.records)

    def said(self, *leaves):
        """Payloads of all that was said, oldest first."""
        return [
            message.payload
            for message in self.outbox.pending(limit=100_000, after=0)
            if message.leaf in (leaves or ("score", "state", "alarm"))
        ]

    def events(self):
        return [(payload["event"], round(payload["duration_s"], 2)) for payload in self.said("alarm")]


@pytest.fixture
def make_machine(tmp_path):
    """A function that makes machines; its keywords are keys of the alarm."""
    made = []

    def make(**alarm):
        folder = tmp_path / str(len(made))
        folder.mkdir()
        made.append(Machine(folder, **alarm))
        return made[-1]

    yield make
    for machine in made:
        machine.outbox.close()


def test_gap_in_the_sound_counts_for_no_delay(make_machine):
    """A minute that was lost raises no alarm by itself, and what was heard ahead of it still counts."""
    machine = make_machine(on_delay_s=3 * HOP_S)
    machine.hear(6, 6)
    machine.hear(6, lost_samples=60 * 16_000)
    assert machine.events() == []
    machine.hear(6, 6)
    assert machine.events() == [("new", round(60.25 + 3 * HOP_S, 2))]


def test_silence_during_an_alarm_is_told_and_the_alarm_goes_on(make_machine):
    """The microphone dies: sensor_fault under the alarm's id; it comes back, and the alarm ends when it should."""
    machine = make_machine()
    machine.hear(6)
    since = {"since_monotonic_s": machine.now_s, "since_utc_s": START_UTC_S}
    machine.take([NoSound(**since, reason="unplugged"), NoSound(**since, reason="unplugged")])
    machine.now_s += 30.0
    machine.hear(6, 6, 1, lost_samples=30 * 16_000)
    alarms, states = machine.said("alarm"), machine.said("state")
    assert [alarm["event"] for alarm in alarms] == ["new", "end"]
    assert [(state["state"], state["alarm_id"]) for state in states] == [
        ("alarm", alarms[0]["id"]),
        ("sensor_fault", alarms[0]["id"]),
        ("learning", alarms[0]["id"]),
        ("alarm", alarms[0]["id"]),
        ("normal", None),
    ]


def test_no_commit_knows_of_an_alarm_whose_news_are_not_in_it(make_machine):
    """Machines that are scored at once: a kill between two commits leaves each with what was said of it."""
    fan, pump = make_machine(), make_machine(name="pump")
    told = {}
    for score in (1, 6, 6, 1, 6, 1):
        fan.now_s += 1.0
        pump.now_s += 1.0
        fan.scores += [score, score]  # the fan's pipeline scores both
        both = [(machine.listener, [machine.block(NOISE)]) for machine in (fan, pump)]
        for messages in hear_together(fan, both):
            told |= {message.machine: message.payload["event"] for message in messages if message.leaf == "alarm"}
            records = {**fan.listener.records, **pump.listener.records}
            for name in ("fan", "pump"):
                assert (records[f"alarm/{name}"] is not None) == (told.get(name) == "new")
    assert told == {"fan": "end", "pump": "end"}


def test_clock_that_jumps_by_a_day_changes_neither_alarm_nor_seq(make_machine):
    """The wall clock is set at every window: all but UTC is said as with a clock that goes steadily."""
    scores = [1, 6, 6, 6, 6, 6, 1, 6, 1, 1, 1, 1, 6, 6, 6, 6, 6]
    steady, jumping = (make_machine(on_delay_s=3 * HOP_S, off_delay_s=2 * HOP_S) for _ in range(2))
    for number, score in enumerate(scores):
        jumping.utc_ahead_s += DAY_S if number % 3 else -2.5 * DAY_S
        steady.hear(score)
        jumping.hear(score)

    def without_utc(payload):
        return {key: value for key, value in payload.items() if "utc" not in key and key not in {"id", "alarm_id"}}

    assert [event for event, _ in steady.events()] == ["new", "end", "new"]
    assert list(map(without_utc, jumping.said())) == list(map(without_utc, steady.said()))
    assert len({payload["id"] for payload in jumping.said("alarm")}) == 2
    assert [payload["seq"] for payload in jumping.said()] == list(range(1, len(jumping.said()) + 1))


@given(
    lives=st.lists(st.lists(st.sampled_from([1.0, 6.0]), max_size=8), min_size=1, max_size=5),
    on_delay=st.integers(0, 3),
    off_delay=st.integers(0, 3),
)
@settings(max_examples=10)
def test_restarts_at_any_window_lose_and_double_no_alarm(tmp_path_factory, lives, on_delay, off_delay):
    """What was committed is what the next life goes on from: events alternate, each end has the id of its new."""
    machine = Machine(tmp_path_factory.mktemp("machine"), on_delay_s=on_delay * HOP_S, off_delay_s=off_delay * HOP_S)
    expected = None
    for scores in lives:
        machine.hear(*scores)
        machine.now_s += 5.0
        machine.start()
        alarms = machine.said("alarm")
        expected = alarms[-1]["id"] if alarms and alarms[-1]["event"] != "end" else None
        machine.hear(6.0)
        assert machine.said("state")[-1]["previous"] is None
        if expected is not None:
            assert machine.said("state")[-1]["alarm_id"] == expected
    active = None
    for alarm in machine.said("alarm"):
        assert (alarm["event"] == "new") == (active is None)
        assert active in {None, alarm["id"]}
        active = None if alarm["event"] == "end" else alarm["id"]
    machine.outbox.close()
