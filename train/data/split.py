"""Recordings in, which of them train, validate and test out: by group, the same for the same seed."""

from __future__ import annotations

import zlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from edge_asd.errors import UsageError
from train.data.folder import Listing
from train.data.recording import Recording, StatedSplit


@dataclass(frozen=True, slots=True, kw_only=True)
class Split:
    """Which files of the data folder served for what; paths as the data folder's layout gives them.

    train: fitted on. validation: healthy, chose the checkpoint kept and may fit thresholds.
    held_out: healthy, untouched until the test. anomaly: damaged, of a trained class, for the test alone.
    """

    train: tuple[str, ...] = ()
    validation: tuple[str, ...] = ()
    held_out: tuple[str, ...] = ()
    anomaly: tuple[str, ...] = ()


def split_recordings(
    recordings: Sequence[Recording],
    *,
    seed: int,
    validation_share: float,
    held_out_share: float,
    limit: int | None = None,
    fewest_classes: int = 2,
) -> tuple[tuple[str, ...], Split]:
    """Split by group, the same for the same seed; classes that share no group are split independently of each other.

    Healthy recordings that the data gives to the test, or whose group holds an anomaly, are held out; those that it
    gives to validation validate. Of a class without stated splits, `held_out_share` of its groups is held out, at least
    one; of one without stated validation, `validation_share` of the rest validates, at least one group. Recordings
    without a label are left out, and so are classes without healthy recordings to train on. A group of several classes
    lies on one side in all of them; the class with the fewest groups decides, as it has the least choice.

    Args:
        recordings: as `load_recordings` gives them.
        seed: decides which groups go where.
        validation_share: of the class's groups, 0..1.
        held_out_share: of the class's groups, 0..1.
        limit: at most this many groups of healthy recordings a class.
        fewest_classes: that what is trained can do with; a classifier learns by telling two or more apart.

    Returns:
        Class names in order, and the split.

    Raises:
        UsageError: fewer classes than those, too few recordings in one, or an anomaly stated for training.
    """
    _check_stated(recordings)
    anomaly_groups = {recording.group for recording in recordings if recording.label == "anomaly"}
    normal: dict[str, list[Recording]] = defaultdict(list)
    for recording in recordings:
        if recording.label == "normal":
            normal[recording.class_name].append(recording)
    # Evaluation data whose training part is not there can be tested on, not trained.
    normal = {
        class_name: members
        for class_name, members in normal.items()
        if any(recording.stated_split != "test" for recording in members)
    }
    if len(normal) < fewest_classes:
        advice = (
            "the network learns by telling machines apart; add recordings of another machine, or train one alone: "
            "python -m train.fit --preset ae, or idnn"
            if fewest_classes > 1
            else "add healthy recordings that are not stated for the test"
        )
        raise UsageError(
            f"{len(normal)} class with healthy recordings to train on ({', '.join(normal) or 'none'}); expected "
            f"{fewest_classes} or more: {advice}"
        )
    sides: dict[str, list[str]] = {"train": [], "validation": [], "held_out": []}
    placed: dict[str, str] = {}
    for class_name, members in sorted(normal.items(), key=lambda item: (len({one.group for one in item[1]}), item[0])):
        side_of = _side_of_group(
            class_name,
            members,
            anomaly_groups,
            placed,
            rng=np.random.default_rng([seed, zlib.crc32(class_name.encode())]),
            validation_share=validation_share,
            held_out_share=held_out_share,
            limit=limit,
        )
        placed |= side_of
        for recording in members:
            if recording.group in side_of:
                sides[side_of[recording.group]].append(recording.file)
    anomaly = [
        recording.file for recording in recordings if recording.label == "anomaly" and recording.class_name in normal
    ]
    split = Split(**{side: tuple(sorted(files)) for side, files in sides.items()}, anomaly=tuple(sorted(anomaly)))
    return tuple(sorted(normal)), split


def left_out(listing: Listing, classes: Sequence[str]) -> tuple[str, ...]:
    """What of a data folder serves neither training nor test, in words.

    classes: those that `split_recordings` gave.
    """
    labelled = listing.labelled
    others = sorted({recording.class_name for recording in labelled} - set(classes))
    n_unlabelled = len(listing.recordings) - len(labelled)
    lines = []
    if listing.emptied:
        lines.append(f"no clip left by train.prepare (its report.csv says why): {', '.join(listing.emptied)}")
    if others:
        lines.append(f"no healthy clips to train on, so left out: {', '.join(others)}")
    if n_unlabelled:
        lines.append(f"{n_unlabelled} clips without a label are left out")
    if listing.ignored:
        lines.append(f"{len(listing.ignored)} clips in no known layout are left out, as {listing.ignored[0]}")
    lines.extend(f"{file} is left out: {why}" for file, why in sorted(listing.why_ignored.items())[:5])
    return tuple(lines)


def _check_stated(recordings: Sequence[Recording]) -> None:
    for recording in recordings:
        if recording.label == "anomaly" and recording.stated_split in ("train", "validation"):
            raise UsageError(
                f"{recording.file} is an anomaly stated for "
                f"{'training' if recording.stated_split == 'train' else 'validation'}; "
                "expected damaged clips in the test alone"
            )
    stated: dict[str, set[StatedSplit]] = defaultdict(set)
    for recording in recordings:
        stated[recording.group].add(recording.stated_split)
    for group, splits in stated.items():
        if len(splits) > 1:
            raise UsageError(f"group {group} is stated for {' and '.join(sorted(splits))}; expected one of them")


def _side_of_group(
    class_name: str,
    members: Sequence[Recording],
    anomaly_groups: set[str],
    placed: Mapping[str, str],
    *,
    rng: np.random.Generator,
    validation_share: float,
    held_out_share: float,
    limit: int | None,
) -> dict[str, str]:
    stated = {recording.group: recording.stated_split for recording in members}
    held_out = sorted(group for group, split in stated.items() if split == "test" or group in anomaly_groups)
    validation = sorted(group for group, split in stated.items() if split == "validation" and group not in held_out)
    free = sorted(set(stated) - set(held_out) - set(validation))
    given = {
        side: [group for group in free if placed.get(group) == side] for side in ("held_out", "validation", "train")
    }
    n_given = sum(map(len, given.values()))
    free = [group for group in free if group not in placed]
    rng.shuffle(free)
    free = free[: None if limit is None else max(0, limit - n_given)]
    n_groups = n_given + len(free)
    # What the data gives to training is never taken for the test.
    n_held_out = 0 if held_out or "train" in stated.values() else max(1, round(held_out_share * n_groups))
    n_validation = 0 if validation else max(1, round(validation_share * n_groups))
    still_held_out = max(0, n_held_out - len(given["held_out"]))
    still_validation = max(0, n_validation - len(given["validation"]))
    if len(free) + len(given["train"]) - still_held_out - still_validation < 1 or len(free) < (
        still_held_out + still_validation
    ):
        shared = f"; {n_given} of them are shared with other classes and lie where those have them" if n_given else ""
        raise UsageError(
            f"class {class_name} has {n_groups} groups of healthy recordings to train on{shared}; expected at least "
            f"{n_held_out + n_validation + 1} ({n_held_out} held out, {n_validation} for validation)"
            f"{', more of them its own' if n_given else ''}; record more"
        )
    held_out += given["held_out"] + free[:still_held_out]
    validation += given["validation"] + free[still_held_out : still_held_out + still_validation]
    train = given["train"] + free[still_held_out + still_validation :]
    return {
        group: side
        for side, groups in (("held_out", held_out), ("validation", validation), ("train", train))
        for group in groups
    }
