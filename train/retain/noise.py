"""A folder of noise clips in, the clips with their tags and groups out, none of them silent or known to the test."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_asd.capture.clips import find_clips
from edge_asd.errors import UsageError
from edge_asd.types import FloatArray
from train.data import Waves
from train.data.table import TABLE_NAME
from train.data.waves import FULL_SCALE

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
        UsageError: metadata.csv is not as expected, or names a clip that is not there.
        ClipError: the folder is not there or holds no clip.
    """
    if not (folder / TABLE_NAME).is_file():
        files = [path.relative_to(folder) for path in find_clips([folder])]
        return tuple(
            NoiseClip(file=file.as_posix(), tag=(folder / file).resolve().parent.name, group=file.as_posix())
            for file in files
        )
    return tuple(sorted(_from_table(folder), key=lambda clip: clip.file))


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
                name, tag = row["file"].strip(), row["tag"].strip()
                if not name or not tag or not (folder / name).is_file():
                    raise UsageError(
                        f"{table} line {reader.line_num}: file is {name!r} and tag {tag!r}; expected a clip that is "
                        "there and what is heard on it"
                    )
                yield NoiseClip(file=name, tag=tag, group=(row.get("group") or "").strip() or name)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UsageError(f"{table}: cannot be read ({error}); expected CSV in UTF-8") from error


def divide_noise(
    clips: Sequence[NoiseClip], *, seed: int, validation_share: float
) -> tuple[tuple[NoiseClip, ...], tuple[NoiseClip, ...]]:
    """Divide by group into clips that are trained with and clips that are validated with, at least one group of each.

    Raises:
        UsageError: there are fewer than two groups.
    """
    groups = sorted({clip.group for clip in clips})
    if len(groups) < 2:
        raise UsageError(f"{len(groups)} recording of noise; expected 2 or more: one to train, one to validate with")
    np.random.default_rng([seed, 4]).shuffle(groups)
    kept = set(groups[: max(1, round(validation_share * len(groups)))])
    return tuple(clip for clip in clips if clip.group not in kept), tuple(clip for clip in clips if clip.group in kept)


def refuse_silent(folder: Path, kind: str, files: Sequence[str], waves: Waves) -> None:
    """Refuse what cannot be scaled to any ratio.

    kind: of the clips, in words.

    Raises:
        UsageError: a clip is silent.
    """
    silent = [file for file, wave in zip(files, waves, strict=True) if _rms(wave) < SILENT_RMS]
    if silent:
        raise UsageError(
            f"{folder}: {len(silent)} {kind} clips are silent, below {20.0 * np.log10(SILENT_RMS):.0f} dB of full "
            f"scale: {', '.join(silent[:5])}; expected sound: it is mixed at a signal-to-noise ratio; remove them"
        )


def sounding_pieces(waves: Waves, n_samples: int) -> tuple[Waves, NDArray[np.int64]]:
    """Cut clips into pieces of n_samples end to end, the last one shorter, without the silent ones.

    Returns:
        the pieces, and the clip of each (pieces,).
    """
    pieces, clip_of_piece = waves.pieces(n_samples)
    sounding = np.flatnonzero([_rms(piece) >= SILENT_RMS for piece in pieces])
    return pieces.subset(sounding), clip_of_piece[sounding]


def _rms(wave: FloatArray) -> float:
    return float(np.sqrt(np.mean(np.square(wave, dtype=np.float64)))) if len(wave) else 0.0


def digests_of(waves: Waves) -> Iterator[str]:
    """The sha256 of each clip's samples as int16, so that another file format of the same sound is found out."""
    for wave in waves:
        yield hashlib.sha256(np.rint(wave * FULL_SCALE).astype("<i4").tobytes()).hexdigest()


def refuse_shared(folder: Path, clips: Sequence[NoiseClip], waves: Waves, tested: Iterable[tuple[str, Waves]]) -> None:
    """Refuse to train with sound that the test uses.

    tested: what is tested with, in words, and its waves, of which any may be a piece at a time.

    Raises:
        UsageError: a noise clip has the same samples as one of them.
    """
    file_of_digest = {digest: clip.file for clip, digest in zip(clips, digests_of(waves), strict=True)}
    lengths = np.unique(waves.lengths)
    for name, others in tested:
        alike = others.subset(np.flatnonzero(np.isin(others.lengths, lengths)))  # others cannot be equal
        shared = sorted({file_of_digest[digest] for digest in digests_of(alike) if digest in file_of_digest})
        if shared:
            raise UsageError(
                f"{folder}: {len(shared)} noise clips have the same sound as {name}: {', '.join(shared[:5])}; expected "
                "noise that the test does not know, as its figures would not be those of unheard noise; remove them"
            )
