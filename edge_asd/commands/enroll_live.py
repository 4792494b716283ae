"""A wish for normal sound in, what the running daemon collected of it out; the sound card stays the daemon's."""

from __future__ import annotations

import sys
import time

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from edge_asd.bundle.extension import MAX_WINDOWS, Extension
from edge_asd.commands.enroll_refused import told_refused
from edge_asd.commands.enroll_site import Site
from edge_asd.daemon.enrolment_folder import EnrolmentFolder
from edge_asd.daemon.enrolment_notes import Collecting, Request
from edge_asd.errors import BundleError, TemporaryError, UnavailableError, UsageError

_LOOK_EVERY_S = 0.5
_PATIENCE_S = 90.0
"""A daemon that collects says so twice a minute, be it what it refused; its first window takes 10 s."""

_SAY_EVERY_S = 60.0
_CANCEL_WITHIN_S = 10.0
_MIN_WANTED_S, _MAX_WANTED_S = 300.0, 86_400.0


def collect_live(site: Site, *, wanted_s: float, beside: Extension | None) -> Extension:
    """Ask the daemon for so much normal sound and follow until it is there.

    beside: what is live and stays, where more is added.

    Raises:
        UsageError: clips are being learned, or wanted_s is none, or more than has room beside what is live.
        UnavailableError: no daemon collects.
        TemporaryError: interrupted, and the daemon goes on; or cancelled.
    """
    folder = site.folder
    if not _MIN_WANTED_S <= wanted_s <= _MAX_WANTED_S:
        raise UsageError(f"--minutes is {wanted_s / 60.0:g}; expected 5 to 1440 (a day); correct it")
    n_room = MAX_WINDOWS - (len(beside.memory) if beside else 0)
    if wanted_s > n_room * site.window_s:
        raise UsageError(
            f"--minutes is {wanted_s / 60.0:g}, and {n_room * site.window_s // 6.0 / 10.0:g} min have room beside the "
            f"{MAX_WINDOWS - n_room} windows that were learned; expected no more; ask for less, forget some first "
            "(--forget), or learn anew (--anew)"
        )
    before = _collected(folder)
    if before is not None and before.facts.clips:
        raise UsageError(
            f"{site.machine.name}: {len(before.facts.clips)} clips are being learned; expected one source at a time; "
            "go on with --clips, or drop them: --cancel"
        )
    request = folder.ask(wanted_s)
    try:
        return _follow(site, request)
    except KeyboardInterrupt:
        raise TemporaryError(
            "interrupted; the daemon goes on collecting; run the same command to follow it and go live, or drop it: "
            "--cancel"
        ) from None


def cancel(folder: EnrolmentFolder) -> int:
    """Ask for no more, end who follows, and drop what was collected; what is live stays.

    Raises:
        TemporaryError: another command is hearing clips, or going live this moment.
    """
    folder.ask_no_more()
    with folder.locked(wait_s=_CANCEL_WITHIN_S):
        folder.drop_collected()
    print(f"nothing more is collected of {folder.machine}, and what was collected is dropped", file=sys.stderr)
    return 0


def pending(folder: EnrolmentFolder) -> tuple[Request, Extension] | None:
    """What is asked of the daemon and what it has collected of it so far; None where nothing is."""
    try:
        request = folder.request()
    except BundleError as error:
        print(f"edge-asd: {error}", file=sys.stderr)
        return None
    collected = _collected(folder)
    if request is None or collected is None or collected.facts.request != request.id:
        return None
    return request, collected


def is_all_there(site: Site, request: Request, collected: Extension) -> bool:
    """Whether as much was collected as was asked for, or as has room."""
    n_windows = len(collected.memory)
    return n_windows * site.window_s >= request.wanted_s or n_windows >= MAX_WINDOWS


def _follow(site: Site, request: Request) -> Extension:
    folder, wanted_s = site.folder, request.wanted_s
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[words]}"), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(f"learning {site.machine.name}", total=wanted_s, words="")
        told_stamp = collected_stamp = None
        give_up_s, say_due_s = time.monotonic() + _PATIENCE_S, time.monotonic()
        while time.monotonic() < give_up_s:
            if not _is_asked_for(folder, request):
                raise TemporaryError(
                    f"{site.machine.name}: what was asked for was dropped meanwhile (--cancel); expected it to be "
                    "wanted; run this again to begin anew"
                )
            found_stamp = folder.collected_stamp()
            if found_stamp is not None and found_stamp != collected_stamp:
                collected_stamp = found_stamp
                collected = _collected(folder)
                if (
                    collected is not None
                    and collected.facts.request == request.id
                    and is_all_there(site, request, collected)
                ):
                    return collected
            found_stamp = folder.collecting_stamp()
            told = folder.collecting()
            if found_stamp != told_stamp and told is not None and told.request == request.id:
                told_stamp, give_up_s = found_stamp, time.monotonic() + _PATIENCE_S
                words = _words(told, site, wanted_s)
                progress.update(task, completed=told.n_windows * site.window_s, words=words)
                if not console.is_terminal and time.monotonic() >= say_due_s:
                    say_due_s = time.monotonic() + _SAY_EVERY_S
                    print(f"learning {site.machine.name}: {words}", file=sys.stderr, flush=True)
            time.sleep(_LOOK_EVERY_S)
    raise UnavailableError(
        f"{site.machine.name}: nothing was collected for {_PATIENCE_S:.0f} s; expected the daemon of "
        f"{site.config.path} to run, with model {site.model} as it is now, and to hear the machine, since the sound "
        "card is its own; start it, or reload it where the model was replaced; see edge-asd status; then run this "
        "again: it goes on where it was"
    )


def _is_asked_for(folder: EnrolmentFolder, request: Request) -> bool:
    found = folder.request()
    return found is not None and found.id == request.id


def _collected(folder: EnrolmentFolder) -> Extension | None:
    try:
        return folder.collected()
    except BundleError as error:  # the daemon begins anew
        print(f"edge-asd: {error}; collecting begins anew", file=sys.stderr)
        return None


def _words(told: Collecting, site: Site, wanted_s: float) -> str:
    refused = told_refused(told.refused_s, refuse_speech=site.config.enroll.refuse_speech)
    return (
        f"{told.n_windows * site.window_s / 60.0:.1f} of {wanted_s / 60.0:g} min{refused and f', refused: {refused}'}"
    )
