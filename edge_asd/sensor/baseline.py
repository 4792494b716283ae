"""Mean spectra of windows in, by how much the ear has changed since it got to know the machine out."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

import numpy as np
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass as strict_dataclass

from edge_asd.json_fault import name_faults
from edge_asd.sensor.slices import BAND_EDGES_HZ, HIGH_BANDS, LOW_BANDS
from edge_asd.types import FloatArray

_N_BANDS = len(BAND_EDGES_HZ) - 1
_MAX_SOUNDS = 16
_ALIKE_DB = 5.0
"""Mean square difference of spectra that count as one sound; half of the pairs of one machine's clips are within 3."""

_MAX_ESTABLISHED_S = 300.0
_SAME_LOW_DB = 4.0
_UNIFORM_DB = 4.0
"""A recording level that is turned moves all bands alike. Of clips of one machine that differ by 10 dB or more, in
either direction, none differed so evenly: in one band at least they were off by 6 dB."""

_HYSTERESIS_DB = 3.0


class BaselineError(ValueError):
    """What was kept of a baseline cannot be used."""


@dataclass(slots=True)
class _Sound:
    """One of a machine's sounds: at work, idle, switched off."""

    band_db: FloatArray
    learned_s: float


@dataclass(slots=True, kw_only=True)
class Baseline:
    """What a machine sounded like to this ear while the baseline was learned, and nothing later.

    It is learned from the first `learn_s` of sound and then stays as it is: one that followed would get used to dust.
    A sound that was heard only in passing is forgotten then. At most 16 sounds are kept; a further one is not learned.
    """

    learn_s: float
    heard_s: float = 0.0
    sounds: list[_Sound] = field(default_factory=list)

    @property
    def learned(self) -> bool:
        """Whether it is complete."""
        return self.heard_s >= self.learn_s

    def learn(self, band_db: FloatArray, fresh_s: float) -> None:
        """Take in a window's mean spectrum (16,) in dB, of which `fresh_s` is new."""
        nearest = min(self.sounds, key=lambda sound: _distance_db(sound.band_db, band_db), default=None)
        if nearest is not None and _distance_db(nearest.band_db, band_db) <= _ALIKE_DB:
            nearest.learned_s += fresh_s
            nearest.band_db = nearest.band_db + (band_db - nearest.band_db) * (fresh_s / nearest.learned_s)
        elif len(self.sounds) < _MAX_SOUNDS:
            self.sounds.append(_Sound(band_db, fresh_s))
        self.heard_s += fresh_s
        if self.learned:
            established_s = min(_MAX_ESTABLISHED_S, self.learn_s / 10)
            self.sounds = [sound for sound in self.sounds if sound.learned_s >= established_s]

    def muffled_by_db(self, band_db: FloatArray, *, limit_db: float, again: bool) -> float | None:
        """How much lower the high bands are than in every sound whose low bands are the same; None below the limit.

        again: whether the window before was muffled; what is there stays until it is less by 3 dB.
        """
        differences = [band_db - sound.band_db for sound in self.sounds]
        losses = [-float(d[HIGH_BANDS].max()) for d in differences if np.abs(d[LOW_BANDS]).max() <= _SAME_LOW_DB]
        loss_db = min(losses, default=0.0)
        return loss_db if loss_db >= limit_db - _HYSTERESIS_DB * again else None

    def quieter_by_db(self, band_db: FloatArray, *, limit_db: float, again: bool) -> float | None:
        """By how much all bands fell alike from one of the sounds; None below the limit, or where it is like another.

        again: whether the window before was quieter; as for `muffled_by_db`.
        """
        if any(_distance_db(sound.band_db, band_db) <= _ALIKE_DB for sound in self.sounds):
            return None
        for sound in self.sounds:
            falls = sound.band_db - band_db
            fall_db = float(np.median(falls))
            uneven_db = float(np.abs(falls - fall_db).max())
            if fall_db >= limit_db - _HYSTERESIS_DB * again and uneven_db <= _UNIFORM_DB + again:
                return fall_db
        return None

    def to_bytes(self, *, source: str) -> bytes:
        """As JSON for the disk; source: what the machine was heard through."""
        kept = _Kept(
            schema_version=1,
            source=source,
            learn_s=self.learn_s,
            heard_s=self.heard_s,
            sounds=tuple(
                _KeptSound(band_db=tuple(round(float(level), 2) for level in sound.band_db), learned_s=sound.learned_s)
                for sound in self.sounds
            ),
        )
        return _ADAPTER.dump_json(kept)

    @classmethod
    def from_bytes(cls, data: bytes, *, source: str, learn_s: float) -> Baseline:
        """What `to_bytes` made.

        Raises:
            BaselineError: it is something else, or was learned through another source.
        """
        try:
            kept = _ADAPTER.validate_json(data)
        except ValidationError as error:
            raise BaselineError(name_faults(error)) from None
        if kept.source != source:
            raise BaselineError(f"it was learned through {kept.source}; expected {source}")
        sounds = [_Sound(np.array(sound.band_db, dtype=np.float32), sound.learned_s) for sound in kept.sounds]
        return cls(learn_s=learn_s, heard_s=kept.heard_s, sounds=sounds)


_Seconds = Annotated[float, Field(ge=0.0, allow_inf_nan=False)]
_STRICT = ConfigDict(strict=True, extra="forbid")


@strict_dataclass(frozen=True, slots=True, kw_only=True, config=_STRICT)
class _KeptSound:
    band_db: Annotated[
        tuple[Annotated[float, Field(allow_inf_nan=False)], ...], Field(min_length=_N_BANDS, max_length=_N_BANDS)
    ]
    learned_s: _Seconds


@strict_dataclass(frozen=True, slots=True, kw_only=True, config=_STRICT)
class _Kept:
    schema_version: Literal[1]
    source: str
    learn_s: _Seconds
    heard_s: _Seconds
    sounds: Annotated[tuple[_KeptSound, ...], Field(max_length=_MAX_SOUNDS)]


_ADAPTER = TypeAdapter(_Kept)


def _distance_db(one: FloatArray, other: FloatArray) -> float:
    return float(np.sqrt(np.square(one - other).mean()))
