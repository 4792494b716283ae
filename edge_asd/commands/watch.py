"""edge-asd watch: a broker in, a live table of devices, machines, scores and alarms out, or one JSON line a message."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import asdict

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from edge_asd.board import Board
from edge_asd.commands.broker_options import add_broker_options, wanted
from edge_asd.mqtt.subscription import Subscription

_FRAME_S = 0.25


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the parser of `edge-asd`."""
    parser = subparsers.add_parser(
        "watch",
        help="watch machines, scores and alarms live",
        description="Show all devices of a broker in a live table: each machine's state, its score against the "
        "threshold, and the latest alarms. Ctrl-C ends it. Exits 69 when the broker cannot be reached.",
    )
    add_broker_options(parser)
    parser.add_argument("--json", action="store_true", help="print one line of JSON a message and nothing else")
    parser.add_argument("--duration", type=float, metavar="S", help="end after so many seconds")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Watch until interrupted or the duration is over.

    Raises:
        UnavailableError: the broker cannot be reached, or refuses the login.
        UsageError: the URL, site or device cannot be.
        ConfigError: the configuration is wrong.
    """
    what = wanted(arguments, purpose="watch")
    end_s = float("inf") if arguments.duration is None else time.monotonic() + arguments.duration
    try:
        with Subscription(what.broker, [what.topic_filter]) as subscription:
            show = _print_json if arguments.json else _show_table
            show(subscription, lambda: time.monotonic() >= end_s)
    except KeyboardInterrupt:
        return 0
    return 0


def _print_json(subscription: Subscription, is_over: Callable[[], bool]) -> None:
    board = Board()
    while not is_over():
        message = subscription.get(_FRAME_S)
        heard = board.hear(message.topic, message.payload) if message else None
        if heard and message:
            line = {"topic": message.topic, **asdict(heard.address), "retained": message.retained}
            print(json.dumps({**line, "payload": heard.payload}, ensure_ascii=False), flush=True)


def _show_table(subscription: Subscription, is_over: Callable[[], bool]) -> None:
    board = Board()
    with Live(console=Console(), auto_refresh=False) as live:
        while not is_over():
            frame_end_s = time.monotonic() + _FRAME_S
            while (left_s := frame_end_s - time.monotonic()) > 0:
                message = subscription.get(left_s)
                if message:
                    board.hear(message.topic, message.payload)
            live.update(Group(_headline(subscription, board), board.picture(time.time())), refresh=True)


def _headline(subscription: Subscription, board: Board) -> Text:
    headline = Text(f"broker {subscription.broker.endpoint}  ", style="bold")
    if subscription.trouble:
        headline.append(subscription.trouble, style="bold red")
    for count, what in ((board.repeats, "repeats dropped"), (board.foreign, "messages not understood")):
        if count:
            headline.append(f"  {count} {what}", style="dim")
    return headline
