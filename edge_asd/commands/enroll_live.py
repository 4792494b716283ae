"""A wish for normal sound in, what the running daemon collected of it out; the sound card stays the daemon's."""

from __future__ import annotations

import sys
import time

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from edge_asd.bundle.extension import Extension
from edge_asd.commands.enroll_site import Site
from edge_asd.daemon.enrolment_folder import EnrolmentFolder
from edge_asd.errors import BundleError, TemporaryError, UnavailableError, UsageError

_LOOK_EVERY_S = 0.5
_PATIENCE_S = 90.0
"""A daemon that collects writes twice a minute, be it what it refused; its first window takes 10 s."""

_MIN_WANTED_S, _MAX_WANTED_S = 300.0, 86_400.0


def collect_live(site: Site, *, wanted_s: float) -> Extension:
    """Ask the daemon for so much normal sound and follow until it is there.

    Raises:
        UsageError: clips are being learned, or wanted_s is none.
        UnavailableError: no daemon collects.
        TemporaryError: interrupted; the daemon goes on.
    """
    folder = site.folder
    if not _MIN_WANTED_S <= wanted_s <= _MAX_WANTED_S:
        raise UsageError(f"--minutes is {wanted_s / 60.0:g}; expected 5 to 1440 (a day); correct it")
    before = folder.collected()
    if before is not None and before.facts.clips:
        raise UsageError(
            f"{site.machine.name}: {len(before.facts.clips)} clips are being learned; expected one source at a time; "
            "go on with --clips, or drop them: --cancel"
        )
    folder.ask(wanted_s)
    try:
        return _follow(site, wanted_s)
    except KeyboardInterrupt:
        raise TemporaryError(
            "interrupted; the daemon goes on collecting; run the same command to follow it and go live, or drop it: "
            "--cancel"
        ) from None


def cancel(folder: EnrolmentFolder) -> int:
    """Ask for no more, and drop what was collected; what is live stays."""
    folder.drop_collected()
    print(f"nothing more is collected of {folder.machine}, and what was collected is dropped", file=sys.stderr)
    return 0


def _follow(site: Site, wanted_s: float) -> Extension:
    spec = site.pipeline.spec
    window_s = spec.window_samples / spec.sample_rate_hz
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[words]}"), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(f"learning {site.machine.name}", total=wanted_s, words="")
        stamp: tuple[int, int] | None = None
        give_up_s = time.monotonic() + _PATIENCE_S
        while time.monotonic() < give_up_s:
            found_stamp = _stamp(site.folder)
            if found_stamp is not None and found_stamp != stamp:
                stamp, give_up_s = found_stamp, time.monotonic() + _PATIENCE_S
                collected = _collected(site.folder)
                heard_s = len(collected.memory) * window_s if collected else 0.0
                if collected is not None and heard_s >= wanted_s:
                    return collected
                progress.update(task, completed=heard_s, words=_words(collected, heard_s, wanted_s))
            time.sleep(_LOOK_EVERY_S)
    raise UnavailableError(
        f"{site.machine.name}: nothing was collected for {_PATIENCE_S:.0f} s; expected the daemon of "
        f"{site.config.path} to run, with model {site.model} as it is now, and to hear the machine, since the sound "
        "card is its own; start it, or reload it where the model was replaced; see edge-asd status; then run this "
        "again: it goes on where it was"
    )


def _stamp(folder: EnrolmentFolder) -> tuple[int, int] | None:
    try:
        found = folder.collected_path.stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns


def _collected(folder: EnrolmentFolder) -> Extension | None:
    try:
        return folder.collected()
    except BundleError as error:  # the daemon begins anew
        print(f"edge-asd: {error}", file=sys.stderr)
        return None


def _words(collected: Extension | None, heard_s: float, wanted_s: float) -> str:
    refused = collected.facts.refused_s if collected else {}
    told = "".join(f", {seconds:.0f} s refused: {why}" for why, seconds in refused.items())
    return f"{heard_s / 60.0:.1f} of {wanted_s / 60.0:g} min{told}"
