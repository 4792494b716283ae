"""What manifest.json of a bundle may hold: a document in, a validated, frozen Manifest out."""

from __future__ import annotations

import difflib
from datetime import datetime, timezone
from typing import Annotated, Literal

from pydantic import AfterValidator, AwareDatetime, Field, StringConstraints, model_validator

from edge_asd.bundle.figures import GoldenTolerance, Metrics
from edge_asd.bundle.memory import Encoder
from edge_asd.bundle.part import EMBEDDING_SIZE, MAX_CLASSES, ClassName, Part, Sha256
from edge_asd.bundle.scorers import KnnSection, ScorerSpec, Threshold
from edge_asd.errors import BundleError
from edge_asd.types import FeatureSpec, ScorerName

SCHEMA_VERSION: Literal[2] = 2
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
_N_OUTPUTS = 2  # that every network has


class TensorSpec(Part):
    """An input or output of the network; the first dimension is the batch."""

    name: Annotated[str, StringConstraints(pattern=r"^[a-z_]{1,32}$")]
    shape: tuple[Literal["batch"] | Annotated[int, Field(ge=1, le=4_000_000)], ...] = Field(min_length=1, max_length=4)
    dtype: Literal["float32"] = "float32"


class FileEntry(Part):
    """One other file of the archive: what its content must be."""

    sha256: Sha256
    size_bytes: int = Field(ge=0)


def _in_utc(moment: datetime) -> datetime:
    try:
        return moment.astimezone(timezone.utc)
    except OverflowError as error:
        raise ValueError(f"{moment} lies beyond the years 1 to 9999 in UTC") from error


class ModelDescription(Part):
    """All of the manifest that the exporter decides; the writer adds the files.

    thresholds: of the margin score. knn: memories for classes that may be scored by nearest neighbours, which schema
    version 1 has not.
    """

    schema_version: Literal[1, 2] = SCHEMA_VERSION
    name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]
    version: Annotated[str, StringConstraints(pattern=r"^[0-9][0-9A-Za-z.+]{0,31}$")]
    created_utc: Annotated[AwareDatetime, AfterValidator(_in_utc)]
    feature_spec: FeatureSpec
    inputs: tuple[TensorSpec, ...] = Field(min_length=1, max_length=4)
    outputs: tuple[TensorSpec, ...] = Field(min_length=1, max_length=4)
    classes: tuple[ClassName, ...] = Field(min_length=1, max_length=MAX_CLASSES)
    scorer: ScorerSpec
    thresholds: dict[ClassName, Threshold]
    knn: KnnSection | None = None
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
        expected = tensor_specs(self.feature_spec, len(self.classes), feature_map_size=self.feature_map_size)
        if (self.inputs, self.outputs) != expected:
            found = _shapes(self.inputs + self.outputs)
            raise ValueError(f"tensors are {found}; expected {_shapes(expected[0] + expected[1])}")
        if self.schema_version == 1 and (self.knn is not None or self.feature_map_size is not None):
            raise ValueError("schema version 1 has neither knn nor a feature_map; expected version 2")
        if self.knn is not None:
            self._check_knn(self.knn)
        return self

    def _check_knn(self, knn: KnnSection) -> None:
        strangers = sorted(set(knn.memories) - set(self.machine_classes))
        if strangers:
            raise ValueError(f"knn.memories has {strangers}; expected only {list(self.machine_classes)}")
        size = EMBEDDING_SIZE if knn.layer == "embedding" else self.feature_map_size
        if knn.vector_size != size:
            raise ValueError(f"knn.vector_size is {knn.vector_size}; expected {size}, that of the output {knn.layer}")
        if any(self.golden_tolerance.of(each).max_vector_distance is None for each in ("fp32", "fp16", "int8")):
            raise ValueError("golden_tolerance lacks max_vector_distance, which the memories need")

    @property
    def feature_map_size(self) -> int | None:
        """Length of the output feature_map; None where the network has none."""
        if len(self.outputs) < _N_OUTPUTS + 1:
            return None
        size = self.outputs[-1].shape[-1]
        return size if isinstance(size, int) else None

    def scorer_of(self, class_name: str) -> ScorerName:
        """By which a class is scored unless a device's configuration says otherwise."""
        memory = self.knn.memories.get(class_name) if self.knn else None
        return "margin" if memory is None else memory.scorer

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

    def threshold(self, class_name: str, scorer: ScorerName | None = None) -> Threshold:
        """The fitted threshold of a class for a scorer; None is the bundle's own choice.

        Raises:
            BundleError: the bundle has no such class, cannot score it so, or none of its clips were there when
                thresholds were fitted.
        """
        self.check_scorer(class_name, scorer)
        chosen = scorer or self.scorer_of(class_name)
        if chosen == "margin":
            found = self.thresholds.get(class_name)
        else:
            found = self.knn.memories[class_name].thresholds.get(chosen) if self.knn else None
        if found is None:
            raise BundleError(
                f"model {self.name} {self.version} has no threshold for {class_name} by {chosen}; fitted were "
                f"{', '.join(self.thresholds) or 'none'} by margin; export it again with healthy clips of {class_name} "
                "in the calibration folder"
            )
        return found

    def check_scorer(self, class_name: str, scorer: ScorerName | None) -> None:
        """Make sure that a class can be scored so.

        Raises:
            BundleError: the bundle has no such class, or no memory of it that the scorer needs.
        """
        self.class_index(class_name)
        memories = self.knn.memories if self.knn else {}
        if scorer in {None, "margin"}:
            return
        if class_name not in memories:
            raise BundleError(
                f"model {self.name} {self.version} cannot score {class_name} by {scorer}: it has memories of "
                f"{', '.join(memories) or 'no class'}; choose the scorer margin, or export it again with --scorer knn "
                f"and more healthy clips of {class_name}"
            )
        if scorer == "fusion" and memories[class_name].margin is None:
            raise BundleError(
                f"model {self.name} {self.version} cannot score {class_name} by fusion: the margin scores of its "
                "healthy clips show no spread; choose the scorer margin or knn"
            )


class Manifest(ModelDescription):
    """manifest.json: the description of the model, and the hash and size of every other file of the bundle."""

    files: dict[str, FileEntry] = Field(max_length=16)

    @property
    def encoder(self) -> Encoder | None:
        """That of the memories; None where there are none."""
        knn = self.knn
        if knn is None:
            return None
        return Encoder(
            sha256=knn.encoder_sha256, precision=knn.precision, layer=knn.layer, feature_spec=self.feature_spec
        )


def tensor_specs(
    spec: FeatureSpec, n_classes: int, *, feature_map_size: int | None = None
) -> tuple[tuple[TensorSpec, ...], tuple[TensorSpec, ...]]:
    """Inputs and outputs that every network has, in order; feature_map_size: of the output that not every one has."""
    inputs = (
        TensorSpec(name="wave", shape=("batch", spec.window_samples)),
        TensorSpec(name="log_mel", shape=("batch", spec.n_mels, spec.n_frames)),
    )
    sizes = {"embedding": EMBEDDING_SIZE, "cosine": n_classes, "feature_map": feature_map_size}
    outputs = tuple(TensorSpec(name=name, shape=("batch", size)) for name, size in sizes.items() if size is not None)
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
