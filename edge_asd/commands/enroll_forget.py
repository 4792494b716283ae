"""Times or names of clips in; what was learned or collected of a machine without them out."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from edge_asd.bundle.extension import Clip, Extension
from edge_asd.commands.enroll_exchange import go_live
from edge_asd.commands.enroll_live import is_all_there, pending
from edge_asd.commands.enroll_site import Site
from edge_asd.commands.enroll_times import parse_times, told_time
from edge_asd.daemon.enrolment_notes import MAX_FORGOTTEN, Request
from edge_asd.errors import BundleError, ClipError, UsageError


def forget(site: Site, words: Sequence[str]) -> int:
    """Forget of what is live, which is calibrated again, and of what the daemon has collected.

    What was asked of the daemon and was all there before is learned without what is forgotten, where nothing is live;
    where something is, only the command that asked knows whether it comes beside that or in its place.

    Raises:
        UsageError: there is nothing to forget, or the words say nothing that was heard.
        ClipError: what is left cannot be learned; what was live stays.
        BundleError: neither can what is left, or what is live is damaged, and nothing was collected.
    """
    name, asked = site.machine.name, pending(site.folder)
    try:
        live = site.folder.live()
    except BundleError:
        if asked is None:
            raise
        live = None  # nothing but --anew asks beside what is damaged
    if live is None and asked is None:
        raise UsageError(f"{name} is not enrolled with this model, and nothing was collected; expected something to "
                         "forget")  # fmt: skip
    times = _times_to_forget(live.facts.clips if live else (), words)
    left = None if live is None else _without(live, times)
    n_live = len(live.memory) - len(left.memory) if live and left else 0
    n_collected = len(asked[1].memory) - len(_without(asked[1], times).memory) if asked else 0
    if not n_live and not n_collected:
        told = " or ".join(f"{told_time(begin)} and {told_time(end)}" for begin, end in times)
        raise UsageError(
            f"{name}: nothing was learned between {told}, nor collected and written; expected times of sound that was; "
            "see edge-asd enroll --report"
        )
    if left is not None and n_live:
        go_live(site, left)
        print(f"{n_live} windows are forgotten", file=sys.stderr)
    if asked is not None and n_collected:
        _forget_collected(site, *asked, times, is_live=live is not None)
    return 0


def _forget_collected(
    site: Site, request: Request, collected: Extension, times: list[tuple[float, float]], *, is_live: bool
) -> None:
    left = _without(collected, times)
    was_all_there = is_all_there(site, request, collected)
    # What was all there stays so, lest the daemon collects more that nobody asked for.
    wanted_s = len(left.memory) * site.window_s if was_all_there and len(left.memory) else request.wanted_s
    try:
        changed = request.forgetting(times, wanted_s=wanted_s)
    except ValueError as error:
        raise UsageError(
            f"{site.machine.name}: with these, more than {MAX_FORGOTTEN} stretches of what was collected are to be "
            "forgotten; expected fewer; join them to longer ones, or begin anew: --cancel"
        ) from error
    site.folder.change(changed)
    left_min = len(left.memory) * site.window_s / 60.0
    print(f"{len(collected.memory) - len(left.memory)} windows that were collected are forgotten, {left_min:.1f} min "
          "are left", file=sys.stderr)  # fmt: skip
    if not was_all_there:
        print("the daemon goes on collecting; the command that asked for it goes on too", file=sys.stderr)
    elif is_live:
        print(
            "the command that asked for them (--add or --anew) collects what is missing, and goes live", file=sys.stderr
        )
    else:
        try:
            go_live(site, left)
        except (ClipError, UsageError, BundleError) as error:
            raise type(error)(
                f"{error}; what is left of what was collected is kept: edge-asd enroll {site.machine.name} collects "
                "what is missing, --cancel drops it"
            ) from error
        site.folder.drop_collected()


def _without(extension: Extension, times: list[tuple[float, float]]) -> Extension:
    memory = extension.memory
    for begin_utc_s, end_utc_s in times:
        memory = memory.without(from_utc_s=begin_utc_s, to_utc_s=end_utc_s)
    return extension.with_memory(memory)


def _times_to_forget(known: Sequence[Clip], words: Sequence[str]) -> list[tuple[float, float]]:
    named = [[clip for clip in known if clip.name == word] for word in words]
    if not any(named):
        if len(words) % 2 == 0:
            return [parse_times(begin, end) for begin, end in zip(words[::2], words[1::2], strict=True)]
        raise UsageError(f"--forget {' '.join(words)}: no clip that was learned is called so; expected the names of "
                         "clips without their folder, or pairs of times; correct it")  # fmt: skip
    for word, clips in zip(words, named, strict=True):
        if len(clips) != 1:
            times = ", ".join(f"{told_time(clip.begin_utc_s)} to {told_time(clip.end_utc_s)}" for clip in clips)
            raise UsageError(
                f"--forget {word}: {len(clips)} clips that were learned are called so{f' ({times})' if times else ''}; "
                "expected one; give its two times instead"
            )
    return [(clip.begin_utc_s, clip.end_utc_s) for (clip,) in named]
