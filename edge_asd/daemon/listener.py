"""Blocks of one machine in, the messages that follow from each of its windows out."""

from __future__ import annotations

import logging
import math
from collections.abc import Generator, Mapping, Sequence
from typing import TypeAlias

from edge_asd.alarm.commands import ReceivedCommand
from edge_asd.alarm.life_cycle import AlarmSettings
from edge_asd.bundle import Manifest
from edge_asd.config import ClipsSource, DeviceConfig, MachineConfig
from edge_asd.counters import Counters
from edge_asd.daemon.ear_health import EarHealth
from edge_asd.daemon.enrolment import Enrolment
from edge_asd.daemon.machine_alarm import MachineAlarm
from edge_asd.daemon.machine_evidence import MachineEvidence
from edge_asd.daemon.succession import Succession
from edge_asd.evidence import EvidenceWriter, Recorder
from edge_asd.health import clock_state
from edge_asd.messages import Messages, Moment
from edge_asd.pipeline import Ear, Pipeline, Scored
from edge_asd.sensor import SensorFault
from edge_asd.shadow import Judged
from edge_asd.types import Block, MachineState, NoSound, OutgoingMessage, Window
from edge_asd.window import Windower, newest

LOG = logging.getLogger(__name__)

Hearsay: TypeAlias = Generator["list[OutgoingMessage] | Window", "Scored | None", None]
"""Yields what is to be said, and windows: what a window is scored is sent in return."""


class Listener:
    """All that belongs to one machine: its windows, the health of its ear, scores, alarms and their evidence.

    Args:
        machine: its configuration.
        manifest: of the bundle, for the window's length and the threshold of its class.
        pipeline: scores its windows.
        messages: puts into words what is found.
        counters: of the daemon.
        succession: is told what the model made of each window.
        evidence: writes what is kept of alarms; None keeps nothing.
        config: of the device.
        enrolment: of a machine that the device learns; None where the bundle was trained on it.

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
        evidence: EvidenceWriter | None,
        config: DeviceConfig,
        enrolment: Enrolment | None = None,
    ) -> None:
        self.name = machine.name
        self.live = not isinstance(machine.source, ClipsSource)
        self.no_sound: NoSound | None = None  # while its source is silent
        self._messages = messages
        self._counters = counters
        self._succession = succession
        self._machine = machine
        self._enrolment = enrolment
        self.ear: Ear = (
            pipeline.ear_with(enrolment.scorer) if enrolment else pipeline.ear(machine.listens_to, machine.scorer)
        )
        self._manifest = manifest
        self._windower = Windower(manifest.feature_spec, machine.hop_samples)
        self._health = EarHealth(machine, spec=manifest.feature_spec, state_dir=config.state_dir)
        recorder = Recorder(
            machine.name,
            sample_rate_hz=manifest.feature_spec.sample_rate_hz,
            before_s=config.evidence.before_s,
            after_s=config.evidence.after_s,
        )
        self._evidence = MachineEvidence(evidence, recorder)
        settings, threshold = self._limits(machine)
        self._alarm = MachineAlarm(machine.name, settings, threshold, messages=messages, counters=counters)

    def adjust(self, machine: MachineConfig) -> None:
        """Go on with another threshold and other alarm settings; windows and an alarm that goes on stay."""
        self._machine = machine
        self._alarm.adjust(*self._limits(machine))

    @property
    def records(self) -> dict[str, bytes | None]:
        """What the next run has to know, by name; to be committed with the messages."""
        return self._alarm.records

    def restore(self, records: Mapping[str, bytes]) -> None:
        """Go on where the run before, or the listener before, ended."""
        self._alarm.restore(records)

    def obey(self, received: ReceivedCommand, at: Moment) -> list[OutgoingMessage]:
        """Do what an operator asks for, or refuse it; what is to be said of it."""
        return self._alarm.obey(received, at)

    def _limits(self, machine: MachineConfig) -> tuple[AlarmSettings, float]:
        threshold = machine.threshold
        if threshold is None and self._enrolment is not None:
            threshold = self._enrolment.threshold or 0.0  # of no use while there are no scores
        elif threshold is None:
            threshold = self._manifest.threshold(machine.listens_to, machine.scorer).threshold
        settings = AlarmSettings(
            on_delay_s=machine.alarm.on_delay_s,
            off_delay_s=machine.alarm.off_delay_s,
            deadband=machine.alarm.deadband,
            re_alarm_s=machine.alarm.re_alarm_s,
        )
        return settings, threshold

    def close(self) -> None:
        """Keep what was learned of the machine, and the evidence so far."""
        self._health.close()
        self._evidence.end()
        if self._enrolment is not None:
            self._enrolment.close()

    def hear(self, heard: Sequence[Block | NoSound]) -> Hearsay:
        """Yield each window that the blocks complete, then what is to be said of it; also when sound stops or comes.

        Send what the window is scored. Commit what is to be said before taking the next.
        """
        windows: list[Window] = []
        for each in heard:
            if isinstance(each, NoSound):
                yield from self._judge(self._due(windows))
                windows = []
                yield self._silence(each)
                continue
            if self.no_sound is not None:
                yield self._return(each)
            self._counters.add("samples_heard", each.samples.size, machine=self.name)
            self._counters.add("samples_lost", each.lost_samples, machine=self.name)
            interruption = self._health.hear(each)
            if interruption is not None:
                yield from self._judge(self._due(windows))
                windows = []
                yield self._interrupt(each, interruption)
            self._evidence.hear(each)
            windows += self._windower.push(each)
            if not self.live:
                yield from self._judge(windows)
                windows = []
        yield from self._judge(self._due(windows))

    def _due(self, windows: list[Window]) -> list[Window]:
        """A live machine is not kept waiting by windows that are late: the newest stands for all."""
        if len(windows) < 2:
            return windows
        self._counters.add("windows_dropped", len(windows) - 1, machine=self.name)
        return [newest(windows)]

    def _silence(self, no_sound: NoSound) -> list[OutgoingMessage]:
        self.no_sound = no_sound
        self._health.restart()
        self._evidence.end()
        at = Moment(
            utc_s=no_sound.since_utc_s, monotonic_s=no_sound.since_monotonic_s, clock_synced=clock_state().synced
        )
        reason = f"no sound: {no_sound.reason}"
        return self._alarm.interrupt(at, reason=reason, fault=reason)

    def _return(self, block: Block) -> list[OutgoingMessage]:
        self.no_sound = None
        at = Moment(utc_s=block.end_utc_s, monotonic_s=block.end_monotonic_s, clock_synced=clock_state().synced)
        return self._alarm.resume(at, reason="sound is back; the next score takes a whole window")

    def _interrupt(self, block: Block, fault: SensorFault) -> list[OutgoingMessage]:
        at = Moment(utc_s=block.end_utc_s, monotonic_s=block.end_monotonic_s, clock_synced=clock_state().synced)
        return self._alarm.interrupt(at, reason=fault.reason, fault=fault.kind)

    def _judge(self, windows: Sequence[Window]) -> Hearsay:
        for window in windows:
            scored = yield window
            if scored is not None:
                yield self._tell(window, scored)

    def _tell(self, window: Window, scored: Scored) -> list[OutgoingMessage]:
        fault = self._health.judge(window)
        score = scored.score if fault is None else math.nan
        if self._enrolment is not None:
            learning = self._enrolment.learning
            if self._enrolment.hear(window, score, fault):
                self._alarm.adjust(*self._limits(self._machine))
            if learning is not None and math.isfinite(score):
                return self._learn(window, self._enrolment.learning or "enrolled; the next window is scored")
        self._counters.add("windows_scored", machine=self.name)
        events = self._alarm.update(score, window)
        at = Moment(utc_s=window.end_utc_s, monotonic_s=window.end_monotonic_s, clock_synced=clock_state().synced)
        messages: list[OutgoingMessage] = []
        if math.isfinite(score):
            self._evidence.note(score, window, events)
            messages.append(
                self._messages.score(
                    self.name,
                    at,
                    score=score,
                    threshold=self._alarm.threshold,
                    coverage=window.coverage,
                    latency_ms=scored.latency_ms,
                    engine=scored.engine,
                )
            )
        reason = fault.reason if fault is not None else scored.fault
        reason = reason or f"score {score:.2f}, threshold {self._alarm.threshold:.2f}"
        messages += self._alarm.tell(at, events, reason=reason, fault=None if fault is None else fault.kind)
        self._tell_succession(window, score)
        return messages

    def _learn(self, window: Window, reason: str) -> list[OutgoingMessage]:
        at = Moment(utc_s=window.end_utc_s, monotonic_s=window.end_monotonic_s, clock_synced=clock_state().synced)
        return self._alarm.learn(at, reason=reason)

    def _tell_succession(self, window: Window, score: float) -> None:
        judged = None
        if self._alarm.state is not MachineState.SENSOR_FAULT:
            judged = Judged(score=score, threshold=self._alarm.threshold, alarm=self._alarm.state is MachineState.ALARM)
        self._succession.hear(self.name, window, judged)
