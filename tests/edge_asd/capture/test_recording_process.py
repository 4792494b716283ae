"""The process that records: killed, stopped, held by its driver; small, and gone with its parent."""

import os
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

import psutil
import pytest

from edge_asd.capture.ring import RingReader
from tests.edge_asd.capture.kit import LONG, SHORT, is_block, is_silence, recorders, until


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
