"""Clips of a machine at work in, what was collected of them out: whatever ends it, the next call goes on."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

from rich.console import Console
from rich.progress import track

from edge_asd.bundle.extension import MAX_WINDOWS, Extension, begun
from edge_asd.capture.clips import find_clips
from edge_asd.commands.enroll_site import Site
from edge_asd.enroll.clips import ClipLearner, clip_sha256
from edge_asd.enroll.collector import memory_with, summed
from edge_asd.errors import BundleError, ClipError, TemporaryError, UsageError

_WRITE_EVERY_S = 2.0


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
    work = _Work(site, known)
    console = Console(stderr=True)
    try:
        for clip in track(clips, "learning", console=console, transient=True, disable=not console.is_terminal):
            work.hear(clip, learner)
    except KeyboardInterrupt:
        work.write()
        raise TemporaryError(
            f"interrupted after {len(work.collected.facts.clips)} clips; what was heard of them is kept; run the same "
            "command to go on, or drop it: --cancel"
        ) from None
    work.write()
    return work.collected


class _Work:
    """What was collected so far, in memory and on disk."""

    def __init__(self, site: Site, known: Extension | None) -> None:
        self._site = site
        self._known = frozenset(known.facts.clips if known else ())
        self.collected = self._before() or begun(
            site.machine.name,
            site.folder.encoder,
            model=site.model,
            engine=site.pipeline.engine,
            vector_size=site.vector_size,
        )
        self._write_due_s = time.monotonic() + _WRITE_EVERY_S
        if self.collected.facts.clips:
            print(f"going on after {len(self.collected.facts.clips)} clips that were heard before", file=sys.stderr)

    def hear(self, clip: Path, learner: ClipLearner) -> None:
        facts, memory = self.collected.facts, self.collected.memory
        try:
            sha256 = clip_sha256(clip)
            if sha256 in facts.clips or sha256 in self._known:
                return
            first_group = int(memory.group.max(initial=-2)) + 2
            learned = learner.learn(clip, first_group=first_group, now_utc_s=time.time())
        except ClipError as error:
            print(f"edge-asd: {error}", file=sys.stderr)
            return
        if len(memory) + len(learned.kept) > MAX_WINDOWS:
            raise UsageError(
                f"{clip}: with it {len(memory) + len(learned.kept)} windows would be learned; expected at most "
                f"{MAX_WINDOWS}; give fewer clips"
            )
        for why, seconds in learned.refused_s.items():
            print(f"{clip}: {seconds:.0f} s are not learned: {why}", file=sys.stderr)
        self.collected = Extension(
            facts=facts.model_copy(
                update={
                    "clips": (*facts.clips, sha256),
                    "refused_s": summed(facts.refused_s, learned.refused_s),
                    "changed_utc": datetime.now(timezone.utc),
                }
            ),
            memory=memory_with(memory, learned.kept),
        )
        if time.monotonic() >= self._write_due_s:
            self.write()

    def write(self) -> None:
        self.collected = self._site.folder.put(self._site.folder.collected_path, self.collected)
        self._write_due_s = time.monotonic() + _WRITE_EVERY_S

    def _before(self) -> Extension | None:
        try:
            found = self._site.folder.collected()
        except BundleError as error:
            print(f"edge-asd: {error}; collecting begins anew", file=sys.stderr)
            return None
        if found is not None and len(found.memory) and not found.facts.clips:
            raise UsageError(
                f"{self._site.machine.name}: {len(found.memory)} windows were collected from the microphone; expected "
                "one source at a time; drop them (--cancel), or go on without --clips and add the clips later (--add)"
            )
        return replace(found, facts=found.facts.model_copy(update={"calibration": None})) if found else None
