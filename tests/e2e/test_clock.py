"""The daemon while somebody moves the clock by a day, forth and back: a real process under libfaketime."""

import itertools
import signal
from datetime import datetime, timezone
from pathlib import Path

import pytest

DAY_S = 86_400


@pytest.fixture
def start_with_movable_clock(tmp_path, monkeypatch):
    """A function: starts a device's daemon and returns its process and what moves its clock, in s from the true time.

    The monotonic clock stays the machine's own.
    """
    libraries = sorted(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
    if not libraries:
        pytest.skip("libfaketime is not installed (apt install faketime)")
    offset = tmp_path / "offset"

    def move(seconds):
        new = offset.with_suffix(".new")
        new.write_text(f"{seconds:+d}\n")
        new.rename(offset)

    def start(device, broker_url):
        move(0)
        with monkeypatch.context() as patch:
            for name, value in (
                ("LD_PRELOAD", str(libraries[0])),
                ("FAKETIME_TIMESTAMP_FILE", str(offset)),
                ("FAKETIME_NO_CACHE", "1"),
                ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
                ("DONT_FAKE_MONOTONIC", "1"),
            ):
                patch.setenv(name, value)
            return device.start(broker_url), move

    return start


def of_leaf(heard, leaf):
    """Payloads by seq, repeats dropped."""
    found = {message.payload["seq"]: message.payload for message in heard if message.leaf == leaf}
    return [payload for _, payload in sorted(found.items())]


def hear_an_alarm_through_jumps(process, move, subscriber):
    """Waits for an alarm, moves the clock a day forth and two back, and returns all that was heard."""
    heard = subscriber.wait_for(lambda heard: of_leaf(heard, "alarm"), 60)
    for seconds in (DAY_S, -DAY_S):
        move(seconds)
        n_scores = len(of_leaf(heard, "score"))
        heard = subscriber.wait_for(lambda heard, n=n_scores: len(of_leaf(heard, "score")) >= n + 5, 60)
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 0
    return subscriber.wait_for(lambda heard: any(message.payload == "stopped" for message in heard))


def check_order_and_alarm(heard):
    """One alarm without an end, all numbers there, and scores one hop apart on the clock that never jumps."""
    assert [alarm["event"] for alarm in of_leaf(heard, "alarm")] == ["new"]
    assert of_leaf(heard, "state")[-1]["state"] == "alarm"
    told = sorted({m.payload["seq"] for m in heard if m.leaf in {"score", "state", "alarm"}})
    assert told == list(range(1, len(told) + 1))
    arrived = [m.payload["seq"] for m in heard if m.leaf in {"score", "state", "alarm"}]
    assert arrived == sorted(arrived)
    times_s = [score["time_monotonic_s"] for score in of_leaf(heard, "score")]
    steps_s = {round(later - earlier, 1) for earlier, later in itertools.pairwise(times_s)}
    assert steps_s == {1.0}, times_s
    last_health = datetime.fromisoformat(of_leaf(heard, "health")[-1]["time_utc"].replace("Z", "+00:00"))
    ahead_s = (last_health - datetime.now(timezone.utc)).total_seconds()
    assert ahead_s == pytest.approx(-DAY_S, abs=600), "the clock was not moved at all"


def test_a_jump_of_a_day_moves_nothing_but_utc(
    mosquitto, make_device, example_clips, subscribe, start_with_movable_clock
):
    """A day forth and back changes no number, raises and ends no alarm, and holds no message up."""
    device = make_device()
    device.machine["source"].update(clips=example_clips("M1", "healthy"), speed=5.0, repeat=True)
    device.machine.update(threshold=-1_000.0, alarm={"on_delay_s": 0.0, "off_delay_s": 1.0, "re_alarm_s": 3_600.0})
    subscriber = subscribe(mosquitto)
    process, move = start_with_movable_clock(device, mosquitto.url)
    check_order_and_alarm(hear_an_alarm_through_jumps(process, move, subscriber))
