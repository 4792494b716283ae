"""In the place of sounddevice in the recording process: cards that behave as the file named by FAKE_SOUND says, JSON.

name, channels, native_rate_hz: of the one card. refuses_hz: rates that it does not take. busy: whether another program
has it. importing, opening, starting: "hang", "fail" or nothing. blocks: how many it delivers, each at its time; value:
of channel c's samples, times c + 1. overrun_at: the block that comes after an overrun. then: what follows, "end",
"hang", "abort" or "exit".
"""

import array
import ctypes
import itertools
import json
import os
import threading
import time
from pathlib import Path
from types import SimpleNamespace

PLAN = json.loads(Path(os.environ["FAKE_SOUND"]).read_text())


class PortAudioError(Exception):
    """As sounddevice's."""


def _do(what: object) -> None:
    if what == "hang":
        time.sleep(3_600)
    if what == "fail":
        raise PortAudioError("Device unavailable")


if PLAN.get("importing") == "fail":
    raise OSError("PortAudio library not found")
_do(PLAN.get("importing"))
default = SimpleNamespace(device=(-1, -1))


def query_hostapis():
    return ({"default_input_device": 0},)


def query_devices():
    card = {
        "index": 0,
        "name": PLAN.get("name", "fake"),
        "max_input_channels": PLAN.get("channels", 2),
        "default_samplerate": float(PLAN.get("native_rate_hz", 48_000)),
    }
    return [card]


def check_input_settings(*, samplerate, **_settings):
    if PLAN.get("busy"):
        raise PortAudioError("Device unavailable", -9985)
    if samplerate in PLAN.get("refuses_hz", ()):
        raise PortAudioError("Invalid sample rate", -9997)


class RawInputStream:
    """Calls back in real time from a thread of its own, as PortAudio does."""

    def __init__(self, *, channels, samplerate, blocksize, callback, finished_callback, **_settings):
        _do(PLAN.get("opening"))
        self._shape = channels, samplerate, blocksize
        self._callback, self._finished = callback, finished_callback

    def start(self):
        _do(PLAN.get("starting"))
        threading.Thread(target=self._deliver, daemon=True).start()

    def _deliver(self):
        channels, rate_hz, n_samples = self._shape
        frame = [PLAN.get("value", 0.1) * (channel + 1) for channel in range(channels)]
        buffer = array.array("f", frame * n_samples)  # interleaved
        began_s = time.monotonic()
        numbers = range(PLAN["blocks"]) if "blocks" in PLAN else itertools.count()
        for number in numbers:
            time.sleep(max(0.0, began_s + (number + 1) * n_samples / rate_hz - time.monotonic()))
            now_s = time.monotonic()
            times = SimpleNamespace(currentTime=now_s, inputBufferAdcTime=now_s - n_samples / rate_hz)
            status = SimpleNamespace(input_overflow=number == PLAN.get("overrun_at"))
            self._callback(memoryview(buffer).cast("B"), n_samples, times, status)
        then = PLAN.get("then")
        if then == "end":
            self._finished()
        elif then == "abort":
            ctypes.CDLL(None).abort()
        elif then == "exit":
            os.write(1, b"the driver says goodbye\n")
            os._exit(3)
