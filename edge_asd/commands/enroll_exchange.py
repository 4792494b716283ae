"""What was heard of a machine in; what serves from then on out: calibrated, written, proved, and exchanged."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from edge_asd.bundle.extension import Extension
from edge_asd.commands.enroll_refused import told_refused
from edge_asd.commands.enroll_report import show
from edge_asd.commands.enroll_site import Site
from edge_asd.commands.enroll_times import joined_times, told_time
from edge_asd.enroll.learn import GroupName, Learned, UnreachableError, learn
from edge_asd.enroll.proof import prove
from edge_asd.errors import ClipError, UsageError

_MAX_STRETCHES_TOLD = 10


def go_live(site: Site, extension: Extension) -> None:
    """Calibrate, write, prove, and only then exchange what is live; a running daemon takes it up by itself.

    Raises:
        ClipError, UsageError: it cannot be learned, with the reason.
        BundleError: the self-test fails.
        UnavailableError: the disk or the folder's rights refuse it.
    """
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
    except UnreachableError as error:
        raise UsageError(f"{site.machine.name}: {error}{_told_strange(extension, error.strange)}") from error
    except ClipError as error:
        refused = told_refused(extension.facts.refused_s, refuse_speech=site.config.enroll.refuse_speech)
        raise ClipError(f"{site.machine.name}: {error}{f' (refused: {refused})' if refused else ''}") from error


def _groups(extension: Extension) -> GroupName:
    n_clips = len(extension.facts.clips)
    if not n_clips:
        return "minutes"
    return "clips" if len(np.unique(extension.memory.group)) == n_clips else "minutes or clips"


def _told_strange(extension: Extension, rows: NDArray[np.intp]) -> str:
    """Which windows are like no other, ready to be left out: clips by their names, other sound by its times."""
    if not len(rows):
        return ""
    clips = {int(row): extension.clip_of(int(row)) for row in rows}
    names = list(dict.fromkeys(clip.name for clip in clips.values() if clip is not None))
    times = joined_times(extension.memory, [row for row, clip in clips.items() if clip is None])
    told = []
    if times:
        shown = " ".join(told_time(each) for stretch in times[:_MAX_STRETCHES_TOLD] for each in stretch)
        more = len(times) - _MAX_STRETCHES_TOLD
        told.append(f"--forget {shown}{f' (and {more} more)' if more > 0 else ''}")
    if names:
        more = len(names) - _MAX_STRETCHES_TOLD
        told.append(f"clips {', '.join(names[:_MAX_STRETCHES_TOLD])}{f' and {more} more' if more > 0 else ''}")
    return f"; windows like no other, to be left out where they are not the machine's: {len(rows)}, {', '.join(told)}"
