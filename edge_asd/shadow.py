"""What a serving and a new model say of the same windows in, whether the new one may take over out."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from edge_asd.types import Comparison

MAX_PERIODS = 4
"""A machine that is heard so many periods long without a whole period of normal sound gives nothing to compare by."""

COUNTS_AGAIN_S = 3_600.0
"""An alarm of the new model alone counts again for each of these, so that one without end is no single one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShadowSettings:
    """What a new model must do beside the serving one.

    period_s: sound of each machine that the serving model calls normal. max_extra_alarms: that the new model alone may
    raise on a machine meanwhile, its budget of false alarms. max_drift: how many times as far below its threshold as
    those of the serving model its scores may lie in the mean over a machine's normal sound, or the serving model's as
    far as its own. A ratio, since two trainings of one network give scores of different scale.

    Raises:
        ValueError: a setting is out of range.
    """

    period_s: float
    max_extra_alarms: int
    max_drift: float

    def __post_init__(self) -> None:
        if not 0.0 < self.period_s < math.inf:
            raise ValueError(f"period_s is {self.period_s}; expected a number above 0")
        if not 1.0 < self.max_drift < math.inf:
            raise ValueError(f"max_drift is {self.max_drift}; expected a number above 1")
        if self.max_extra_alarms < 0:
            raise ValueError(f"max_extra_alarms is {self.max_extra_alarms}; expected 0 or more")


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """What one model makes of one window: score, its threshold, and whether its alarm is active then."""

    score: float
    threshold: float
    alarm: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """Whether the new model may take over, and why, for people."""

    passed: bool
    why: str


@dataclass(slots=True)
class _Alarms:
    """The alarms of both models on one machine that are active now."""

    new: bool = False
    new_agreed: bool = False  # the serving model has raised one meanwhile
    new_s: float = 0.0  # since it began, or since it was counted
    old: bool = False
    old_agreed: bool = False


class Shadow:
    """Compares a new model with the serving one until it may take over, or must not.

    A window without a score of the serving model says nothing. One without a score of the new model alone fails it.

    Args:
        settings: what is asked.
        machines: that are listened to; each must be heard for the period.
        compared: where an earlier shadow of the same model left off.
    """

    def __init__(
        self, settings: ShadowSettings, machines: Sequence[str], compared: Mapping[str, Comparison] | None = None
    ) -> None:
        self._settings = settings
        self._compared = {machine: (compared or {}).get(machine, Comparison()) for machine in machines}
        self._alarms = {machine: _Alarms() for machine in machines}
        self._verdict: Verdict | None = None

    @property
    def compared(self) -> dict[str, Comparison]:
        """What was heard of each machine so far."""
        return dict(self._compared)

    def compare(self, machine: str, fresh_s: float, old: Judged, new: Judged) -> Verdict | None:
        """Take the next window of a machine; the verdict as soon as there is one, and the same from then on.

        Args:
            machine: one of `machines`.
            fresh_s: sound of the window that was in no window before it, in s.
            old: by the serving model.
            new: by the new one.
        """
        if self._verdict is not None or not math.isfinite(old.score):
            return self._verdict
        if not math.isfinite(new.score):
            self._verdict = Verdict(
                passed=False, why=f"{machine}: no score of sound that the serving model scored {old.score:.2f}"
            )
            return self._verdict
        found = self._compared[machine]
        found = replace(found, heard_s=found.heard_s + fresh_s)
        if old.score < old.threshold:
            found = replace(
                found,
                normal_s=found.normal_s + fresh_s,
                serving_margin_sum=found.serving_margin_sum + old.threshold - old.score,
                new_margin_sum=found.new_margin_sum + new.threshold - new.score,
            )
        self._compared[machine] = self._count_alarms(found, self._alarms[machine], fresh_s, old.alarm, new.alarm)
        self._verdict = self._judge(machine)
        return self._verdict

    def _count_alarms(self, found: Comparison, alarms: _Alarms, fresh_s: float, old: bool, new: bool) -> Comparison:
        extra, missed = found.extra_alarms, found.missed_alarms
        if alarms.new and not new and not alarms.new_agreed:
            extra += 1
        if alarms.old and not old and not alarms.old_agreed:
            missed += 1
        alarms.new_agreed = new and (old or (alarms.new and alarms.new_agreed))
        alarms.old_agreed = old and (new or (alarms.old and alarms.old_agreed))
        alarms.new_s = alarms.new_s + fresh_s if new and not alarms.new_agreed else 0.0
        if alarms.new_s >= COUNTS_AGAIN_S:
            extra += 1
            alarms.new_s = 0.0
        alarms.new, alarms.old = new, old
        return replace(found, extra_alarms=extra, missed_alarms=missed)

    def _judge(self, machine: str) -> Verdict | None:
        settings, found = self._settings, self._compared[machine]
        if found.extra_alarms > settings.max_extra_alarms:
            return Verdict(
                passed=False,
                why=f"{machine}: {found.extra_alarms} alarms of its own in {_hours(found.heard_s)}, where the serving "
                f"model raised none; at most {settings.max_extra_alarms} may be",
            )
        if found.heard_s >= MAX_PERIODS * settings.period_s and found.normal_s < settings.period_s:
            return Verdict(
                passed=False,
                why=f"{machine}: of {_hours(found.heard_s)} the serving model calls only {_hours(found.normal_s)} "
                f"normal, and {_hours(settings.period_s)} are compared; nothing to judge by",
            )
        if any(compared.normal_s < settings.period_s for compared in self._compared.values()):
            return None
        for name, compared in self._compared.items():
            alarms = self._alarms[name]
            if alarms.new and not alarms.new_agreed:
                return Verdict(passed=False, why=f"{name}: it still alarms at the end, and the serving model does not")
            if not 1.0 / settings.max_drift <= compared.drift <= settings.max_drift:  # so that NaN fails
                return Verdict(
                    passed=False,
                    why=f"{name}: its scores lie {compared.drift:.2f} times as far below its threshold as those of the "
                    f"serving model, in the mean of {_hours(compared.normal_s)}; {1.0 / settings.max_drift:.2f} to "
                    f"{settings.max_drift:g} times may be",
                )
        return Verdict(passed=True, why=self._summary())

    def _summary(self) -> str:
        found = self._compared.values()
        drifts = [compared.drift for compared in found]
        extra = sum(compared.extra_alarms for compared in found)
        missed = sum(compared.missed_alarms for compared in found)
        return (
            f"{_hours(min(compared.normal_s for compared in found))} or more of normal sound of each machine: scores "
            f"{min(drifts):.2f} to {max(drifts):.2f} times as far below the threshold, {extra} alarms of its own, "
            f"{missed} that the model before raised alone"
        )


def _hours(seconds: float) -> str:
    return f"{seconds / 3_600:.1f} h" if seconds >= 3_600 else f"{seconds:.0f} s"
