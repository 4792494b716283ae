"""The source of a sound card and its recording process: a real process, whose sound library does as it is told."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import psutil
import pytest

from edge_asd.capture import sound_card as sound_card_module
from edge_asd.capture.clips import SAMPLE_RATE_HZ
from edge_asd.capture.devices import CardChoice
from edge_asd.capture.recorder import Patience, Recorder
from edge_asd.capture.ring import RingReader
from edge_asd.capture.sound_card import SoundCard
from edge_asd.types import NoSound

FAKE = CardChoice(name="fake")
LONG = Patience(start_s=60.0, open_s=60.0, first_s=60.0, stall_s=60.0)
SHORT = Patience(start_s=60.0, open_s=0.5, first_s=0.5, stall_s=1.0)  # four times open_s and first_s at first


@pytest.fixture
def plan(tmp_path, monkeypatch):
    """A function that says how the card behaves from the next start of a process on."""
    path = tmp_path / "plan.json"
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parent / "fake_sound"))
    monkeypatch.setenv("FAKE_SOUND", str(path))
    monkeypatch.setattr(sound_card_module, "_BACK_OFF_S", (0.1,))

    def write(**behaviour):
        path.write_text(json.dumps(behaviour))

    write()
    return write


@pytest.fixture
def open_card(plan):  # noqa: ARG001 - the card is a fake one
    """A function that makes sources; they are closed at the end."""
    made = []

    def make(choice=FAKE, channels=(0,), patience=LONG):
        made.append(SoundCard(choice, channels, patience=patience))
        return made[-1]

    yield make
    for card in made:
        card.close()


def recorders():
    """The recording processes of this one."""
    return [child for child in psutil.Process().children() if "edge_asd.capture.child" in " ".join(child.cmdline())]


def until(heard, wanted):
    """What is heard up to the first that is wanted."""
    before = []
    for each in heard:
        if wanted(each):
            return before, each
        before.append(each)
    raise AssertionError(f"not heard: {before}")


def is_block(each):
    return not isinstance(each, NoSound)


def is_silence(each):
    return isinstance(each, NoSound)


def test_the_wanted_channels_come_in_the_order_asked_for(plan, open_card):
    """Of three channels, the third and the first are taken, each block at its place in time."""
    plan(channels=3, value=0.1)
    blocks = list(islice(open_card(channels=(2, 0)), 10))
    for third, first in blocks:
        np.testing.assert_allclose(third.samples, 0.3, rtol=1e-6)
        np.testing.assert_allclose(first.samples, 0.1, rtol=1e-6)
        assert (third.lost_samples, first.lost_samples) == (0, 0)
    assert sum(len(block.samples) for block, _ in blocks) == 10 * 640
    ends_s = [block.end_monotonic_s for block, _ in blocks]
    assert np.median(np.diff(ends_s)) == pytest.approx(0.04, abs=0.005)
    assert ends_s[-1] == pytest.approx(time.monotonic(), abs=1.0)
    assert blocks[-1][0].end_utc_s == pytest.approx(time.time(), abs=1.0)


def test_a_card_that_refuses_16_khz_is_resampled(plan, open_card):
    """A card of 44.1 kHz alone is recorded at 44.1 kHz; blocks have 16 kHz."""
    plan(refuses_hz=[16_000], native_rate_hz=44_100, value=0.2)
    card = open_card()
    blocks = [block for (block,) in islice(card, 50)]
    heard_s = sum(len(block.samples) for block in blocks) / SAMPLE_RATE_HZ
    assert heard_s == pytest.approx(2.0, abs=0.05)
    np.testing.assert_allclose(np.concatenate([block.samples for block in blocks])[2_000:], 0.2, atol=1e-3)
    assert card.lost_samples == 0


def test_an_overrun_is_a_gap_and_counted(plan, open_card):
    """What the driver says it lost stands ahead of the block after it."""
    plan(overrun_at=3)
    card = open_card()
    lost = [block.lost_samples for (block,) in islice(card, 6)]
    assert [n > 0 for n in lost] == [False, False, False, True, False, False]
    assert (card.overruns, card.lost_samples) == (1, sum(lost))


@pytest.mark.parametrize(
    ("behaviour", "reason"),
    [
        ({"blocks": 5, "then": "end"}, "sound card 'fake' ended its stream; check its cable"),
        ({"blocks": 5, "then": "hang"}, "has not delivered sound for 1 s; expected sound all the time"),
        ({"blocks": 5, "then": "abort"}, "the process that records sound card 'fake' was killed by SIGABRT"),
        ({"blocks": 5, "then": "exit"}, "ended with code 3: the driver says goodbye"),
    ],
    ids=lambda value: value.get("then") if isinstance(value, dict) else "",
)
def test_a_card_that_stops_is_told_and_heard_again(plan, open_card, behaviour, reason):
    """Whatever takes the sound away: one piece of news says since when and why, then sound is back with its gap."""
    plan(**behaviour)
    card = open_card(channels=(0, 1), patience=SHORT if "hang" in behaviour.values() else LONG)
    heard = iter(card)
    before, silence = until(heard, is_silence)
    assert len(before) == 5
    assert reason in silence.reason
    assert silence.since_monotonic_s == before[-1][0].end_monotonic_s
    assert silence.since_utc_s == before[-1][0].end_utc_s
    plan()
    _, (left, right) = until(heard, is_block)
    began_s = left.end_monotonic_s - len(left.samples) / SAMPLE_RATE_HZ
    assert left.lost_samples == right.lost_samples
    assert left.lost_samples / SAMPLE_RATE_HZ == pytest.approx(began_s - silence.since_monotonic_s, abs=0.001)
    assert card.lost_samples == left.lost_samples
    assert card.restarts >= 1
    assert [each.lost_samples for each, _ in islice(heard, 3)] == [0, 0, 0]


@pytest.mark.parametrize(
    ("behaviour", "reason"),
    [
        ({"importing": "fail"}, r"PortAudio is not installed .*apt install libportaudio2"),
        ({"importing": "hang"}, "sound card 'fake' has not answered in time"),
        ({"name": "other"}, "no sound card is called 'fake'; expected .*'other'; connect it, or correct the name"),
        ({"channels": 1}, r"has 1 channel\(s\); channel 1 was asked for; expected 0 to 0; choose another"),
        ({"busy": True}, r"'fake' cannot be opened \(Device unavailable\); expected to record from it; see whether"),
        ({"opening": "fail"}, r"'fake' cannot be opened \(Device unavailable\); see whether another program has it"),
        ({"opening": "hang"}, "has not answered in time"),
        ({"starting": "fail"}, r"'fake' cannot be opened \(Device unavailable\)"),
        ({"starting": "hang"}, "has not delivered sound in time"),
        ({"blocks": 0, "then": "hang"}, "has not delivered sound in time"),
    ],
    ids=lambda value: " ".join(map(str, value.values())) if isinstance(value, dict) else "",
)
def test_a_card_that_is_not_there_says_why_and_is_tried_again(plan, open_card, behaviour, reason):
    """A card that cannot be had, or hangs while it is opened, says why and is tried until it can be had."""
    plan(**behaviour)
    card = open_card(channels=(0, 1), patience=SHORT if "hang" in behaviour.values() else LONG)
    heard = iter(card)
    before, silence = until(heard, is_silence)
    assert before == []
    assert re.search(reason, silence.reason), silence.reason
    plan()
    _, (first, _) = until(heard, is_block)
    assert card.restarts >= 1
    assert first.lost_samples > 0


@pytest.fixture
def in_turns(plan, monkeypatch):
    """A function that names the card anew at each start of a process; at the end it is there."""

    def name(*names):
        left = iter(names)

        class InTurns(Recorder):
            def __init__(self, *arguments, **settings):
                plan(name=next(left, "fake"))
                super().__init__(*arguments, **settings)

        monkeypatch.setattr(sound_card_module, "Recorder", InTurns)

    return name


def test_the_same_reason_is_told_once(open_card, in_turns):
    """However often a card that is away is tried, its absence is told once, and the gap is all of it."""
    in_turns("other", "other", "other")
    card = open_card()
    news, (first,) = until(iter(card), is_block)
    (silence,) = news
    assert card.restarts == 3
    began_s = first.end_monotonic_s - len(first.samples) / SAMPLE_RATE_HZ
    assert first.lost_samples / SAMPLE_RATE_HZ == pytest.approx(began_s - silence.since_monotonic_s, abs=0.001)


def test_a_reason_that_changes_is_told(plan, open_card):
    """A card that ends its stream and then is not found: both reasons, the same beginning."""
    plan(blocks=5, then="end")
    heard = iter(open_card())
    _, ended = until(heard, is_silence)
    plan(name="other")
    gone = next(heard)
    assert "no sound card is called 'fake'" in gone.reason
    assert gone.since_monotonic_s == ended.since_monotonic_s
    plan(starting="fail")
    assert "cannot be opened" in next(heard).reason


def test_reasons_that_alternate_are_told_once_each(open_card, in_turns, monkeypatch):
    """A card that fails in one way after another does not fill the site with news: each once, and only so many."""
    monkeypatch.setattr(sound_card_module, "_MAX_REASONS", 3)
    in_turns("a", "b", "a", "c", "d")
    news, _ = until(iter(open_card()), is_block)
    assert [re.search("one of '(.)'", each.reason)[1] for each in news] == ["a", "b", "c"]


def test_a_card_is_given_longer_at_first_and_now_and_then(plan, open_card, monkeypatch):
    """Until it is heard for the first time, and for one of three attempts after that: a slow machine is not hung."""
    given = []

    class Noted(Recorder):
        def __init__(self, *arguments, patience, **settings):
            given.append(patience.open_s)
            super().__init__(*arguments, patience=patience, **settings)

    monkeypatch.setattr(sound_card_module, "Recorder", Noted)
    plan(name="other")
    card = open_card(patience=Patience(open_s=10.0))
    heard = iter(card)
    until(heard, is_silence)
    plan(blocks=1, then="end")
    for _ in range(7):
        until(heard, is_block)
    assert given == [40.0, 40.0, 40.0, 10.0, 10.0, 40.0, 10.0, 10.0]


def test_a_killed_process_is_replaced(open_card):
    """SIGKILL of the recording process: told within 5 s, then another one records."""
    heard = iter(open_card())
    next(heard)
    (recorder,) = recorders()
    recorder.kill()
    killed_s = time.monotonic()
    _, silence = until(heard, is_silence)
    assert time.monotonic() - killed_s < 5.0
    assert "was killed by SIGKILL" in silence.reason
    until(heard, is_block)
    (another,) = recorders()
    assert another.pid != recorder.pid


def test_a_stopped_process_is_killed_and_replaced(open_card):
    """SIGSTOP of the recording process, as a driver that hangs: told after its patience, then another one records."""
    heard = iter(open_card(patience=SHORT))
    next(heard)
    (recorder,) = recorders()
    recorder.suspend()
    _, silence = until(heard, is_silence)
    assert "has not delivered sound for 1 s" in silence.reason
    until(heard, is_block)
    assert not recorder.is_running()


def test_a_daemon_that_does_not_get_to_run_takes_no_card_for_hung(open_card, monkeypatch):
    """A capture thread that is held up for longer than its patience finds the sound that came since."""
    card = open_card(patience=replace(LONG, stall_s=0.5))
    heard = iter(card)
    next(heard)
    take = RingReader.take
    held_up = iter([True])

    def take_late(reader):
        slots = take(reader)
        if not slots and next(held_up, False):
            time.sleep(1.0)
        return slots

    monkeypatch.setattr(RingReader, "take", take_late)
    monkeypatch.setattr("edge_asd.capture.recorder._POLL_S", 0.001)  # it looks before there is something
    assert all(is_block(each) for each in islice(heard, 50))
    assert next(held_up, None) is None


def test_a_process_that_cannot_be_killed_is_not_multiplied(open_card, monkeypatch):
    """While a driver holds a killed process in the kernel, no further one is started, and the reason says so."""
    monkeypatch.setattr("edge_asd.capture.recorder._KILL_S", 0.1)
    heard = iter(open_card(patience=SHORT))
    next(heard)
    (recorder,) = recorders()
    with monkeypatch.context() as patch:
        patch.setattr(subprocess.Popen, "kill", lambda _process: None)  # as if in uninterruptible sleep
        recorder.suspend()
        until(heard, is_silence)
        held = next(heard)
        assert f"holds the killed process {recorder.pid}" in held.reason
        assert [each.pid for each in recorders()] == [recorder.pid]
    recorder.kill()
    until(heard, is_block)


def test_closing_frees_the_card_and_ends_the_iteration(open_card):
    """A close from another thread: the process is gone when it returns, and the reader ends without any more news.

    No descriptor stays open.
    """
    descriptors = set(Path("/proc/self/fd").iterdir())
    card = open_card()
    heard = iter(card)
    next(heard)
    closer = threading.Timer(0.3, card.close)
    closer.start()
    assert all(is_block(each) for each in heard)
    closer.join()
    assert recorders() == []
    card.close()
    assert set(Path("/proc/self/fd").iterdir()) <= descriptors


def test_what_is_printed_ahead_of_the_recording_does_no_harm(plan, open_card, tmp_path, monkeypatch):
    """A Python that prints something as it starts: it is no news of the card."""
    (tmp_path / "sitecustomize.py").write_text("print('hello from the site')\nprint('[1]')\n")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{os.environ['PYTHONPATH']}")
    plan(blocks=3, then="end")
    before, silence = until(iter(open_card()), is_silence)
    assert len(before) == 3
    assert "ended its stream" in silence.reason


@pytest.mark.slow
def test_a_late_reader_loses_sound_and_is_told_how_much(open_card):
    """What found no room in the ring is the next block's lost sound; heard and lost make up the time."""
    card = open_card()
    heard = iter(card)
    (first,) = next(heard)
    time.sleep(6.5)  # the ring holds 5 s
    read = [next(heard)[0] for _ in range(150)]
    lost = sum(block.lost_samples for block in read)
    assert lost == card.lost_samples > SAMPLE_RATE_HZ // 2
    heard_samples = sum(len(block.samples) for block in read)
    between_s = read[-1].end_monotonic_s - first.end_monotonic_s
    assert (heard_samples + lost) / SAMPLE_RATE_HZ == pytest.approx(between_s, abs=0.1)


PARENT = """
    import os, time
    from edge_asd.capture.devices import CardChoice
    from edge_asd.capture.sound_card import SoundCard

    card = SoundCard(CardChoice(name="fake"), [0])
    heard = iter(card)
    next(heard)
    print(card._recorder.process.pid, flush=True)
    time.sleep(3600)
"""


@pytest.mark.parametrize("stopped", [False, True], ids=["alive", "stopped"])
def test_a_recording_process_dies_with_its_parent(plan, stopped):  # noqa: ARG001 - the card is a fake one
    """SIGKILL of the daemon leaves no recording process behind, not even one that hangs."""
    daemon = subprocess.Popen([sys.executable, "-c", textwrap.dedent(PARENT)], stdout=subprocess.PIPE, text=True)
    recorder = psutil.Process(int(daemon.stdout.readline()))
    if stopped:
        recorder.suspend()
    daemon.kill()
    daemon.communicate()
    psutil.wait_procs([recorder], timeout=10)
    assert not recorder.is_running() or recorder.status() == psutil.STATUS_ZOMBIE


def test_signals_for_the_daemon_do_not_end_the_recording(open_card):
    """A service manager and a terminal send their signals to both: the daemon decides when the recording ends."""
    heard = iter(open_card())
    next(heard)
    (recorder,) = recorders()
    recorder.send_signal(signal.SIGTERM)
    recorder.send_signal(signal.SIGINT)
    assert all(is_block(each) for each in islice(heard, 25))
    assert recorder.is_running()


def test_the_recording_process_inherits_nothing_but_its_ring(open_card):
    """Descriptors of the daemon (its database, its connection) are not open in the recording process."""
    with open(os.devnull) as of_the_daemon, socket.socket() as connection:  # noqa: PTH123 - a descriptor
        os.set_inheritable(of_the_daemon.fileno(), True)
        os.set_inheritable(connection.fileno(), True)
        heard = iter(open_card())  # held: it ends with the iteration
        next(heard)
        (recorder,) = recorders()
        held = [str(each.readlink()) for each in Path(f"/proc/{recorder.pid}/fd").iterdir()]
    own = ("/memfd:edge-asd-sound", "anon_inode:[eventfd]", "pipe:")
    assert [each for each in held if not each.startswith(own)] == []


def test_the_recording_process_is_small():
    """It imports neither numpy nor what needs it."""
    heavy = {"numpy", "soxr", "soundfile", "pydantic", "multiprocessing", "logging"}
    program = f"import sys, edge_asd.capture.child; print(sorted({heavy} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
