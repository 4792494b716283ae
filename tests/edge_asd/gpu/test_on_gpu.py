"""What only a GPU can show, on the example network and its clips: `make test-gpu` on any machine that has one."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile

from edge_asd.artifacts import Artifacts
from edge_asd.bundle import open_bundle
from edge_asd.cuda import ROW, FrontEndBuffers, Gpu, LogMelKernels, Nvrtc, log_mel_cubin
from edge_asd.engine import Hop
from edge_asd.engine.onnxruntime import OnnxRuntimeEngine
from edge_asd.engine.tensorrt import open_tensorrt
from edge_asd.engine.tensorrt.library import import_tensorrt
from edge_asd.errors import EdgeAsdError, UnavailableError
from edge_asd.features import log_mel_db
from edge_asd.pipeline import open_pipeline
from edge_asd.types import Block
from edge_asd.window import Windower

pytestmark = pytest.mark.gpu

HOP = 15_360
N_WINDOWS_FLAT = 10_000
ROOT = Path(__file__).parents[3]
EXAMPLE = next(iter(sorted(ROOT.glob("examples/*/*.asd"))))
CLIPS = sorted(EXAMPLE.parent.glob("clips/*/*.flac"))
# How near TensorRT must be to ONNX Runtime on the same network; INT8 kernels may round otherwise where a value lies
# between two steps.
MIN_COSINE = {"fp32": 0.99999, "fp16": 0.999, "int8": 0.98}


@pytest.fixture(scope="module", autouse=True)
def gpu_is_there():
    """Say what is missing, once for all."""
    try:
        Gpu().close()
    except EdgeAsdError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def tensorrt_is_there():
    """What the kernels alone do without."""
    try:
        import_tensorrt()
    except EdgeAsdError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def bundle():
    return open_bundle(EXAMPLE)


@pytest.fixture
def log_mel_on_gpu(bundle):
    """A function that has the kernels make a window's log-mel."""
    spec = bundle.manifest.feature_spec
    with Gpu() as gpu, gpu.current():
        try:
            kernels = LogMelKernels(gpu, spec, log_mel_cubin(spec, gpu.architecture, None, Nvrtc))
        except UnavailableError as error:
            pytest.skip(str(error))
        fresh = gpu.allocate(4 * spec.window_samples, "fresh sound")
        log_mel = np.empty((spec.n_mels, spec.n_frames), dtype=np.float32)
        buffers = FrontEndBuffers(
            rows=gpu.constant(np.array([(0, 0, spec.window_samples, 0)], dtype=ROW), "rows"),
            fresh=fresh,
            max_fresh=spec.window_samples,
            rings=gpu.allocate(4 * spec.window_samples, "rings"),
            wave=gpu.allocate(4 * spec.window_samples, "windows"),
            log_mel=gpu.allocate(log_mel.nbytes, "log-mels"),
            not_finite=gpu.allocate(4, "flags"),
        )

        def make(wave):
            gpu.upload(fresh, np.ascontiguousarray(wave))
            kernels.put(buffers, 1)
            gpu.download(log_mel, buffers.log_mel)
            gpu.synchronize()
            return log_mel.copy()

        yield make


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory):
    """Engines are built once for all tests."""
    return Artifacts(tmp_path_factory.mktemp("engines"))


@pytest.fixture(scope="module")
def open_engine(request, bundle, artifacts):
    """A function that opens the engine of a precision, and the network that it runs."""
    request.getfixturevalue("tensorrt_is_there")

    def open_(precision, n_machines=16):
        if precision == "fp16":
            half = pytest.importorskip("export.half", reason="the export's packages are not installed")
            model = half.half_from_fp32(bundle.onnx_model("fp32"))
        else:
            model = bundle.onnx_model(precision)
        engine = open_tensorrt(
            model,
            bundle.manifest,
            precision=precision,
            n_machines=n_machines,
            hop_samples=HOP,
            artifacts=artifacts,
        )
        return engine, model

    return open_


@pytest.fixture(scope="module")
def windows(bundle):
    """Windows at the default hop of each clip."""
    sounds = [soundfile.read(clip, dtype="float32")[0] for clip in CLIPS]
    spec = bundle.manifest.feature_spec
    return [Windower(spec, HOP).push(Block(samples=sound, end_monotonic_s=9.0, end_utc_s=9.0)) for sound in sounds]


def hear(engine, stream, window):
    return engine.hear([Hop(stream=stream, wave=window.wave, fresh_samples=window.fresh_samples)])[0]


def cosine(first, second) -> float:
    return float((first.embedding * second.embedding).sum(axis=1).min())


def test_kernel_equals_the_reference(log_mel_on_gpu, windows) -> None:
    """Within 1e-3 dB of numpy on every clip, silence, full-scale noise, clipping and tones, with and without noise."""
    random = np.random.default_rng(3)
    n_samples = windows[0][0].wave.size
    seconds = np.arange(n_samples) / 16_000
    made_up = [
        np.zeros(n_samples),
        random.uniform(-1, 1, n_samples),
        np.clip(3 * np.sin(2 * np.pi * 440 * seconds) + 0.03 * random.standard_normal(n_samples), -1, 1),
        0.3 * np.sin(2 * np.pi * 1000.3 * seconds) + 3e-3 * random.standard_normal(n_samples),
        np.sin(2 * np.pi * 1000.3 * seconds),
        np.clip(3 * np.sin(2 * np.pi * 440 * seconds), -1, 1),
        np.sin(2 * np.pi * (50 + 390 * seconds) * seconds),
    ]
    for wave in [*(clip[0].wave for clip in windows), *(sound.astype(np.float32) for sound in made_up)]:
        np.testing.assert_allclose(log_mel_on_gpu(wave), log_mel_db(wave), atol=1e-3)


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_engine_agrees_with_onnxruntime_on_clips(open_engine, windows, precision) -> None:
    """Embeddings of the same network, of every window of every clip, with all machines in one batch."""
    engine, model = open_engine(precision)
    reference = OnnxRuntimeEngine(model, precision=precision, threads=0)
    with engine:
        streams = [engine.stream() for _ in windows]
        for batch in zip(*windows, strict=False):
            hops = [
                Hop(stream=stream, wave=window.wave, fresh_samples=window.fresh_samples)
                for stream, window in zip(streams, batch, strict=True)
            ]
            for hop, heard in zip(hops, engine.hear(hops), strict=True):
                expected = reference.infer(hop.wave[np.newaxis], log_mel_db(hop.wave)[np.newaxis])
                assert cosine(heard.outputs, expected) >= MIN_COSINE[precision]


def test_graph_and_plain_run_are_equal(open_engine, windows) -> None:
    """The replayed graph gives to the bit what the plain run gives from the same log-mel."""
    engine, _ = open_engine("fp32")
    with engine:
        for clip in windows:
            replayed = hear(engine, engine.stream(), clip[0]).outputs
            plain = engine.infer(clip[0].wave[np.newaxis], engine.log_mel_db(clip[0].wave)[np.newaxis])
            np.testing.assert_array_equal(replayed.embedding, plain.embedding)
            np.testing.assert_array_equal(replayed.cosine, plain.cosine)


@pytest.mark.usefixtures("tensorrt_is_there")
def test_example_passes_its_self_test(bundle, artifacts) -> None:
    """The pipeline of the daemon, golden windows included."""
    with open_pipeline(bundle, prefer=["tensorrt"], precision="int8", artifacts=artifacts) as pipeline:
        assert pipeline.engine == "tensorrt-int8"


def test_impossible_sound_has_no_outputs(open_engine, windows) -> None:
    """A NaN is told, and the stream goes on after it."""
    engine, _ = open_engine("int8")
    with engine:
        stream, clip = engine.stream(), windows[0]
        bad = clip[0].wave.copy()
        bad[1_000] = np.nan
        (heard,) = engine.hear([Hop(stream=stream, wave=bad, fresh_samples=bad.size)])
        assert heard.outputs is None
        whole = Hop(stream=stream, wave=clip[0].wave, fresh_samples=clip[0].wave.size)
        assert np.isfinite(engine.hear([whole])[0].outputs.cosine).all()


def test_memory_stays_flat(open_engine, windows) -> None:
    """Ten thousand windows take no memory of the GPU, nor of this process beyond a megabyte."""
    engine, _ = open_engine("int8")
    clip = windows[0]

    def host_kb() -> int:
        status = Path("/proc/self/status").read_text(encoding="ascii")
        return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1])

    with engine, Gpu() as gpu, gpu.current():
        stream = engine.stream()
        for window in clip:
            hear(engine, stream, window)
        before = gpu.free_bytes()[0], host_kb()
        for number in range(N_WINDOWS_FLAT):
            window = clip[number % len(clip)]
            assert hear(engine, stream, window).outputs is not None
        assert before[0] - gpu.free_bytes()[0] <= 0
        assert host_kb() - before[1] < 1024


@pytest.mark.usefixtures("tensorrt_is_there")
def test_build_that_is_killed_leaves_a_clean_cache(tmp_path) -> None:
    """Whatever was reached, the next start builds or finds a whole engine."""
    bundle = open_bundle(EXAMPLE)
    config = tmp_path / "device.yaml"
    config.write_text(
        f"""schema: 1
site: plant
device: line
bundle: {EXAMPLE}
state_dir: state
trust: {{require_signature: false}}
machines:
  - {{name: motor, listens_to: {bundle.manifest.machine_classes[0]}, source: {{device: null}}, threshold: 1.0}}
"""
    )
    command = [sys.executable, "-m", "edge_asd.cli", "engine", "build", "--config", str(config)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        for line in process.stderr:
            if line.startswith("building"):
                break
        time.sleep(1.0)
        process.send_signal(signal.SIGKILL)
    subprocess.run(command, check=True)
    verify = [*command[:4], "verify", "--config", str(config)]
    assert "damaged" not in subprocess.run(verify, check=True, capture_output=True, text=True).stdout
    store = Artifacts(tmp_path / "state" / "engines")
    assert store.unfinished() == ()
    assert len(list(store.folder.glob("engine-*.bin"))) == 1
