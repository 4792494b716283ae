"""A whole bundle around a network small enough to be computed by hand, for tests of engines, pipeline and daemon."""

import errno
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import pytest

from edge_asd.bundle import (
    EMBEDDING_SIZE,
    Golden,
    GoldenTolerance,
    ModelDescription,
    ScorerSpec,
    Threshold,
    Tolerance,
    tensor_specs,
    write_bundle,
)
from edge_asd.features import log_mel_db
from edge_asd.score import MarginScorer
from edge_asd.types import FeatureSpec

SPEC = FeatureSpec(window_samples=4_000, n_fft=256, hop_samples=64, n_mels=20)


@dataclass(frozen=True, kw_only=True)
class HandNetwork:
    """embedding = normalize(mean of log-mel over frames @ a + wave @ b), cosine = embedding @ weight."""

    a: np.ndarray  # (n_mels, 128)
    b: np.ndarray  # (window_samples, 128)
    weight: np.ndarray  # (128, classes), columns of unit length
    hears_wave: bool = True  # False: wave is an input that nothing uses, as in networks of log-mel alone

    @classmethod
    def draw(cls, n_classes: int, seed: int = 0) -> "HandNetwork":
        random = np.random.default_rng(seed)
        weight = random.standard_normal((EMBEDDING_SIZE, n_classes))
        b = np.zeros((SPEC.window_samples, EMBEDDING_SIZE), dtype=np.float32)
        b[::100] = random.standard_normal((SPEC.window_samples // 100, EMBEDDING_SIZE))  # few: zeros pack fast
        return cls(
            a=(random.standard_normal((SPEC.n_mels, EMBEDDING_SIZE)) / 50).astype(np.float32),
            b=b,
            weight=(weight / np.linalg.norm(weight, axis=0)).astype(np.float32),
        )

    def run(self, wave, log_mel):
        """(embedding, cosine) in numpy."""
        hidden = log_mel.mean(axis=2) @ self.a
        if self.hears_wave:
            hidden = hidden + wave @ self.b
        embedding = hidden / np.linalg.norm(hidden, axis=1, keepdims=True)
        return embedding, embedding @ self.weight

    def onnx(self) -> bytes:
        """The same as a serialized ONNX model."""
        onnx = pytest.importorskip("onnx", reason="onnx, which builds the test's network, is not installed")
        make = onnx.helper.make_node
        nodes = [
            make("ReduceMean", ["log_mel"], ["mean"], axes=[2], keepdims=0),
            *(
                [
                    make("MatMul", ["mean", "a"], ["from_mel"]),
                    make("MatMul", ["wave", "b"], ["from_wave"]),
                    make("Add", ["from_mel", "from_wave"], ["hidden"]),
                ]
                if self.hears_wave
                else [make("MatMul", ["mean", "a"], ["hidden"])]
            ),
            make("ReduceL2", ["hidden"], ["length"], axes=[1], keepdims=1),
            make("Div", ["hidden", "length"], ["embedding"]),
            make("MatMul", ["embedding", "weight"], ["cosine"]),
        ]
        constants = {
            "a": self.a,
            "b": self.b,
            "weight": self.weight,
        }
        inputs, outputs = tensor_specs(SPEC, self.weight.shape[1])
        value = onnx.helper.make_tensor_value_info
        graph = onnx.helper.make_graph(
            nodes,
            "hand",
            [value(spec.name, onnx.TensorProto.FLOAT, spec.shape) for spec in inputs],
            [value(spec.name, onnx.TensorProto.FLOAT, spec.shape) for spec in outputs],
            [
                onnx.numpy_helper.from_array(array, name)
                for name, array in constants.items()
                if name != "b" or self.hears_wave
            ],
        )
        opset = onnx.helper.make_opsetid("", 17)
        return onnx.helper.make_model(graph, opset_imports=[opset], ir_version=8).SerializeToString()


def onnx_field(number: int, content: "bytes | int") -> bytes:
    """One field of a protobuf message: a number, or bytes (text, or a message within it)."""
    if isinstance(content, int):
        return _varint(number << 3) + _varint(content)
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    digits = []
    while True:
        value, digit = value >> 7, value & 0x7F
        digits.append(digit | (0x80 if value else 0))
        if not value:
            return bytes(digits)


def _onnx_value(spec) -> bytes:
    sizes = b"".join(
        onnx_field(1, onnx_field(2, b"batch") if size == "batch" else onnx_field(1, size)) for size in spec.shape
    )
    tensor = onnx_field(1, 1) + onnx_field(2, sizes)
    return onnx_field(1, spec.name.encode()) + onnx_field(2, onnx_field(1, tensor))


@pytest.fixture(scope="session")
def bare_onnx():
    """A function: an ONNX network with a bundle's inputs and outputs that no engine runs, without the package onnx.

    `graph` is further content of its graph, `model` of the message around it; `field` makes such content.
    """

    def make(spec, n_classes: int, *, graph: bytes = b"", model: bytes = b"") -> bytes:
        inputs, outputs = tensor_specs(spec, n_classes)
        values = b"".join(
            onnx_field(number, _onnx_value(tensor))
            for number, tensors in ((11, inputs), (12, outputs))
            for tensor in tensors
        )
        return onnx_field(1, 10) + onnx_field(7, graph + values) + model

    make.field = onnx_field
    return make


@pytest.fixture(scope="session")
def make_bare_bundle(bare_onnx):
    """A function that writes a bundle whose networks no engine runs, small and quick; keywords alter its manifest."""
    spec = FeatureSpec(window_samples=2_048, n_fft=256, hop_samples=256, n_mels=8)
    classes = ("bldc/M1", "bldc/M2")
    inputs, outputs = tensor_specs(spec, len(classes))
    tolerance = Tolerance(min_embedding_cosine=0.99, max_score_difference=1.0)
    random = np.random.default_rng(1)

    def draw(*shape: int) -> np.ndarray:
        return random.standard_normal(shape).astype(np.float32)

    golden = Golden(
        wave=draw(2, spec.window_samples),
        log_mel=draw(2, spec.n_mels, spec.n_frames),
        embedding=draw(2, EMBEDDING_SIZE),
        cosine=draw(2, len(classes)),
        label=np.zeros(2, np.int64),
        score=draw(2),
    )

    def make(path, **changes):
        values = {
            "name": "bare",
            "version": "1.0.0",
            "created_utc": datetime(2026, 1, 2, tzinfo=timezone.utc),
            "feature_spec": spec,
            "inputs": inputs,
            "outputs": outputs,
            "classes": classes,
            "scorer": ScorerSpec(scale=30.0, margin=0.4),
            "thresholds": {},
            "golden_tolerance": GoldenTolerance(max_log_mel_difference_db=0.01, fp32=tolerance, int8=tolerance),
        }
        network = bare_onnx(spec, len(classes))
        return write_bundle(
            path,
            ModelDescription(**{**values, **changes}),
            onnx_fp32=network,
            onnx_int8=network,
            golden=golden,
            model_card="# A bundle for tests\n",
        )

    return make


@pytest.fixture
def hand_network():
    """The network of `make_hand_bundle` with three classes, in numpy."""
    return HandNetwork.draw(3)


@pytest.fixture
def make_hand_bundle(tmp_path):
    """A function that writes a bundle around the hand network; keywords alter its golden values or its ONNX model.

    threshold: of every class; without it no class has one.
    """

    def make(
        *,
        n_classes: int = 3,
        hears_wave: bool = True,
        onnx: bytes | None = None,
        version: str = "1.0.0",
        threshold: float | None = None,
        **golden_changes,
    ):
        network = replace(HandNetwork.draw(n_classes), hears_wave=hears_wave)
        random = np.random.default_rng(7)
        wave = (0.1 * random.standard_normal((2, SPEC.window_samples))).astype(np.float32)
        log_mel = log_mel_db(wave, SPEC)
        embedding, cosine = network.run(wave, log_mel)
        label = np.array([0, n_classes - 1], dtype=np.int64)
        score = np.zeros(2, dtype=np.float32)
        if n_classes > 1:
            score = MarginScorer(30.0, 0.4, n_classes=n_classes).score(cosine, label)
        golden = Golden(wave=wave, log_mel=log_mel, embedding=embedding, cosine=cosine, label=label, score=score)
        tolerance = Tolerance(min_embedding_cosine=0.9999, max_score_difference=0.01)
        inputs, outputs = tensor_specs(SPEC, n_classes)
        classes = tuple(f"bldc/M{number}" for number in range(1, n_classes + 1))
        thresholds = {}
        if threshold is not None:
            fitted = Threshold(
                threshold=threshold,
                target_false_alarms_per_day=1.0,
                alpha=1e-4,
                method="gamma",
                n_clips=9,
                n_clips_pooled=9,
                extrapolated=True,
                precision="int8",
            )
            thresholds = dict.fromkeys(classes, fitted)
        description = ModelDescription(
            name="hand",
            version=version,
            created_utc=datetime(2026, 1, 2, tzinfo=timezone.utc),
            feature_spec=SPEC,
            inputs=inputs,
            outputs=outputs,
            classes=classes,
            scorer=ScorerSpec(scale=30.0, margin=0.4),
            thresholds=thresholds,
            golden_tolerance=GoldenTolerance(max_log_mel_difference_db=1e-3, fp32=tolerance, int8=tolerance),
        )
        model = network.onnx() if onnx is None else onnx
        return write_bundle(
            tmp_path / f"hand-{version}.asd",
            description,
            onnx_fp32=model,
            onnx_int8=model,
            golden=replace(golden, **golden_changes),
            model_card="# A network for tests\n",
        )

    return make


@pytest.fixture
def forbid(monkeypatch):
    """A context manager: a file, or all that lies in a folder, is as if another user had it for himself.

    To root, as whom tests may run, no mode forbids anything.
    """

    @contextmanager
    def forbid(path):
        is_folder = path.is_dir()

        def guarded(name):
            call = getattr(Path, name)

            def guard(self, *arguments, **options):
                if (path in self.parents) if is_folder else (self == path and name != "stat"):
                    raise PermissionError(errno.EACCES, "Permission denied", str(self))
                return call(self, *arguments, **options)

            return guard

        with monkeypatch.context() as patch:
            for name in ("stat", "open", "read_bytes"):
                patch.setattr(Path, name, guarded(name))
            yield

    return forbid
