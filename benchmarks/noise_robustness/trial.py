"""Sound and a seed in, everything that a method of that seed is given out: training folder, memories, tests."""

from __future__ import annotations

import csv
import hashlib
import json
import shutil
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
import soundfile

from benchmarks.noise_robustness.mixtures import MixtureSet, draw_mixtures
from benchmarks.noise_robustness.noise import NOISE_KINDS, NoiseKind
from benchmarks.noise_robustness.sides import Sides, choose_sides, without
from benchmarks.noise_robustness.sound import MachineClip, Sound
from edge_asd.errors import UsageError
from edge_asd.types import FeatureSpec
from train.data.prepared import is_prepared
from train.data.table import TABLE_NAME
from train.prepare import prepare
from train.settings import BatchNorm, Keep

NoiseCase: TypeAlias = Literal["stationary", "non-stationary", "mismatched"]
CASES: Mapping[NoiseCase, tuple[NoiseKind, NoiseKind]] = {
    "stationary": ("stationary", "stationary"),
    "non-stationary": ("non-stationary", "non-stationary"),
    "mismatched": ("stationary", "non-stationary"),
}
"""Noise of the memory and of the test. What has no memory knows the stationary noise of the training alone, so that its
non-stationary and its mismatched case are one."""

TRAINED_SNR_DB = (-10.0, 10.0)
"""Lowest and highest of training mixtures and memories."""

_VALIDATION_EACH = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Protocol:
    """What all rows of a table have in common.

    limit: at most this many clips of a class on each side; None: all. tested_mixtures, further_mixtures: training
    mixtures of each class that is tested, and of each further one. memory_each: mixtures in the memory of each healthy
    clip. snrs_db: of the tests. windows, fine_tuning_windows: that a training by train.fit and train.retain draws.
    learning_rate: at its start, of networks with margin. batch_size, batch_norm: of those. keep: which weights of a
    training; never chosen by the test.
    """

    limit: int | None = None
    tested_mixtures: int = 256
    further_mixtures: int = 64
    memory_each: int = 4
    snrs_db: tuple[float, ...] = (10.0, 0.0, -5.0, -10.0)
    windows: int = 12_800
    fine_tuning_windows: int = 3_200
    learning_rate: float = 1e-3
    batch_size: int = 32
    keep: Keep = "last"
    batch_norm: BatchNorm = "measured"

    def of_networks(self) -> dict[str, object]:
        """What train.fit depends on: studies that differ in other things share its networks."""
        others = ("fine_tuning_windows", "memory_each", "snrs_db")
        return {name: value for name, value in asdict(self).items() if name not in others}


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """One seed's sound. All methods of the seed get the same.

    folder: data folder of training mixtures in stationary noise, for train.fit. memory: healthy training clips of the
    tested classes in noise. test: by noise and SNR in dB. work: folder for what methods leave, their runs.
    """

    seed: int
    protocol: Protocol
    sides: Sides
    folder: Path
    memory: Mapping[NoiseKind, MixtureSet]
    test: Mapping[tuple[NoiseKind, float], MixtureSet]
    work: Path


def seed_folder(work: Path, sound: Sound, protocol: Protocol, seed: int) -> Path:
    """Where the mixtures and runs of a seed lie: studies whose networks are trained alike share them."""
    told = json.dumps([sound.facts(), protocol.of_networks()])
    return work / hashlib.sha256(told.encode()).hexdigest()[:12] / f"seed-{seed}"


def open_unheard(sound: Sound, seed: int, protocol: Protocol, work: Path) -> Trial:
    """A trial of the last machine type, of which no unit is trained on; the other types are.

    Raises:
        UsageError: there are no other machines; else as `open_trial`.
        ClipError, EdgeAsdError: as `open_trial`.
    """
    sides = choose_sides(sound, seed, limit=protocol.limit)
    unheard, _ = sides.classes[-1].rsplit("/", 1)
    left_out = tuple(name for name in sides.classes if name.rsplit("/", 1)[0] == unheard)
    trained = without(sides, left_out)
    n_trained = len({clip.class_name for clip in (*trained.train, *trained.further)})
    if n_trained < 2:
        raise UsageError(
            f"{sound.folder}: without the machines of type {unheard}, which are to be unheard, {n_trained} are left to "
            "train on; expected two or more; give a folder with machines of other types"
        )
    return _only(open_trial(sound, seed, protocol, work / "unheard", left_out=left_out), left_out)


def _only(trial: Trial, class_names: Collection[str]) -> Trial:
    """The trial with the memory and the test of some classes."""

    def of_classes(mixtures: MixtureSet) -> MixtureSet:
        return MixtureSet(
            mixtures=tuple(mixture for mixture in mixtures.mixtures if mixture.machine.class_name in class_names)
        )

    return replace(
        trial,
        memory={kind: of_classes(mixtures) for kind, mixtures in trial.memory.items()},
        test={key: of_classes(mixtures) for key, mixtures in trial.test.items()},
    )


def open_trial(sound: Sound, seed: int, protocol: Protocol, work: Path, *, left_out: Collection[str] = ()) -> Trial:
    """Choose sides and mix; the training folder is made once and kept in `work`.

    left_out: classes that the training does not hear; memory and test are as with them.

    Raises:
        UsageError: there is too little sound.
        ClipError: a clip cannot be mixed.
        EdgeAsdError: `work` cannot be written.
    """
    sides = choose_sides(sound, seed, limit=protocol.limit)
    folder = work / "mixtures"
    trained = without(sides, left_out)
    if not is_prepared(folder):
        _write_training(trained, protocol, work / "mixtures-as-clips", folder)
    memory = {
        kind: draw_mixtures(
            sides.train,
            sides.train_noise[kind],
            np.random.default_rng([seed, 1, number]),
            snr_db=TRAINED_SNR_DB,
            each=protocol.memory_each,
        )
        for number, kind in enumerate(NOISE_KINDS)
    }
    test = {  # the same chance at every SNR: the same noise, louder
        (kind, snr_db): draw_mixtures(
            sides.test, sides.test_noise[kind], np.random.default_rng([seed, 2, number]), snr_db=(snr_db, snr_db)
        )
        for number, kind in enumerate(NOISE_KINDS)
        for snr_db in protocol.snrs_db
    }
    return Trial(seed=seed, protocol=protocol, sides=trained, folder=folder, memory=memory, test=test, work=work)


def _write_training(sides: Sides, protocol: Protocol, clips: Path, folder: Path) -> None:
    """Mix training and validation in stationary noise, and prepare them for train.fit."""
    clips.mkdir(parents=True, exist_ok=True)
    further_validation, further_train = first_group_of_each(sides.further)
    train, validation = (*sides.train, *further_train), (*sides.validation, *further_validation)
    counts = Counter(machine.class_name for machine in train)
    rng = np.random.default_rng([sides.seed, 0])
    rows = [["file", "machine_type", "machine_id", "label", "split", "group"]]
    for split, machine in (*(("train", machine) for machine in train), *(("validation", one) for one in validation)):
        tested = machine.class_name in sides.classes
        if split == "train":
            of_class = protocol.tested_mixtures if tested else protocol.further_mixtures
            each = -(-of_class // counts[machine.class_name])
        else:
            each = _VALIDATION_EACH if tested else 1
        drawn = draw_mixtures([machine], sides.train_noise["stationary"], rng, snr_db=TRAINED_SNR_DB, each=each)
        for mixture in drawn.mixtures:
            name = f"{len(rows):06}.wav"
            soundfile.write(clips / name, mixture.wave(), FeatureSpec().sample_rate_hz, subtype="PCM_16")
            rows.append([name, *machine.class_name.rsplit("/", 1), "normal", split, machine.group])
    with (clips / TABLE_NAME).open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
    prepare(clips, folder)
    shutil.rmtree(clips)


def first_group_of_each(clips: Sequence[MachineClip]) -> tuple[tuple[MachineClip, ...], tuple[MachineClip, ...]]:
    """The first group of each class, and the rest."""
    first: dict[str, str] = {}
    for clip in clips:
        first.setdefault(clip.class_name, clip.group)
    return (
        tuple(clip for clip in clips if clip.group == first[clip.class_name]),
        tuple(clip for clip in clips if clip.group != first[clip.class_name]),
    )
