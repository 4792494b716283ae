"""Payloads of operators' commands in, what each asks of a machine's alarm out, or why it is refused."""

from __future__ import annotations

import json
import logging
import queue
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated, Literal, TypeAlias

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    TypeAdapter,
    ValidationError,
)
from pydantic_core import PydanticCustomError

from edge_asd.errors import RefusedError
from edge_asd.mqtt.link import Received

LOG = logging.getLogger(__name__)

MAX_MUTE_S = 7 * 86_400.0
MAX_AGE_S = 60.0
"""A command that is further from the device's clock, in either direction, is refused as stale."""

_MAX_BYTES = 4_096
_REMEMBERED = 64
_WAITING = 64
_PER_S = 2.0
_BURST = 16.0


def _printable(text: str) -> str:
    if not text.isprintable():
        raise PydanticCustomError("not_printable", "expected printable characters")
    return text


_Id: TypeAlias = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,64}$")]
_Name: TypeAlias = Annotated[str, StringConstraints(min_length=1, max_length=64), AfterValidator(_printable)]


class _Command(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    schema_version: Literal[1] = Field(alias="schema")
    id: _Id = Field(description="Drawn afresh for each command; its answer carries it.")
    time_utc: AwareDatetime = Field(description="When it was given, ISO 8601 with its offset from UTC.")
    by: _Name = Field(description="Who gave it.")


class Acknowledge(_Command):
    """Mark an alarm as seen."""

    command: Literal["acknowledge"]
    alarm_id: _Id = Field(description="The alarm that is meant.")


class Mute(_Command):
    """Mark the machine's alarms as muted for some time."""

    command: Literal["mute"]
    duration_s: float = Field(ge=1.0, le=MAX_MUTE_S, description="For how long, in s.")


class Unmute(_Command):
    """End the mute."""

    command: Literal["unmute"]


Command: TypeAlias = Acknowledge | Mute | Unmute

_ADAPTER: TypeAdapter[Command] = TypeAdapter(Annotated[Command, Field(discriminator="command")])


def parse_command(payload: bytes) -> Command:
    """What a payload asks for.

    Raises:
        ValueError: it is no command; the text says what was expected, and holds nothing of the payload.
    """
    if len(payload) > _MAX_BYTES:
        raise ValueError(f"it is longer than {_MAX_BYTES} bytes")
    try:
        return _ADAPTER.validate_json(payload)
    except ValidationError as error:
        raise ValueError(_fault(error)) from None


def _fault(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    match first["type"]:
        case "json_invalid":
            return "expected JSON"
        case "union_tag_invalid" | "union_tag_not_found":
            return "command: expected acknowledge, mute or unmute"
        case "extra_forbidden":
            return "it has a key that is not of the contract"
    return f"{first['loc'][-1] if first['loc'] else 'the whole'}: {first['msg']}"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReceivedCommand:
    """A command and the machine that it is for; retained where it lay at the broker."""

    machine: str
    command: Command
    retained: bool


class CommandGate:
    """Lets each command of one machine through once, while it is fresh.

    Args:
        record: of the run before.
    """

    def __init__(self, record: bytes | None = None) -> None:
        self._seen: deque[str] = deque(_parse_seen(record), maxlen=_REMEMBERED)

    @property
    def record(self) -> bytes | None:
        """What the next run has to know; None where there is nothing."""
        return json.dumps(list(self._seen)).encode() if self._seen else None

    def admit(self, received: ReceivedCommand, *, utc_s: float, clock_synced: bool) -> None:
        """Let it through, or not. By a clock that is not synchronised the age of a command is not judged.

        Raises:
            RefusedError: it was retained, is stale, or came before.
        """
        command = received.command
        if received.retained:
            raise RefusedError("it was retained at the broker, so it may be of the past; take it back and send it anew")
        if command.id in self._seen:
            raise RefusedError("it came before")
        age_s = utc_s - command.time_utc.timestamp()
        if clock_synced and not -MAX_AGE_S <= age_s <= MAX_AGE_S:
            way = "before" if age_s > 0 else "after"
            raise RefusedError(
                f"it is stale: given {abs(age_s):.0f} s {way} the device's time; at most {MAX_AGE_S:.0f} s are taken"
            )
        self._seen.append(command.id)


def _parse_seen(record: bytes | None) -> list[str]:
    if record is None:
        return []
    try:
        return TypeAdapter(list[str]).validate_json(record, strict=True)
    except ValidationError:
        LOG.exception("the commands that came before the start cannot be read; a repeated one may be obeyed again")
        return []


class CommandInbox:
    """Commands from the publisher's thread on their way to the scoring thread: few, and none of them harmful.

    What is no command, and what comes while too many wait, is ignored, counted and logged.

    Args:
        ignored: is called for each that is ignored, in the publisher's thread.
        monotonic_s: the clock.
    """

    def __init__(self, *, ignored: Callable[[], None], monotonic_s: Callable[[], float]) -> None:
        self._ignored = ignored
        self._monotonic_s = monotonic_s
        self._waiting: queue.Queue[ReceivedCommand] = queue.Queue(_WAITING)
        self._allowance = _BURST
        self._allowed_at_s = monotonic_s()

    def receive(self, received: Received) -> None:
        """Take in a message of a machine's command topic; the publisher calls it."""
        machine = received.topic.split("/")[-2]
        if not received.payload:
            return  # how a retained message is taken back
        try:
            command = parse_command(received.payload)
            self._waiting.put_nowait(ReceivedCommand(machine=machine, command=command, retained=received.retained))
        except ValueError as error:
            LOG.warning("ignored what is no command: %s; see docs/mqtt.md for the format", error)
            self._ignored()
        except queue.Full:
            LOG.warning("ignored a command: %d wait already", _WAITING)
            self._ignored()

    def take(self) -> Iterator[ReceivedCommand]:
        """Yield what waits, as far as 2 a second are not exceeded: each answer is a message and a disk write."""
        now_s = self._monotonic_s()
        self._allowance = min(self._allowance + (now_s - self._allowed_at_s) * _PER_S, _BURST)
        self._allowed_at_s = now_s
        while self._allowance >= 1.0:
            try:
                received = self._waiting.get_nowait()
            except queue.Empty:
                return
            self._allowance -= 1.0
            yield received
