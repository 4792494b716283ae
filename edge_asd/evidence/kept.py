"""A take in, its files out: FLAC, PNG and the JSON that describes them; and back again from the disk."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Annotated, Literal, TypeAlias

import soundfile
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass

from edge_asd.evidence.picture import picture_png
from edge_asd.evidence.recorder import Take
from edge_asd.json_fault import name_faults
from edge_asd.types import FloatArray
from edge_asd.utc import iso_utc

LogMel: TypeAlias = Callable[[FloatArray], FloatArray]
"""The spectrogram (n_mels, n_frames) in dB of sound (n,)."""

SUFFIXES = (".flac", ".png", ".json")
"""The JSON comes last: evidence without it is half-written."""

_STRICT = ConfigDict(strict=True, extra="forbid")
_Number = Annotated[float, Field(allow_inf_nan=False)]
_Seconds = Annotated[float, Field(ge=0.0, allow_inf_nan=False)]


@dataclass(frozen=True, slots=True, kw_only=True, config=_STRICT)
class Scored:
    """The score of the window that ended at `at_s` of the sound."""

    at_s: _Seconds
    score: _Number


@dataclass(frozen=True, slots=True, kw_only=True, config=_STRICT)
class Gap:
    """Sound that was lost; there are zeros in its place."""

    at_s: _Seconds
    length_s: _Seconds


@dataclass(frozen=True, slots=True, kw_only=True, config=_STRICT)
class Kept:
    """What is kept of one alarm.

    id: of the alarm, and of the evidence. whole: whether all the sound that was to follow the alarm is there.
    began_utc: when the score rose above the threshold. begin_utc: of the sound. alarm_at_s: how far into the sound the
    alarm was raised. length_s: of the sound. model: name, version and SHA-256 of what scored it.
    """

    schema_version: Literal[1]
    id: Annotated[str, Field(pattern=r"^[0-9a-f-]{36}$")]
    machine: str
    model: dict[str, str]
    began_utc: str
    begin_utc: str
    length_s: _Seconds
    alarm_at_s: _Seconds
    whole: bool
    threshold: _Number
    peak_score: _Number
    gaps: tuple[Gap, ...]
    scores: tuple[Scored, ...]


_ADAPTER = TypeAdapter(Kept)


def parse_kept(data: bytes) -> Kept:
    """What `files_of` wrote into the JSON.

    Raises:
        ValueError: it is something else; the text says what.
    """
    try:
        return _ADAPTER.validate_json(data)
    except ValidationError as error:
        raise ValueError(name_faults(error)) from None


def describe(take: Take, *, model: dict[str, str]) -> Kept:
    """Say what a take holds."""
    return Kept(
        schema_version=1,
        id=take.event.alarm_id,
        machine=take.machine,
        model=model,
        began_utc=iso_utc(take.event.began_utc_s),
        begin_utc=iso_utc(take.begin_utc_s),
        length_s=round(len(take.samples) / take.sample_rate_hz, 3),
        alarm_at_s=round(take.alarm_at_s, 3),
        whole=take.whole,
        threshold=round(take.event.threshold, 6),
        peak_score=round(max([take.event.peak_score, *(score for _, score in take.scores)]), 6),
        gaps=tuple(Gap(at_s=round(at_s, 3), length_s=round(length_s, 3)) for at_s, length_s in take.gaps),
        scores=tuple(Scored(at_s=at_s, score=round(score, 6)) for at_s, score in take.scores),
    )


def files_of(take: Take, kept: Kept, log_mel: LogMel) -> dict[str, bytes]:
    """Return the contents by suffix, in the order in which they are to be written."""
    sound = io.BytesIO()
    # 24 bits: sound of a 16-bit card takes no more room for it, and quiet sound of a better one keeps its detail.
    soundfile.write(sound, take.samples, take.sample_rate_hz, format="FLAC", subtype="PCM_24")
    picture = picture_png(
        log_mel(take.samples),
        scores=[(scored.at_s, scored.score) for scored in kept.scores],
        threshold=kept.threshold,
        length_s=kept.length_s,
        mark_s=kept.alarm_at_s,
    )
    contents = (sound.getvalue(), picture, _ADAPTER.dump_json(kept, indent=1))
    return dict(zip(SUFFIXES, contents, strict=True))
