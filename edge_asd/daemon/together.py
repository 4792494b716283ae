"""Machines that have sound at the same time in, their messages out; windows due together are scored at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from edge_asd.daemon.listener import Hearsay, Listener
from edge_asd.pipeline import Pipeline, Scored
from edge_asd.types import Block, NoSound, OutgoingMessage, Window


def hear_together(
    pipeline: Pipeline, heard: Sequence[tuple[Listener, Sequence[Block | NoSound]]]
) -> Iterator[list[OutgoingMessage]]:
    """Yield what is to be said of each machine, in its order; commit it before taking the next.

    Args:
        pipeline: scores the windows.
        heard: different machines, at most the pipeline's `max_batch`, with what was heard of each.
    """
    turns = [_Turn(listener, listener.hear(sound)) for listener, sound in heard]
    while turns:
        for turn in turns:
            yield from turn.speak()
        turns = [turn for turn in turns if turn.due is not None]
        windows = [(turn.listener.ear, turn.due) for turn in turns if turn.due is not None]
        for turn, scored in zip(turns, pipeline.score(windows) if windows else (), strict=True):
            turn.scored = scored


class _Turn:
    """One machine's part: it speaks until a window is due, and again once that is scored."""

    def __init__(self, listener: Listener, hearsay: Hearsay) -> None:
        self.listener = listener
        self.due: Window | None = None
        self.scored: Scored | None = None
        self._hearsay = hearsay

    def speak(self) -> Iterator[list[OutgoingMessage]]:
        answer, self.due, self.scored = self.scored, None, None
        try:
            said = self._hearsay.send(answer)
            while not isinstance(said, Window):
                yield said
                said = next(self._hearsay)
        except StopIteration:
            return
        self.due = said
