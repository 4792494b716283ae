"""Sound and a seed in, which recordings and which noise train and which test out: by group, so that none is on both."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from benchmarks.noise_robustness.noise import NOISE_KINDS, NoiseClip, NoiseKind
from benchmarks.noise_robustness.sound import MachineClip, Sound
from edge_asd.errors import UsageError
from train.data import split_recordings

VALIDATION_SHARE, TEST_SHARE = 0.1, 0.4
"""Of each class's healthy recordings where the data states no test."""
_TEST_NOISE_SHARE = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Sides:
    """Who serves for what with one seed.

    classes: those that are tested, in order. train, validation: healthy clips of them. test: healthy and damaged ones.
    further: healthy clips of other machines, for training alone. train_noise, test_noise: by kind, disjoint by group.
    """

    seed: int
    classes: tuple[str, ...]
    train: tuple[MachineClip, ...]
    validation: tuple[MachineClip, ...]
    test: tuple[MachineClip, ...]
    further: tuple[MachineClip, ...]
    train_noise: Mapping[NoiseKind, tuple[NoiseClip, ...]]
    test_noise: Mapping[NoiseKind, tuple[NoiseClip, ...]]


def choose_sides(sound: Sound, seed: int, *, limit: int | None = None) -> Sides:
    """Divide recordings and noise; the same for the same seed.

    limit: at most this many clips of each class, of as many recordings, serve for each.

    Raises:
        UsageError: there are too few recordings of a class, or too few of a kind of noise.
    """
    classes, split = split_recordings(
        sound.recordings, seed=seed, validation_share=VALIDATION_SHARE, held_out_share=TEST_SHARE
    )
    clips = {
        recording.file: MachineClip(
            path=sound.folder / recording.file,
            class_name=recording.class_name,
            is_anomaly=recording.label == "anomaly",
            group=recording.group,
        )
        for recording in sound.recordings
    }

    def side(files: Iterable[str]) -> tuple[MachineClip, ...]:
        return _first_of_each((clips[file] for file in files), limit)

    noise = {kind: _divide(sound.noise, kind, seed) for kind in NOISE_KINDS}
    return Sides(
        seed=seed,
        classes=classes,
        train=side(split.train),
        validation=side(split.validation),
        test=(*side(split.held_out), *side(split.anomaly)),
        further=_first_of_each(sound.further, limit),
        train_noise={kind: train for kind, (train, _) in noise.items()},
        test_noise={kind: test for kind, (_, test) in noise.items()},
    )


def without(sides: Sides, class_names: Collection[str]) -> Sides:
    """The sides for a training that never hears some classes."""
    return replace(
        sides,
        train=tuple(clip for clip in sides.train if clip.class_name not in class_names),
        validation=tuple(clip for clip in sides.validation if clip.class_name not in class_names),
    )


def _divide(
    noise: Iterable[NoiseClip], kind: NoiseKind, seed: int
) -> tuple[tuple[NoiseClip, ...], tuple[NoiseClip, ...]]:
    """Give half of the groups to training and half to the test.

    A group with clips of both kinds is on the same side for either: its name and the seed decide.
    """
    by_group: dict[str, list[NoiseClip]] = defaultdict(list)
    for clip in noise:
        by_group[clip.group].append(clip)
    groups = sorted(by_group)
    np.random.default_rng([seed, 3]).shuffle(groups)
    n_test = round(_TEST_NOISE_SHARE * len(groups))
    test, train = (
        tuple(clip for group in side for clip in by_group[group] if clip.kind == kind)
        for side in (groups[:n_test], groups[n_test:])
    )
    if not train or not test:
        raise UsageError(
            f"{len(train)} clips of {kind} noise for training and {len(test)} for the test; expected some for each, of "
            "different recordings; give a larger folder of noise"
        )
    return train, test


def _first_of_each(clips: Iterable[MachineClip], limit: int | None) -> tuple[MachineClip, ...]:
    """All of them, or of each class at most so many, each of another recording."""
    if limit is None:
        return tuple(clips)
    by_class: dict[str, dict[str, MachineClip]] = defaultdict(dict)
    for clip in clips:
        by_class[clip.class_name].setdefault(clip.group, clip)
    return tuple(clip for by_group in by_class.values() for clip in list(by_group.values())[:limit])
