"""The log-mel kernel, its very source compiled for the CPU, against the reference in numpy; no GPU is needed."""

import ctypes
import shutil
import subprocess
from contextlib import ExitStack

import numpy as np
import pytest

from edge_asd.cuda import ROW, FrontEndBuffers, Gpu, LogMelKernels
from edge_asd.cuda.logmel import check_spec, kernel_options, kernel_source
from edge_asd.errors import UnavailableError
from edge_asd.features import log_mel_db
from edge_asd.types import FeatureSpec

SHORT = FeatureSpec(window_samples=9_000)  # all of the published numbers but the length
SPECS = {
    "published numbers": SHORT,
    "radix 4 alone": FeatureSpec(window_samples=1_501, n_fft=512, hop_samples=100, n_mels=40),
    "radix 2 at the end": FeatureSpec(window_samples=2_048, n_fft=256, hop_samples=64, n_mels=20),
    "longest": FeatureSpec(window_samples=4_500, n_fft=4096, hop_samples=1_000, n_mels=64, power_floor=1.0),
}


class Bench:
    """The kernels with buffers that can be looked into."""

    def __init__(self, spec: FeatureSpec, n_rows: int, max_fresh: int = 1) -> None:
        self.spec, self.n_rows = spec, n_rows
        self.gpu = Gpu()
        self.current = ExitStack()  # until this object's end
        self.current.enter_context(self.gpu.current())
        self.kernels = LogMelKernels(self.gpu, spec, b"")
        self.arrays, addresses = {}, {}
        for name, shape, dtype in (
            ("rows", (n_rows,), ROW),
            ("fresh", (n_rows, max_fresh), np.float32),
            ("rings", (n_rows, spec.window_samples), np.float32),
            ("wave", (n_rows, spec.window_samples), np.float32),
            ("log_mel", (n_rows, spec.n_mels, spec.n_frames), np.float32),
            ("not_finite", (n_rows,), np.int32),
        ):
            n_bytes = int(np.prod(shape)) * np.dtype(dtype).itemsize
            addresses[name] = self.gpu.allocate(n_bytes, name)
            memory = (ctypes.c_char * n_bytes).from_address(addresses[name])
            self.arrays[name] = np.frombuffer(memory, dtype=dtype).reshape(shape)
        self.buffers = FrontEndBuffers(max_fresh=max_fresh, **addresses)
        self.gpu.synchronize()

    def log_mel_db(self, waves) -> np.ndarray:
        self.arrays["rings"][:] = waves
        self.arrays["rows"][:] = [(row, 0, 0, 0) for row in range(self.n_rows)]
        self.kernels.put(self.buffers, self.n_rows)
        self.gpu.synchronize()
        return self.arrays["log_mel"].copy()


def sounds(spec: FeatureSpec) -> dict[str, np.ndarray]:
    random = np.random.default_rng(5)
    seconds = np.arange(spec.window_samples) / spec.sample_rate_hz
    noise = random.standard_normal(spec.window_samples)
    tone = np.sin(2 * np.pi * 1000.3 * seconds)
    return {
        "random": 0.1 * noise,
        "faint": 1e-5 * noise,
        "silent": 0 * noise,
        "clipped": np.clip(3 * np.sin(2 * np.pi * 440 * seconds) + 0.03 * noise, -1, 1),
        "tonal": 0.3 * tone + 0.1 * np.sin(2 * np.pi * 3150 * seconds) + 3e-3 * noise,
        "click": (np.arange(spec.window_samples) == spec.window_samples // 2).astype(float),
    }


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_kernel_equals_the_reference(make_fake_cuda, spec) -> None:
    """All rows of one launch are within 1e-3 dB of numpy, in whichever order a block's threads run."""
    cuda = make_fake_cuda(spec)
    waves = np.stack(list(sounds(spec).values())).astype(np.float32)
    bench = Bench(spec, len(waves))
    log_mel = bench.log_mel_db(waves)
    difference_db = np.abs(log_mel - log_mel_db(waves, spec)).max(axis=(1, 2))
    assert dict(zip(sounds(spec), difference_db, strict=True)) == pytest.approx(
        dict.fromkeys(sounds(spec), 0.0), abs=1e-3
    )
    np.testing.assert_array_equal(bench.arrays["wave"], waves)
    assert not bench.arrays["not_finite"].any()
    cuda.run_threads_backwards(True)
    np.testing.assert_array_equal(bench.log_mel_db(waves), log_mel)


def test_sound_without_a_noise_floor_equals_the_reference(make_fake_cuda) -> None:
    """Bands 140 dB below a full-scale tone, clipped or sweeping, are within 1e-3 dB, in any order of threads."""
    cuda = make_fake_cuda(SHORT)
    seconds = np.arange(SHORT.window_samples) / SHORT.sample_rate_hz
    waves = np.stack(
        [
            np.sin(2 * np.pi * 1000.3 * seconds),
            np.clip(3 * np.sin(2 * np.pi * 440 * seconds), -1, 1),
            np.sin(2 * np.pi * (50 + 6_000 * seconds) * seconds),
        ]
    ).astype(np.float32)
    bench = Bench(SHORT, len(waves))
    log_mel = bench.log_mel_db(waves)
    reference = log_mel_db(waves, SHORT)
    assert np.ptp(reference, axis=1).max() > 130
    np.testing.assert_allclose(log_mel, reference, atol=1e-3)
    cuda.run_threads_backwards(True)
    np.testing.assert_array_equal(bench.log_mel_db(waves), log_mel)


@pytest.mark.parametrize("sample", [np.nan, np.inf, -np.inf, 1e30])
def test_impossible_sound_is_flagged_in_its_row_alone(make_fake_cuda, sample) -> None:
    """A sample that is no sound is told of its window, and no other."""
    spec = SPECS["radix 2 at the end"]
    make_fake_cuda(spec)
    waves = np.zeros((3, spec.window_samples), dtype=np.float32)
    waves[1, 700] = sample
    bench = Bench(spec, 3)
    bench.log_mel_db(waves)
    np.testing.assert_array_equal(bench.arrays["not_finite"], [0, 1, 0])
    waves[1, 700] = 0.0
    bench.log_mel_db(waves)
    np.testing.assert_array_equal(bench.arrays["not_finite"], [0, 0, 0])


def test_ring_moves_on_by_what_is_fresh(make_fake_cuda) -> None:
    """The window is the ring from its oldest sample on, then what is fresh; rows without a ring are left alone."""
    spec = SPECS["radix 2 at the end"]
    make_fake_cuda(spec)
    bench = Bench(spec, 2, max_fresh=700)
    sound = np.random.default_rng(1).standard_normal(10_000).astype(np.float32)
    bench.arrays["rings"][1] = sound[: spec.window_samples]
    at = spec.window_samples
    write_at = 0
    for n_fresh in (700, 64, 0, 1, 699, 700, 700, 700, 333):
        bench.arrays["fresh"][0, :n_fresh] = sound[at : at + n_fresh]
        bench.arrays["rows"][:] = [(1, write_at, n_fresh, 0), (-1, 0, 0, 0)]
        bench.arrays["wave"][1] = 7.0
        bench.kernels.put(bench.buffers, 2)
        bench.gpu.synchronize()
        at, write_at = at + n_fresh, (write_at + n_fresh) % spec.window_samples
        np.testing.assert_array_equal(bench.arrays["wave"][0], sound[at - spec.window_samples : at])
        assert (bench.arrays["wave"][1] == 7.0).all()


@pytest.mark.parametrize("n_fft", [32, 1_000, 8_192])
def test_spec_that_the_kernel_cannot_compute_is_refused(n_fft) -> None:
    """A length that is no power of two, or too much for a block, is named with what can be computed."""
    with pytest.raises(UnavailableError, match=rf"n_fft {n_fft}; expected a power of two from 64 to 4096"):
        check_spec(FeatureSpec(n_fft=n_fft))


def test_mel_bands_beyond_a_block_s_memory_are_refused() -> None:
    """The message says how many there may be; the longest FFT leaves room for 382."""
    check_spec(FeatureSpec(n_fft=4_096, n_mels=382))
    check_spec(FeatureSpec(n_fft=2_048, n_mels=1_024))
    with pytest.raises(
        UnavailableError, match=r"383 mel bands with n_fft 4096; expected at most 382, .*another engine"
    ):
        check_spec(FeatureSpec(n_fft=4_096, n_mels=383))


@pytest.fixture
def nvcc():
    """CUDA's compiler."""
    found = shutil.which("nvcc") or shutil.which("/usr/local/cuda/bin/nvcc")
    if found is None:
        pytest.skip("nvcc is not installed")
    return found


@pytest.mark.parametrize(("n_mels", "fits"), [(382, True), (383, False)])
def test_most_mel_bands_that_are_allowed_fill_a_block(nvcc, n_mels, fits, tmp_path) -> None:
    """The assembler's own limit is the one that is told."""
    source = tmp_path / "logmel.cu"
    source.write_text(kernel_source())
    command = [nvcc, "-cubin", "-arch=sm_87", *kernel_options(FeatureSpec(n_fft=4_096, n_mels=n_mels)), source]
    done = subprocess.run([*command, "-o", tmp_path / "logmel.cubin"], capture_output=True, text=True, check=False)
    assert (done.returncode == 0) == fits
    assert ("too much shared data" in done.stderr) != fits


@pytest.mark.parametrize("architecture", ["sm_87", "sm_90", "sm_110"])
def test_kernel_compiles_by_nvcc(nvcc, architecture, tmp_path) -> None:
    """The source compiles without a warning for Orin, Hopper and Thor."""
    known = subprocess.run([nvcc, "--list-gpu-code"], capture_output=True, text=True, check=False).stdout.split()
    if architecture not in known:
        pytest.skip(f"this nvcc does not know {architecture}")
    source = tmp_path / "logmel.cu"
    source.write_text(kernel_source())
    command = [nvcc, "-cubin", f"-arch={architecture}", "-Werror", "all-warnings", *kernel_options(FeatureSpec())]
    subprocess.run([*command, source, "-o", tmp_path / "logmel.cubin"], check=True)
    assert (tmp_path / "logmel.cubin").read_bytes().startswith(b"\x7fELF")
