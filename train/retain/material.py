"""Data folder, noise folder and start in; who trains, who validates and what is mixed with what out, all checked."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from edge_asd.errors import UsageError
from train.checkpoint import Checkpoint
from train.data import Recording, Split, Waves, load_recordings, open_waves, split_recordings
from train.retain.mixing import refuse_clipping
from train.retain.mixtures import Mixtures
from train.retain.noise import (
    NoiseClip,
    divide_noise,
    list_noise,
    refuse_shared,
    refuse_silent,
    sounding_pieces,
)
from train.retain.settings import RetainSettings

_CLIPS_AT_ONCE = 256  # bounds the memory that clips of an unprepared folder take


@dataclass(frozen=True, slots=True, kw_only=True)
class Material:
    """What is trained and validated on.

    classes: of the machines, in the order of their labels. tags: of the noise. noise: by side, train or validation.
    """

    recordings: tuple[Recording, ...]
    classes: tuple[str, ...]
    tags: tuple[str, ...]
    split: Split
    noise: dict[str, tuple[NoiseClip, ...]]
    training: Mixtures
    validation: Mixtures


def gather(
    folder: Path,
    noise_folder: Path,
    settings: RetainSettings,
    *,
    start: Checkpoint | None,
    test_noise: Sequence[Path] = (),
    n_samples: int,
) -> Material:
    """List, divide and check all clips.

    Args:
        folder: data folder of the machines.
        noise_folder: clips of noise and their tags.
        settings: of the run.
        start: whose split holds for the clips that it names.
        test_noise: folders of noise that will be tested with.
        n_samples: of a window.

    Raises:
        UsageError: clips are too few, silent or shared with the test, the start knows what is to be tested on, or a
            mixture might pass full scale.
        ClipError: a clip cannot be used.
    """
    recordings = load_recordings(folder)
    classes, split = _divide(folder, recordings, settings, start)
    noise_clips = list_noise(noise_folder)
    tags = tuple(sorted({clip.tag for clip in noise_clips}))
    train_noise, validation_noise = divide_noise(
        noise_clips, seed=settings.seed, validation_share=settings.validation_share
    )
    if len(train_noise) < settings.batch_size:
        raise UsageError(
            f"{noise_folder}: {len(train_noise)} clips of noise to train with; expected at least {settings.batch_size}"
            ", those of a batch, as none is drawn twice before all were drawn; add noise or give a smaller --batch-size"
        )
    by_noise = {
        clips: open_waves(noise_folder, [clip.file for clip in clips]) for clips in (train_noise, validation_noise)
    }
    for clips, waves in by_noise.items():
        refuse_silent(noise_folder, "noise", [clip.file for clip in clips], waves)
        refuse_shared(noise_folder, clips, waves, _tested(folder, split, test_noise))
    label_of_file = {
        recording.file: classes.index(recording.class_name)
        for recording in recordings
        if recording.class_name in classes
    }

    def mixtures(files: Sequence[str], clips: tuple[NoiseClip, ...], seed: int) -> Mixtures:
        machines = open_waves(folder, files)
        refuse_silent(folder, "machine", files, machines)
        pieces, clip_of_piece = sounding_pieces(by_noise[clips], n_samples)
        refuse_clipping(
            machines, pieces, lowest_snr_db=settings.snr_db[0], gain_db=settings.gain_db, n_samples=n_samples
        )
        return Mixtures(
            machines,
            [label_of_file[file] for file in files],
            pieces,
            [tags.index(clips[clip].tag) for clip in clip_of_piece],
            snr_db=settings.snr_db,
            gain_db=settings.gain_db,
            n_samples=n_samples,
            seed=seed,
        )

    return Material(
        recordings=recordings,
        classes=classes,
        tags=tags,
        split=split,
        noise={"train": train_noise, "validation": validation_noise},
        training=mixtures(split.train, train_noise, settings.seed),
        validation=mixtures(split.validation, validation_noise, settings.seed + 1),
    )


def _divide(
    folder: Path, recordings: Sequence[Recording], settings: RetainSettings, start: Checkpoint | None
) -> tuple[tuple[str, ...], Split]:
    """The start's own division where it names clips of the folder, else one by group and seed."""
    by_file = {recording.file: recording for recording in recordings}
    sides = ("train", "validation", "held_out", "anomaly")
    known = {
        side: [file for file in getattr(start.split, side) if file in by_file] if start is not None else []
        for side in sides
    }
    if not any(known.values()):
        return split_recordings(
            recordings,
            seed=settings.seed,
            validation_share=settings.validation_share,
            held_out_share=settings.held_out_share,
            limit=settings.limit,
        )
    for side in ("train", "validation"):
        wrong = [
            file for file in known[side] if by_file[file].stated_split == "test" or by_file[file].label != "normal"
        ]
        if wrong:
            raise UsageError(
                f"--start-from {settings.start_from}: it was trained on {len(wrong)} clips that {folder} gives to the "
                f"test ({', '.join(wrong[:5])}); expected a start that has not heard them; train it on this folder"
            )
    classes = tuple(sorted({by_file[file].class_name for file in known["train"]}))
    lacking = sorted(set(classes) - {by_file[file].class_name for file in known["validation"]})
    if len(classes) < 2 or lacking:
        raise UsageError(
            f"{folder}: of the clips that --start-from {settings.start_from} was trained on there are "
            f"{len(known['train'])}, of {len(classes)} classes, {len(lacking)} of them without a clip that it "
            "validated on; expected two classes or more, each with both; give the folder that it was trained on, or "
            "one that it does not know"
        )
    return classes, Split(
        **{side: tuple(file for file in known[side] if by_file[file].class_name in classes) for side in sides}
    )


def _tested(folder: Path, split: Split, test_noise: Sequence[Path]) -> Iterator[tuple[str, Waves]]:
    """What will be tested with, some clips at a time."""
    sets = [(f"test clips of {folder}", folder, split.held_out + split.anomaly)]
    sets += [(f"test noise in {noise}", noise, tuple(clip.file for clip in list_noise(noise))) for noise in test_noise]
    for name, of, files in sets:
        for first in range(0, len(files), _CLIPS_AT_ONCE):
            yield name, open_waves(of, files[first : first + _CLIPS_AT_ONCE])
