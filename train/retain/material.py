"""Data folder, noise folder and start in; who trains, who validates and what is mixed with what out, all checked."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_asd.errors import UsageError
from train.checkpoint import Checkpoint
from train.data import Recording, Split, Waves, list_folder, load_recordings, open_waves, split_recordings
from train.retain.mixing import refuse_clipping
from train.retain.mixtures import Mixtures
from train.retain.noise import (
    NoiseClip,
    divide_noise,
    list_noise,
    open_noise,
    refuse_silent,
    sounding_pieces,
)
from train.retain.same_sound import Marked, mark, shared_with
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
        UsageError: clips are too few or silent, noise holds sound of the machines or of the test, the start knows what
            is to be tested on, or a mixture might pass full scale.
        ClipError: a clip cannot be used.
    """
    recordings = load_recordings(folder)
    classes, split = _divide(folder, recordings, settings, start)
    noise_clips = list_noise(noise_folder)
    tags = tuple(sorted({clip.tag for clip in noise_clips}))
    noise_files = [clip.file for clip in noise_clips]
    noise_waves = open_noise(noise_folder, noise_files, channel=settings.noise_channel)
    refuse_silent(noise_folder, "noise", noise_files, noise_waves)
    sides = _divided(noise_clips, noise_waves, settings)
    if len(sides["train"]) < settings.batch_size:
        raise UsageError(
            f"{noise_folder}: {len(sides['train'])} clips of noise to train with; expected at least "
            f"{settings.batch_size}, those of a batch, as none is drawn twice before all were drawn; add noise or give "
            "a smaller --batch-size"
        )
    marked = mark(noise_waves)
    for heard in _heard(folder, split, test_noise, noise_channel=settings.noise_channel):
        _refuse_shared(noise_folder, noise_files, marked, heard)
    label_of_file = {
        recording.file: classes.index(recording.class_name)
        for recording in recordings
        if recording.class_name in classes
    }

    def mixtures(files: Sequence[str], clips: NDArray[np.int64], seed: int) -> Mixtures:
        machines = open_waves(folder, files)
        refuse_silent(folder, "machine", files, machines, n_samples)
        pieces, clip_of_piece = sounding_pieces(noise_waves.subset(clips), n_samples)
        refuse_clipping(
            machines, pieces, lowest_snr_db=settings.snr_db[0], gain_db=settings.gain_db, n_samples=n_samples
        )
        return Mixtures(
            machines,
            [label_of_file[file] for file in files],
            pieces,
            clip_of_piece,
            [tags.index(noise_clips[clip].tag) for clip in clips],
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
        noise={side: tuple(noise_clips[clip] for clip in clips) for side, clips in sides.items()},
        training=mixtures(split.train, sides["train"], settings.seed),
        validation=mixtures(split.validation, sides["validation"], settings.seed + 1),
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
        if start is not None:
            _refuse_other_names(folder, recordings, settings, start)
        return split_recordings(
            recordings,
            seed=settings.seed,
            validation_share=settings.validation_share,
            held_out_share=settings.held_out_share,
            limit=settings.limit,
        )
    if settings.limit is not None:
        raise UsageError(
            f"--limit {settings.limit}: {folder} is divided as --start-from {settings.start_from} was, which names its "
            "clips; expected a start that does not know them; leave --limit out, and give fewer --steps for a quick try"
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


def _refuse_other_names(
    folder: Path, recordings: Sequence[Recording], settings: RetainSettings, start: Checkpoint
) -> None:
    """Refuse clips that the start names by a longer or a shorter path: divided anew, some would be trained and tested.

    Raises:
        UsageError: one of its files ends in a file of the folder whose machine it knows, or the other way round.
    """
    files = {recording.file for recording in recordings if recording.class_name in start.classes}
    longer = {end: file for file in files for end in _ends(file)}
    sides = (start.split.train, start.split.validation, start.split.held_out, start.split.anomaly)
    for known in (file for side in sides for file in side):
        here = longer.get(known) or next((end for end in _ends(known) if end in files), None)
        if here is not None:
            raise UsageError(
                f"{folder}: {here} is {known} in the split of --start-from {settings.start_from}, which knows its "
                "machine; expected the folder that it was trained on, so that its split holds, or clips of other names"
            )


def _ends(file: str) -> list[str]:
    """The file's path without its first folder, without its first two, and so on."""
    parts = file.split("/")
    return ["/".join(parts[first:]) for first in range(1, len(parts))]


def _divided(clips: Sequence[NoiseClip], waves: Waves, settings: RetainSettings) -> dict[str, NDArray[np.int64]]:
    """Places of the clips that train and of those that validate; a group whose sound is in another one too trains."""
    copies: set[str] = set()
    while True:
        _, validation = divide_noise(
            clips, seed=settings.seed, validation_share=settings.validation_share, trains=copies
        )
        validates = np.isin([clip.group for clip in clips], [clip.group for clip in validation])
        train, kept = np.flatnonzero(~validates), np.flatnonzero(validates)
        alike = shared_with(mark(waves.subset(kept)), waves.subset(train))
        if not alike:
            return {"train": train, "validation": kept}
        copies |= {clips[kept[clip]].group for clip in alike}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Heard:
    """Clips that noise must not hold. opened: some of the files in, their samples out. why: what would be wrong."""

    name: str
    files: tuple[str, ...]
    opened: Callable[[Sequence[str]], Waves]
    why: str


def _heard(folder: Path, split: Split, test_noise: Sequence[Path], *, noise_channel: int | None) -> Iterator[_Heard]:
    """All that is tested with, whatever the start and --limit leave out, and the machines."""
    known = {*split.held_out, *split.anomaly}
    tested, trained = [], []
    for recording in list_folder(folder).recordings:
        if recording.stated_split == "test" or recording.label == "anomaly" or recording.file in known:
            tested.append(recording.file)
        elif recording.label == "normal":
            trained.append(recording.file)
    opened = functools.partial(open_waves, folder)
    why = "noise that the test does not know, as its figures would not be those of unheard noise"
    yield _Heard(name=f"test clips of {folder}", files=tuple(tested), opened=opened, why=why)
    for noise in test_noise:
        files = tuple(clip.file for clip in list_noise(noise))
        opened_noise = functools.partial(open_noise, noise, channel=noise_channel)
        yield _Heard(name=f"test noise in {noise}", files=files, opened=opened_noise, why=why)
    why = "noise without the machines, which would be tagged as noise"
    yield _Heard(name=f"machine clips of {folder}", files=tuple(trained), opened=opened, why=why)


def _refuse_shared(folder: Path, files: Sequence[str], marked: Marked, heard: _Heard) -> None:
    shared: dict[str, str] = {}
    for first in range(0, len(heard.files), _CLIPS_AT_ONCE):
        others = heard.files[first : first + _CLIPS_AT_ONCE]
        found = shared_with(marked, heard.opened(others))
        shared |= {files[clip]: others[other] for clip, other in found.items()}
    if shared:
        pairs = [f"{file} (as {other})" for file, other in sorted(shared.items())]
        raise UsageError(
            f"{folder}: {len(shared)} noise clips have the same sound as {heard.name}: {', '.join(pairs[:5])}; "
            f"expected {heard.why}; remove them"
        )
