"""Blocks of one machine in, the messages that follow from each of its windows out."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

from edge_asd.alarm import Alarm, AlarmSettings
from edge_asd.alarm_memory import AlarmMemory
from edge_asd.bundle import Manifest
from edge_asd.config import ClipsSource, MachineConfig
from edge_asd.counters import Counters
from edge_asd.daemon.ear_health import EarHealth
from edge_asd.daemon.succession import Succession
from edge_asd.health import boot_id, clock_state
from edge_asd.messages import Messages, Moment
from edge_asd.pipeline import Ear, Pipeline
from edge_asd.sensor import FaultKind, SensorFault
from edge_asd.shadow import Judged
from edge_asd.types import Block, MachineState, NoSound, OutgoingMessage, Window
from edge_asd.window import Windower, newest

LOG = logging.getLogger(__name__)


class Listener:
    """All that belongs to one machine: its windows, the health of its ear, scores and alarms.

    Args:
        machine: its configuration.
        manifest: of the bundle, for the window's length and the threshold of its class.
        pipeline: scores its windows.
        messages: puts into words what is found.
        counters: of the daemon.
        succession: is told what the model made of each window.
        state_dir: of the device.

    Raises:
        BundleError: the bundle has no such class.
    """

    def __init__(
        self,
        machine: MachineConfig,
        *,
        manifest: Manifest,
        pipeline: Pipeline,
        messages: Messages,
        counters: Counters,
        succession: Succession,
        state_dir: Path,
    ) -> None:
        self.name = machine.name
        self.live = not isinstance(machine.source, ClipsSource)
        self.no_sound: NoSound | None = None  # while its source is silent
        self._messages = messages
        self._counters = counters
        self._succession = succession
        self._ear: Ear = pipeline.ear(machine.listens_to)
        self._manifest = manifest
        self._windower = Windower(manifest.feature_spec, machine.hop_samples)
        self._health = EarHealth(machine, spec=manifest.feature_spec, state_dir=state_dir)
        self._threshold, self._alarm = self._limits(machine, memory=None)
        self._state: MachineState | None = None
        self._fault: FaultKind | None = None  # that was told
        self._alarm_id: str | None = None

    def adjust(self, machine: MachineConfig) -> None:
        """Go on with another threshold and other alarm settings; windows and an alarm that goes on stay."""
        self._threshold, self._alarm = self._limits(machine, memory=self._alarm.memory)

    def _limits(self, machine: MachineConfig, *, memory: AlarmMemory | None) -> tuple[float, Alarm]:
        threshold = machine.threshold
        if threshold is None:
            threshold = self._manifest.threshold(machine.listens_to).threshold
        settings = AlarmSettings(
            on_delay_s=machine.alarm.on_delay_s,
            off_delay_s=machine.alarm.off_delay_s,
            deadband=machine.alarm.deadband,
            re_alarm_s=machine.alarm.re_alarm_s,
        )
        return threshold, Alarm(machine.name, settings, threshold, boot_id=boot_id(), memory=memory)

    def close(self) -> None:
        """Keep what was learned of the machine."""
        self._health.close()

    def hear(self, heard: Sequence[Block | NoSound]) -> Iterator[list[OutgoingMessage]]:
        """Yield what is to be said after each window that the blocks complete, and when sound stops or comes back.

        Commit it before taking the next.
        """
        windows: list[Window] = []
        for each in heard:
            if isinstance(each, NoSound):
                yield from map(self._judge, self._due(windows))
                windows = []
                yield self._silence(each)
                continue
            if self.no_sound is not None:
                yield self._return(each)
            self._counters.add("samples_heard", each.samples.size, machine=self.name)
            self._counters.add("samples_lost", each.lost_samples, machine=self.name)
            interruption = self._health.hear(each)
            if interruption is not None:
                yield from map(self._judge, self._due(windows))
                windows = []
                yield self._interrupt(each, interruption)
            windows += self._windower.push(each)
        yield from map(self._judge, self._due(windows))

    def _due(self, windows: list[Window]) -> list[Window]:
        """A live machine is not kept waiting by windows that are late: the newest stands for all."""
        if not self.live or len(windows) < 2:
            return windows
        self._counters.add("windows_dropped", len(windows) - 1, machine=self.name)
        return [newest(windows)]

    def _silence(self, no_sound: NoSound) -> list[OutgoingMessage]:
        self.no_sound = no_sound
        self._health.restart()
        self._alarm.interrupt()
        at = Moment(
            utc_s=no_sound.since_utc_s, monotonic_s=no_sound.since_monotonic_s, clock_synced=clock_state().synced
        )
        reason = f"no sound: {no_sound.reason}"
        return [self._change(at, MachineState.SENSOR_FAULT, reason)]

    def _return(self, block: Block) -> list[OutgoingMessage]:
        self.no_sound = None
        at = Moment(utc_s=block.end_utc_s, monotonic_s=block.end_monotonic_s, clock_synced=clock_state().synced)
        return [self._change(at, MachineState.LEARNING, "sound is back; the next score takes a whole window")]

    def _interrupt(self, block: Block, fault: SensorFault) -> list[OutgoingMessage]:
        self._alarm.interrupt()
        self._fault = fault.kind
        at = Moment(utc_s=block.end_utc_s, monotonic_s=block.end_monotonic_s, clock_synced=clock_state().synced)
        return [self._change(at, MachineState.SENSOR_FAULT, fault.reason)]

    def _change(self, at: Moment, state: MachineState, reason: str) -> OutgoingMessage:
        previous, self._state = self._state, state
        if state is MachineState.SENSOR_FAULT and previous is not state:
            self._counters.add("sensor_faults", machine=self.name)
        return self._messages.state(
            self.name, at, state=state, previous=previous, reason=reason, alarm_id=self._alarm_id
        )

    def _judge(self, window: Window) -> list[OutgoingMessage]:
        scored = self._ear.score(window)
        self._counters.add("windows_scored", machine=self.name)
        fault = self._health.judge(window)
        score = scored.score if fault is None else math.nan
        events = self._alarm.update(score, window.end_monotonic_s, window.end_utc_s, after_gap=window.lost_samples > 0)
        at = Moment(utc_s=window.end_utc_s, monotonic_s=window.end_monotonic_s, clock_synced=clock_state().synced)
        messages: list[OutgoingMessage] = []
        if math.isfinite(score):
            messages.append(
                self._messages.score(
                    self.name,
                    at,
                    score=score,
                    threshold=self._threshold,
                    coverage=window.coverage,
                    latency_ms=scored.latency_ms,
                    engine=scored.engine,
                )
            )
        for event in events:
            self._alarm_id = None if event.kind == "end" else event.alarm_id
            messages.append(self._messages.alarm(self.name, at, event))
            if event.kind == "new":
                self._counters.add("alarms_begun", machine=self.name)
                LOG.warning("%s: alarm %s, score %.2f, threshold %.2f", self.name, event.alarm_id, event.score,
                            event.threshold)  # fmt: skip
        kind = fault.kind if fault is not None else None
        if (self._alarm.state, kind) != (self._state, self._fault):
            self._fault = kind
            reason = fault.reason if fault is not None else scored.fault
            reason = reason or f"score {score:.2f}, threshold {self._threshold:.2f}"
            messages.append(self._change(at, self._alarm.state, reason))
        self._tell_succession(window, score)
        return messages

    def _tell_succession(self, window: Window, score: float) -> None:
        judged = None
        if self._alarm.state is not MachineState.SENSOR_FAULT:
            judged = Judged(score=score, threshold=self._threshold, alarm=self._alarm.state is MachineState.ALARM)
        self._succession.hear(self.name, window, judged)
