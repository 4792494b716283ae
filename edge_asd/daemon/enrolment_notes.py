"""What `edge-asd enroll` and the daemon tell each other of an enrolment: small notes, JSON in the machine's folder."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from edge_asd.bundle import Memory

MAX_FORGOTTEN = 100
MAX_RECENT = 2_048
"""Scores of windows that do not overlap: 5.7 h."""

_Score = Annotated[float, Field(allow_inf_nan=False)]
_UtcSeconds = Annotated[float, Field(allow_inf_nan=False)]


class Note(BaseModel):
    """Frozen, strict and closed."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Request(Note):
    """What `edge-asd enroll` asks of the daemon.

    id: tells this request from one before it for as much sound. wanted_s: of normal sound. forgotten: begin and end of
    what is not to be learned, though it was collected. The daemon alone writes what it collects: whoever reads that
    leaves these times out, the daemon with its next write too.
    """

    id: str = Field(min_length=1, max_length=64)
    wanted_s: float = Field(gt=0.0, le=86_400.0)
    forgotten: tuple[tuple[_UtcSeconds, _UtcSeconds], ...] = Field(default=(), max_length=MAX_FORGOTTEN)

    def left_of(self, memory: Memory) -> Memory:
        """What is to be learned of what was collected."""
        for begin_utc_s, end_utc_s in self.forgotten:
            memory = memory.without(from_utc_s=begin_utc_s, to_utc_s=end_utc_s)
        return memory

    def forgetting(self, times: Iterable[tuple[float, float]], *, wanted_s: float) -> Request:
        """The same without these times too, and of so much sound.

        Raises:
            ValueError: more than MAX_FORGOTTEN times are to be forgotten.
        """
        apart: list[tuple[float, float]] = []
        for begin_utc_s, end_utc_s in sorted((*self.forgotten, *times)):
            if apart and begin_utc_s <= apart[-1][1]:
                apart[-1] = (apart[-1][0], max(apart[-1][1], end_utc_s))
            else:
                apart.append((begin_utc_s, end_utc_s))
        return Request(id=self.id, wanted_s=wanted_s, forgotten=tuple(apart))


class Collecting(Note):
    """That the daemon collects, and how far it is.

    request: its id. n_windows: that were kept. refused_s: sound that was not, by reason.
    """

    request: str
    n_windows: int = Field(ge=0)
    refused_s: dict[str, float]


class Recent(Note):
    """What the daemon heard of an enrolled machine lately.

    memory_sha256: of the memory that scored it. begin_utc_s, end_utc_s: of the sound.
    """

    memory_sha256: str
    begin_utc_s: float
    end_utc_s: float
    scores: tuple[_Score, ...] = Field(min_length=1, max_length=MAX_RECENT)
