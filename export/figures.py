"""The networks of a bundle and clips in, parity with the trained network, thresholds and test figures out."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from edge_asd.bundle import ClassFigures, EngineName, ParityFigures, Precision, Threshold
from edge_asd.score import MarginScorer
from edge_asd.threshold import Target
from edge_asd.types import FeatureSpec, FloatArray
from export.memories import Remembered, remember
from export.parity import Evaluated, detection_figures, evaluate, parity_figures
from export.runners import runner_from_network, runner_from_onnx
from export.scorer_options import WantedScorers
from export.thresholds import fit_thresholds, score_ceiling
from export.windows import Clips, Reader
from train.network import Network

# Thresholds are fitted on what a device runs by default.
_SERVED: Precision = "int8"
# ONNX Runtime computes Q and DQ as the operators are defined; other engines may fuse and round otherwise.
_REFERENCE: EngineName = "onnxruntime"
# Of the device's engines, those of a workstation.
ENGINES: tuple[EngineName, ...] = ("openvino", "onnxruntime")


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What the networks of a bundle do.

    parity: of each precision on each engine. thresholds: of the margin score, by class. test: of each precision, class
    and scorer. remembered: None where classes are scored by margin alone.
    """

    parity: tuple[ParityFigures, ...]
    thresholds: dict[str, Threshold]
    test: tuple[ClassFigures, ...]
    remembered: Remembered | None


def bundle_figures(
    network: Network,
    models: Mapping[Precision, bytes],
    clips: Clips,
    read: Reader,
    *,
    classes: Sequence[str],
    spec: FeatureSpec,
    scorer: MarginScorer,
    wanted: WantedScorers,
    target: Target,
    say: Callable[[str], None],
) -> Figures:
    """Run the trained network and every model on every engine over all clips.

    Args:
        network: in evaluation mode.
        models: serialized ONNX by precision.
        clips: the data folder's.
        read: makes windows of clips.
        classes: in the order of the network's outputs.
        spec: of the front end.
        scorer: of the bundle.
        wanted: by what classes shall be scored.
        target: of the thresholds.
        say: is told what happens.

    Raises:
        ClipError: a clip cannot be used.
        UsageError: a class has no threshold of the scorer that it is scored by.
    """
    say(f"comparing torch, {', '.join(models)} on {len(clips.everything)} clips")
    runners = {"torch": runner_from_network(network)}
    for precision, engine in product(models, ENGINES):
        runners[f"{precision} {engine}"] = runner_from_onnx(models[precision], precision, engine)
    evaluated = evaluate(runners, read(clips.everything), scorer)
    served = evaluated[f"{_SERVED} {_REFERENCE}"]
    ceilings = _margin_ceilings(network, classes, scorer)
    remembered = None
    if wanted.need_memories:
        remembered = remember(
            evaluated,
            clips,
            served=(_SERVED, _REFERENCE),
            models=models,
            classes=classes,
            spec=spec,
            wanted=wanted,
            target=target,
            margin_ceilings=ceilings,
            say=say,
        )
    memories = remembered.section.memories if remembered else {}
    thresholds = _thresholds(
        classes,
        clips,
        served.score[: len(clips.for_ranges)],
        ceilings=ceilings,
        target=target,
        otherwise={name for name, memory in memories.items() if memory.scorer != "margin"},
        say=say,
    )
    test = _test_figures(clips, evaluated, thresholds, precisions=tuple(models))
    return Figures(
        parity=tuple(
            parity_figures(precision, engine, evaluated["torch"], evaluated[f"{precision} {engine}"])
            for precision, engine in product(models, ENGINES)
        ),
        thresholds=thresholds,
        test=(*test, *(remembered.test if remembered else ())),
        remembered=remembered,
    )


def _margin_ceilings(network: Network, classes: Sequence[str], scorer: MarginScorer) -> dict[str, float]:
    weight = network.class_weight.detach().numpy()
    weight = weight / np.linalg.norm(weight, axis=1, keepdims=True)  # (classes, 128)
    cosine = weight @ weight.T
    return {class_name: score_ceiling(cosine, index, scorer) for index, class_name in enumerate(classes)}


def _thresholds(
    classes: Sequence[str],
    clips: Clips,
    scores: FloatArray,
    *,
    ceilings: Mapping[str, float],
    target: Target,
    otherwise: Collection[str],
    say: Callable[[str], None],
) -> dict[str, Threshold]:
    """Of the margin score; classes that are scored `otherwise` may have none."""
    names = np.array([recording.class_name for recording in clips.for_ranges])
    is_fresh = np.arange(len(names)) >= len(clips.trained)
    calibrated = [class_name for class_name in classes if class_name in names[is_fresh]]
    fitted = fit_thresholds(
        {class_name: scores[is_fresh & (names == class_name)] for class_name in calibrated},
        target,
        scorer="margin",
        trained_scores={class_name: scores[~is_fresh & (names == class_name)] for class_name in calibrated},
        ceilings=ceilings,
        precision=_SERVED,
    )
    return fitted.with_all_of([class_name for class_name in calibrated if class_name not in otherwise], say)


def _test_figures(
    clips: Clips,
    evaluated: dict[str, Evaluated],
    thresholds: dict[str, Threshold],
    *,
    precisions: Sequence[Precision],
) -> tuple[ClassFigures, ...]:
    n_test = len(clips.for_test)
    return tuple(
        figures
        for precision in precisions
        for figures in detection_figures(
            precision,
            evaluated[f"{precision} {_REFERENCE}"].score[len(clips.everything) - n_test :],
            class_names=[recording.class_name for recording in clips.for_test],
            is_anomaly=np.array([recording.label == "anomaly" for recording in clips.for_test], dtype=bool),
            thresholds=thresholds,
        )
    )
