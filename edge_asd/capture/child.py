"""A request on the command line in, the sound of one card in a ring and news of it on stdout out: a process by itself.

The daemon starts it as `python -m edge_asd.capture.child REQUEST`, with the ring's descriptors inherited. A driver that
hangs or crashes takes this process along and nothing else. It ends when its stdin does, when the card's stream does, or
with its parent. It imports no numpy: it records and does nothing else.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import signal
import sys
import threading
import time
from dataclasses import asdict, dataclass
from typing import Any

from edge_asd.capture.devices import CardChoice, choose_device, list_devices, portaudio, takes_rate
from edge_asd.capture.ring import RingHandle, RingWriter
from edge_asd.errors import UnavailableError

BLOCK_S = 0.04
"""A quarter of the step that all hops are multiples of: a window ends with a block."""

_CARD_BUFFER_S = 0.5
_SERVER_BUFFER_S = 0.25
"""How much sound the driver is asked to hold while this process does not get to run: it may deliver a quarter of that
late. A sound server has a buffer of its own, and needs less here."""

_RING_S = 5.0
"""How much sound waits for a daemon that is late."""

_PR_SET_PDEATHSIG = 1
"""Source: linux/prctl.h."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What to record: the first `n_channels` or more of that card, at `rate_hz` or else at its native rate."""

    choice: CardChoice
    n_channels: int
    rate_hz: int
    ring: RingHandle
    parent_pid: int

    def to_json(self) -> str:
        """As text for the command line."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Request:
        """The same from the command line."""
        fields = json.loads(text)
        return cls(**{**fields, "choice": CardChoice(**fields["choice"]), "ring": RingHandle(**fields["ring"])})


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """A card that was opened: its name, rate and channels, and the size of its ring."""

    name: str
    rate_hz: int
    n_channels: int
    slots: int
    slot_bytes: int


def main() -> int:
    """Record until stdin ends; 1 when the card cannot be used."""
    request = Request.from_json(sys.argv[1])
    _die_with(request.parent_pid)
    for of_the_daemon in (signal.SIGINT, signal.SIGTERM):  # a service manager or terminal sends them to both
        signal.signal(of_the_daemon, signal.SIG_IGN)
    news = os.dup(1)
    os.dup2(2, 1)  # what libraries print is no news
    # A thread of its own: opening a card may hang for good.
    lifeline = threading.Thread(target=_end_with_stdin, name="lifeline", daemon=True)
    lifeline.start()
    _tell(news, "started")
    try:
        _open(request, news).start()
    except UnavailableError as error:
        _tell(news, "failed", str(error))
        return 1
    except portaudio().PortAudioError as error:
        _tell(
            news, "failed", f"{request.choice} cannot be opened ({error.args[0]}); see whether another program has it"
        )
        return 1
    lifeline.join()
    return 0


def _open(request: Request, news: int) -> Any:
    sounddevice = portaudio()
    device = choose_device(list_devices(), request.choice)
    if request.n_channels > device.channels:
        raise UnavailableError(
            f"sound card {device.name!r} has {device.channels} channel(s); channel {request.n_channels - 1} was asked "
            f"for; expected 0 to {device.channels - 1}; choose another channel or another card"
        )
    # Where a sound server stands between, one channel would be the mean of all that the card has: take two.
    n_channels = min(max(2, request.n_channels), device.channels)
    rate_hz = request.rate_hz if takes_rate(device, n_channels, request.rate_hz) else device.native_rate_hz
    block_samples = round(BLOCK_S * rate_hz)
    opened = Opened(
        name=device.name,
        rate_hz=rate_hz,
        n_channels=n_channels,
        slots=round(_RING_S / BLOCK_S),
        slot_bytes=block_samples * n_channels * ctypes.sizeof(ctypes.c_float),
    )
    ring = RingWriter(request.ring, slots=opened.slots, slot_bytes=opened.slot_bytes)

    def on_sound(buffer: Any, n_samples: int, times: Any, status: Any) -> None:
        """Take a block; called by PortAudio's thread, which must not wait."""
        # The stream's clock is PortAudio's own and may step: only how long ago the last sample was heard is carried
        # over. Some drivers leave the time out (0) or run ahead of it.
        begin_s = times.inputBufferAdcTime
        age_s = max(0.0, times.currentTime - begin_s - n_samples / rate_hz) if begin_s > 0 else 0.0
        ring.put(buffer, n_samples, arrived_s=time.monotonic(), age_s=age_s, overrun=status.input_overflow)

    def on_end() -> None:
        """End at once: a card that was pulled out ends its stream."""
        _tell(news, "failed", f"sound card {device.name!r} ended its stream; check its cable")
        os._exit(1)

    stream = sounddevice.RawInputStream(
        device=device.index,
        channels=n_channels,
        samplerate=rate_hz,
        blocksize=block_samples,
        latency=_SERVER_BUFFER_S if device.alsa_id is None else _CARD_BUFFER_S,
        dtype="float32",
        callback=on_sound,
        finished_callback=on_end,
    )
    _tell(news, "opened", asdict(opened))
    gc.disable()  # the callback makes no cycles, and is not to wait for a look at all objects
    return stream


def _tell(news: int, event: str, content: object = None) -> None:
    os.write(news, json.dumps([event, content]).encode() + b"\n")


def _end_with_stdin() -> None:
    while os.read(0, 1):
        pass
    os._exit(0)  # without PortAudio's own end, which would wait for a card that hangs


def _die_with(parent_pid: int) -> None:
    """Let the kernel kill this process with its parent, even where it is stopped or hangs in a driver."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent_pid:  # it died before
        os._exit(0)


if __name__ == "__main__":
    os._exit(main())  # without PortAudio's own end, which would wait for a card that hangs
