"""What `edge-asd enroll` and the daemon tell each other of an enrolment: small notes, JSON in the machine's folder."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

MAX_RECENT = 2_048
"""Scores of windows that do not overlap: 5.7 h."""

_Score = Annotated[float, Field(allow_inf_nan=False)]


class Note(BaseModel):
    """Frozen, strict and closed."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Request(Note):
    """What `edge-asd enroll` asks of the daemon.

    id: tells this request from one before it for as much sound. wanted_s: of normal sound.
    """

    id: str = Field(min_length=1, max_length=64)
    wanted_s: float = Field(gt=0.0, le=86_400.0)


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
