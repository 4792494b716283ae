"""A checkpoint and a data folder in, the anomaly score of every clip that the run has not learnt from out."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from edge_asd.errors import UnavailableError, UsageError
from edge_asd.score import MarginScorer
from train.checkpoint import Checkpoint
from train.data import Listing, Recording, Waves, open_waves
from train.evaluation.metrics import ScoredClip
from train.features import LogMel
from train.settings import Device

HOP_SAMPLES = 15_360
WhichWindows: TypeAlias = Literal["all", "first"]

_DECISION_QUANTILE = 0.9
"""A tenth of the healthy validation clips is decided to be damaged, as by the DCASE baselines."""
_WINDOWS_PER_BATCH = 32
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
    notes = []
    if unknown:
        notes.append(
            f"{sum(unknown.values())} clips of classes that the run does not know: {', '.join(sorted(unknown))}"
        )
    kinds: dict[str, set[str]] = defaultdict(set)
    for recording in test:
        kinds[recording.class_name].add(recording.label)
    one_sided = sorted(name for name, labels in kinds.items() if len(labels) == 1)
    if one_sided:
        notes.append(f"healthy or damaged clips alone, so no figures: {', '.join(one_sided)}")
    if learnt and not learnt & by_file.keys():
        notes.append(
            f"none of the {len(learnt)} clips that the run learnt from is here by name: all are taken as unseen"
        )
    if not learnt:
        notes.append(
            "the run does not say what it was trained on: all clips not stated for training are taken as unseen"
        )
    if listing.ignored:
        notes.append(f"{len(listing.ignored)} clips in no known layout, as {listing.ignored[0]}")
    return EvaluationSet(
        test=tuple(test),
        unlabelled=tuple(unlabelled),
        validation=tuple(by_file[file] for file in split.validation if file in by_file),
        notes=tuple(notes),
    )


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
    """
    clips = (*test_set.test, *test_set.unlabelled, *test_set.validation)
    scorer = ClipScorer(checkpoint, device=device, windows=windows)
    scores = np.empty(len(clips))
    for start in range(0, len(clips), _CLIPS_AT_ONCE):
        chunk = clips[start : start + _CLIPS_AT_ONCE]
        waves = open_waves(folder, [recording.file for recording in chunk])
        scores[start : start + len(chunk)] = scorer.score(waves, [recording.class_name for recording in chunk])
        progress(len(chunk))
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


class ClipScorer:
    """Scores whole clips of known classes, window by window, batches across clips."""

    def __init__(self, checkpoint: Checkpoint, *, device: Device, windows: WhichWindows) -> None:
        """Move the network to the device.

        Raises:
            UnavailableError: the device is not there.
        """
        if device == "cuda" and not torch.cuda.is_available():
            raise UnavailableError("--device is cuda and torch finds no CUDA device; expected one; use --device cpu")
        spec = checkpoint.spec
        self._device = torch.device(device)
        self._network = checkpoint.network.to(self._device).eval()
        self._log_mel = LogMel(checkpoint.feature_spec).to(self._device)
        self._scorer = MarginScorer(spec.scale, spec.margin, n_classes=spec.n_classes)
        self._classes = {name: index for index, name in enumerate(checkpoint.classes)}
        self._n_samples = checkpoint.feature_spec.window_samples
        self._windows = windows

    def score(self, waves: Waves, class_names: Sequence[str]) -> NDArray[np.float64]:
        """Mean z of each clip's windows, (N,); a clip shorter than a window is repeated to its length.

        class_names: (N,) as which class each clip is scored.
        """
        spare = np.maximum(0, waves.lengths - self._n_samples)
        n_windows = spare // HOP_SAMPLES + 1 if self._windows == "all" else np.ones_like(spare)
        clips = np.repeat(np.arange(len(waves)), n_windows)  # (windows,) the clip of each
        nth = np.arange(len(clips)) - np.repeat(np.cumsum(n_windows) - n_windows, n_windows)
        own = np.array([self._classes[name] for name in class_names], dtype=np.int64)
        scores = np.empty(len(clips))
        with torch.inference_mode():
            for start in range(0, len(clips), _WINDOWS_PER_BATCH):
                batch = slice(start, start + _WINDOWS_PER_BATCH)
                wave = torch.from_numpy(waves.cut(clips[batch], nth[batch] * HOP_SAMPLES, self._n_samples))
                wave = wave.to(self._device)  # (B, window_samples)
                _, cosine = self._network(wave, self._log_mel(wave))
                scores[batch] = self._scorer.score(cosine.float().cpu().numpy(), own[clips[batch]])
        means: NDArray[np.float64] = np.bincount(clips, weights=scores, minlength=len(waves)) / n_windows
        return means
