"""Scores of one machine in, its state and the life of its alarms out."""

from __future__ import annotations

import math
import uuid
from dataclasses import dataclass, fields
from typing import Literal

from edge_asd.types import AlarmEvent, MachineState

_ALARM_IDS = uuid.UUID("6f1c1a52-9d2e-5b8e-9a53-3c1f0b7f6a10")


@dataclass(frozen=True, slots=True, kw_only=True)
class AlarmSettings:
    """When an alarm begins, repeats and ends.

    on_delay_s: how long scores must stay at or above the threshold before the alarm is raised.
    off_delay_s: how long scores must stay below threshold - deadband before it ends.
    deadband: how far below the threshold scores must fall to count as normal again, in units of the score.
    re_alarm_s: an active alarm sends an update each time this has passed; None or 0 is never.

    Raises:
        ValueError: a setting is negative or not finite.

    Source: OPC UA Part 9, OnDelay, OffDelay, deadband and ReAlarmTime.
    """

    on_delay_s: float = 0.0
    off_delay_s: float = 0.0
    deadband: float = 0.0
    re_alarm_s: float | None = None

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if value is not None and not 0.0 <= value < math.inf:
                raise ValueError(f"{field.name} is {value}; expected a number of 0 or more")


@dataclass(slots=True, kw_only=True)
class _Excursion:
    """Scores at or above the threshold since it began: an alarm to come, or an active one."""

    began_monotonic_s: float
    began_utc_s: float
    peak_score: float
    event_monotonic_s: float = 0.0  # of the latest event
    below_since_s: float | None = None  # monotonic; set while the off-delay runs


class Alarm:
    """The alarm life cycle of one machine: `new`, any number of `update`, `end`; at most one is active.

    Time comes in with the scores, and delays are differences of monotonic time, so that a stepped clock neither raises
    nor ends an alarm.

    A score that is not finite says nothing of the machine. It neither raises nor ends an alarm and starts the running
    delay afresh; the state is then `sensor_fault`, unless an alarm is active, which stays.

    Args:
        machine: its name; part of the alarm's identity.
        settings: delays, deadband and repetition.
        threshold: scores from here on are anomalous.

    Raises:
        ValueError: threshold is not finite.
    """

    def __init__(self, machine: str, settings: AlarmSettings, threshold: float) -> None:
        if not math.isfinite(threshold):
            raise ValueError(f"threshold of {machine} is {threshold}; expected a finite number")
        self._machine = machine
        self._settings = settings
        self._threshold = threshold
        self._latest_monotonic_s = -math.inf
        self._state = MachineState.LEARNING
        self._pending: _Excursion | None = None  # within the on-delay
        self._active: _Excursion | None = None

    @property
    def state(self) -> MachineState:
        """What the scores so far say; `learning` ahead of the first."""
        return self._state

    def update(self, score: float, time_monotonic_s: float, time_utc_s: float) -> list[AlarmEvent]:
        """Take the score of the window that ended at the given times; the events that follow from it.

        Raises:
            ValueError: time_monotonic_s is not later than at the call before.
        """
        if not time_monotonic_s > self._latest_monotonic_s:
            raise ValueError(
                f"time_monotonic_s of {self._machine} is {time_monotonic_s}; expected later than "
                f"{self._latest_monotonic_s}, that of the score before"
            )
        self._latest_monotonic_s = time_monotonic_s
        if not math.isfinite(score):
            self._interrupt()
            return []
        if self._active is not None:
            return self._step_active(self._active, score, time_monotonic_s)
        return self._step_inactive(score, time_monotonic_s, time_utc_s)

    def _interrupt(self) -> None:
        self._pending = None
        if self._active is None:
            self._state = MachineState.SENSOR_FAULT
        else:
            self._active.below_since_s = None

    def _step_inactive(self, score: float, monotonic_s: float, utc_s: float) -> list[AlarmEvent]:
        if score < self._threshold:
            self._pending = None
            self._state = MachineState.NORMAL
            return []
        excursion = self._pending or _Excursion(began_monotonic_s=monotonic_s, began_utc_s=utc_s, peak_score=score)
        excursion.peak_score = max(excursion.peak_score, score)
        if monotonic_s - excursion.began_monotonic_s < self._settings.on_delay_s:
            self._pending = excursion
            self._state = MachineState.WARNING
            return []
        self._pending = None
        self._active = excursion
        self._state = MachineState.ALARM
        return [self._event("new", excursion, score, monotonic_s)]

    def _step_active(self, excursion: _Excursion, score: float, monotonic_s: float) -> list[AlarmEvent]:
        excursion.peak_score = max(excursion.peak_score, score)
        if score >= self._threshold - self._settings.deadband:
            excursion.below_since_s = None
        else:
            if excursion.below_since_s is None:
                excursion.below_since_s = monotonic_s
            if monotonic_s - excursion.below_since_s >= self._settings.off_delay_s:
                self._active = None
                self._state = MachineState.NORMAL
                return [self._event("end", excursion, score, monotonic_s)]
        re_alarm_s = self._settings.re_alarm_s
        if re_alarm_s and monotonic_s - excursion.event_monotonic_s >= re_alarm_s:
            return [self._event("update", excursion, score, monotonic_s)]
        return []

    def _event(
        self, kind: Literal["new", "update", "end"], excursion: _Excursion, score: float, monotonic_s: float
    ) -> AlarmEvent:
        excursion.event_monotonic_s = monotonic_s
        # Both times: UTC may be set back within a boot, and monotonic time starts again at the next.
        began = f"{excursion.began_utc_s!r} {excursion.began_monotonic_s!r}"
        return AlarmEvent(
            kind=kind,
            alarm_id=str(uuid.uuid5(_ALARM_IDS, f"{self._machine} {began}")),
            began_utc_s=excursion.began_utc_s,
            duration_s=monotonic_s - excursion.began_monotonic_s,
            score=score,
            peak_score=excursion.peak_score,
            threshold=self._threshold,
        )
