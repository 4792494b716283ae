"""Signals that end a program in, an exception that ends its run in good order out."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import lightning


class Stopped(BaseException):
    """The program was told to end; exit_code is as shells have it, 128 and the signal's number."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.exit_code = 128 + number


@contextmanager
def stoppable() -> Iterator[None]:
    """Raise `Stopped` where SIGINT or SIGTERM finds the program; a second one of its kind ends it at once.

    Lightning alone would end the training on SIGTERM as if it were complete. A signal that is ignored stays so.
    """
    earlier = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        for number, handler in earlier.items():
            if handler is not signal.SIG_IGN:
                signal.signal(number, _stop)
        yield
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)


def _stop(number: int, _frame: FrameType | None) -> None:
    signal.signal(number, signal.SIG_DFL)
    raise Stopped(number)


class KeepHandler(lightning.Callback):
    """Puts the handler of SIGTERM back that stood before Lightning set its own.

    Lightning's first tells the other processes of a torchrun. They may be in a step that waits for this one, and then
    none of them ends before torchrun kills it.
    """

    def __init__(self) -> None:
        self._handler = signal.getsignal(signal.SIGTERM)

    def on_train_start(self, trainer: lightning.Trainer, pl_module: lightning.LightningModule) -> None:  # noqa: ARG002 - Lightning's hook
        """Put it back; only the main thread may, and only there did Lightning set its own."""
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self._handler)
