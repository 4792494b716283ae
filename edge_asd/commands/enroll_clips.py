"""Clips of a machine at work in, what was collected of them out: whatever ends it, the next call goes on."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import track

from edge_asd.bundle.extension import MAX_WINDOWS, Clip, Extension, begun
from edge_asd.capture.clips import find_clips
from edge_asd.commands.enroll_site import Site
from edge_asd.enroll.clips import ClipLearner, clip_sha256
from edge_asd.enroll.collector import memory_with, summed
from edge_asd.enroll.learn import is_too_little
from edge_asd.errors import BundleError, ClipError, TemporaryError, UsageError

_WRITE_EVERY_S = 2.0
_MAX_TOLD = 5


def collect_from_clips(site: Site, paths: Sequence[Path], *, channel: int | None, known: Extension | None) -> Extension:
    """Hear all clips that were not heard before; one that cannot be used is told, and the others are heard.

    known: what is live; its clips are not learned twice.

    Raises:
        ClipError: no path leads to clips.
        TemporaryError: interrupted; what was heard is kept.
        UsageError: sound from the microphone is being collected.
    """
    if site.folder.request() is not None:
        raise UsageError(
            f"{site.machine.name}: sound from the microphone is being collected; expected one at a time; end that "
            "(edge-asd enroll without --clips), or drop it (--cancel)"
        )
    learner = site.clip_learner(channel=channel)
    clips = find_clips(paths)
    work = _Work(site, known, clips)
    console = Console(stderr=True)
    try:
        for n_heard, clip in enumerate(track(clips, "learning", console=console, transient=True,
                                             disable=not console.is_terminal), 1):  # fmt: skip
            work.hear(clip, learner)
            if not console.is_terminal and 10 * n_heard // len(clips) > 10 * (n_heard - 1) // len(clips):
                print(f"learning {site.machine.name}: {n_heard} of {len(clips)} clips", file=sys.stderr, flush=True)
    except KeyboardInterrupt:
        work.write()
        raise TemporaryError(
            f"interrupted after {len(work.collected.facts.clips)} clips; what was heard of them is kept; run the same "
            "command to go on, or drop it: --cancel"
        ) from None
    work.write()
    if work.n_known:
        print(f"{work.n_known} clips skipped: known", file=sys.stderr)
    return work.collected


class _Work:
    """What was collected so far, in memory and on disk."""

    def __init__(self, site: Site, known: Extension | None, clips: Sequence[Path]) -> None:
        self.n_known = 0
        self._site = site
        self._live = known
        self._live_clips = frozenset(clip.sha256 for clip in known.facts.clips) if known else frozenset()
        self.collected = self._before(clips) or begun(
            site.machine.name,
            site.folder.encoder,
            model=site.model,
            engine=site.pipeline.engine,
            vector_size=site.vector_size,
        )
        self._heard_before = {clip.sha256 for clip in self.collected.facts.clips}
        self._heard = set(self._heard_before)
        self._refused_s: dict[str, float] = {}  # of clips of which nothing was kept, by reason
        self._write_due_s = time.monotonic() + _WRITE_EVERY_S
        if self._heard:
            print(f"going on after {len(self._heard)} clips that were heard before", file=sys.stderr)

    def hear(self, clip: Path, learner: ClipLearner) -> None:
        facts, memory = self.collected.facts, self.collected.memory
        try:
            sha256 = clip_sha256(clip)
            if sha256 in self._heard_before:
                self._heard_before.remove(sha256)
                return
            if sha256 in self._heard or sha256 in self._live_clips:
                self.n_known += 1
                return
            # Not the number after the latest: those are of minutes that follow one another.
            first_group = int(memory.group.max(initial=-2)) + 2
            learned = learner.learn(clip, first_group=first_group)
        except ClipError as error:
            print(f"edge-asd: {error}", file=sys.stderr)
            return
        n_windows = len(memory) + len(learned.kept) + (len(self._live.memory) if self._live else 0)
        if n_windows > MAX_WINDOWS:
            raise UsageError(
                f"{clip}: with it {n_windows} windows would be learned; expected at most {MAX_WINDOWS}; give fewer "
                "clips"
            )
        for why, seconds in learned.refused_s.items():
            print(f"{clip}: {seconds:.0f} s are not learned: {why}", file=sys.stderr)
        self._heard.add(sha256)
        if not learned.kept:  # it may be fit to be learned another time, with other settings
            self._refused_s = summed(self._refused_s, learned.refused_s)
            return
        begin_utc_s = self._free_time(learned.length_s)
        entry = Clip(
            sha256=sha256,
            name=_printable(clip.name),
            begin_utc_s=begin_utc_s,
            end_utc_s=begin_utc_s + learned.length_s,
            refused_s=learned.refused_s,
        )
        kept = [
            replace(each, begin_utc_s=begin_utc_s + each.begin_utc_s, end_utc_s=begin_utc_s + each.end_utc_s)
            for each in learned.kept
        ]
        self.collected = Extension(
            facts=facts.model_copy(
                update={"clips": (*facts.clips, entry), "changed_utc": datetime.now(timezone.utc)},
            ),
            memory=memory_with(memory, kept),
        )
        if time.monotonic() >= self._write_due_s:
            self.write()

    def write(self) -> None:
        facts = self.collected.facts
        refused_s = self._refused_s
        for clip in facts.clips:
            refused_s = summed(refused_s, clip.refused_s)
        whole = replace(self.collected, facts=facts.model_copy(update={"refused_s": refused_s}))
        self.collected = self._site.folder.put(self._site.folder.collected_path, whole)
        self._write_due_s = time.monotonic() + _WRITE_EVERY_S

    def _free_time(self, length_s: int) -> float:
        """When so much sound begins that no other has the times of: ahead of all that was learned, and of now.

        What the microphone hears later comes after it.
        """
        memories = [self.collected.memory, *([self._live.memory] if self._live else [])]
        now_s = time.time()
        end_s = math.floor(min(now_s, *(float(each.begin_utc_s.min(initial=now_s)) for each in memories)))
        if end_s - length_s >= 0:
            return float(end_s - length_s)
        # The clock was in 1970 once.
        return float(math.ceil(max(now_s, *(float(each.end_utc_s.max(initial=now_s)) for each in memories))))

    def _before(self, clips: Sequence[Path]) -> Extension | None:
        """What was heard by a command that was interrupted, or refused for too little.

        Too little goes on with whatever is given; what is enough by itself with what is given again alone: it may be
        of clips that somebody thought better of.
        """
        try:
            found = self._site.folder.collected()
        except BundleError as error:
            print(f"edge-asd: {error}; collecting begins anew", file=sys.stderr)
            return None
        if found is None or found.facts.request is not None:  # left by a request that was dropped
            return None
        found = replace(found, facts=found.facts.model_copy(update={"calibration": None}))
        if is_too_little(found.memory):
            return found
        given = _sha256s(clips)
        is_given = np.array(
            [clip is not None and clip.sha256 in given for clip in map(found.clip_of, range(len(found.memory)))],
            dtype=np.bool_,
        )
        left = found.with_memory(found.memory.taken(is_given))
        dropped = [clip.name for clip in found.facts.clips if clip not in left.facts.clips]
        if dropped:
            print(
                f"{len(dropped)} clips that were heard before are not among those given, and left out: "
                f"{', '.join(dropped[:_MAX_TOLD])}{', ...' if len(dropped) > _MAX_TOLD else ''}",
                file=sys.stderr,
            )
        return left


def _sha256s(clips: Sequence[Path]) -> set[str]:
    found = set()
    for clip in clips:
        with suppress(ClipError):  # it is told when the clip is heard
            found.add(clip_sha256(clip))
    return found


def _printable(name: str) -> str:
    """A name that is not UTF-8 on disk, as text."""
    return name.encode("utf-8", "replace").decode()
