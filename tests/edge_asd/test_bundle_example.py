"""The example model ships whole, small, attributed, and with the figures that its README tells."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edge_asd.bundle import Bundle, Precision, open_bundle
from edge_asd.capture.clips import find_clips, read_clip
from edge_asd.engine import open_engine
from edge_asd.features import log_mel_db
from edge_asd.types import FloatArray

FOLDER = Path(__file__).parents[2] / "examples" / "bldc_motor"


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    """The example bundle, verified."""
    return open_bundle(FOLDER / "bldc-motor-1.0.0.asd")


def test_example_is_small_enough_to_ship(bundle):
    """Model at most 8 MB, clips at most 3 MB."""
    assert bundle.path.stat().st_size <= 8_000_000
    assert sum(clip.stat().st_size for clip in FOLDER.glob("clips/*/*.flac")) <= 3_000_000


def test_example_carries_its_attribution(bundle):
    """Data set, licence and the words that the figures are no untouched test's, in the file itself."""
    for text in ("Sound-based fault detection BLDC motors", "j4yr5fmhv4", "CC BY 4.0", "untouched test"):
        assert text in bundle.model_card


def test_example_was_named_by_its_file(bundle):
    """Three motors to listen to, each with a threshold."""
    assert f"{bundle.manifest.name}-{bundle.manifest.version}.asd" == bundle.path.name
    assert bundle.manifest.machine_classes == ("bldc/M1", "bldc/M2", "bldc/M3")
    assert set(bundle.manifest.thresholds) == set(bundle.manifest.machine_classes)


def test_readme_tells_the_counts_of_the_manifest(bundle):
    """The table of test clips is that of the INT8 model."""
    readme = (FOLDER / "README.md").read_text(encoding="utf-8")
    for found in bundle.manifest.metrics.test:
        if found.precision == "int8" and found.auc is not None:
            healthy = f"{found.n_normal} | {found.normal_above_threshold}"
            damaged = f"{found.n_anomaly} | {found.anomaly_above_threshold}"
            assert f"| `{found.class_name}` | {healthy} | {damaged} | {found.auc:.3f} |" in readme


@pytest.mark.parametrize("engine", ["openvino", "onnxruntime"])
def test_int8_hears_what_float32_hears(bundle, engine):
    """Embeddings of all clips, a damaged one 30 dB louder than the healthy ones among them, keep a cosine of 0.995."""
    spec = bundle.manifest.feature_spec
    waves = np.stack([read_clip(clip)[: spec.window_samples] for clip in find_clips([FOLDER / "clips"])])
    embedding = {precision: _embeddings(bundle, engine, precision, waves) for precision in ("fp32", "int8")}
    assert (embedding["fp32"] * embedding["int8"]).sum(axis=1).min() >= 0.995


@pytest.mark.parametrize("engine", ["openvino", "onnxruntime"])
def test_one_thread_computes_what_two_do(bundle, engine):
    """As on a device with one core to spare."""
    golden = bundle.golden
    cosine = []
    for threads in (1, 2):
        with open_engine(bundle, prefer=[engine], precision="int8", threads=threads) as opened:
            cosine.append(opened.infer(golden.wave, golden.log_mel).cosine)
    np.testing.assert_allclose(cosine[0], cosine[1], atol=1e-3)


def _embeddings(bundle: Bundle, engine: str, precision: Precision, waves: FloatArray) -> FloatArray:
    with open_engine(bundle, prefer=[engine], precision=precision, threads=2) as opened:
        log_mels = (log_mel_db(wave, bundle.manifest.feature_spec) for wave in waves)
        embedding = np.concatenate(
            [
                opened.infer(wave[np.newaxis], log_mel[np.newaxis]).embedding
                for wave, log_mel in zip(waves, log_mels, strict=True)
            ]
        )  # (clips, 128)
    return embedding / np.linalg.norm(embedding, axis=1, keepdims=True)
