"""A folder of noise clips in, the clips with their tags and groups, divided, and what of them sounds out."""

from __future__ import annotations

import csv
import functools
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_asd.capture.clips import find_clips, read_clip
from edge_asd.errors import UsageError
from edge_asd.types import FloatArray
from train.data import Waves, raise_faults, read_clips
from train.data.table import TABLE_NAME

SILENT_RMS = 1e-4
"""-80 dB of full scale: below it noise has no sound to be scaled to."""
_COLUMNS = ("file", "tag")


@dataclass(frozen=True, slots=True, kw_only=True)
class NoiseClip:
    """A clip of noise: its file below the noise folder, what is heard on it, and the recording it was cut from."""

    file: str
    tag: str
    group: str


def list_noise(folder: Path) -> tuple[NoiseClip, ...]:
    """List the clips of a noise folder, by name.

    Where it has a metadata.csv with the columns file and tag, and group where known, these count; else a clip's tag is
    the name of the folder that it lies in.

    Raises:
        UsageError: metadata.csv is not as expected, lists a clip twice, or names one that is not there.
        ClipError: the folder is not there or holds no clip.
    """
    if not (folder / TABLE_NAME).is_file():
        files = [path.relative_to(folder) for path in find_clips([folder])]
        return tuple(
            NoiseClip(file=file.as_posix(), tag=(folder.resolve() / file).parent.name, group=file.as_posix())
            for file in files
        )
    clips = tuple(sorted(_from_table(folder), key=lambda clip: clip.file))
    times = Counter((folder / clip.file).resolve() for clip in clips)
    repeated = [clip.file for clip in clips if times[(folder / clip.file).resolve()] > 1]
    if repeated:
        raise UsageError(
            f"{folder / TABLE_NAME}: {', '.join(repeated[:5])} listed more than once; expected one line a clip"
        )
    return clips


def open_noise(folder: Path, files: Sequence[str], *, channel: int | None) -> Waves:
    """Read clips of noise, of any length.

    channel: counted from 0; needed where clips have several.

    Raises:
        ClipError: a clip cannot be read, or has several channels and none was chosen; all of them in one message.
        UsageError: there are too many to read into memory.
    """
    waves, faults = read_clips(folder, files, functools.partial(read_clip, channel=channel))
    raise_faults(faults, "remove such clips of noise; of those with several channels choose one with --noise-channel")
    return Waves.from_arrays(waves)


def _from_table(folder: Path) -> Iterator[NoiseClip]:
    table = folder / TABLE_NAME
    try:
        with table.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            absent = [column for column in _COLUMNS if column not in (reader.fieldnames or ())]
            if absent:
                raise UsageError(
                    f"{table}: column {', '.join(absent)} is missing; expected file and tag (what is heard), and group "
                    "(clips of one recording) where known"
                )
            for row in reader:
                name, tag = ((row[column] or "").strip() for column in _COLUMNS)
                if not name or not tag or not (folder / name).is_file():
                    raise UsageError(
                        f"{table} line {reader.line_num}: file is {name!r} and tag {tag!r}; expected a clip that is "
                        "there and what is heard on it"
                    )
                yield NoiseClip(file=name, tag=tag, group=(row.get("group") or "").strip() or name)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"{table}: cannot be read ({error}); expected CSV in UTF-8") from error


def divide_noise(
    clips: Sequence[NoiseClip], *, seed: int, validation_share: float, trains: Collection[str] = ()
) -> tuple[tuple[NoiseClip, ...], tuple[NoiseClip, ...]]:
    """Divide by group into clips that are trained with and clips that are validated with, at least one group of each.

    No tag is validated alone: the tag's logit would be untrained. trains: groups that are not to be validated with.

    Raises:
        UsageError: there is no other tag with two groups.
    """
    tags_of_group: dict[str, set[str]] = {}
    for clip in clips:
        tags_of_group.setdefault(clip.group, set()).add(clip.tag)
    groups = sorted(tags_of_group)
    np.random.default_rng([seed, 4]).shuffle(groups)
    left = Counter(tag for tags in tags_of_group.values() for tag in tags)  # groups that train, by tag
    kept: set[str] = set()
    for group in groups:
        tags = tags_of_group[group]
        wanted = len(kept) < max(1, round(validation_share * len(groups)))
        if wanted and group not in trains and all(left[tag] > 1 for tag in tags):
            kept.add(group)
            left.subtract(tags)
    if not kept:
        copies = f" beside {len(trains)} that hold sound of others" if trains else ""
        raise UsageError(
            f"{len(groups)} recordings of noise with {len(left)} tags: none can be validated with{copies}; expected a "
            "tag of 2 different recordings or more, one to train and one to validate with; add recordings, or give "
            "them wider tags"
        )
    return tuple(clip for clip in clips if clip.group not in kept), tuple(clip for clip in clips if clip.group in kept)


def refuse_silent(folder: Path, kind: str, files: Sequence[str], waves: Waves, n_samples: int | None = None) -> None:
    """Refuse what cannot be scaled to any ratio.

    kind: of the clips, in words. n_samples: of a window, where none of a clip may be silent, wherever it begins.

    Raises:
        UsageError: a clip, or a window of it, is silent.
    """
    silent = [
        file for file, wave in zip(files, waves, strict=True) if _lowest_rms(wave, n_samples or len(wave)) < SILENT_RMS
    ]
    if silent:
        raise UsageError(
            f"{folder}: {len(silent)} {kind} clips are silent{' for a whole window' if n_samples else ''}, below "
            f"{20.0 * np.log10(SILENT_RMS):.0f} dB of full scale: {', '.join(silent[:5])}; expected sound: it is mixed "
            "at a signal-to-noise ratio; remove them, or the silence"
        )


def sounding_pieces(waves: Waves, n_samples: int) -> tuple[Waves, NDArray[np.int64]]:
    """Cut clips into pieces of n_samples end to end, the last one shorter, without the silent ones.

    Returns:
        the pieces, and the clip of each (pieces,).
    """
    pieces, clip_of_piece = waves.pieces(n_samples)
    sounding = np.flatnonzero([_rms(piece) >= SILENT_RMS for piece in pieces])
    return pieces.subset(sounding), clip_of_piece[sounding]


def _lowest_rms(wave: FloatArray, n_samples: int) -> float:
    """Of all windows of a clip; of the clip, where it is shorter."""
    if len(wave) <= n_samples:
        return _rms(wave)
    energy = np.concatenate([[0.0], np.cumsum(np.square(wave, dtype=np.float64))])
    return float(np.sqrt(np.min(energy[n_samples:] - energy[:-n_samples]) / n_samples))


def _rms(wave: FloatArray) -> float:
    return float(np.sqrt(np.mean(np.square(wave, dtype=np.float64)))) if len(wave) else 0.0
