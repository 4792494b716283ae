"""A data folder in, its clips decoded once for training to map into memory, and a report of what was left out, out."""

from __future__ import annotations

import argparse
import csv
import os
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from rich.console import Console
from rich.progress import Progress

from edge_asd.errors import EdgeAsdError, UsageError
from edge_asd.types import FeatureSpec
from train.data import Listing, Recording, list_folder
from train.data.decode import decode_clip
from train.data.folder import emptied_classes, stat_of
from train.data.generated import CARD_HEADING, CARD_NAME, is_generated
from train.data.prepared import (
    HEAD_NAME,
    REPORT_NAME,
    PreparedClip,
    PreparedIndex,
    is_prepared,
    replacing,
    write_index,
)
from train.data.store import Store, Stored, explained, open_store

Finding: TypeAlias = Literal[
    "broken", "short", "silent", "duplicate", "contradiction", "unknown name", "clipped", "repeated"
]

_MAX_THREADS = 8
"""Each may hold a clip of half an hour (60 MB); decoding and hashing leave Python's lock to the others."""
_BATCH = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What is to be said of one clip. left_out: whether it was."""

    file: str
    finding: Finding
    left_out: bool
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """The outcome: the index as written, how many clips were decoded now, and what was found.

    n_damaged: of those decoded now, how many had been before, and their samples were not what they were any more.
    """

    index: PreparedIndex
    n_decoded: int
    n_damaged: int
    found: tuple[Found, ...]


def prepare(
    source: Path,
    out: Path,
    *,
    channel: int | None = None,
    threads: int | None = None,
    progress: Callable[[int, int], None] = lambda _done, _of: None,
) -> Prepared:
    """Decode every clip of a data folder once; what cannot be used is left out and reported.

    A run that was cut off goes on, and a later run reads only what changed, or differs from its digest.

    Args:
        source: data folder in any layout but a prepared one.
        out: folder that is written; it is a data folder like any other afterwards.
        channel: counted from 0; needed where clips have several.
        threads: that decode; by default one a core, at most 8.
        progress: is told how many clips are done, and of how many.

    Raises:
        UsageError: the source cannot be listed, or no clip of it can be used.
        TemporaryError: another process prepares the same folder.
        EdgeAsdError: `out` cannot be written.
    """
    if is_prepared(source):
        raise UsageError(f"{source}: it is a prepared folder itself; expected recorded clips; give their folder")
    if out.resolve() == source.resolve():
        raise UsageError(f"{out}: --out is the data folder itself; expected another folder; give a new one")
    listing = list_folder(source)
    with open_store(out, channel=channel) as store, explained(out):
        (out / HEAD_NAME).unlink(missing_ok=True)
        stored: dict[str, Stored] = {}
        to_do: list[str] = []
        progress(0, len(listing.recordings))
        for recording in listing.recordings:
            earlier = store.find(recording.file, stat_of(source / recording.file))
            if earlier is None:
                to_do.append(recording.file)
            else:
                stored[recording.file] = earlier
                progress(len(stored), len(listing.recordings))
        n_done = len(stored)
        for entry in _decode_all(store, source, to_do, channel, threads or min(_MAX_THREADS, os.cpu_count() or 1)):
            stored[entry.file] = entry
            n_done += 1
            progress(n_done, len(listing.recordings))
        store.sync()
        clips, found = _sort_out(listing, stored)
        if not clips:
            _write_report(out, found)
            raise UsageError(f"{source}: none of its {len(stored)} clips can be used; {out / REPORT_NAME} says why")
        index = PreparedIndex(
            source=source.resolve(),
            clips=clips,
            recordings={recording.file: recording for recording in listing.recordings},
            stats={file: entry.stat for file, entry in stored.items()},
            total_samples=store.total_samples,
        )
        _write_report(out, found)
        if is_generated(source):  # what is prepared says so too, as on a machine without its source
            with replacing(out / CARD_NAME) as file:
                file.write(f"{CARD_HEADING}\n\nPrepared from {source}.\n")
        write_index(out, index)
    return Prepared(index=index, n_decoded=len(to_do), n_damaged=store.n_damaged, found=found)


def _decode_all(
    store: Store, source: Path, files: Sequence[str], channel: int | None, threads: int
) -> Iterator[Stored]:
    def work(file: str) -> Stored:
        return store.add(decode_clip(source, file, channel=channel))

    with ThreadPoolExecutor(threads) as pool:
        for start in range(0, len(files), _BATCH):  # few at a time, so that an interrupt is not kept waiting
            yield from pool.map(work, files[start : start + _BATCH])


def _sort_out(listing: Listing, stored: dict[str, Stored]) -> tuple[dict[str, PreparedClip], tuple[Found, ...]]:
    found = [
        Found(file=file, finding="unknown name", left_out=True, detail=listing.why_ignored.get(file, ""))
        for file in listing.ignored
    ]
    by_digest: dict[str, list[Recording]] = defaultdict(list)
    for recording in listing.recordings:
        entry = stored[recording.file]
        if entry.fault:
            found.append(Found(file=entry.file, finding=entry.fault, left_out=True, detail=entry.detail))
            continue
        by_digest[entry.digest].append(recording)
        if entry.clipped:
            detail = f"{entry.clipped} samples beyond full scale were limited to it"
            found.append(Found(file=entry.file, finding="clipped", left_out=False, detail=detail))
    clips: dict[str, PreparedClip] = {}
    window = FeatureSpec()
    for same in by_digest.values():
        kept, repeats = _choose(same)
        found.extend(repeats)
        if kept is not None:
            entry = stored[kept.file]
            clips[kept.file] = PreparedClip(
                recording=kept, start=entry.start, n_samples=entry.n_samples, digest=entry.digest
            )
            if entry.n_samples < window.window_samples:
                length_s, window_s = (n / window.sample_rate_hz for n in (entry.n_samples, window.window_samples))
                detail = f"{length_s:.2f} s; repeated to the {window_s:g} s of a window"
                found.append(Found(file=kept.file, finding="repeated", left_out=False, detail=detail))
    return clips, tuple(sorted(found, key=lambda one: (one.finding, one.file)))


def _choose(same: Sequence[Recording]) -> tuple[Recording | None, list[Found]]:
    """Of clips with the same samples keep one, the test's first; none where they are said to be different things."""
    classes = {recording.class_name for recording in same}
    labels = {recording.label for recording in same} - {"none"}
    if len(classes) > 1 or len(labels) > 1:
        told = ", ".join(f"{recording.file} ({recording.class_name}, {recording.label})" for recording in same)
        return None, [
            Found(file=recording.file, finding="contradiction", left_out=True, detail=f"the same sound as {told}")
            for recording in same
        ]
    kept, *others = sorted(
        same, key=lambda recording: (recording.label == "none", recording.stated_split != "test", recording.file)
    )
    return kept, [
        Found(file=recording.file, finding="duplicate", left_out=True, detail=f"the same sound as {kept.file}")
        for recording in others
    ]


def _write_report(out: Path, found: Sequence[Found]) -> None:
    with replacing(out / REPORT_NAME) as file:
        writer = csv.writer(file)
        writer.writerow(["file", "finding", "left_out", "detail"])
        writer.writerows([one.file, one.finding, "yes" if one.left_out else "no", one.detail] for one in found)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m train.prepare",
        description="Decode a data folder once, so that training reads it from memory-mapped samples. Broken, short, "
        "silent and duplicate clips are reported and left out. Run it again after a cut, when the data changed, or to "
        "check what it wrote: it reads only what it does not have yet or finds damaged.",
        epilog="Example: python -m train.prepare data/dcase2020 --out data/dcase2020-prepared; "
        "python -m train.fit data/dcase2020-prepared --out runs/first",
    )
    parser.add_argument("data", type=Path, help="data folder: DCASE, MIMII or with a metadata.csv")
    parser.add_argument("--out", type=Path, required=True, help="prepared folder; use it in place of DATA afterwards")
    parser.add_argument("--channel", type=int, metavar="N", help="of clips with several, counted from 0")
    parser.add_argument(
        "--threads", type=int, metavar="N", help=f"that decode (default: one a core, up to {_MAX_THREADS})"
    )
    options = parser.parse_args(arguments)
    console = Console(stderr=True)
    try:
        if options.threads is not None and not 1 <= options.threads <= _MAX_THREADS:
            raise UsageError(f"--threads is {options.threads}; expected 1 to {_MAX_THREADS}")
        with Progress(console=console) as bar:
            task = bar.add_task("decoding")
            prepared = prepare(
                options.data,
                options.out,
                channel=options.channel,
                threads=options.threads,
                progress=lambda done, of: bar.update(task, completed=done, total=of),
            )
    except EdgeAsdError as error:
        console.print(f"error: {error}", style="red", highlight=False, markup=False, soft_wrap=True)
        return error.exit_code
    _say(prepared, options.out, console)
    print(options.out)
    return 0


def _say(prepared: Prepared, out: Path, console: Console) -> None:
    index = prepared.index
    hours = sum(clip.n_samples for clip in index.clips.values()) / 16_000 / 3_600
    lines = [
        f"{len(index.clips)} clips ({hours:.2f} h) ready, {prepared.n_decoded} of them or of those left out read now"
    ]
    if prepared.n_damaged:
        lines.append(f"{prepared.n_damaged} clips had been prepared, but their samples were damaged since: read again")
    counts = Counter((one.finding, one.left_out) for one in prepared.found)
    for (finding, left_out), count in sorted(counts.items()):
        first = next(one for one in prepared.found if one.finding == finding)
        lines.append(
            f"{count} {finding}, {'left out' if left_out else 'kept'}: {first.file}{', ...' if count > 1 else ''}"
            + (f" ({first.detail})" if first.detail else "")
        )
    if emptied := emptied_classes(index):
        lines.append(f"no clip left of {', '.join(emptied)}")
    if counts:
        lines.append(f"all of them: {out / REPORT_NAME}")
    for line in lines:
        console.print(line, highlight=False, markup=False, soft_wrap=True)


if __name__ == "__main__":
    sys.exit(main())
