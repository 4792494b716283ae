"""Scores, sensor faults and operators' commands of one machine in, its alarm and state messages out."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from edge_asd.alarm.commands import Acknowledge, Command, CommandGate, Mute, ReceivedCommand
from edge_asd.alarm.life_cycle import Alarm, AlarmSettings
from edge_asd.alarm.memory import AlarmMemory, memory_bytes, parse_memory
from edge_asd.counters import Counters
from edge_asd.errors import RefusedError
from edge_asd.health import boot_id
from edge_asd.messages import Messages, Moment
from edge_asd.types import AlarmEvent, CommandAnswer, MachineState, OutgoingMessage, Window

LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Told:
    """What the state message before said; a new one follows when it is no longer so.

    fault: of the ear; while the machine is learned, why there are no scores yet.
    """

    state: MachineState
    fault: str | None
    alarm_id: str | None
    acknowledged_by: str | None
    muted: bool


class MachineAlarm:
    """The alarm of one machine, among its messages.

    `records` is what the next run has to know; commit it together with the messages.

    Args:
        machine: its name.
        settings: delays, deadband and repetition.
        threshold: scores from here on are anomalous.
        messages: puts into words what is found.
        counters: of the daemon.
    """

    def __init__(
        self, machine: str, settings: AlarmSettings, threshold: float, *, messages: Messages, counters: Counters
    ) -> None:
        self._machine = machine
        self._messages = messages
        self._counters = counters
        self._settings = settings
        self._threshold = threshold
        self._alarm = self._alarm_with(None)
        self._gate = CommandGate()
        self._told: _Told | None = None

    @property
    def state(self) -> MachineState:
        """What the scores so far say."""
        return self._alarm.state

    @property
    def threshold(self) -> float:
        """What scores are compared with."""
        return self._threshold

    def adjust(self, settings: AlarmSettings, threshold: float) -> None:
        """Go on with other limits; an alarm that goes on stays."""
        self._settings, self._threshold = settings, threshold
        self._alarm = self._alarm_with(self._alarm.memory)

    @property
    def records(self) -> dict[str, bytes | None]:
        """What the next run has to know, by name; None where there is nothing."""
        memory = self._alarm.memory
        return {
            f"alarm/{self._machine}": None if memory is None else memory_bytes(memory),
            f"commands/{self._machine}": self._gate.record,
        }

    def restore(self, records: Mapping[str, bytes]) -> None:
        """Go on with the alarm of the run before; of what cannot be read nothing is known."""
        self._gate = CommandGate(records.get(f"commands/{self._machine}"))
        record = records.get(f"alarm/{self._machine}")
        if record is None:
            return
        try:
            memory = parse_memory(record)
        except ValueError as error:
            LOG.error(  # noqa: TRY400 - the disk's fault, no bug
                "%s: what was known of its alarm cannot be read (%s); one that went on is raised anew under another id",
                self._machine,
                error,
            )
            return
        self._alarm = self._alarm_with(memory)
        if self._alarm.alarm_id is not None:
            LOG.info("%s: alarm %s goes on", self._machine, self._alarm.alarm_id)

    def update(self, score: float, window: Window) -> list[AlarmEvent]:
        """Take a window's score, NaN while the sensor is at fault; `tell` what follows from it."""
        return self._alarm.update(score, window.end_monotonic_s, window.end_utc_s, after_gap=window.lost_samples > 0)

    def tell(
        self, at: Moment, events: Sequence[AlarmEvent], *, reason: str, fault: str | None = None
    ) -> list[OutgoingMessage]:
        """Put events into words, and the state where it is another than was told.

        fault: names the sensor's; another one is told anew.
        """
        said = [self._say(at, event) for event in events]
        now = self._now(self._alarm.state, fault)
        if now != self._told:
            said.append(self._say_state(at, now, reason))
        return said

    def interrupt(self, at: Moment, *, reason: str, fault: str) -> list[OutgoingMessage]:
        """The sensor is at fault, which no window tells."""
        self._alarm.interrupt()
        return self.tell(at, [], reason=reason, fault=fault)

    def resume(self, at: Moment, *, reason: str) -> list[OutgoingMessage]:
        """There is sound again, but no score yet."""
        return [self._say_state(at, self._now(MachineState.LEARNING, None), reason)]

    def learn(self, at: Moment, *, reason: str) -> list[OutgoingMessage]:
        """There is sound, but nothing to score it by yet; told once for each reason."""
        now = self._now(MachineState.LEARNING, reason)
        return [] if now == self._told else [self._say_state(at, now, reason)]

    def obey(self, received: ReceivedCommand, at: Moment) -> list[OutgoingMessage]:
        """Do what an operator asks for, or refuse it; a state message is the answer."""
        command = received.command
        events: list[AlarmEvent] = []
        try:
            self._gate.admit(received, utc_s=at.utc_s, clock_synced=at.clock_synced)
            events = self._carry_out(command, at)
        except RefusedError as refusal:
            answer = CommandAnswer(command_id=command.id, refused_because=str(refusal))
            reason = f"{command.command} by {command.by} was refused: {refusal}"
            self._counters.add("commands_refused", machine=self._machine)
        else:
            answer = CommandAnswer(command_id=command.id, refused_because=None)
            reason = f"{command.command} by {command.by}"
            self._counters.add("commands_obeyed", machine=self._machine)
        LOG.info("%s: %s", self._machine, reason)
        told = self._told
        now = self._now(told.state if told else self._alarm.state, told.fault if told else None)
        return [*(self._say(at, event) for event in events), self._say_state(at, now, reason, answer)]

    def _alarm_with(self, memory: AlarmMemory | None) -> Alarm:
        return Alarm(self._machine, self._settings, self._threshold, boot_id=boot_id(), memory=memory)

    def _carry_out(self, command: Command, at: Moment) -> list[AlarmEvent]:
        now_s, utc_s = at.monotonic_s, at.utc_s
        if isinstance(command, Acknowledge):
            return self._alarm.acknowledge(command.alarm_id, by=command.by, time_monotonic_s=now_s, time_utc_s=utc_s)
        if isinstance(command, Mute):
            return self._alarm.mute(command.duration_s, time_monotonic_s=now_s, time_utc_s=utc_s)
        return self._alarm.unmute(time_monotonic_s=now_s, time_utc_s=utc_s)

    def _now(self, state: MachineState, fault: str | None) -> _Told:
        return _Told(
            state=state,
            fault=fault,
            alarm_id=self._alarm.alarm_id,
            acknowledged_by=self._alarm.acknowledged_by,
            muted=self._alarm.muted_until_utc_s is not None,
        )

    def _say(self, at: Moment, event: AlarmEvent) -> OutgoingMessage:
        if event.kind == "new":
            self._counters.add("alarms_begun", machine=self._machine)
            LOG.warning("%s: alarm %s, score %.2f, threshold %.2f", self._machine, event.alarm_id, event.score,
                        event.threshold)  # fmt: skip
        return self._messages.alarm(self._machine, at, event)

    def _say_state(self, at: Moment, now: _Told, reason: str, answer: CommandAnswer | None = None) -> OutgoingMessage:
        before, self._told = self._told, now
        if now.state is MachineState.SENSOR_FAULT and (before is None or before.state is not now.state):
            self._counters.add("sensor_faults", machine=self._machine)
        return self._messages.state(
            self._machine,
            at,
            state=now.state,
            previous=before.state if before else None,
            reason=reason,
            alarm_id=now.alarm_id,
            acknowledged_by=now.acknowledged_by,
            muted_until_utc_s=self._alarm.muted_until_utc_s,
            answer=answer,
        )
