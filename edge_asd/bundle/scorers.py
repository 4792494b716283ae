"""How a bundle's classes are scored: the margin score's numbers, memories of healthy sound, and their thresholds."""

from __future__ import annotations

from typing import Literal, TypeAlias

from pydantic import Field, model_validator

from edge_asd.bundle.memory import MAX_VECTOR_SIZE, KnnFit, Spread
from edge_asd.bundle.part import MAX_CLASSES, ClassName, Part, Precision, Sha256
from edge_asd.types import Layer, ScorerName

MemoryScorerName: TypeAlias = Literal["knn", "fusion"]


class ScorerSpec(Part):
    """How engine outputs become the margin score: class margin logits with this scale and additive angular margin."""

    kind: Literal["margin"] = "margin"
    scale: float = Field(gt=0.0, le=1_000.0)
    margin: float = Field(ge=0.0, lt=3.1)


class Threshold(Part):
    """The score above which a window of one class counts as anomalous, and how it was fitted.

    alpha: the share of healthy windows above it that target_false_alarms_per_day means for independent windows.
    n_clips: held-out healthy clips of this class, one window each; n_clips_pooled: of all classes that were pooled.
    extrapolated: the target lies beyond what the clips can show, 1 / (n_clips + 1); a fitted distribution was trusted.
    method: gamma is of bundles of before, and is fitted no more.
    """

    threshold: float
    target_false_alarms_per_day: float = Field(gt=0.0)
    alpha: float = Field(gt=0.0, lt=1.0)
    method: Literal["conformal", "genpareto", "gamma", "student_t", "student_t_pooled"]
    n_clips: int = Field(ge=1)
    n_clips_pooled: int = Field(ge=1)
    extrapolated: bool
    precision: Precision
    note: str = Field(default="", max_length=2_000)


class ClassMemory(Part):
    """One class's part of memory.npz, and how the class is scored.

    margin: margin scores of the recordings that the memory was made of; None where the class cannot be fused.
    scorer: by which the class is scored unless a device's configuration says otherwise.
    thresholds: of the k-NN score and the fusion; that of the margin score stands beside those of other classes.
    """

    fit: KnnFit
    margin: Spread | None
    scorer: ScorerName
    thresholds: dict[MemoryScorerName, Threshold]

    @model_validator(mode="after")
    def _check_fusion(self) -> ClassMemory:
        if self.margin is None and (self.scorer == "fusion" or "fusion" in self.thresholds):
            raise ValueError("fusion needs the margin scores' mean and deviation (margin), which are not there")
        return self


class KnnSection(Part):
    """Memories of healthy sound; their rows follow one another in memory.npz.

    encoder_sha256: of the network that made the vectors. precision: of that network. layer: whose vectors they are.
    """

    encoder_sha256: Sha256
    precision: Precision
    layer: Layer
    vector_size: int = Field(ge=1, le=MAX_VECTOR_SIZE)
    memories: dict[ClassName, ClassMemory] = Field(min_length=1, max_length=MAX_CLASSES)
