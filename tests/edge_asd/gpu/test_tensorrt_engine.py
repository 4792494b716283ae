"""The TensorRT engine on a GPU that is none: its logic, order of calls, memory, faults; real networks, no real GPU."""

import errno
import logging
import math
import os
import sys

import numpy as np
import pytest

from edge_asd.artifacts import Artifacts
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
def tensorrt(install_tensorrt):
    """TensorRT 10.3, faked."""
    return install_tensorrt()


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
                fake_cuda.fail(*fault)
            scored.append([each.score for each in pipeline.score([(ear, window) for ear in ears])])
        assert (pipeline.engine, pipeline.engine_failures) == ("onnxruntime-int8", 1)
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


def test_engine_that_fails_later_ends_the_run_where_there_is_no_other(fake_cuda, make_hand_bundle) -> None:
    """Without another engine in the configuration the fault is an error that the service manager may restart on."""
    bundle = make_hand_bundle()
    with open_pipeline(bundle, prefer=["tensorrt"], precision="int8") as pipeline:
        fake_cuda.fail("cuGraphLaunch", OUT_OF_MEMORY)
        with pytest.raises(EngineError, match=r"cuGraphLaunch failed: CUDA_ERROR_OUT_OF_MEMORY") as caught:
            pipeline.ear("bldc/M1").score(windows(noise(4_000), bundle.manifest.feature_spec)[0])
    assert caught.value.exit_code == 75


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda cuda: cuda.set_devices(0), r"finds no GPU; expected an NVIDIA GPU"),
        (lambda cuda: cuda.set_driver_version(11_040), r"supports CUDA up to 11\.4; expected 12\.0 .*JetPack 6"),
        (lambda cuda: cuda.fail("cuInit", 999), r"cuInit failed: as the fake was told"),
    ],
)
def test_unfit_driver_is_named_before_tensorrt_is_touched(
    tensorrt, fake_cuda, make_hand_bundle, spoil, message
) -> None:
    """Without a GPU or with an old driver the error says so, and no object of TensorRT is made."""
    spoil(fake_cuda)
    with pytest.raises(UnavailableError, match=message):
        open_engine(make_hand_bundle(), prefer=["tensorrt"], precision="int8")
    assert tensorrt.builds == []


@pytest.mark.parametrize(
    ("version", "message"),
    [
        ("8.5.2", r"TensorRT is 8\.5\.2; expected 8\.6 .*update JetPack to 6"),
        ("12.0.1", r"TensorRT is 12\.0\.1; expected .*update edge-asd"),
    ],
)
def test_tensorrt_of_another_age_is_refused(install_tensorrt, make_hand_bundle, version, message) -> None:
    """A version that is not served is named with those that are."""
    install_tensorrt(version)
    with pytest.raises(UnavailableError, match=message):
        open_engine(make_hand_bundle(), prefer=["tensorrt"], precision="int8")


def test_missing_tensorrt_is_told_with_where_it_comes_from(make_hand_bundle, monkeypatch) -> None:
    """TensorRT comes with JetPack, never from pip."""
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(UnavailableError, match=r"apt install python3-libnvinfer, .*--system-site-packages"):
        open_engine(make_hand_bundle(), prefer=["tensorrt"], precision="int8")


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_tensorrt_8_is_told_the_precisions(install_tensorrt, make_hand_bundle, precision) -> None:
    """8.6 knows no strong typing: flags say what may be half or INT8, and norms are held in float32."""
    tensorrt = install_tensorrt("8.6.2")
    with open_pipeline(make_hand_bundle(), prefer=["tensorrt"], precision=precision, workload=WORKLOAD):
        (build,) = tensorrt.builds
    held = {layer.type.name: layer.precision for layer in build.network.layers}
    if precision == "fp32":
        assert build.config.flags == set()
        assert set(held.values()) == {None}
    else:
        assert build.config.flags == {"fp16", "int8", "obey precisions"}
        assert held == {"CONVOLUTION": None, "NORMALIZATION": "float32", "CONSTANT": None}
    assert build.config.previews == {"profile sharing": True}
    assert build.config.cleared == {"tf32"}


def test_network_that_tensorrt_cannot_read_gives_its_reason(make_hand_bundle) -> None:
    """The parser's own words are in the error."""
    manifest = make_hand_bundle().manifest
    with pytest.raises(UnavailableError, match=r"TensorRT 10\.3\.0 cannot read the int8 network \(.+\)"):
        open_tensorrt(b"not a network", manifest, precision="int8", n_machines=1, hop_samples=HOP, artifacts=None)


def test_profiles_hold_one_machine_and_all(tensorrt, make_hand_bundle) -> None:
    """One profile for a single window, one for batches, whose largest is the power of two for all machines."""
    with open_engine(
        make_hand_bundle(), prefer=["tensorrt"], precision="int8", workload=Workload(n_machines=40)
    ) as engine:
        assert engine.max_batch == 16
    (build,) = tensorrt.builds
    shapes = [profile.shapes["wave"] for profile in build.config.profiles]
    assert [[shape[0] for shape in each] for each in shapes] == [[1, 1, 1], [2, 16, 16]]


def full_disk(*_):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


class TestCache:
    """The engine on disk."""

    @pytest.fixture
    def open_once(self, make_hand_bundle, tmp_path):
        def open_(precision="int8", workload=WORKLOAD, **changes):
            artifacts = Artifacts(tmp_path / "artifacts")
            open_engine(
                make_hand_bundle(**changes),
                prefer=["tensorrt"],
                precision=precision,
                workload=workload,
                artifacts=artifacts,
            ).close()
            return artifacts

        return open_

    def test_built_once(self, tensorrt, open_once, caplog) -> None:
        """A second start takes the engine from the disk; progress and time of the build are told."""
        with caplog.at_level(logging.INFO):
            open_once()
        assert "Building: 50 %" in caplog.text
        assert "built in" in caplog.text
        open_once()
        assert len(tensorrt.builds) == 1

    @pytest.mark.parametrize(
        "spoil",
        [
            lambda path: path.write_bytes(b""),
            lambda path: path.write_bytes(path.read_bytes()[:-1]),
            lambda path: path.write_bytes(path.read_bytes()[:300] + b"\0" + path.read_bytes()[301:]),
            lambda path: path.write_bytes(b"a plan of another program" * 100),
            lambda path: path.unlink(),
        ],
    )
    def test_engine_that_is_empty_or_altered_is_built_again(self, tensorrt, open_once, spoil) -> None:
        """What is on the disk is never trusted but by its seal."""
        artifacts = open_once()
        (path,) = artifacts.folder.glob("engine-*.bin")
        sound = path.read_bytes()
        spoil(path)
        open_once()
        assert len(tensorrt.builds) == 2
        assert len(path.read_bytes()) == len(sound)
        open_once()
        assert len(tensorrt.builds) == 2

    def test_engine_of_another_device_is_built_again(self, tensorrt, install_tensorrt, open_once, tmp_path) -> None:
        """GPU, power mode, TensorRT, precision, network and batch are the key; each of them builds anew, once."""
        open_once()
        (tmp_path / "nvpmodel-status").write_text("pmode:0002\n")
        open_once()
        open_once(precision="fp32")
        open_once(workload=Workload(n_machines=1))
        open_once(n_classes=4)
        assert len(tensorrt.builds) == 5
        newer = install_tensorrt("10.13.3")
        open_once(n_classes=4)
        assert len(newer.builds) == 1
        open_once(n_classes=4)
        assert len(newer.builds) == 1

    def test_engine_that_tensorrt_refuses_is_built_again(self, tensorrt, open_once, fake_cuda, caplog) -> None:
        """A kept engine with a sound seal that TensorRT takes for foreign all the same makes way for a new one."""
        open_once()
        fake_cuda.gpu_name = "Fake Orin of another stepping"  # not seen by the driver's name
        open_once()
        assert len(tensorrt.builds) == 2
        assert "refuses the engine" in caplog.text

    def test_timings_of_a_build_shorten_the_next(self, tensorrt, open_once) -> None:
        """The timing cache goes from build to build on one device."""
        open_once(precision="fp32")
        open_once(precision="int8")
        assert [build.timings for build in tensorrt.builds] == [b"", b"t"]

    def test_build_that_fails_leaves_the_kept_engine(self, tensorrt, open_once) -> None:
        """The state before stays intact."""
        artifacts = open_once()
        before = {path: path.read_bytes() for path in artifacts.paths()}
        tensorrt.fails_to_build = True
        with pytest.raises(UnavailableError, match="cannot build the fp32 network"):
            open_once(precision="fp32")
        assert {path: path.read_bytes() for path in artifacts.paths()} == before

    def test_disk_that_refuses_costs_the_cache_alone(self, make_hand_bundle, tmp_path, monkeypatch, caplog) -> None:
        """An engine that cannot be kept runs all the same, and the log says what to do."""
        artifacts = Artifacts(tmp_path / "artifacts")
        monkeypatch.setattr("edge_asd.artifacts.write_durably", full_disk)
        with open_engine(make_hand_bundle(), prefer=["tensorrt"], precision="int8", artifacts=artifacts) as engine:
            assert engine.name == "tensorrt"
        assert "cannot be kept (No space left on device)" in caplog.text
