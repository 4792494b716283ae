"""A checkpoint and a data folder in, the anomaly score of every clip that the run has not learnt from out."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from edge_asd.errors import EdgeAsdError, UsageError
from train.checkpoint import Checkpoint
from train.data import Listing, Recording, open_waves
from train.data.generated import GENERATED, GENERATED_NOTE, SOUND, is_generated
from train.evaluation.clip_scorer import ClipScorer, WhichWindows
from train.evaluation.metrics import ScoredClip
from train.settings import Device
from train.windows import ALTERED_SUFFIX

_DECISION_QUANTILE = 0.9
"""A tenth of the healthy validation clips is decided to be damaged, as by the DCASE baselines."""
_FEW = 10
"""Recordings of a kind below which a bootstrap cannot tell how far off a figure may be."""
_CLIPS_AT_ONCE = 256  # bounds the memory that clips of an unprepared folder take


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationSet:
    """Which recordings serve for what.

    test: labelled, never learnt from. unlabelled: scored for submission alone. validation: healthy, chose the
    checkpoint; decisions are set by them. notes: what the reader of the figures must know.
    """

    test: tuple[Recording, ...]
    unlabelled: tuple[Recording, ...]
    validation: tuple[Recording, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunScores:
    """Scores z of one run.

    name: the run's. test: labelled clips. unlabelled: (recording, score). decisions: by class, the score above which a
    clip is decided to be damaged; absent where the data holds no validation clips of the class.
    """

    name: str
    test: tuple[ScoredClip, ...]
    unlabelled: tuple[tuple[Recording, float], ...]
    decisions: dict[str, float]
    notes: tuple[str, ...]


def notes_of(runs: Iterable[RunScores]) -> list[str]:
    """What the reader of the runs' figures must know, each thing once."""
    return list(dict.fromkeys(note for run in runs for note in run.notes))


def choose_test_set(checkpoint: Checkpoint, listing: Listing, folder: Path) -> EvaluationSet:
    """Take what the run has not learnt from, of classes that it knows.

    Clips that the data states for training or validation are not tested on, nor is a clip of a recording (group) that
    was trained on.

    Raises:
        UsageError: nothing is left.
    """
    split = checkpoint.split
    learnt = {*split.train, *split.validation}
    learnt_groups = {recording.group for recording in listing.recordings if recording.file in learnt}
    known = set(checkpoint.classes)
    test: list[Recording] = []
    unlabelled: list[Recording] = []
    unknown: Counter[str] = Counter()
    for recording in listing.recordings:
        if recording.class_name not in known:
            unknown[recording.class_name] += 1
        elif recording.group in learnt_groups or recording.stated_split in ("train", "validation"):
            continue
        elif recording.label == "none":
            unlabelled.append(recording)
        else:
            test.append(recording)
    if not test and not unlabelled:
        raise UsageError(
            f"{folder}: no clip to test on; expected clips of {', '.join(sorted(known)[:5])} that the run was not "
            f"trained on; its clips are of {', '.join(sorted({r.class_name for r in listing.recordings})[:5])}"
        )
    by_file = {recording.file: recording for recording in listing.recordings}
    return EvaluationSet(
        test=tuple(test),
        unlabelled=tuple(unlabelled),
        validation=tuple(by_file[file] for file in split.validation if file in by_file),
        notes=(*_of_sound(checkpoint, folder), *_notes(checkpoint, listing, test, unlabelled, unknown)),
    )


def _of_sound(checkpoint: Checkpoint, folder: Path) -> Iterator[str]:
    if is_generated(folder):
        yield GENERATED_NOTE
    if checkpoint.training.get(SOUND) == GENERATED:
        yield "the run was trained on generated sound"


def _notes(
    checkpoint: Checkpoint,
    listing: Listing,
    test: Sequence[Recording],
    unlabelled: Sequence[Recording],
    unknown: Counter[str],
) -> Iterator[str]:
    """What a reader of the figures might else take for granted."""
    learnt = {*checkpoint.split.train, *checkpoint.split.validation}
    classes = {name for name in checkpoint.classes if not name.endswith(ALTERED_SUFFIX)}
    if unknown:
        yield f"{sum(unknown.values())} clips of classes that the run does not know: {', '.join(sorted(unknown))}"
    untested = sorted(classes - {recording.class_name for recording in test})
    if untested:
        yield f"classes that the run knows and that have no test clip here: {', '.join(untested)}"
    groups: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for recording in test:
        groups[recording.class_name][recording.label].add(recording.group)
    one_sided = sorted(name for name, found in groups.items() if len(found) == 1)
    if one_sided:
        yield f"healthy or damaged clips alone, so no figures: {', '.join(one_sided)}"
    few = sorted(name for name, found in groups.items() if len(found) == 2 and min(map(len, found.values())) < _FEW)
    if few:
        yield (
            f"fewer than {_FEW} healthy or damaged recordings, so figures say little and intervals are too narrow: "
            f"{', '.join(few)}"
        )
    if unlabelled:
        yield f"{len(unlabelled)} clips without a label: in the submission files, not in the figures"
    if not learnt:
        yield "the run does not say what it was trained on: all clips not stated for training are taken as unseen"
    elif not any(recording.file in learnt for recording in listing.recordings):
        yield f"none of the {len(learnt)} clips that the run learnt from is here by name: all are taken as unseen"
    if listing.ignored:
        yield f"{len(listing.ignored)} clips in no known layout, as {listing.ignored[0]}"


def score_run(
    name: str,
    checkpoint: Checkpoint,
    folder: Path,
    test_set: EvaluationSet,
    *,
    device: Device = "cpu",
    windows: WhichWindows = "all",
    progress: Callable[[int], None] = lambda _n: None,
) -> RunScores:
    """Score every clip of a test set; a clip's score is the mean z of its windows.

    Args:
        name: of the run.
        checkpoint: its network.
        folder: where the clips are.
        test_set: which clips.
        device: that scores.
        windows: all at the default hop, or the first of each clip alone, as the published code has it.
        progress: is told how many more clips are done.

    Raises:
        ClipError: a clip cannot be used.
        UnavailableError: the device is not there.
        EdgeAsdError: a score is not a number.
    """
    clips = (*test_set.test, *test_set.unlabelled, *test_set.validation)
    scorer = ClipScorer(checkpoint, device=device, windows=windows)
    scores = np.empty(len(clips))
    for start in range(0, len(clips), _CLIPS_AT_ONCE):
        chunk = clips[start : start + _CLIPS_AT_ONCE]
        waves = open_waves(folder, [recording.file for recording in chunk])
        scores[start : start + len(chunk)] = scorer.score(waves, [recording.class_name for recording in chunk])
        progress(len(chunk))
    wrong = np.flatnonzero(~np.isfinite(scores))
    if len(wrong):
        raise EdgeAsdError(
            f"run {name}: the score of {clips[wrong[0]].file} is {scores[wrong[0]]}, and of {len(wrong)} clips in all "
            "no number; expected finite scores; its weights are broken, train it anew"
        )
    n_test, n_unlabelled = len(test_set.test), len(test_set.unlabelled)
    return RunScores(
        name=name,
        test=tuple(
            _scored(recording, float(score)) for recording, score in zip(test_set.test, scores[:n_test], strict=True)
        ),
        unlabelled=tuple(
            (recording, float(score))
            for recording, score in zip(test_set.unlabelled, scores[n_test : n_test + n_unlabelled], strict=True)
        ),
        decisions=_decisions(test_set.validation, scores[n_test + n_unlabelled :]),
        notes=test_set.notes,
    )


def _scored(recording: Recording, score: float) -> ScoredClip:
    return ScoredClip(
        file=recording.file,
        class_name=recording.class_name,
        is_anomaly=recording.label == "anomaly",
        domain=recording.domain,
        group=recording.group,
        score=score,
    )


def _decisions(validation: Sequence[Recording], scores: NDArray[np.float64]) -> dict[str, float]:
    names = np.array([recording.class_name for recording in validation])
    return {
        str(name): float(np.quantile(scores[names == name], _DECISION_QUANTILE, method="higher"))
        for name in np.unique(names)
    }
