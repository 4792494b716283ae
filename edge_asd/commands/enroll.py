"""`edge-asd enroll`: normal sound of a machine that no bundle knows in, what the device learned of it, live, out."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from edge_asd.bundle.extension import MAX_WINDOWS, Extension
from edge_asd.commands.daemon_user import check_daemon_user
from edge_asd.commands.enroll_clips import collect_from_clips
from edge_asd.commands.enroll_exchange import go_live
from edge_asd.commands.enroll_forget import forget
from edge_asd.commands.enroll_live import cancel, collect_live
from edge_asd.commands.enroll_report import report
from edge_asd.commands.enroll_site import Site, machine_of, open_site
from edge_asd.config import load_config
from edge_asd.enroll.learn import is_too_little
from edge_asd.errors import BundleError, ClipError, UsageError


def add_parser(subparsers: Any) -> None:
    """Add the command to the parser of `edge-asd`."""
    parser = subparsers.add_parser(
        "enroll",
        help="learn a machine that no bundle knows",
        description="Learn the normal sound of a machine whose listens_to is `enrolled`, set its threshold, and go "
        "live. From the microphone the running daemon collects: this command asks it to, follows, and calibrates what "
        "it collected; interrupted, it goes on where it was when it is run again. The machine must be at work and well "
        "meanwhile, and nobody should speak beside it.",
    )
    parser.add_argument("machine", metavar="MACHINE", help="its name in the configuration")
    parser.add_argument("--config", type=Path, required=True, metavar="DEVICE.yaml", help="of this device")
    parser.add_argument("--minutes", type=float, help="of normal sound from the microphone, instead of enroll.minutes")
    parser.add_argument(
        "--clips", type=Path, nargs="+", metavar="CLIP_OR_FOLDER", help="learn recorded clips instead of the microphone"
    )
    parser.add_argument("--channel", type=int, help="of clips that hold several, from 0")
    action = parser.add_mutually_exclusive_group()
    action.add_argument("--add", action="store_true", help="learn more beside what was learned before")
    action.add_argument("--anew", action="store_true", help="learn in the place of what was learned before")
    action.add_argument(
        "--forget",
        nargs="+",
        metavar="TIME_OR_CLIP",
        help="forget what was heard between two times, ISO 8601 with an offset or Z (or several such pairs), or "
        "clips by their names; of what is live and of what was collected",
    )
    action.add_argument("--report", action="store_true", help="tell how far the machine has drifted from what it was")
    action.add_argument("--cancel", action="store_true", help="end collecting, and drop what was collected")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Enroll, or change or report what is enrolled.

    Raises:
        EdgeAsdError: what was asked cannot be, with the reason; what was live stays live.
    """
    _check_options(arguments)
    config = load_config(arguments.config)
    machine = machine_of(config, arguments.machine)
    if not arguments.report:
        check_daemon_user(config, command=f"edge-asd enroll {machine.name} ...")
    with open_site(config, machine) as site:
        if arguments.cancel:
            return cancel(site.folder)
        if arguments.report:
            return report(site, arguments.clips, channel=arguments.channel)
        with site.folder.locked():
            return _enroll(site, arguments)


def _check_options(arguments: argparse.Namespace) -> None:
    """Refuse an option that another one leaves nothing to do."""
    given = {name: getattr(arguments, name) is not None for name in ("clips", "minutes", "channel")}
    for action in ("forget", "cancel", "report"):
        if not getattr(arguments, action):
            continue
        for name in ("clips", "minutes", "channel"):
            if given[name] and (action != "report" or name == "minutes"):
                raise UsageError(f"--{name} with --{action} says nothing; expected one of them; leave the other out")
    if given["clips"] and given["minutes"]:
        raise UsageError("--minutes with --clips: clips are learned whole; expected one of them; leave the other out")
    if given["channel"] and not given["clips"]:
        raise UsageError("--channel without --clips: the microphone's is in the configuration; leave it out")


def _enroll(site: Site, arguments: argparse.Namespace) -> int:
    machine = site.machine
    if arguments.forget:
        return forget(site, arguments.forget)
    live = None if arguments.anew else site.folder.live()  # anew helps where it is damaged, too
    if live is not None and not arguments.add:
        raise UsageError(
            f"{machine.name} is enrolled already, {len(live.memory)} windows; expected --add to learn more beside "
            "that, or --anew to learn in its place"
        )
    if live is None and arguments.add:
        raise UsageError(f"{machine.name} is not enrolled with this model; expected no --add; leave it out")
    collected = _collected(site, live, arguments)
    whole = _joined(live, collected) if live is not None else collected
    try:
        go_live(site, whole)
    except (ClipError, UsageError, BundleError) as error:
        raise type(error)(f"{error}; {_after_refusal(site, whole, arguments)}") from error
    site.folder.drop_collected()
    return 0


def _collected(site: Site, live: Extension | None, arguments: argparse.Namespace) -> Extension:
    if arguments.clips:
        return collect_from_clips(site, arguments.clips, channel=arguments.channel, known=live)
    wanted_min = site.config.enroll.minutes if arguments.minutes is None else arguments.minutes
    return collect_live(site, wanted_s=60.0 * wanted_min, beside=live)


def _after_refusal(site: Site, whole: Extension, arguments: argparse.Namespace) -> str:
    """What is to be done; clips that could be heard and are no good are not gone on with, once others are given."""
    if arguments.clips is None:
        return "what was collected is kept: collect more beside it (--minutes), or drop it (--cancel)"
    if is_too_little(whole.memory):
        return "what was heard is kept: give more clips, or drop it (--cancel)"
    site.folder.drop_collected()
    return "what was heard of the clips is dropped; what was live stays"


def _joined(live: Extension, added: Extension) -> Extension:
    # A command that was killed after its windows went live, ahead of dropping what was collected, adds them again.
    known = {vector.tobytes() for vector in live.memory.vectors}
    is_new = np.array([vector.tobytes() not in known for vector in added.memory.vectors], dtype=np.bool_)
    memory = live.memory.joined(added.memory.taken(is_new))
    if len(memory) > MAX_WINDOWS:
        raise UsageError(
            f"{len(memory)} windows with those to add; expected at most {MAX_WINDOWS}; forget some first "
            "(--forget), or learn anew (--anew)"
        )
    known_clips = frozenset(clip.sha256 for clip in live.facts.clips)
    clips = (*live.facts.clips, *(clip for clip in added.facts.clips if clip.sha256 not in known_clips))
    return replace(added, facts=added.facts.model_copy(update={"clips": clips})).with_memory(memory)
