"""The TensorRT engine on a GPU that is none: its logic, order of calls, memory, faults; real networks, no real GPU."""

import logging
import math

import numpy as np
import pytest

from edge_asd.bundle import EMBEDDING_SIZE, TensorSpec
from edge_asd.engine import Hop, WaveEngine, Workload, open_engine
from edge_asd.engine.tensorrt import TensorRtEngine, open_tensorrt
from edge_asd.errors import BundleError, EngineError, UnavailableError
from edge_asd.features import log_mel_db
from edge_asd.pipeline import open_pipeline
from edge_asd.score import MarginScorer
from edge_asd.types import Block, Window
from edge_asd.window import Windower

OUT_OF_MEMORY, ILLEGAL_ADDRESS = 2, 700
HOP = 640
pytestmark = pytest.mark.usefixtures("tensorrt")

WORKLOAD = Workload(n_machines=3, hop_samples=HOP)


@pytest.fixture
def engine(make_hand_bundle):
    """Opened for three machines."""
    with open_engine(make_hand_bundle(), prefer=["tensorrt"], precision="int8", workload=WORKLOAD) as opened:
        yield opened


def noise(n_samples: int, seed: int = 0) -> np.ndarray:
    return (0.1 * np.random.default_rng(seed).standard_normal(n_samples)).astype(np.float32)


def windows(sound: np.ndarray, spec, hop_samples: int = HOP) -> list[Window]:
    return Windower(spec, hop_samples).push(Block(samples=sound, end_monotonic_s=10.0, end_utc_s=1e9))


def heard(engine, streams_and_windows) -> list:
    return engine.hear(
        [Hop(stream=stream, wave=each.wave, fresh_samples=each.fresh_samples) for stream, each in streams_and_windows]
    )


def expected(hand_network, spec, wave):
    return hand_network.run(wave[np.newaxis], log_mel_db(wave, spec)[np.newaxis])


def test_outputs_are_those_of_the_network(engine, make_hand_bundle, hand_network) -> None:
    """With its own front end and with log-mels from outside, embedding and cosine are what numpy gives."""
    golden, spec = make_hand_bundle().golden, make_hand_bundle().manifest.feature_spec
    assert isinstance(engine, WaveEngine)
    assert (engine.name, engine.precision, engine.max_batch) == ("tensorrt", "int8", 4)
    embedding, cosine = hand_network.run(golden.wave, golden.log_mel)
    outputs = engine.infer(golden.wave, golden.log_mel)
    np.testing.assert_allclose(outputs.embedding, embedding, atol=2e-5)
    np.testing.assert_allclose(outputs.cosine, cosine, atol=2e-5)
    for row, window in enumerate(golden.wave):
        (own,) = engine.hear([Hop(stream=engine.stream(), wave=window, fresh_samples=window.size)])
        np.testing.assert_allclose(own.outputs.cosine, cosine[row : row + 1], atol=2e-5)
        np.testing.assert_allclose(engine.log_mel_db(window), log_mel_db(window, spec), atol=1e-3)


def test_successive_hops_score_as_their_windows_alone(engine, make_hand_bundle, hand_network) -> None:
    """In batches of any size, with machines that come and go, gaps and odd steps, each window is heard as it is.

    There are more machines than rings, so that rings change hands.
    """
    spec = make_hand_bundle().manifest.feature_spec
    random = np.random.default_rng(11)
    machines = [(engine.stream(), iter(windows(noise(14_000, seed), spec))) for seed in range(6)]
    machines.append((engine.stream(), iter(windows(noise(9_000, 9), spec, hop_samples=1_300))))  # beyond the hop
    machines.append(
        (engine.stream(), iter([*windows(noise(6_000, 7), spec), *windows(noise(5_000, 8), spec)]))
    )  # a gap
    n_heard = 0
    while machines:
        chosen = random.permutation(len(machines))[: random.integers(1, 5)]
        batch = [(machines[place], next(machines[place][1], None)) for place in chosen]
        machines = [each for each in machines if not any(each is m and window is None for m, window in batch)]
        batch = [(stream, window) for (stream, _), window in batch if window is not None]
        if not batch:
            continue
        for (_, window), each in zip(batch, heard(engine, batch), strict=True):
            np.testing.assert_allclose(each.outputs.cosine, expected(hand_network, spec, window.wave)[1], atol=2e-5)
            n_heard += 1
    assert n_heard > 90


def test_hop_is_one_replay_and_one_wait(engine, fake_cuda, make_hand_bundle) -> None:
    """A hop uploads its fresh samples alone, within the graph; a whole window takes one more copy."""
    spec = make_hand_bundle().manifest.feature_spec
    first, second, third = windows(noise(6_000), spec)[:3]
    stream = engine.stream()
    fake_cuda.forget_calls()
    heard(engine, [(stream, first)])
    replay = ["cuCtxPushCurrent_v2", "cuGraphLaunch", "cuStreamSynchronize", "cuCtxPopCurrent_v2"]
    assert fake_cuda.calls() == [replay[0], "cuMemcpyHtoDAsync_v2", *replay[1:]]
    fake_cuda.forget_calls()
    heard(engine, [(stream, second)])
    heard(engine, [(stream, third), (engine.stream(), first)])
    assert fake_cuda.calls() == [*replay, replay[0], "cuMemcpyHtoDAsync_v2", *replay[1:]]


def test_recording_holds_upload_front_end_and_download(fake_cuda, make_hand_bundle) -> None:
    """One copy up, two launches, the network, one copy down, in this order, without a wait, for each batch size."""
    with open_engine(make_hand_bundle(), prefer=["tensorrt"], precision="int8", workload=WORKLOAD):
        calls = fake_cuda.calls()
    recordings = " ".join(calls).split("cuStreamBeginCapture_v2")[1:]
    work = "cuMemcpyHtoDAsync_v2 cuLaunchKernel cuLaunchKernel cuMemcpyDtoHAsync_v2 cuStreamEndCapture"
    assert len(recordings) == 3
    assert all(recording.split()[:5] == work.split() for recording in recordings)


def test_all_memory_is_taken_at_the_start_and_given_back(fake_cuda, make_hand_bundle) -> None:
    """Hearing allocates nothing; closing, twice even, leaves nothing behind, and no context on the thread."""
    bundle = make_hand_bundle()
    engine = open_engine(bundle, prefer=["tensorrt"], precision="int8", workload=WORKLOAD)
    n_allocations = fake_cuda.n_allocations()
    assert n_allocations > 0
    for seed in range(5):
        stream = engine.stream()
        for window in windows(noise(6_000, seed), bundle.manifest.feature_spec):
            heard(engine, [(stream, window)])
    assert fake_cuda.n_allocations() == n_allocations
    assert (fake_cuda.n_retained(), fake_cuda.n_current()) == (1, 0)
    engine.close()
    engine.close()
    assert (fake_cuda.n_allocations(), fake_cuda.n_retained(), fake_cuda.n_current()) == (0, 0, 0)


@pytest.mark.parametrize("sample", [math.nan, math.inf, 1e30])
def test_impossible_sound_has_no_outputs_and_harms_no_other(engine, make_hand_bundle, hand_network, sample) -> None:
    """A window with a sample that is no sound has no outputs; its batch and the windows after it are heard."""
    spec = make_hand_bundle().manifest.feature_spec
    sound = noise(12_000)
    sound[4_500] = sample
    ill, well = engine.stream(), engine.stream()
    seen = set()
    for bad, good in zip(windows(sound, spec), windows(noise(12_000, 1), spec), strict=True):
        from_ill, from_well = heard(engine, [(ill, bad), (well, good)])
        is_bad = not np.isfinite(log_mel_db(bad.wave, spec)).all()
        assert (from_ill.outputs is None) == is_bad
        seen.add(is_bad)
        np.testing.assert_allclose(from_well.outputs.cosine, expected(hand_network, spec, good.wave)[1], atol=2e-5)
        if not is_bad:
            np.testing.assert_allclose(from_ill.outputs.cosine, expected(hand_network, spec, bad.wave)[1], atol=2e-5)
    assert seen == {True, False}


def test_where_no_graph_can_be_recorded_it_runs_without(fake_cuda, make_hand_bundle, hand_network, caplog) -> None:
    """A recording that fails costs speed, not the engine, and is told."""
    bundle = make_hand_bundle()
    fake_cuda.fail("cuGraphInstantiateWithFlags", 801)
    with open_engine(bundle, prefer=["tensorrt"], precision="int8") as engine:
        (window, *_) = windows(noise(4_000), bundle.manifest.feature_spec)
        (own,) = heard(engine, [(engine.stream(), window)])
    _, cosine = expected(hand_network, bundle.manifest.feature_spec, window.wave)
    np.testing.assert_allclose(own.outputs.cosine, cosine, atol=2e-5)
    assert "batches of 1 run without a CUDA graph" in caplog.text


def test_network_of_log_mel_alone_runs(make_hand_bundle) -> None:
    """A network that makes no use of the wave runs, whether or not the engine keeps that input."""
    with open_pipeline(make_hand_bundle(hears_wave=False), prefer=["tensorrt"], precision="fp32") as pipeline:
        assert pipeline.engine_name == "tensorrt"


def test_memory_exhausted_at_the_start_is_told_and_the_next_engine_runs(fake_cuda, make_hand_bundle, caplog) -> None:
    """GPU memory that does not suffice is named with what it was for and what is free; the CPU takes over."""
    bundle = make_hand_bundle()
    fake_cuda.set_free_bytes(40_000)
    with (
        caplog.at_level(logging.WARNING),
        open_engine(bundle, prefer=["tensorrt", "onnxruntime"], precision="int8") as engine,
    ):
        assert engine.name == "onnxruntime"
    assert "GPU memory is exhausted" in caplog.text
    assert "; trying onnxruntime" in caplog.text
    assert fake_cuda.n_allocations() == 0
    with pytest.raises(UnavailableError, match=r"GPU memory is exhausted: [\d.]+ MB wanted for .*are free; end other"):
        open_engine(bundle, prefer=["tensorrt"], precision="int8")


@pytest.mark.parametrize("fault", [("cuGraphLaunch", OUT_OF_MEMORY), ("cuStreamSynchronize", ILLEGAL_ADDRESS)])
def test_engine_that_fails_later_is_relieved_by_the_cpu(
    fake_cuda, make_hand_bundle, hand_network, caplog, fault
) -> None:
    """The window at which the GPU fails is scored by the next engine of the configuration, and so are all others."""
    bundle = make_hand_bundle()
    spec = bundle.manifest.feature_spec
    sound = windows(noise(8_000), spec)
    with open_pipeline(bundle, prefer=["tensorrt", "onnxruntime"], precision="int8", workload=WORKLOAD) as pipeline:
        ears = [pipeline.ear("bldc/M1"), pipeline.ear("bldc/M2")]
        scored = []
        for number, window in enumerate(sound):
            if number == 2:
                assert (pipeline.engine, pipeline.engine_failures) == ("tensorrt-int8", 0)
                assert pipeline.engine_trouble is None
                fake_cuda.fail(*fault)
            scored.append([each.score for each in pipeline.score([(ear, window) for ear in ears])])
        assert (pipeline.engine, pipeline.engine_failures) == ("onnxruntime-int8", 1)
        assert pipeline.engine_trouble.startswith("tensorrt: it has failed: ")
    waves = np.stack([window.wave for window in sound])
    _, cosine = hand_network.run(waves, log_mel_db(waves, spec))
    scorer = MarginScorer(30.0, 0.4, n_classes=3)
    reference = np.stack([scorer.score(cosine, 0), scorer.score(cosine, 1)], axis=1)
    np.testing.assert_allclose(scored, reference, atol=1e-3)
    assert "the tensorrt engine has failed" in caplog.text


def test_engine_that_fails_its_self_test_is_not_taken(make_hand_bundle, monkeypatch, caplog) -> None:
    """A GPU that computes what the golden windows do not say is left alone, with the numbers, and the CPU runs."""
    whole = TensorRtEngine.log_mel_db
    monkeypatch.setattr(TensorRtEngine, "log_mel_db", lambda self, wave: whole(self, wave) + np.float32(0.5))
    bundle = make_hand_bundle()
    with open_pipeline(bundle, prefer=["tensorrt", "onnxruntime"], precision="int8") as pipeline:
        assert pipeline.engine == "onnxruntime-int8"
    assert "engine tensorrt is not taken" in caplog.text
    assert "log-mel differs by 0.5 dB" in caplog.text
    with pytest.raises(BundleError, match=r"fails with tensorrt int8: log-mel differs by 0\.5 dB"):
        open_pipeline(bundle, prefer=["tensorrt"], precision="int8")


def test_engine_that_is_wrong_in_batches_alone_is_not_taken(make_hand_bundle, monkeypatch, caplog) -> None:
    """A network that is right for one window and wrong for two is found out before several machines are heard."""
    whole = TensorRtEngine.hear

    def hear(self, hops):
        heard = whole(self, hops)
        for each in heard if len(hops) > 1 else []:
            each.outputs.cosine[:] /= np.sqrt(2)  # as if the norm went over the batch
        return heard

    monkeypatch.setattr(TensorRtEngine, "hear", hear)
    bundle = make_hand_bundle()
    with open_pipeline(
        bundle, prefer=["tensorrt", "onnxruntime"], precision="int8", workload=Workload(n_machines=2)
    ) as pipeline:
        assert pipeline.engine == "onnxruntime-int8"
    assert "golden windows in batches of 2 fails with tensorrt" in caplog.text
    with open_pipeline(bundle, prefer=["tensorrt"], precision="int8", workload=Workload(n_machines=1)) as pipeline:
        assert pipeline.engine == "tensorrt-int8"


def test_each_graph_is_launched_before_service(fake_cuda, make_hand_bundle) -> None:
    """The self-test replays what was recorded for every size of batch."""
    with open_pipeline(
        make_hand_bundle(), prefer=["tensorrt"], precision="int8", workload=Workload(n_machines=16, hop_samples=HOP)
    ):
        calls = fake_cuda.calls()
    assert calls.count("cuGraphInstantiateWithFlags") == 5
    assert calls.count("cuGraphLaunch") == 2 + 4  # both golden windows alone, then one batch of 2, 4, 8 and 16 each


@pytest.mark.parametrize("place", [3, 7])
def test_engine_that_is_wrong_in_the_last_places_of_a_batch_is_not_taken(
    make_hand_bundle, monkeypatch, caplog, place
) -> None:
    """Every place of every size is checked, not only the first two, which golden windows fill without repeating."""
    whole = TensorRtEngine.hear

    def hear(self, hops):
        heard = whole(self, hops)
        if len(hops) > place:
            heard[place].outputs.embedding[:] = heard[place].outputs.embedding[:, ::-1]
        return heard

    monkeypatch.setattr(TensorRtEngine, "hear", hear)
    with open_pipeline(
        make_hand_bundle(),
        prefer=["tensorrt", "onnxruntime"],
        precision="int8",
        workload=Workload(n_machines=8, hop_samples=HOP),
    ) as pipeline:
        assert pipeline.engine == "onnxruntime-int8"
    assert f"golden windows in batches of {place + 1} fails with tensorrt" in caplog.text


def test_feature_map_comes_along(make_hand_bundle, hand_network) -> None:
    """A network with a third output gives it for each window, its own and in batches."""
    onnx = pytest.importorskip("onnx", reason="onnx, which builds the test's network, is not installed")
    model = onnx.load_from_string(make_hand_bundle().onnx_model("fp32"))
    model.graph.node.append(onnx.helper.make_node("Concat", ["embedding", "embedding"], ["feature_map"], axis=1))
    shape = ["batch", 2 * EMBEDDING_SIZE]
    model.graph.output.append(onnx.helper.make_tensor_value_info("feature_map", onnx.TensorProto.FLOAT, shape))
    manifest = make_hand_bundle().manifest
    spec = TensorSpec(name="feature_map", shape=("batch", 2 * EMBEDDING_SIZE))
    manifest = manifest.model_copy(update={"outputs": (*manifest.outputs, spec)})
    golden = make_hand_bundle().golden
    with open_tensorrt(
        model.SerializeToString(), manifest, precision="fp32", n_machines=2, hop_samples=HOP, artifacts=None
    ) as engine:
        outputs = engine.infer(golden.wave, golden.log_mel)
        hops = [Hop(stream=engine.stream(), wave=wave, fresh_samples=wave.size) for wave in golden.wave]
        own = [each.outputs for each in engine.hear(hops)]
    embedding, _ = hand_network.run(golden.wave, golden.log_mel)
    expected_map = np.concatenate((embedding, embedding), axis=1)
    np.testing.assert_allclose(outputs.feature_map, expected_map, atol=2e-5)
    np.testing.assert_allclose(np.concatenate([each.feature_map for each in own]), expected_map, atol=2e-5)


def test_engine_that_fails_later_ends_the_run_where_there_is_no_other(fake_cuda, make_hand_bundle) -> None:
    """Without another engine in the configuration the fault is an error that the service manager may restart on."""
    bundle = make_hand_bundle()
    with open_pipeline(bundle, prefer=["tensorrt"], precision="int8") as pipeline:
        fake_cuda.fail("cuGraphLaunch", OUT_OF_MEMORY)
        with pytest.raises(EngineError, match=r"cuGraphLaunch failed: CUDA_ERROR_OUT_OF_MEMORY") as caught:
            pipeline.ear("bldc/M1").score(windows(noise(4_000), bundle.manifest.feature_spec)[0])
    assert caught.value.exit_code == 75
