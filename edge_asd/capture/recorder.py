"""A choice of sound card in, the slots that its recording process fills out, or the reason why there are none."""

from __future__ import annotations

import io
import json
import logging
import os
import select
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from types import TracebackType

from edge_asd.capture.child import Opened, Request
from edge_asd.capture.devices import CardChoice
from edge_asd.capture.ring import RingHandle, RingReader, Slot

LOG = logging.getLogger(__name__)

_POLL_S = 0.25
"""How long `read` waits at most: so soon a source that is closed ends."""

_KILL_S = 2.0
"""How long a killed process may take to be gone; one that a driver holds in the kernel stays."""

_WORDS_BYTES = 2_000
"""How much is kept of what libraries print."""


class SoundLost(Exception):  # noqa: N818 - what happened, for the source to deal with
    """No sound comes from the card; the text says why and what to do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How long a recording process may be silent before it is taken for hung.

    start_s: until Python runs. open_s: until PortAudio has found and opened the card. first_s: until its first sound;
    PulseAudio may take 2 s. stall_s: between two blocks.
    """

    start_s: float = 30.0
    open_s: float = 4.0
    first_s: float = 4.0
    stall_s: float = 3.0

    def without_hurry(self) -> Patience:
        """The same, but four times as long until there is sound."""
        return replace(self, open_s=4 * self.open_s, first_s=4 * self.first_s)


class Recorder:
    """One process that records one card; it is gone at the end of the context.

    Args:
        choice: the card. n_channels: how many of it are needed, the first ones. rate_hz: what is asked for; the card
        may refuse it. patience: when to take the process for hung.

    Raises:
        SoundLost: the process cannot be started.
    """

    def __init__(self, choice: CardChoice, *, n_channels: int, rate_hz: int, patience: Patience) -> None:
        self._choice = choice
        self._patience = patience
        self._words = b""  # the latest that libraries printed
        self._news = b""  # the beginning of a line
        self._failure: str | None = None
        self._opened: tuple[Opened, RingReader] | None = None
        try:
            self._ring = RingHandle.create()
        except OSError as error:
            raise SoundLost(f"there is no room for the sound of {choice} ({error})") from error
        try:
            self.process = _start(
                Request(choice=choice, n_channels=n_channels, rate_hz=rate_hz, ring=self._ring, parent_pid=os.getpid())
            )
        except OSError as error:
            self._ring.close()
            raise SoundLost(f"the process that records {choice} cannot be started ({error})") from error
        self._pipes = tuple(map(_pipe, (self.process.stdin, self.process.stdout, self.process.stderr)))
        self._awaited = "started in time", patience.start_s
        self._heard_of_s = time.monotonic()
        self._poll = select.poll()  # select cannot do with descriptors above 1023
        for descriptor in (self._ring.filled, *(pipe.fileno() for pipe in self._pipes[1:])):
            os.set_blocking(descriptor, False)
            self._poll.register(descriptor, select.POLLIN)

    def __enter__(self) -> Recorder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.kill()
        for pipe in self._pipes:
            pipe.close()
        if self._opened is not None:
            self._opened[1].close()
        self._ring.close()

    def kill(self) -> None:
        """End the process; any thread may call it, again and again."""
        self.process.kill()
        try:
            self.process.wait(_KILL_S)
        except subprocess.TimeoutExpired:
            LOG.warning("%s: the driver holds the killed process %d; unplug the card, or restart the device",
                        self._choice, self.process.pid)  # fmt: skip

    def read(self) -> tuple[Opened, tuple[Slot, ...]] | None:
        """Wait a moment for sound; return what came and from what it was recorded, None when nothing came.

        Raises:
            SoundLost: none will come, or the process was silent for longer than its patience.
        """
        asked_s = time.monotonic()  # ahead of the look: this thread may not get to run for seconds after it
        self._poll.poll(_POLL_S * 1_000)
        gone = not self._read_news()
        if self._opened is not None:
            opened, reader = self._opened
            if slots := reader.take():
                self._await(f"delivered sound for {self._patience.stall_s:g} s", self._patience.stall_s)
                return opened, slots
        if gone:
            raise SoundLost(self._failure or self._end())
        what, patience_s = self._awaited
        if asked_s - self._heard_of_s > patience_s:
            raise SoundLost(
                f"{self._choice} has not {what}; expected sound all the time; check its cable and that it is still "
                "listed by `edge-asd devices`"
            )
        return None

    def _await(self, what: str, patience_s: float) -> None:
        self._awaited = what, patience_s
        self._heard_of_s = time.monotonic()

    def _read_news(self) -> bool:
        """Take in what the process tells; False when it is gone."""
        _, stdout, stderr = self._pipes
        self._words = (self._words + (stderr.read() or b""))[-_WORDS_BYTES:]
        news = stdout.read()
        if news is None:
            return True
        *lines, self._news = (self._news + news).split(b"\n")
        for line in lines:
            try:
                event, content = json.loads(line)
            except ValueError:  # something printed before the process took its stdout to itself
                self._words += line + b"\n"
            else:
                self._take_in(event, content)
        return news != b""

    def _take_in(self, event: str, content: object) -> None:
        if event == "started":
            self._await("answered in time", self._patience.open_s)
        elif event == "failed":
            self._failure = str(content)
        elif isinstance(content, dict):
            opened = Opened(**content)
            try:
                reader = RingReader(self._ring, slots=opened.slots, slot_bytes=opened.slot_bytes)
            except (OSError, ValueError) as error:
                raise SoundLost(f"there is no room for the sound of {self._choice} ({error})") from error
            self._opened = opened, reader
            self._await("delivered sound in time", self._patience.first_s)

    def _end(self) -> str:
        """Say how a process ended that did not say so itself."""
        try:
            code = self.process.wait(_KILL_S)
        except subprocess.TimeoutExpired:
            return f"the process that records {self._choice} is neither alive nor gone"
        names = {each.value: each.name for each in signal.Signals}  # real-time signals have none
        how = f"was killed by {names.get(-code, -code)}" if code < 0 else f"ended with code {code}"
        words = self._words.decode(errors="replace").strip()
        return f"the process that records {self._choice} {how}" + (f": {words.splitlines()[-1]}" if words else "")


def _start(request: Request) -> subprocess.Popen[bytes]:
    ring = request.ring
    return subprocess.Popen(  # noqa: S603 - Python itself, with our own module
        [sys.executable, "-m", "edge_asd.capture.child", request.to_json()],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        bufsize=0,
        pass_fds=(ring.memory, ring.filled, ring.free),
        cwd="/",  # Python looks for modules where it is started
    )


def _pipe(end: object) -> io.FileIO:
    assert isinstance(end, io.FileIO)  # noqa: S101 - asked for as a pipe without a buffer
    return end
