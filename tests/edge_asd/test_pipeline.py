"""Pipeline: windows to scores as in numpy by hand, the golden self-test, and no number where there is none."""

import math
from pathlib import Path

import numpy as np
import pytest
from threadpoolctl import threadpool_info

from edge_asd.bundle import open_bundle
from edge_asd.errors import BundleError
from edge_asd.features import log_mel_db
from edge_asd.pipeline import Pipeline, open_pipeline
from edge_asd.score import MarginScorer
from edge_asd.self_test import check_golden
from edge_asd.types import Block, EngineOutputs, Window
from edge_asd.window import Windower

ENGINES = ["openvino", "onnxruntime"]
EXAMPLES = sorted(Path(__file__).parents[2].glob("examples/*/*.asd"))


def cut(sound: np.ndarray, spec, hop_samples: int = 640) -> list[Window]:
    """Windows of a whole recording."""
    return Windower(spec, hop_samples).push(Block(samples=sound, end_monotonic_s=10.0, end_utc_s=1e9))


def noise(n_samples: int, seed: int = 0) -> np.ndarray:
    return (0.1 * np.random.default_rng(seed).standard_normal(n_samples)).astype(np.float32)


@pytest.fixture
def pipeline(make_hand_bundle):
    """A pipeline on whichever engine is installed."""
    with open_pipeline(make_hand_bundle(), prefer=ENGINES, precision="fp32") as opened:
        yield opened


def test_scores_are_those_of_each_window_by_itself(pipeline, hand_network) -> None:
    """Frames that are reused between windows change no score: each is what its window gives in numpy."""
    windows = cut(noise(8_000), pipeline.spec)
    ear = pipeline.ear("bldc/M2")
    scored = [ear.score(window) for window in windows]
    waves = np.stack([window.wave for window in windows])
    _, cosine = hand_network.run(waves, log_mel_db(waves, pipeline.spec))
    expected = MarginScorer(30.0, 0.4, n_classes=3).score(cosine, 1)
    np.testing.assert_allclose([each.score for each in scored], expected, atol=1e-3)
    assert [each.fault for each in scored] == [None] * len(windows)
    assert all(each.latency_ms == each.features_ms + each.engine_ms > 0.0 for each in scored)


def test_machines_do_not_disturb_one_another(pipeline) -> None:
    """Two ears that take turns score as each does alone."""
    windows = [cut(noise(8_000, seed), pipeline.spec) for seed in (1, 2)]
    alone = [
        [ear.score(window).score for window in windows[n]] for n, ear in enumerate(map(pipeline.ear, ["bldc/M1"] * 2))
    ]
    ears = [pipeline.ear("bldc/M1"), pipeline.ear("bldc/M1")]
    in_turns = [
        [ear.score(window).score for ear, window in zip(ears, pair, strict=True)] for pair in zip(*windows, strict=True)
    ]
    assert in_turns == [list(pair) for pair in zip(*alone, strict=True)]


@pytest.mark.parametrize("sample", [math.nan, math.inf, -math.inf, 1e30])
def test_impossible_sound_has_no_score(pipeline, sample) -> None:
    """A window with a sample that is no sound has the score NaN and says why; the first one without it is scored."""
    sound = noise(12_000)
    sound[5_000] = sample
    ear = pipeline.ear("bldc/M1")
    scored = [(window, ear.score(window)) for window in cut(sound, pipeline.spec)]
    for window, each in scored:
        is_bad = sample in window.wave or not np.isfinite(window.wave).all()
        assert math.isnan(each.score) == is_bad
        assert (each.fault is not None) == is_bad
    assert {each.fault is None for _, each in scored} == {True, False}
    after = [each.score for _, each in scored][-1]
    assert after == pytest.approx(pipeline.ear("bldc/M1").score(scored[-1][0]).score, abs=1e-4)


class BrokenEngine:
    """An engine whose outputs are not numbers."""

    name = "broken"
    precision = "fp32"

    def infer(self, wave, log_mel):
        cosine = np.array([[0.5, -np.inf, 0.2]], dtype=np.float32).repeat(len(wave), axis=0)
        return EngineOutputs(embedding=np.full((len(log_mel), 128), np.nan, dtype=np.float32), cosine=cosine)

    def close(self):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def test_impossible_outputs_have_no_score(make_hand_bundle) -> None:
    """Outputs that are not finite give NaN and name the engine."""
    with Pipeline(make_hand_bundle(), BrokenEngine()) as pipeline:
        scored = pipeline.ear("bldc/M1").score(cut(noise(4_000), pipeline.spec)[0])
    assert math.isnan(scored.score)
    assert "broken engine" in scored.fault


def test_self_test_fails_on_outputs_that_are_not_numbers(make_hand_bundle) -> None:
    """NaN is not within any tolerance."""
    with pytest.raises(BundleError, match="self-test"):
        check_golden(make_hand_bundle(), BrokenEngine())


@pytest.mark.parametrize(
    ("name", "change", "expected"),
    [
        ("log_mel", 0.002, "log-mel differs by 0.002 dB (expected at most 0.001)"),
        ("score", 0.5, "score differs by 0.5 (at most 0.01)"),
        ("embedding", 0.1, "(at least 0.9999)"),
    ],
)
def test_self_test_tells_what_differs(make_hand_bundle, name, change, expected) -> None:
    """Golden values that the device does not reach are refused with the number and what is allowed."""
    altered = getattr(make_hand_bundle().golden, name) + np.float32(change)
    with pytest.raises(BundleError) as caught:
        open_pipeline(make_hand_bundle(**{name: altered}), prefer=ENGINES, precision="int8")
    assert expected in str(caught.value)
    assert caught.value.exit_code == 78


def test_unknown_class_is_named(pipeline) -> None:
    """A machine that the model was not trained on is refused with the classes there are."""
    with pytest.raises(BundleError, match="bldc/M1, bldc/M2, bldc/M3"):
        pipeline.ear("fan/id_00")


def test_bundle_of_one_class_is_refused(make_hand_bundle) -> None:
    """A bundle whose only class has no others to be compared with is refused with its path."""
    with pytest.raises(BundleError, match=r"hand-1\.0\.0\.asd: .*at least 2 classes"):
        open_pipeline(make_hand_bundle(n_classes=1), prefer=ENGINES, precision="fp32")


def test_blas_computes_with_one_thread(make_hand_bundle) -> None:
    """BLAS threads would spin against the engine's: one while a pipeline is open, as before once it is closed."""

    def blas_threads():
        return [library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"]

    before = blas_threads()
    with open_pipeline(make_hand_bundle(), prefer=ENGINES, precision="fp32") as pipeline:
        assert set(blas_threads()) <= {1}
        assert pipeline.engine_name in ENGINES
    assert blas_threads()[: len(before)] == before


def test_blas_keeps_one_thread_when_another_model_takes_over(make_hand_bundle) -> None:
    """A device opens the new model ahead of closing the old one."""
    old, new = (open_pipeline(make_hand_bundle(), prefer=ENGINES, precision="fp32") for _ in range(2))
    old.close()
    assert {library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"} <= {1}
    new.close()


@pytest.mark.parametrize("precision", ["fp32", "int8"])
@pytest.mark.parametrize("engine", ENGINES)
def test_example_bundle_passes_its_self_test_on_every_engine(engine, precision) -> None:
    """The bundle that ships runs on each engine in each precision and meets its golden scores within its tolerances."""
    pytest.importorskip(engine, reason=f"the package {engine} is not installed")
    bundle = open_bundle(EXAMPLES[0])
    with open_pipeline(bundle, prefer=[engine], precision=precision) as pipeline:
        allowed = getattr(bundle.manifest.golden_tolerance, precision).max_score_difference
        for wave, label, expected in zip(bundle.golden.wave, bundle.golden.label, bundle.golden.score, strict=True):
            window = Window(
                wave=wave,
                end_monotonic_s=10.0,
                end_utc_s=1e9,
                fresh_samples=len(wave),
                heard_samples=len(wave),
                lost_samples=0,
            )
            scored = pipeline.ear(bundle.manifest.classes[label]).score(window)
            assert scored.score == pytest.approx(expected, abs=allowed)
