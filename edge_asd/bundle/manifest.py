"""What manifest.json of a bundle may hold: a document in, a validated, frozen Manifest out."""

from __future__ import annotations

import difflib
from datetime import datetime, timezone
from typing import Annotated, Literal, TypeAlias

from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints, model_validator

from edge_asd.errors import BundleError
from edge_asd.types import FeatureSpec

Precision: TypeAlias = Literal["fp32", "fp16", "int8"]
EngineName: TypeAlias = Literal["onnxruntime", "openvino"]
ClassName: TypeAlias = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.-]{1,48}/[A-Za-z0-9_.~-]{1,64}$")]
"""TYPE/ID of a machine; with a `~` in it, a class that the network only learnt against and nothing listens as."""

Sha256: TypeAlias = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Share: TypeAlias = Annotated[float, Field(ge=0.0, le=1.0)]

SCHEMA_VERSION: Literal[1] = 1
EMBEDDING_SIZE = 128
MAX_CLASSES = 4_096
# What a spec may ask of the device: far above any published network, far below what would exhaust its memory.
SPEC_BOUNDS = {
    "sample_rate_hz": (1_000, 192_000),
    "window_samples": (1_024, 1_920_000),
    "n_fft": (64, 32_768),
    "hop_samples": (16, 32_768),
    "n_mels": (1, 1_024),
    "power_floor": (1e-30, 1.0),
}
# Of all frames of a window, n_fft each: 26 times the published front end, and 64 MB in float32.
MAX_FRAME_SAMPLES = 2**24


class _Part(BaseModel):
    """Frozen, strict and closed: a key or type that is not known is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class TensorSpec(_Part):
    """An input or output of the network; the first dimension is the batch."""

    name: Annotated[str, StringConstraints(pattern=r"^[a-z_]{1,32}$")]
    shape: tuple[Literal["batch"] | Annotated[int, Field(ge=1, le=4_000_000)], ...] = Field(min_length=1, max_length=4)
    dtype: Literal["float32"] = "float32"


class ScorerSpec(_Part):
    """How engine outputs become the anomaly score: class margin logits with this scale and additive angular margin."""

    kind: Literal["margin"] = "margin"
    scale: float = Field(gt=0.0, le=1_000.0)
    margin: float = Field(ge=0.0, lt=3.1)


class Threshold(_Part):
    """The score above which a window of one class counts as anomalous, and how it was fitted.

    alpha: the share of healthy windows above it that target_false_alarms_per_day means for independent windows.
    n_clips: held-out healthy clips of this class, one window each; n_clips_pooled: of all classes that were pooled.
    extrapolated: the target lies beyond what the clips can show, 1 / (n_clips + 1); a fitted distribution was trusted.
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


class ParityFigures(_Part):
    """How far one ONNX model on one engine is from the torch network on the same windows: score is its z."""

    precision: Precision
    engine: EngineName
    n_windows: int = Field(ge=1)
    embedding_cosine_min: float
    embedding_cosine_mean: float
    score_difference_max: float = Field(ge=0.0)
    score_difference_mean: float = Field(ge=0.0)


class ClassFigures(_Part):
    """What the model did on held-out test clips of one class with one precision, one window a clip."""

    class_name: ClassName
    precision: Precision
    n_normal: int = Field(ge=0)
    n_anomaly: int = Field(ge=0)
    auc: Share | None
    normal_above_threshold: int | None = Field(ge=0)
    anomaly_above_threshold: int | None = Field(ge=0)


class Metrics(_Part):
    """Figures of the exporter: parity with the trained network, and test clips where there were any.

    float_layers: those that the INT8 model keeps in float, since they would have cost too much accuracy.
    """

    float_layers: tuple[str, ...] = Field(default=(), max_length=1_000)
    parity: tuple[ParityFigures, ...] = Field(default=(), max_length=8)
    test: tuple[ClassFigures, ...] = Field(default=(), max_length=8 * MAX_CLASSES)


class Tolerance(_Part):
    """How far an engine of one precision may be from the golden values before the device refuses to serve."""

    min_embedding_cosine: float = Field(gt=0.0, le=1.0)
    max_score_difference: float = Field(gt=0.0, le=1_000.0)


class GoldenTolerance(_Part):
    """What the self-test allows: log-mel in dB of any bin, and the engine by its precision."""

    max_log_mel_difference_db: float = Field(gt=0.0, le=1.0)
    fp32: Tolerance
    fp16: Tolerance | None = None
    int8: Tolerance

    def of(self, precision: Precision) -> Tolerance:
        """That of a network that the bundle has."""
        tolerances = {"fp32": self.fp32, "fp16": self.fp16 or self.int8, "int8": self.int8}
        return tolerances[precision]


class FileEntry(_Part):
    """One other file of the archive: what its content must be."""

    sha256: Sha256
    size_bytes: int = Field(ge=0)


def _in_utc(moment: datetime) -> datetime:
    try:
        return moment.astimezone(timezone.utc)
    except OverflowError as error:
        raise ValueError(f"{moment} lies beyond the years 1 to 9999 in UTC") from error


class ModelDescription(_Part):
    """All of the manifest that the exporter decides; the writer adds the files."""

    schema_version: Literal[1] = SCHEMA_VERSION
    name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]
    version: Annotated[str, StringConstraints(pattern=r"^[0-9][0-9A-Za-z.+]{0,31}$")]
    created_utc: Annotated[AwareDatetime, AfterValidator(_in_utc)]
    feature_spec: FeatureSpec
    inputs: tuple[TensorSpec, ...] = Field(min_length=1, max_length=4)
    outputs: tuple[TensorSpec, ...] = Field(min_length=1, max_length=4)
    classes: tuple[ClassName, ...] = Field(min_length=1, max_length=MAX_CLASSES)
    scorer: ScorerSpec
    thresholds: dict[ClassName, Threshold]
    golden_tolerance: GoldenTolerance
    metrics: Metrics = Metrics()

    @model_validator(mode="after")
    def _check_agreement(self) -> ModelDescription:
        _check_feature_spec(self.feature_spec)
        if len(set(self.classes)) != len(self.classes):
            raise ValueError("classes names a class twice; expected each once")
        strangers = sorted(set(self.thresholds) - set(self.classes))
        if strangers:
            raise ValueError(f"thresholds has {strangers}, which classes does not; expected only {list(self.classes)}")
        expected = tensor_specs(self.feature_spec, len(self.classes))
        if (self.inputs, self.outputs) != expected:
            found = _shapes(self.inputs + self.outputs)
            raise ValueError(f"tensors are {found}; expected {_shapes(expected[0] + expected[1])}")
        return self

    @property
    def machine_classes(self) -> tuple[str, ...]:
        """The classes that a machine can be listened to as."""
        return tuple(name for name in self.classes if "~" not in name)

    def class_index(self, class_name: str) -> int:
        """Column of `class_name` in the network's cosine output.

        Raises:
            BundleError: the bundle has no such class of machines; the message names the nearest and lists all.
        """
        if class_name in self.machine_classes:
            return self.classes.index(class_name)
        nearest = difflib.get_close_matches(class_name, self.machine_classes, n=1)
        hint = f" (did you mean {nearest[0]!r}?)" if nearest else ""
        raise BundleError(
            f"model {self.name} {self.version} has no class {class_name!r}{hint}; expected one of "
            f"{', '.join(self.machine_classes)}; name one of these, or export a model that was trained on that machine"
        )

    def threshold(self, class_name: str) -> Threshold:
        """The fitted threshold of a class.

        Raises:
            BundleError: the bundle has no such class, or none of its clips were there when thresholds were fitted.
        """
        self.class_index(class_name)
        if class_name not in self.thresholds:
            raise BundleError(
                f"model {self.name} {self.version} has no threshold for {class_name}; fitted were "
                f"{', '.join(self.thresholds) or 'none'}; export it again with healthy clips of {class_name} "
                "in the calibration folder"
            )
        return self.thresholds[class_name]


class Manifest(ModelDescription):
    """manifest.json: the description of the model, and the hash and size of every other file of the bundle."""

    files: dict[str, FileEntry] = Field(max_length=16)


def tensor_specs(spec: FeatureSpec, n_classes: int) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    """Inputs and outputs that every network of schema version 1 has, in order."""
    inputs = (
        TensorSpec(name="wave", shape=("batch", spec.window_samples)),
        TensorSpec(name="log_mel", shape=("batch", spec.n_mels, spec.n_frames)),
    )
    outputs = (
        TensorSpec(name="embedding", shape=("batch", EMBEDDING_SIZE)),
        TensorSpec(name="cosine", shape=("batch", n_classes)),
    )
    return inputs, outputs


def _check_feature_spec(spec: FeatureSpec) -> None:
    for name, (lowest, highest) in SPEC_BOUNDS.items():
        value = getattr(spec, name)
        if not lowest <= value <= highest:
            raise ValueError(f"feature_spec.{name} is {value}; expected {lowest} to {highest}")
    if not 0.0 <= spec.f_min_hz < spec.f_max_hz <= spec.sample_rate_hz / 2:
        raise ValueError(
            f"feature_spec has mels from {spec.f_min_hz} to {spec.f_max_hz} Hz; expected a rising range "
            f"within 0 to {spec.sample_rate_hz / 2} Hz"
        )
    if spec.n_frames * max(spec.n_fft, spec.n_mels) > MAX_FRAME_SAMPLES:
        raise ValueError(
            f"feature_spec cuts a window into {spec.n_frames} frames of n_fft {spec.n_fft} and n_mels {spec.n_mels}; "
            f"expected at most {MAX_FRAME_SAMPLES} values in all frames"
        )


def _shapes(specs: tuple[TensorSpec, ...]) -> str:
    return ", ".join(f"{spec.name} ({', '.join(str(size) for size in spec.shape)})" for spec in specs)
