"""edge-asd audit: a broker, or what `watch --json` wrote, in; out comes whether any message is missing, and why."""

from __future__ import annotations

import argparse
import json
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from edge_asd.commands.broker_options import add_broker_options, wanted
from edge_asd.errors import UnavailableError, UsageError
from edge_asd.ledger import Account, Ledger
from edge_asd.messages import address_of, is_command
from edge_asd.mqtt.subscription import Subscription

_STEP_S = 0.25
_SESSION_S = 3_600
_GAPS_SHOWN = 20

_INCOMPLETE = 1


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the parser of `edge-asd`."""
    parser = subparsers.add_parser(
        "audit",
        help="prove that no message is missing",
        description="Listen to a broker, or read what `edge-asd watch --json` wrote, and hold the numbers of each "
        "machine's messages against each other and against the losses that the devices announced. Exits 0 when every "
        "gap is explained, 1 when one is not, 69 when nothing was heard or the broker cannot be reached. Ctrl-C ends "
        "the listening. Losses are announced once a minute: listen longer than that.",
    )
    parser.add_argument(
        "file", nargs="?", metavar="FILE", help="lines of `edge-asd watch --json` instead of a broker; - is stdin"
    )
    add_broker_options(parser)
    parser.add_argument("--duration", type=float, metavar="S", help="listen for so many seconds; else until stopped")
    parser.add_argument("--json", action="store_true", help="print the result as JSON")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Audit; 0 where all is accounted for, else 1.

    Raises:
        UnavailableError: nothing was heard, or the broker cannot be reached.
        UsageError: the file cannot be read, or the options do not fit together.
        ConfigError: the configuration is wrong.
    """
    audit = _Audit()
    if arguments.file is None:
        source = _listen(arguments, audit)
    elif arguments.url or arguments.config or arguments.duration is not None:
        raise UsageError(
            "a file and a broker are given; expected one: leave FILE out, or --url, --config and --duration"
        )
    else:
        source = arguments.file
        with _lines(arguments.file) as lines, suppress(KeyboardInterrupt):
            for line in lines:
                audit.hear_line(line)
    accounts = audit.ledger.accounts()
    if not accounts:
        raise UnavailableError(
            f"no message was heard from {source}; expected those of a device: check site, device and the broker's ACL, "
            "and listen for longer"
        )
    unexplained = sum(account.unexplained for account in accounts)
    if arguments.json:
        print(json.dumps(_as_json(audit, accounts), ensure_ascii=False))
    else:
        _print_table(audit, accounts)
    return _INCOMPLETE if unexplained else 0


class _Audit:
    """The ledger, and what lies beside it."""

    def __init__(self) -> None:
        self.ledger = Ledger()
        self.foreign = 0
        self.connection_losses = 0

    def hear(self, topic: str, payload: object, *, retained: bool) -> None:
        """Takes in one message, decoded; what is not of the contract is counted."""
        address = address_of(topic)
        if is_command(topic) or (address is not None and address.leaf == "availability"):
            return
        try:
            if address is None or not isinstance(payload, dict):
                raise ValueError(topic)  # noqa: TRY301 (all that is foreign goes one way)
            self.ledger.hear(address, payload, retained=retained)
        except ValueError:
            self.foreign += 1

    def hear_bytes(self, topic: str, payload: bytes, *, retained: bool) -> None:
        """The same as it came from the broker."""
        try:
            decoded = json.loads(payload)
        except ValueError:
            decoded = None
        self.hear(topic, decoded, retained=retained)

    def hear_line(self, line: str) -> None:
        """The same as a line of `watch --json`."""
        try:
            message = json.loads(line)
            topic, payload, retained = message["topic"], message["payload"], bool(message["retained"])
        except (ValueError, KeyError, TypeError):
            self.foreign += 1
            return
        self.hear(str(topic), payload, retained=retained)


def _listen(arguments: argparse.Namespace, audit: _Audit) -> str:
    """Hears the broker until the time is over or a signal comes; returns its name."""
    what = wanted(arguments, purpose="audit")
    end_s = float("inf") if arguments.duration is None else time.monotonic() + arguments.duration
    with _stoppable() as stopped, Subscription(what.broker, [what.topic_filter], session_s=_SESSION_S) as subscription:
        print(f"edge-asd: listening to {what.broker.endpoint}, {what.topic_filter}", file=sys.stderr, flush=True)
        while not stopped and time.monotonic() < end_s:
            message = subscription.get(min(_STEP_S, end_s - time.monotonic()))
            if message is not None:
                audit.hear_bytes(message.topic, message.payload, retained=message.retained)
        audit.connection_losses = subscription.losses
    return what.broker.endpoint


@contextmanager
def _stoppable() -> Iterator[list[int]]:
    """A list that is empty until SIGINT or SIGTERM comes: a service manager ends an audit with its result, too."""
    stopped: list[int] = []
    before = {
        number: signal.signal(number, lambda got, _: stopped.append(got)) for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield stopped
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _lines(name: str) -> Iterator[Iterator[str]]:
    if name == "-":
        yield iter(sys.stdin)
        return
    try:
        with Path(name).open(encoding="utf-8", errors="replace") as file:
            yield iter(file)
    except OSError as error:
        raise UsageError(
            f"{name}: it cannot be read ({error.strerror}); expected lines of `edge-asd watch --json`; check the path"
        ) from error


def _as_json(audit: _Audit, accounts: list[Account]) -> dict[str, Any]:
    unexplained = sum(account.unexplained for account in accounts)
    return {
        "complete": unexplained == 0,
        "unexplained": unexplained,
        "messages": sum(account.seen for account in accounts),
        "foreign": audit.foreign,
        "connection_losses": audit.connection_losses,
        "series": [asdict(account) | {"unexplained": account.unexplained} for account in accounts],
    }


def _print_table(audit: _Audit, accounts: list[Account]) -> None:
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    for heading in ("device", "machine"):
        table.add_column(heading, no_wrap=True)
    for heading in ("numbers", "seen", "repeats", "late", "announced", "unexplained"):
        table.add_column(heading, justify="right", no_wrap=True)
    for account in accounts:
        table.add_row(
            f"{account.site}/{account.device}",
            Text(account.machine or "(health)", style="" if account.machine else "dim"),
            f"{account.first} to {account.last}",
            str(account.seen),
            str(account.repeats),
            str(account.out_of_order),
            str(account.missing - account.unexplained),
            Text(str(account.unexplained), style="bold red" if account.unexplained else "green"),
        )
    console = Console()
    console.print(table)
    for account in accounts:
        name = "/".join(filter(None, (account.site, account.device, account.machine)))
        for cause, count in sorted(account.explained.by_cause.items()):
            console.print(f"{name}: {count} announced as lost: {cause}", highlight=False, markup=False)
        for gap in account.explained.gaps[:_GAPS_SHOWN]:
            console.print(
                f"{name}: {gap.unexplained} of {gap.first} to {gap.last} missing without an announcement",
                style="red",
                highlight=False,
                markup=False,
            )
        if len(account.explained.gaps) > _GAPS_SHOWN:
            console.print(f"{name}: and {len(account.explained.gaps) - _GAPS_SHOWN} gaps more", style="red")
    if audit.foreign:
        console.print(f"{audit.foreign} messages not understood", style="dim")
    if audit.connection_losses:
        console.print(
            f"this audit lost its own connection {audit.connection_losses} times: a broker without persistence forgets "
            "what it held for it",
            style="yellow",
        )
    if any(account.unexplained for account in accounts):
        console.print("not everything arrived; where the newest gap is minutes old, listen on: losses are announced "
                      "once a minute", style="bold red")  # fmt: skip
