"""What an alarm has to know after a restart in, bytes for the disk out, and back again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, TypeAlias

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from edge_asd.json_fault import name_faults

# The bounds hold for what is read back: a byte may have been altered on the disk.
_Seconds: TypeAlias = Annotated[float, Field(ge=0.0, le=1e10)]
_UtcSeconds: TypeAlias = Annotated[float, Field(ge=0.0, le=1e11)]
_Score: TypeAlias = Annotated[float, Field(allow_inf_nan=False)]
_Name: TypeAlias = Annotated[str, Field(min_length=1, max_length=64)]
_STRICT = ConfigDict(strict=True, extra="forbid")


@dataclass(frozen=True, slots=True, kw_only=True)
class Excursion:
    """Scores at or above the threshold since it began: an alarm to come, or an active one.

    All durations count from its beginning to the moment of the memory that holds it.

    alarm_id: of the alarm that it is or becomes.
    active: whether the alarm was raised; False within the on-delay.
    began_utc_s: when the first score above the threshold was heard.
    age_s: since then.
    heard_s: how much of it counts for the on-delay.
    told_s: its age at the latest event.
    below_s: how long scores have been low, as far as it counts for the off-delay; None while they are not.
    score, peak_score: the latest, and the highest.
    acknowledged_by: who has seen it; None is nobody.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT

    alarm_id: _Name
    active: bool
    began_utc_s: _UtcSeconds
    age_s: _Seconds
    heard_s: _Seconds
    told_s: _Seconds
    below_s: _Seconds | None
    score: _Score
    peak_score: _Score
    acknowledged_by: _Name | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AlarmMemory:
    """An excursion and a mute as they were at a moment.

    boot_id, monotonic_s, utc_s: that moment; monotonic times compare only within one boot.
    mute_left_s: how long the machine stays muted; 0 where the mute has ended and the active alarm has not told it yet;
    None where it is not muted.
    """

    __pydantic_config__: ClassVar[ConfigDict] = _STRICT

    boot_id: _Name
    monotonic_s: _Seconds
    utc_s: _UtcSeconds
    excursion: Excursion | None
    mute_left_s: _Seconds | None

    def seconds_until(self, *, boot_id: str, monotonic_s: float, utc_s: float) -> float:
        """How long ago it was at a later moment, of this boot or another; never below 0.

        Over a reboot only UTC is left to tell: where it was set back meanwhile, that time does not count.
        """
        if boot_id == self.boot_id and monotonic_s >= self.monotonic_s:
            return monotonic_s - self.monotonic_s
        return max(utc_s - self.utc_s, 0.0)


_ADAPTER = TypeAdapter(AlarmMemory)


def memory_bytes(memory: AlarmMemory) -> bytes:
    """The memory as JSON."""
    return _ADAPTER.dump_json(memory)


def parse_memory(data: bytes) -> AlarmMemory:
    """What `memory_bytes` made.

    Raises:
        ValueError: the bytes are something else; the text says what.
    """
    try:
        return _ADAPTER.validate_json(data)
    except ValidationError as error:
        raise ValueError(name_faults(error)) from None
