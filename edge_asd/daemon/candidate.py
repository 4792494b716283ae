"""Windows and what the serving model made of them in, whether the model in shadow may take over out."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping

from edge_asd.alarm.life_cycle import Alarm, AlarmSettings
from edge_asd.config import DeviceConfig, MachineConfig
from edge_asd.daemon.models import Model
from edge_asd.health import boot_id
from edge_asd.pipeline import Ear
from edge_asd.shadow import Judged, Shadow, ShadowSettings, Verdict
from edge_asd.types import Comparison, MachineState, Window

LOG = logging.getLogger(__name__)


class Candidate:
    """The model in shadow: scores what the serving model scores, with alarms of its own that nobody is told of.

    Nothing that goes wrong in it reaches the serving model: an exception is a verdict. Enrolled machines have no
    part in it: what was learned of them is of the serving model's encoder.

    Args:
        config: of the device.
        model: in shadow.
        compared: where an earlier run of the daemon left off.
    """

    def __init__(self, config: DeviceConfig, model: Model, compared: Mapping[str, Comparison]) -> None:
        settings = ShadowSettings(
            period_s=config.shadow.period_s,
            max_extra_alarms=config.shadow.max_extra_alarms,
            max_drift=config.shadow.max_drift,
        )
        self.verdict: Verdict | None = None
        self._machines = {each.name: _Machine(each, model) for each in config.machines if not each.is_enrolled}
        self._shadow = Shadow(settings, list(self._machines), compared)
        self._sample_rate_hz = model.manifest.feature_spec.sample_rate_hz

    @property
    def compared(self) -> dict[str, Comparison]:
        """What was heard of each machine so far."""
        return self._shadow.compared

    def hear(self, machine: str, window: Window, old: Judged | None) -> None:
        """Score the next window of a machine; old is None where the serving model does not trust its sound."""
        if self.verdict is not None or machine not in self._machines:  # enrolled, with the serving model's encoder
            return
        try:
            new = self._machines[machine].judge(window, can_alarm=old is not None)
            if old is not None:
                fresh_s = window.fresh_samples / self._sample_rate_hz
                self.verdict = self._shadow.compare(machine, fresh_s, old, new)
        except Exception as error:
            LOG.exception("the model in shadow failed on a window of %s", machine)
            self.verdict = Verdict(passed=False, why=f"{machine}: scoring failed: {error!r}")


class _Machine:
    """One machine as the model in shadow hears it."""

    def __init__(self, machine: MachineConfig, model: Model) -> None:
        self._ear: Ear = model.pipeline.ear(machine.listens_to, machine.scorer)
        self._threshold = model.threshold(machine)
        settings = AlarmSettings(
            on_delay_s=machine.alarm.on_delay_s,
            off_delay_s=machine.alarm.off_delay_s,
            deadband=machine.alarm.deadband,
            re_alarm_s=None,
        )
        self._alarm = Alarm(machine.name, settings, self._threshold, boot_id=boot_id())

    def judge(self, window: Window, *, can_alarm: bool) -> Judged:
        score = self._ear.score(window).score
        self._alarm.update(
            score if can_alarm else math.nan,
            window.end_monotonic_s,
            window.end_utc_s,
            after_gap=window.lost_samples > 0,
        )
        return Judged(score=score, threshold=self._threshold, alarm=self._alarm.state is MachineState.ALARM)
