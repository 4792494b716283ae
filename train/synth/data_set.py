"""Planned clips in; a data folder of generated sound with its metadata.csv and its data card out."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import soundfile

from edge_asd.errors import EdgeAsdError, UsageError
from train.data.table import TABLE_NAME
from train.synth.background import Background
from train.synth.card import card
from train.synth.clip_sound import install, make_clip
from train.synth.machine import SAMPLE_RATE_HZ
from train.synth.plan import Clip

CARD_NAME = "DATA_CARD.md"
LABEL = "generated sound (train.synth), not a recording"
_BATCH = 256
_COLUMNS = (
    "file",
    "machine_type",
    "machine_id",
    "label",
    "split",
    "group",
    "source",
    "fault",
    "severity",
    "speed_hz",
    "load",
    "noise",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What a data set is generated from. noise: name of the folder, empty where the noise is generated too."""

    seed: int
    severity: float
    snr_db: float
    noise: str


def write_data_set(
    out: Path,
    clips: Sequence[Clip],
    settings: Settings,
    background: Background,
    *,
    threads: int = 1,
    progress: Callable[[int, int], None] = lambda _done, _of: None,
) -> None:
    """Generate all clips into a new folder; metadata.csv and the card are written last, when all clips are there.

    Args:
        out: folder, absent or empty.
        clips: as planned.
        settings: for the card, seed and SNR for the sound.
        background: noise of each clip.
        threads: that generate; the bytes do not depend on how many.
        progress: is told how many clips are done, and of how many.

    Raises:
        UsageError: `out` is not empty.
        ClipError: a noise clip cannot be used.
        EdgeAsdError: `out` cannot be written.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        if any(out.iterdir()):
            raise UsageError(f"{out}: it is not empty; expected a new folder, as old clips would mix with new ones")
        for folder in sorted({(out / clip.file).parent for clip in clips}):
            folder.mkdir(parents=True)

        def work(clip: Clip) -> str:
            samples, noise = make_clip(settings.seed, clip, background, settings.snr_db)
            with soundfile.SoundFile(out / clip.file, "w", SAMPLE_RATE_HZ, 1, "PCM_16") as file:
                file.comment = LABEL
                file.write(samples)
            return noise

        noises: list[str] = []
        with ThreadPoolExecutor(threads) as pool:
            for start in range(0, len(clips), _BATCH):  # few at a time, so that an interrupt is not kept waiting
                for noise in pool.map(work, clips[start : start + _BATCH]):
                    noises.append(noise)
                    progress(len(noises), len(clips))
        _write_table(out / TABLE_NAME, settings.seed, clips, noises)
        (out / CARD_NAME).write_text(card(clips, settings.seed, settings.severity, settings.snr_db, settings.noise))
    except (OSError, soundfile.LibsndfileError) as error:
        raise EdgeAsdError(f"{out}: it cannot be written ({error}); expected room and rights; give another") from error


def _write_table(path: Path, seed: int, clips: Sequence[Clip], noises: Sequence[str]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(_COLUMNS)
        for clip, noise in zip(clips, noises, strict=True):
            nominal_hz = install(seed, clip.machine_type, clip.machine_id).machine.speed_hz
            writer.writerow(
                [
                    clip.file,
                    clip.machine_type,
                    clip.machine_id,
                    clip.label,
                    clip.split,
                    clip.file,  # each clip is drawn on its own
                    "generated",
                    clip.damage.fault,
                    f"{clip.damage.severity:.4f}",
                    f"{clip.operation(nominal_hz).speed_hz:.4f}",
                    f"{clip.load:.4f}",
                    noise,
                ]
            )
