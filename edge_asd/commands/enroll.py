"""`edge-asd enroll`: normal sound of a machine that no bundle knows in, what the device learned of it, live, out."""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from edge_asd.bundle.extension import MAX_WINDOWS, Extension
from edge_asd.commands.daemon_user import check_daemon_user
from edge_asd.commands.enroll_clips import collect_from_clips
from edge_asd.commands.enroll_live import cancel, collect_live
from edge_asd.commands.enroll_refused import told_refused
from edge_asd.commands.enroll_report import report, show
from edge_asd.commands.enroll_site import Site, machine_of, open_site
from edge_asd.commands.enroll_times import parse_times, told_time
from edge_asd.config import load_config
from edge_asd.enroll.learn import GroupName, Learned, is_too_little, learn
from edge_asd.enroll.proof import prove
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
        help="forget what was heard between two times, ISO 8601 with an offset or Z, or clips by their names",
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
    live = None if arguments.anew else site.folder.live()  # anew helps where it is damaged, too
    if arguments.forget:
        return _forget(site, live, arguments.forget)
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
        _go_live(site, whole)
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


def _forget(site: Site, live: Extension | None, words: list[str]) -> int:
    if live is None:
        raise UsageError(f"{site.machine.name} is not enrolled with this model; expected something to forget")
    memory = live.memory
    for begin_utc_s, end_utc_s in _times_to_forget(live, words):
        memory = memory.without(from_utc_s=begin_utc_s, to_utc_s=end_utc_s)
    n_forgotten = len(live.memory) - len(memory)
    if not n_forgotten:
        raise UsageError(
            f"{site.machine.name}: nothing was learned between {words[0]} and {words[1]}; expected times of sound that "
            "was; see edge-asd enroll --report"
        )
    _go_live(site, live.with_memory(memory))
    print(f"{n_forgotten} windows are forgotten", file=sys.stderr)
    return 0


def _times_to_forget(live: Extension, words: list[str]) -> list[tuple[float, float]]:
    named = [[clip for clip in live.facts.clips if clip.name == word] for word in words]
    if not any(named):
        if len(words) == 2:
            return [parse_times(*words)]
        raise UsageError(f"--forget {' '.join(words)}: no clip that was learned is called so; expected the names of "
                         "clips without their folder, or two times; correct it")  # fmt: skip
    for word, clips in zip(words, named, strict=True):
        if len(clips) != 1:
            times = ", ".join(f"{told_time(clip.begin_utc_s)} to {told_time(clip.end_utc_s)}" for clip in clips)
            raise UsageError(
                f"--forget {word}: {len(clips)} clips that were learned are called so{f' ({times})' if times else ''}; "
                "expected one; give its two times instead"
            )
    return [(clip.begin_utc_s, clip.end_utc_s) for (clip,) in named]


def _go_live(site: Site, extension: Extension) -> None:
    """Calibrate, write, prove, and only then exchange what is live; a running daemon takes it up by itself."""
    learned = _learned(site, extension)
    facts = extension.facts.model_copy(update={"calibration": learned.calibration})
    candidate = site.folder.live_path.with_suffix(".candidate")
    try:
        written = site.folder.put(candidate, replace(extension, facts=facts))
        proof = prove(site.pipeline, site.bundle, written)
        site.folder.put(site.folder.live_path, written)
    finally:
        site.folder.remove(candidate)
    show(site, written, learned, proof)


def _learned(site: Site, extension: Extension) -> Learned:
    spec = site.pipeline.spec
    try:
        return learn(
            extension.memory,
            false_alarms_per_week=site.config.enroll.false_alarms_per_week,
            window_s=spec.window_samples / spec.sample_rate_hz,
            precision=extension.facts.precision,
            groups=_groups(extension),
        )
    except ClipError as error:
        refused = told_refused(extension.facts.refused_s, refuse_speech=site.config.enroll.refuse_speech)
        raise ClipError(f"{site.machine.name}: {error}{f' (refused: {refused})' if refused else ''}") from error


def _groups(extension: Extension) -> GroupName:
    n_clips = len(extension.facts.clips)
    if not n_clips:
        return "minutes"
    return "clips" if len(np.unique(extension.memory.group)) == n_clips else "minutes or clips"
