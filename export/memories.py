"""What every network said of all clips in, a bundle's memories with thresholds and figures of their scorers out."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np

from edge_asd.bundle import (
    ClassFigures,
    ClassMemory,
    Encoder,
    KnnSection,
    Memory,
    MemoryScorerName,
    Precision,
    Threshold,
)
from edge_asd.errors import ClipError
from edge_asd.score import KnnScorer
from edge_asd.threshold import Target
from edge_asd.types import EngineOutputs, FeatureSpec, FloatArray, Layer, ScorerName
from export.memory_scores import SCORERS, ClassScores, Roles, evaluated_vectors, memory_thresholds
from export.parity import Evaluated
from export.scorer_options import WantedScorers
from export.windows import Clips

# Floors of what an engine's vectors may differ by from the trained network's, of unit length.
_DISTANCE_FLOORS: Mapping[Precision, float] = {"fp32": 1e-3, "fp16": 1e-2, "int8": 0.1}


@dataclass(frozen=True, slots=True, kw_only=True)
class Remembered:
    """What a bundle holds for scoring by nearest neighbours.

    section: of the manifest. memories: by class. max_vector_distance: of each precision, for the golden tolerance.
    test: figures of both scorers.
    """

    section: KnnSection
    memories: dict[str, Memory]
    max_vector_distance: dict[Precision, float]
    test: tuple[ClassFigures, ...]

    def scores(self, outputs: EngineOutputs) -> FloatArray:
        """Scores (B, memories) of windows by every memory, in their order."""
        by_memory = [
            KnnScorer(self.memories[class_name], section.fit).score(outputs)
            for class_name, section in self.section.memories.items()
        ]
        return np.stack(by_memory, axis=1)


def remember(
    evaluated: Mapping[str, Evaluated],
    clips: Clips,
    *,
    served: tuple[Precision, str],
    models: Mapping[Precision, bytes],
    classes: Sequence[str],
    spec: FeatureSpec,
    wanted: WantedScorers,
    target: Target,
    margin_ceilings: Mapping[str, float],
    say: Callable[[str], None],
) -> Remembered:
    """Make a memory of each class that has clips enough.

    Thresholds are fitted on clips that neither network nor memory knows. Margin and k-NN score are normalised over the
    same clips, those of the memory.

    Args:
        evaluated: `torch`, and `PRECISION ENGINE` of each, over `clips.everything` in that order.
        clips: the data folder's.
        served: precision and engine that make the memories and the scores that thresholds are fitted on.
        models: serialized ONNX by precision.
        classes: in the order of the network's outputs.
        spec: of the front end.
        wanted: layer, neighbours, budget, and by which scorer a class is scored.
        target: of the thresholds.
        margin_ceilings: the highest margin score that a fault is taken to have, by class; see `score_ceiling`.
        say: is told what cannot be done.

    Raises:
        ClipError: a class for which a scorer was asked by name has no clips for its memory; or no class has.
        UsageError: a class has no threshold of the scorer that it is scored by.
    """
    precision, engine = served
    found = evaluated[f"{precision} {engine}"]
    sha256 = hashlib.sha256(models[precision]).hexdigest()
    encoder = Encoder(sha256=sha256, precision=precision, layer=wanted.layer, feature_spec=spec)
    made = _class_scores(found, clips, classes=classes, encoder=encoder, wanted=wanted, say=say)
    chosen = {each.class_name: _chosen(wanted.of(each.class_name), each) for each in made}
    thresholds: dict[MemoryScorerName, dict[str, Threshold]] = {}
    for name in SCORERS:
        fitted = memory_thresholds(name, made, found, target, margin_ceilings=margin_ceilings, precision=precision)
        thresholds[name] = fitted.with_all_of([each for each in chosen if chosen[each] == name], say)
    return Remembered(
        section=KnnSection(
            encoder_sha256=sha256,
            precision=precision,
            layer=wanted.layer,
            vector_size=made[0].memory.vectors.shape[1],
            memories={
                each.class_name: ClassMemory(
                    fit=each.fit,
                    margin=each.margin,
                    scorer=chosen[each.class_name],
                    thresholds={name: by[each.class_name] for name, by in thresholds.items() if each.class_name in by},
                )
                for each in made
            },
        ),
        memories={each.class_name: each.memory for each in made},
        max_vector_distance={each: _max_vector_distance(each, evaluated, wanted.layer) for each in models},
        test=tuple(
            figures
            for tested, name, each in product(models, SCORERS, made)
            if name in each.scorers
            for figures in each.test_figures(name, tested, evaluated[f"{tested} {engine}"], thresholds[name])
        ),
    )


def _class_scores(
    found: Evaluated,
    clips: Clips,
    *,
    classes: Sequence[str],
    encoder: Encoder,
    wanted: WantedScorers,
    say: Callable[[str], None],
) -> list[ClassScores]:
    roles = Roles(clips)
    made: list[ClassScores] = []
    refused: list[str] = []
    for class_name in (name for name in classes if "~" not in name):
        try:
            made.append(ClassScores(class_name, found, roles, encoder=encoder, wanted=wanted))
        except ClipError as error:
            if wanted.by_class.get(class_name, "margin") != "margin":
                raise ClipError(f"{class_name} cannot be scored by {wanted.of(class_name)}: {error}") from error
            refused.append(f"{class_name}: {error}")
            say(f"{class_name} has no memory and is scored by margin: {error}")
    if not made:
        raise ClipError(f"no class has clips enough for a memory: {'; '.join(refused)}")
    return made


def _chosen(wanted: ScorerName, each: ClassScores) -> ScorerName:
    """Without a spread of the margin scores there is nothing to fuse."""
    return "knn" if wanted == "fusion" and each.margin is None else wanted


def _max_vector_distance(precision: Precision, evaluated: Mapping[str, Evaluated], layer: Layer) -> float:
    """Twice the most that was measured on all clips and engines, and never below a floor."""
    expected = evaluated_vectors(evaluated["torch"], layer)
    found = [evaluated_vectors(each, layer) for name, each in evaluated.items() if name.startswith(f"{precision} ")]
    measured = [float(np.linalg.norm(each - expected, axis=1).max()) for each in found]
    return 2.0 * max(_DISTANCE_FLOORS[precision], *measured)
