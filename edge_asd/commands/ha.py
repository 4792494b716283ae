"""edge-asd ha: a device's name in, its announcement to Home Assistant taken back."""

from __future__ import annotations

import argparse
import time

from edge_asd.commands.broker_options import add_broker_options, wanted
from edge_asd.errors import UsageError
from edge_asd.homeassistant import discovery_topic
from edge_asd.messages import Topics
from edge_asd.mqtt.subscription import Subscription

_RETAINED_WITHIN_S = 2.0


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to the parser of `edge-asd`."""
    parser = subparsers.add_parser("ha", help="Home Assistant: take a device out of it")
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True)
    remove = actions.add_parser(
        "remove",
        help="take a device out of Home Assistant",
        description="Take back what a device announced to Home Assistant, with all its machines. Needs --config, or "
        "--site and --device. A device that runs announces itself again at its next connection while its "
        "configuration has home_assistant: true.",
    )
    add_broker_options(remove)
    remove.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Remove the announcement; 0 also where there is none.

    Raises:
        UsageError: it is not said which device is meant.
        UnavailableError: the broker cannot be reached.
        ConfigError: the configuration is wrong.
    """
    what = wanted(arguments, purpose="ha")
    if what.site is None or what.device is None:
        raise UsageError("it is not said which device is meant; give --config, or --site and --device")
    topic = discovery_topic(Topics(site=what.site, device=what.device))
    with Subscription(what.broker, [topic]) as subscription:
        was_there = _has_payload(subscription)
        subscription.publish(topic, b"", retain=True)
    found = "removed from Home Assistant" if was_there else "was not announced to Home Assistant"
    print(f"{what.site}/{what.device}: {found}")
    return 0


def _has_payload(subscription: Subscription) -> bool:
    give_up_s = time.monotonic() + _RETAINED_WITHIN_S
    while (left_s := give_up_s - time.monotonic()) > 0:
        received = subscription.get(left_s)
        if received is not None:
            return bool(received.payload)
    return False
