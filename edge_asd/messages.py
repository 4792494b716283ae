"""What happened in, messages of the MQTT contract out: topics and payloads in one place."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Literal

from edge_asd.errors import ConfigError
from edge_asd.types import AlarmEvent, CommandAnswer, Leaf, MachineState, OutgoingMessage, SpooledMessage
from edge_asd.utc import iso_utc

SCHEMA = 1
ROOT = "edge_asd"
COMMAND = "command"

TOPIC_NAME_PATTERN = r"^[^\s$/+#*\x00-\x1f\x7f]([^/+#*\x00-\x1f\x7f]{0,62}[^\s/+#*\x00-\x1f\x7f])?$"
"""What a JSON schema can say of a name that is one level of a topic; `is_topic_name` knows all of it."""

TOPIC_NAME_RULE = (
    "a name of 1 to 64 printable characters without / + # *, not beginning with $ nor with spaces around it"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Topics:
    """The topics of one device.

    Raises:
        ConfigError: a name that cannot be part of a topic.
    """

    site: str
    device: str

    def __post_init__(self) -> None:
        check_topic_name(self.site, where="site")
        check_topic_name(self.device, where="device")

    @property
    def availability(self) -> str:
        """The topic that holds `online`, `offline` (last will) or `stopped`."""
        return f"{ROOT}/{self.site}/{self.device}/availability"

    @property
    def all(self) -> str:
        """The filter of everything below the device."""
        return f"{ROOT}/{self.site}/{self.device}/#"

    def of(self, machine: str | None, leaf: Leaf) -> str:
        """The topic of a message about a machine, or about the device itself where machine is None."""
        names = [ROOT, self.site, self.device, machine, leaf]
        return "/".join(name for name in names if name is not None)

    def command(self, machine: str) -> str:
        """The topic that operators' commands to a machine's alarm come from."""
        return f"{ROOT}/{self.site}/{self.device}/{machine}/{COMMAND}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """What a topic says about its message; machine is None where it is about the device itself."""

    site: str
    device: str
    machine: str | None
    leaf: Leaf | Literal["availability"]


def address_of(topic: str) -> Address | None:
    """Takes a topic apart; None for one that is not of the contract, be it for a name that no device may have."""
    root, *names = topic.split("/")
    if not all(map(is_topic_name, names)):
        return None
    match [root, *names]:
        case [root, site, device, ("availability" | "health") as leaf] if root == ROOT:
            return Address(site=site, device=device, machine=None, leaf=leaf)
        case [root, site, device, machine, ("score" | "state" | "alarm") as leaf] if root == ROOT:
            return Address(site=site, device=device, machine=machine, leaf=leaf)
    return None


def is_command(topic: str) -> bool:
    """Whether operators send commands there: of the contract, but nothing that a device says."""
    match topic.split("/"):
        case [root, _, _, _, leaf]:
            return (root, leaf) == (ROOT, COMMAND)
    return False


def is_topic_name(name: str) -> bool:
    """Whether the name can be one level of a topic: the one check of names, for configuration and command lines."""
    return re.fullmatch(TOPIC_NAME_PATTERN, name) is not None and name.isprintable()


def check_topic_name(name: str, *, where: str) -> None:
    """Raises ConfigError for a name that cannot be one level of a topic."""
    if not is_topic_name(name):
        raise ConfigError(
            f"{where}: {name!r} cannot be part of an MQTT topic; expected {TOPIC_NAME_RULE}, for instance hall-2"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelIdentity:
    """The bundle that a message's figures come from."""

    name: str
    version: str
    sha256: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """When something happened, by both clocks, and whether UTC could be trusted then."""

    utc_s: float
    monotonic_s: float
    clock_synced: bool


class Messages:
    """Builds everything that a device says but its availability, each with the same envelope.

    `seq` and the losses of a health message are added by the spool, `historical` by the publisher.

    keeps_evidence: whether the sound around alarms is kept.
    """

    def __init__(self, *, model: ModelIdentity, boot_id: str, keeps_evidence: bool = False) -> None:
        self._keeps_evidence = keeps_evidence
        self._model = asdict(model)
        self._boot_id = boot_id

    def score(
        self,
        machine: str,
        at: Moment,
        *,
        score: float,
        threshold: float,
        coverage: float,
        latency_ms: float,
        engine: str,
    ) -> OutgoingMessage:
        """One window's anomaly score; latency_ms is the wall time from the window to its score."""
        payload = {
            "score": round(score, 6),
            "threshold": round(threshold, 6),
            "coverage": round(coverage, 4),
            "latency_ms": round(latency_ms, 3),
            "engine": engine,
        }
        return self._message(machine, "score", at, payload, retain=False)

    def state(
        self,
        machine: str,
        at: Moment,
        *,
        state: MachineState,
        previous: MachineState | None,
        reason: str,
        alarm_id: str | None,
        acknowledged_by: str | None = None,
        muted_until_utc_s: float | None = None,
        answer: CommandAnswer | None = None,
    ) -> OutgoingMessage:
        """A machine's new state, new marks of its alarm, or the answer to a command.

        previous is None after a start, alarm_id while there is no alarm, acknowledged_by while nobody has seen it,
        muted_until_utc_s while the machine is not muted.
        """
        payload = {
            "state": state.value,
            "previous": previous.value if previous else None,
            "reason": reason,
            "alarm_id": alarm_id,
            "acknowledged_by": acknowledged_by,
            "muted_until_utc": _iso_utc_or_none(muted_until_utc_s),
            "command": _answer(answer),
        }
        return self._message(machine, "state", at, payload, retain=True)

    def alarm(self, machine: str, at: Moment, event: AlarmEvent) -> OutgoingMessage:
        """One step of an alarm; its `id` is the alarm's from `new` to `end`."""
        payload = {
            "event": event.kind,
            "began_utc": iso_utc(event.began_utc_s),
            "duration_s": round(event.duration_s, 3),
            "score": round(event.score, 6),
            "peak_score": round(event.peak_score, 6),
            "threshold": round(event.threshold, 6),
            "acknowledged_by": event.acknowledged_by,
            "muted_until_utc": _iso_utc_or_none(event.muted_until_utc_s),
            "evidence_id": event.alarm_id if self._keeps_evidence else None,
        }
        return self._message(machine, "alarm", at, payload, retain=False, message_id=event.alarm_id)

    def health(
        self,
        at: Moment,
        *,
        versions: Mapping[str, str],
        engine: str,
        engine_trouble: str | None,
        uptime_s: float,
        clock_max_error_ms: float | None,
        counters: Mapping[str, int],
        machine_counters: Mapping[str, Mapping[str, int]],
        spool: Mapping[str, int],
    ) -> OutgoingMessage:
        """The device's own state; the spool adds `drops`, what was lost since the health message before.

        engine_trouble: why engines that the configuration names first do not compute; None where the first does.
        machine_counters: each machine's share of `counters`.
        """
        payload = {
            "versions": dict(versions),
            "engine": engine,
            "engine_trouble": engine_trouble,
            "uptime_s": round(uptime_s, 1),
            "clock": {"synced": at.clock_synced, "max_error_ms": clock_max_error_ms},
            "counters": dict(counters),
            "machine_counters": {machine: dict(counts) for machine, counts in machine_counters.items()},
            "spool": dict(spool),
        }
        return self._message(None, "health", at, payload, retain=True)

    def _message(
        self,
        machine: str | None,
        leaf: Leaf,
        at: Moment,
        payload: Mapping[str, object],
        *,
        retain: bool,
        message_id: str | None = None,
    ) -> OutgoingMessage:
        envelope = {
            "schema": SCHEMA,
            "id": message_id or str(uuid.uuid4()),
            "boot_id": self._boot_id,
            "time_utc": iso_utc(at.utc_s),
            "time_monotonic_s": round(at.monotonic_s, 3),
            "clock_synced": at.clock_synced,
            "model": self._model,
        }
        return OutgoingMessage(machine=machine, leaf=leaf, retain=retain, payload={**envelope, **payload})


def payload_bytes(message: SpooledMessage, *, historical: bool) -> bytes:
    """A spooled message as it goes over the wire."""
    payload = {**message.payload, "historical": historical}
    return json.dumps(payload, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def _answer(answer: CommandAnswer | None) -> dict[str, object] | None:
    if answer is None:
        return None
    return {"id": answer.command_id, "accepted": answer.refused_because is None, "reason": answer.refused_because}


def _iso_utc_or_none(utc_s: float | None) -> str | None:
    return None if utc_s is None else iso_utc(utc_s)
