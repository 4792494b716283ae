"""edge-asd alarm: a machine's name and what is to be done in, the device's answer out."""

from __future__ import annotations

import argparse
import getpass
import json
import re
import time
import uuid
from collections.abc import Callable
from datetime import datetime, timezone
from typing import Any

from edge_asd.alarm.commands import MAX_MUTE_S
from edge_asd.board import printable
from edge_asd.commands.broker_options import add_broker_options, wanted
from edge_asd.errors import RefusedError, TemporaryError, UnavailableError, UsageError
from edge_asd.messages import ROOT, Address, Topics, address_of, check_topic_name
from edge_asd.mqtt.subscription import Subscription

_RETAINED_WITHIN_S = 3.0
_OTHERS_WITHIN_S = 0.5
_ANSWER_WITHIN_S = 15.0
_UNITS_S = {"s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0}


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the parser of `edge-asd`."""
    parser = subparsers.add_parser(
        "alarm",
        help="acknowledge, mute and unmute a machine's alarms",
        description="Tell a device what people know of a machine's alarm, and wait for its answer. Exits 1 when the "
        "device refuses it, 69 when the device or the broker cannot be reached, 75 when no answer comes.",
    )
    actions = parser.add_subparsers(title="actions", metavar="ACTION", dest="command", required=True)
    acknowledge = actions.add_parser("acknowledge", help="mark the alarm that goes on as seen, until it ends")
    mute = actions.add_parser("mute", help="mark the machine's alarms as muted for some time")
    mute.add_argument(
        "--for",
        dest="duration_s",
        metavar="TIME",
        type=_seconds,
        default=3_600.0,
        help="for how long: a number and s, m, h or d, as 30m; at most 7d; without it 1h",
    )
    unmute = actions.add_parser("unmute", help="end the mute")
    for action in (acknowledge, mute, unmute):
        action.add_argument("machine", metavar="MACHINE", help="the machine's name")
        action.add_argument("--by", metavar="NAME", help="who says so; without it the name of this login")
        add_broker_options(action)
        action.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Send one command; 0 when the device has obeyed.

    Raises:
        RefusedError: the device refused it, or there is nothing to acknowledge.
        TemporaryError: no answer came.
        UnavailableError: the broker or the device cannot be reached.
        UsageError: the machine is not the only one of its name, or an option cannot be.
        ConfigError: the configuration is wrong.
    """
    machine = arguments.machine
    check_topic_name(machine, where="MACHINE")
    what = wanted(arguments, purpose="alarm")
    of_device = f"{ROOT}/{what.site or '+'}/{what.device or '+'}"
    with Subscription(what.broker, [f"{of_device}/{machine}/state", f"{of_device}/availability"]) as subscription:
        topics, state = _find(subscription, machine)
        command = _command(arguments, state)
        subscription.publish(topics.command(machine), json.dumps(command).encode())
        answer = _wait_for_answer(subscription, topics, machine, str(command["id"]))
    if not answer["accepted"]:
        reason = printable(str(answer["reason"]))
        raise RefusedError(f"{topics.device} refuses to {arguments.command} {machine}: {reason}")
    print(f"{topics.site}/{topics.device}/{machine}: {_done(arguments, command)}")
    return 0


def _seconds(text: str) -> float:
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", text)
    seconds = float(match[1]) * _UNITS_S[match[2]] if match else 0.0
    if not 1.0 <= seconds <= MAX_MUTE_S:
        raise argparse.ArgumentTypeError(f"{text!r}; expected 1s to 7d, as 30m or 2h")
    return seconds


def _command(arguments: argparse.Namespace, state: dict[str, Any]) -> dict[str, object]:
    command: dict[str, object] = {
        "schema": 1,
        "id": uuid.uuid4().hex,
        "time_utc": datetime.now(timezone.utc).isoformat(timespec="milliseconds"),
        "by": arguments.by or getpass.getuser(),
        "command": arguments.command,
    }
    if arguments.command == "mute":
        command["duration_s"] = arguments.duration_s
    if arguments.command == "acknowledge":
        if not state["alarm_id"]:
            raise RefusedError(f"{arguments.machine} has no alarm that goes on: there is nothing to acknowledge")
        command["alarm_id"] = state["alarm_id"]
    return command


def _done(arguments: argparse.Namespace, command: dict[str, object]) -> str:
    match arguments.command:
        case "acknowledge":
            return f"alarm {command['alarm_id']} acknowledged by {command['by']}"
        case "mute":
            return f"muted for {arguments.duration_s:g} s by {command['by']}"
    return f"unmuted by {command['by']}"


def _find(subscription: Subscription, machine: str) -> tuple[Topics, dict[str, Any]]:
    """The one device that has such a machine and is online, and the machine's retained state."""
    states: dict[tuple[str, str], dict[str, Any]] = {}
    availability: dict[tuple[str, str], str] = {}

    def note(address: Address, payload: bytes) -> bool:
        device = (address.site, address.device)
        if address.leaf == "availability":
            availability[device] = payload.decode(errors="replace")
        else:
            states[device] = json.loads(payload)
        return False

    def note_first(address: Address, payload: bytes) -> bool:
        note(address, payload)
        return bool(states.keys() & availability.keys())

    if _listen(subscription, note_first, within_s=_RETAINED_WITHIN_S):
        _listen(subscription, note, within_s=_OTHERS_WITHIN_S)
    if not states:
        raise UnavailableError(
            f"no device of {subscription.broker.endpoint} has said anything of a machine {machine!r}; check its name, "
            "--site and --device with `edge-asd watch`"
        )
    if len(states) > 1:
        found = ", ".join(sorted(map("/".join, states)))
        raise UsageError(f"several devices have a machine {machine!r}: {found}; say which with --site and --device")
    ((site, device),) = states
    word = availability.get((site, device), "silent")
    if word != "online":
        raise UnavailableError(
            f"{site}/{device} is {printable(word)}; expected it online to take commands: check the device and its "
            "connection"
        )
    return Topics(site=site, device=device), states[site, device]


def _wait_for_answer(subscription: Subscription, topics: Topics, machine: str, command_id: str) -> dict[str, Any]:
    answers: list[dict[str, Any]] = []

    def take(address: Address, payload: bytes) -> bool:
        if address.leaf == "state":
            answer = json.loads(payload)["command"]
            answers.extend([answer] if answer and answer["id"] == command_id else [])
        return bool(answers)

    if not _listen(subscription, take, within_s=_ANSWER_WITHIN_S):
        raise TemporaryError(
            f"no answer of {topics.device} within {_ANSWER_WITHIN_S:.0f} s, so it may or may not have obeyed; look "
            f"with `edge-asd watch`, and check that the broker's ACL lets you write {topics.command(machine)}"
        )
    return answers[0]


def _listen(subscription: Subscription, take: Callable[[Address, bytes], bool], *, within_s: float) -> bool:
    """Hand messages on until one is what was waited for; those that are not of the contract are passed over."""
    give_up_s = time.monotonic() + within_s
    while (left_s := give_up_s - time.monotonic()) > 0:
        received = subscription.get(left_s)
        address = address_of(received.topic) if received else None
        if received is None or address is None:
            continue
        try:
            if take(address, received.payload):
                return True
        except (KeyError, TypeError, ValueError):
            continue
    return False
