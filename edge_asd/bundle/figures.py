"""What the exporter measured of a model: parity, test clips, and how far a device may be from its golden values."""

from __future__ import annotations

from pydantic import Field

from edge_asd.bundle.part import MAX_CLASSES, ClassName, EngineName, Part, Precision, Share
from edge_asd.types import ScorerName


class ParityFigures(Part):
    """How far one ONNX model on one engine is from the torch network on the same windows: score is its z."""

    precision: Precision
    engine: EngineName
    n_windows: int = Field(ge=1)
    embedding_cosine_min: float
    embedding_cosine_mean: float
    score_difference_max: float = Field(ge=0.0)
    score_difference_mean: float = Field(ge=0.0)


class ClassFigures(Part):
    """What the model did on held-out test clips of one class with one precision and scorer, one window a clip."""

    class_name: ClassName
    precision: Precision
    scorer: ScorerName = "margin"
    n_normal: int = Field(ge=0)
    n_anomaly: int = Field(ge=0)
    auc: Share | None
    normal_above_threshold: int | None = Field(ge=0)
    anomaly_above_threshold: int | None = Field(ge=0)


class Metrics(Part):
    """Figures of the exporter: parity with the trained network, and test clips where there were any.

    float_layers: those that the INT8 model keeps in float, since they would have cost too much accuracy.
    """

    float_layers: tuple[str, ...] = Field(default=(), max_length=1_000)
    parity: tuple[ParityFigures, ...] = Field(default=(), max_length=8)
    test: tuple[ClassFigures, ...] = Field(default=(), max_length=24 * MAX_CLASSES)


class Tolerance(Part):
    """How far an engine of one precision may be from the golden values before the device refuses to serve.

    max_vector_distance: of a vector of the memories' layer from that of the float32 network; no distance to a memory
    can then differ by more. None where the bundle has no memories.
    """

    min_embedding_cosine: float = Field(gt=0.0, le=1.0)
    max_score_difference: float = Field(gt=0.0, le=1_000.0)
    max_vector_distance: float | None = Field(default=None, gt=0.0, le=1e6)


class GoldenTolerance(Part):
    """What the self-test allows: log-mel in dB of any bin, and the engine by its precision."""

    max_log_mel_difference_db: float = Field(gt=0.0, le=1.0)
    fp32: Tolerance
    fp16: Tolerance | None = None
    int8: Tolerance

    def of(self, precision: Precision) -> Tolerance:
        """That of a network that the bundle has."""
        tolerances = {"fp32": self.fp32, "fp16": self.fp16 or self.int8, "int8": self.int8}
        return tolerances[precision]
