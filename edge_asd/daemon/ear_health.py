"""One machine's configuration in, its sensor out, with a baseline that is kept on disk from run to run."""

from __future__ import annotations

import logging
from functools import cached_property
from pathlib import Path

from edge_asd.bundle.archive import write_durably
from edge_asd.config import MachineConfig
from edge_asd.daemon.file_names import file_name
from edge_asd.sensor import Baseline, BaselineError, Sensor, SensorFault, SensorSettings
from edge_asd.types import Block, FeatureSpec, Window

LOG = logging.getLogger(__name__)

_SAVE_EVERY_S = 600.0  # of sound


class EarHealth:
    """The sensor of one machine; its baseline is read when the first sound is heard.

    A baseline that is damaged, or was learned through another source, is learned afresh.

    Args:
        machine: its configuration.
        spec: says how long a window is.
        state_dir: of the device; the baseline lies in its folder `sensor`.
    """

    def __init__(self, machine: MachineConfig, *, spec: FeatureSpec, state_dir: Path) -> None:
        self._machine = machine
        self._spec = spec
        self._path = state_dir / "sensor" / f"{file_name(machine.name)}.json"
        self._source = f"{machine.name}: {machine.source.model_dump_json(exclude_none=True)}"
        self._saved_s = 0.0
        self._disk_trouble = False

    @cached_property
    def _sensor(self) -> Sensor:
        keys = self._machine.sensor
        settings = SensorSettings(**keys.model_dump(exclude={"baseline_h"}))
        baseline = self._load(learn_s=3_600.0 * keys.baseline_h)
        self._saved_s = baseline.heard_s
        return Sensor(self._spec, settings, baseline)

    def restart(self) -> None:
        """The source fell silent."""
        self._sensor.restart()

    def hear(self, block: Block) -> SensorFault | None:
        """Take note of a block; a fault that begins without a window."""
        return self._sensor.hear(block)

    def judge(self, window: Window) -> SensorFault | None:
        """Say what is wrong with the ear that heard this window."""
        fault = self._sensor.judge(window)
        baseline = self._sensor.baseline
        learned_s = baseline.heard_s - self._saved_s
        if learned_s >= _SAVE_EVERY_S or (learned_s and baseline.learned):
            self._save(baseline)
        return fault

    def close(self) -> None:
        """Keep what was learned."""
        if "_sensor" in self.__dict__ and self._sensor.baseline.heard_s > self._saved_s:
            self._save(self._sensor.baseline)

    def _load(self, *, learn_s: float) -> Baseline:
        try:
            return Baseline.from_bytes(self._path.read_bytes(), source=self._source, learn_s=learn_s)
        except FileNotFoundError:
            LOG.info("%s: nothing is known yet of how %s sounds", self._path, self._machine.name)
        except (OSError, BaselineError) as error:
            LOG.warning("%s: %s; what the ear knows of %s is learned afresh", self._path, error, self._machine.name)
        return Baseline(learn_s=learn_s)

    def _save(self, baseline: Baseline) -> None:
        self._saved_s = baseline.heard_s
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            write_durably(self._path, baseline.to_bytes(source=self._source))
        except OSError as error:
            if not self._disk_trouble:
                LOG.warning(
                    "%s cannot be written (%s); a restart would have the ear learn %s afresh: check the disk's space "
                    "and the folder's permissions",
                    self._path,
                    error,
                    self._machine.name,
                )
            self._disk_trouble = True
        else:
            self._disk_trouble = False
