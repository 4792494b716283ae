"""Scores of one machine and what people say of its alarms in, its state and the life of its alarms out."""

from __future__ import annotations

import math
import uuid
from dataclasses import dataclass, fields, replace
from typing import Literal

from edge_asd.alarm.memory import AlarmMemory, Excursion
from edge_asd.errors import RefusedError
from edge_asd.types import AlarmEvent, MachineState

_ALARM_IDS = uuid.UUID("6f1c1a52-9d2e-5b8e-9a53-3c1f0b7f6a10")

_MAX_UNHEARD_S = 300.0
"""An on-delay that gaps interrupted for longer altogether says nothing of the machine now, and starts afresh."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AlarmSettings:
    """When an alarm begins, repeats and ends.

    on_delay_s: how long scores must stay at or above the threshold before the alarm is raised.
    off_delay_s: how long scores must stay below threshold - deadband before it ends.
    deadband: how far below the threshold scores must fall to count as normal again, in units of the score.
    re_alarm_s: an active alarm sends an update each time this has passed; None or 0 is never.

    Raises:
        ValueError: a setting is negative or not finite.

    Source: OPC UA Part 9, OnDelay, OffDelay, deadband and ReAlarmTime. Other than there, a re-alarm does not take an
    acknowledgement back.
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


class Alarm:
    """The alarm life cycle of one machine: `new`, any number of `update`, `end`; at most one is active.

    Time comes in with the scores, and delays are differences of monotonic time, so that a stepped clock neither raises
    nor ends an alarm. Only time from score to score without a gap counts for them: what nobody heard says nothing of
    the machine. A gap does not start a delay afresh either, or a microphone that fails often would never alarm.

    While the sensor is at fault (`interrupt`, or a score that is not finite), nothing is raised, repeated or ended, and
    the running delay starts afresh. An alarm that is active stays, though the state is `sensor_fault`.

    `memory` is all that the next run needs: an alarm built from it goes on as after a gap, under the same id.

    Args:
        machine: its name; part of the alarm's identity.
        settings: delays, deadband and repetition.
        threshold: scores from here on are anomalous.
        boot_id: of this boot.
        memory: of the run before, from this boot or an earlier one.

    Raises:
        ValueError: threshold is not finite.
    """

    def __init__(
        self,
        machine: str,
        settings: AlarmSettings,
        threshold: float,
        *,
        boot_id: str,
        memory: AlarmMemory | None = None,
    ) -> None:
        if not math.isfinite(threshold):
            raise ValueError(f"threshold of {machine} is {threshold}; expected a finite number")
        self._machine = machine
        self._settings = settings
        self._threshold = threshold
        self._boot_id = boot_id
        self._memory = memory or AlarmMemory(
            boot_id=boot_id, monotonic_s=0.0, utc_s=0.0, excursion=None, mute_left_s=None
        )
        self._is_timed = memory is not None  # whether the memory's moment means anything
        self._is_restored = memory is not None  # until time comes in
        self._scored_s: float | None = None  # monotonic, of the latest score; None where a restart follows it
        self._latest_s = -math.inf
        self._state = MachineState.ALARM if self._active else MachineState.LEARNING

    @property
    def state(self) -> MachineState:
        """What the scores so far say; `learning` ahead of the first, unless an alarm goes on."""
        return self._state

    @property
    def alarm_id(self) -> str | None:
        """The alarm that is active."""
        return self._active.alarm_id if self._active else None

    @property
    def acknowledged_by(self) -> str | None:
        """Who has seen the active alarm."""
        return self._active.acknowledged_by if self._active else None

    @property
    def muted_until_utc_s(self) -> float | None:
        """When the mute ends, by the clock of the latest time that came in; None while the machine is not muted."""
        left_s = self._memory.mute_left_s
        return self._memory.utc_s + left_s if left_s else None

    @property
    def memory(self) -> AlarmMemory | None:
        """What the next run has to know; None where there is nothing."""
        is_empty = self._memory.excursion is None and self._memory.mute_left_s is None
        return None if is_empty else self._memory

    @property
    def _active(self) -> Excursion | None:
        excursion = self._memory.excursion
        return excursion if excursion and excursion.active else None

    def update(
        self, score: float, time_monotonic_s: float, time_utc_s: float, *, after_gap: bool = False
    ) -> list[AlarmEvent]:
        """Take the score of the window that ended at the given times; the events that follow from it.

        after_gap: sound was lost between the window before and this one.

        Raises:
            ValueError: time_monotonic_s is not later than at the call before.
        """
        if not time_monotonic_s > self._latest_s:
            raise ValueError(
                f"time_monotonic_s of {self._machine} is {time_monotonic_s}; expected later than {self._latest_s}, "
                "that of the score before"
            )
        self._latest_s = time_monotonic_s
        self._pass_time(time_monotonic_s, time_utc_s)
        if not math.isfinite(score):
            self.interrupt()
            return []
        unheard = after_gap or self._scored_s is None
        heard_s = 0.0 if unheard else time_monotonic_s - (self._scored_s or 0.0)
        self._scored_s = time_monotonic_s
        if self._active is None:
            return self._step_inactive(score, heard_s, time_monotonic_s, time_utc_s)
        return self._step_active(self._active, score, heard_s)

    def interrupt(self) -> None:
        """The sensor is at fault: what was heard of a running delay counts no more."""
        self._state = MachineState.SENSOR_FAULT
        active = self._active
        self._keep(replace(active, below_s=None) if active else None)

    def acknowledge(self, alarm_id: str, *, by: str, time_monotonic_s: float, time_utc_s: float) -> list[AlarmEvent]:
        """Mark the active alarm as seen, until it ends.

        Raises:
            RefusedError: this alarm is not active, or was acknowledged already.
        """
        self._pass_time(time_monotonic_s, time_utc_s)
        active = self._active
        if active is None:
            raise RefusedError("no alarm is active")
        if active.alarm_id != alarm_id:
            raise RefusedError(f"the active alarm is {active.alarm_id}, another one")
        if active.acknowledged_by is not None:
            raise RefusedError(f"the alarm was acknowledged by {active.acknowledged_by} already")
        self._keep(replace(active, acknowledged_by=by))
        return self._tell_marks()

    def mute(self, duration_s: float, *, time_monotonic_s: float, time_utc_s: float) -> list[AlarmEvent]:
        """Mark the machine's alarms as muted from now on for so long, whether or not it was muted before."""
        self._pass_time(time_monotonic_s, time_utc_s)
        self._memory = replace(self._memory, mute_left_s=duration_s)
        return self._tell_marks()

    def unmute(self, *, time_monotonic_s: float, time_utc_s: float) -> list[AlarmEvent]:
        """End the mute.

        Raises:
            RefusedError: the machine is not muted.
        """
        self._pass_time(time_monotonic_s, time_utc_s)
        if not self._memory.mute_left_s:
            raise RefusedError("the machine is not muted")
        self._memory = replace(self._memory, mute_left_s=None)
        return self._tell_marks()

    def _keep(self, excursion: Excursion | None) -> None:
        self._memory = replace(self._memory, excursion=excursion)

    def _pass_time(self, monotonic_s: float, utc_s: float) -> None:
        """Let excursion and mute grow older up to this moment.

        A command may come later than the end of the window whose score comes next: time then stands still.
        """
        then = self._memory
        if not self._is_timed:
            elapsed_s = 0.0
        elif self._is_restored or monotonic_s >= then.monotonic_s:
            elapsed_s = then.seconds_until(boot_id=self._boot_id, monotonic_s=monotonic_s, utc_s=utc_s)
        else:
            return
        self._is_timed, self._is_restored = True, False
        excursion, left_s = then.excursion, then.mute_left_s
        if excursion is not None:
            excursion = replace(excursion, age_s=excursion.age_s + elapsed_s)
        if left_s is not None:
            left_s = max(left_s - elapsed_s, 0.0)
        self._memory = AlarmMemory(
            boot_id=self._boot_id, monotonic_s=monotonic_s, utc_s=utc_s, excursion=excursion, mute_left_s=left_s
        )

    def _step_inactive(self, score: float, heard_s: float, monotonic_s: float, utc_s: float) -> list[AlarmEvent]:
        self._forget_ended_mute()  # there is no alarm to tell it of
        if score < self._threshold:
            self._keep(None)
            self._state = MachineState.NORMAL
            return []
        pending = self._memory.excursion
        if pending is None or pending.age_s - pending.heard_s - heard_s > _MAX_UNHEARD_S:
            pending, heard_s = self._begin(score, monotonic_s, utc_s), 0.0
        pending = replace(
            pending, heard_s=pending.heard_s + heard_s, score=score, peak_score=max(pending.peak_score, score)
        )
        if pending.heard_s < self._settings.on_delay_s:
            self._keep(pending)
            self._state = MachineState.WARNING
            return []
        self._state = MachineState.ALARM
        return [self._tell("new", replace(pending, active=True))]

    def _step_active(self, active: Excursion, score: float, heard_s: float) -> list[AlarmEvent]:
        self._state = MachineState.ALARM
        active = replace(active, score=score, peak_score=max(active.peak_score, score))
        if score >= self._threshold - self._settings.deadband:
            active = replace(active, below_s=None)
        else:
            below_s = 0.0 if active.below_s is None else active.below_s + heard_s
            active = replace(active, below_s=below_s)
            if below_s >= self._settings.off_delay_s:
                self._state = MachineState.NORMAL
                return [self._tell("end", active)]
        re_alarm_s = self._settings.re_alarm_s
        if self._memory.mute_left_s == 0.0 or (re_alarm_s and active.age_s - active.told_s >= re_alarm_s):
            return [self._tell("update", active)]
        self._keep(active)
        return []

    def _forget_ended_mute(self) -> None:
        if self._memory.mute_left_s == 0.0:
            self._memory = replace(self._memory, mute_left_s=None)

    def _begin(self, score: float, monotonic_s: float, utc_s: float) -> Excursion:
        # All three: UTC may be set back within a boot, and monotonic time starts again at the next.
        began = f"{utc_s!r} {monotonic_s!r} {self._boot_id}"
        return Excursion(
            alarm_id=str(uuid.uuid5(_ALARM_IDS, f"{self._machine} {began}")),
            active=False,
            began_utc_s=utc_s,
            age_s=0.0,
            heard_s=0.0,
            told_s=0.0,
            below_s=None,
            score=score,
            peak_score=score,
            acknowledged_by=None,
        )

    def _tell_marks(self) -> list[AlarmEvent]:
        return [self._tell("update", self._active)] if self._active else []

    def _tell(self, kind: Literal["new", "update", "end"], excursion: Excursion) -> AlarmEvent:
        self._keep(None if kind == "end" else replace(excursion, told_s=excursion.age_s))
        self._forget_ended_mute()
        return AlarmEvent(
            kind=kind,
            alarm_id=excursion.alarm_id,
            began_utc_s=excursion.began_utc_s,
            duration_s=excursion.age_s,
            score=excursion.score,
            peak_score=excursion.peak_score,
            threshold=self._threshold,
            acknowledged_by=excursion.acknowledged_by,
            muted_until_utc_s=self.muted_until_utc_s,
        )
