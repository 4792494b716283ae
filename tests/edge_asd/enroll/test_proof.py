"""Clips that are copies are told by what the encoder itself cannot tell apart; different recordings are not."""

from pathlib import Path

import numpy as np
import pytest

from edge_asd.bundle import memory_from_vectors, open_bundle
from edge_asd.bundle.memory import Encoder
from edge_asd.capture.clips import read_clip
from edge_asd.enroll.proof import _check_copies, _window, encoder_noise
from edge_asd.enroll.remembering import RememberingScorer
from edge_asd.errors import ClipError
from edge_asd.pipeline import open_pipeline

EXAMPLE = Path(__file__).resolve().parents[3] / "examples" / "bldc_motor"


class Heard:
    """The example's network, its noise, and memories of waves by it."""

    def __init__(self, pipeline, bundle):
        self.encoder = Encoder(
            sha256="a" * 64, precision=pipeline.precision, layer="embedding", feature_spec=pipeline.spec
        )
        self._pipeline = pipeline
        self.noise = encoder_noise(pipeline, bundle, self.encoder)

    def memory(self, waves):
        vectors = RememberingScorer(self.encoder)
        ear = self._pipeline.ear_with(vectors)
        found = []
        for wave in waves:
            ear.score(_window(wave.astype(np.float32)))
            found.append(vectors.vector)
        return memory_from_vectors(np.stack(found), self.encoder)


@pytest.fixture(scope="module", params=["int8", "fp32"])
def heard(request):
    """By ONNX Runtime."""
    bundle = open_bundle(EXAMPLE / "bldc-motor-1.0.0.asd")
    with open_pipeline(bundle, prefer=["onnxruntime"], precision=request.param, threads=1) as pipeline:
        yield Heard(pipeline, bundle)


@pytest.fixture(scope="module")
def recordings():
    """A window each of different motors at different speeds."""
    return [read_clip(clip)[:160_000] for clip in sorted(EXAMPLE.rglob("clips/**/*.flac"))[:10]]


def in_noise(wave):
    """With noise 50 dB below."""
    return wave + 10.0**-2.5 * wave.std() * np.random.default_rng(wave.size).standard_normal(wave.size)


def test_different_recordings_are_no_copies(heard, recordings) -> None:
    """Nor are the encoder's vectors of them nearer than its noise."""
    _check_copies(heard.memory(recordings), heard.noise)
    assert 0.0 < heard.noise.same <= heard.noise.altered < 0.2


@pytest.mark.parametrize(
    "copy",
    [in_noise, lambda wave: 0.95 * wave, lambda wave: np.roll(wave, 7), lambda wave: np.roll(wave, -800)],
    ids=["noise", "level", "7 samples", "50 ms"],
)
def test_clips_given_twice_are_refused(heard, recordings, copy) -> None:
    """In another noise, level or cut."""
    with pytest.raises(ClipError, match="all alike"):
        _check_copies(heard.memory([*recordings, *map(copy, recordings)]), heard.noise)
