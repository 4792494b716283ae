"""Rows of a batch and fresh sound in GPU memory, the windows and their log-mel in dB in an engine's inputs, out."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources

import numpy as np
from numpy.typing import NDArray

from edge_asd.artifacts import Artifacts
from edge_asd.cuda.driver import BAD_KERNEL, CudaError, dotted, open_driver
from edge_asd.cuda.gpu import Gpu
from edge_asd.cuda.nvrtc import Nvrtc
from edge_asd.errors import UnavailableError
from edge_asd.features import hann_window, mel_filters
from edge_asd.types import FeatureSpec, FloatArray

LOG = logging.getLogger(__name__)

SOURCE = "logmel.cu"
ROW = np.dtype([("ring", "<i4"), ("write_at", "<i4"), ("n_fresh", "<i4"), ("unused", "<i4")])
"""struct Row of the kernel: one machine's part in a batch; ring -1 for a row that only fills up the batch."""

_FRAMES_PER_BLOCK = 4
_COPY_THREADS = 256
_MIN_FFT, _MAX_FFT = 64, 4096
_MAX_SHARED_BYTES = 48 * 1024  # of a block, on every GPU


@dataclass(frozen=True, slots=True, kw_only=True)
class FrontEndBuffers:
    """GPU addresses that the front end reads and writes.

    rows: (n_rows,) ROW. fresh: (n_rows, max_fresh) float32. rings: (rings, window_samples) float32. wave: (n_rows,
    window_samples) float32. log_mel: (n_rows, n_mels, n_frames) float32. not_finite: (n_rows,) int32, 1 where a row's
    log-mel holds what is no number.
    """

    rows: int
    fresh: int
    max_fresh: int
    rings: int
    wave: int
    log_mel: int
    not_finite: int


class LogMelKernels:
    """The kernels for one spec, with their tables, loaded.

    Raises:
        UnavailableError: the spec does not suit the kernel.
        CudaError: the GPU refuses the kernel or has no memory for its tables.
    """

    def __init__(self, gpu: Gpu, spec: FeatureSpec, cubin: bytes) -> None:
        check_spec(spec)
        self._spec = spec
        self._advance, self._log_mel = gpu.kernels(cubin, ("advance_rings", "log_mel_db"))
        tables = (hann_window(spec), *_twiddles(spec.n_fft), *_sparse_filters(spec))
        self._tables = [np.uint64(gpu.constant(table, "the front end's tables")) for table in tables]

    def put(self, buffers: FrontEndBuffers, n_rows: int) -> None:
        """Put one launch for the rings and one for the log-mel of all rows on the GPU's stream."""
        self.put_rings(buffers, n_rows)
        self.put_log_mel(buffers, n_rows)

    def put_rings(self, buffers: FrontEndBuffers, n_rows: int) -> None:
        """Put the launch that makes windows of what is fresh and what the rings hold."""
        rows, fresh, rings, wave, not_finite = (
            np.uint64(address)
            for address in (buffers.rows, buffers.fresh, buffers.rings, buffers.wave, buffers.not_finite)
        )
        blocks = -(-self._spec.window_samples // _COPY_THREADS)
        max_fresh = np.int32(buffers.max_fresh)
        self._advance((blocks, n_rows), _COPY_THREADS, rows, fresh, max_fresh, rings, wave, not_finite)

    def put_log_mel(self, buffers: FrontEndBuffers, n_rows: int) -> None:
        """Put the launch that makes log-mels of the windows."""
        rows, wave, log_mel, not_finite = (
            np.uint64(address) for address in (buffers.rows, buffers.wave, buffers.log_mel, buffers.not_finite)
        )
        blocks = -(-self._spec.n_frames // _FRAMES_PER_BLOCK)
        self._log_mel((blocks, n_rows), self._spec.n_fft // 8, rows, wave, *self._tables, log_mel, not_finite)


def open_log_mel_kernels(
    gpu: Gpu, spec: FeatureSpec, store: Artifacts | None, nvrtc: Callable[[], Nvrtc]
) -> LogMelKernels:
    """The kernels of this GPU; those from the store that the driver refuses are compiled again, once.

    Args:
        gpu: that runs them.
        spec: its numbers are compiled in.
        store: keeps what was compiled; None keeps nothing.
        nvrtc: opens the compiler.

    Raises:
        UnavailableError: the spec does not suit the kernel, or NVRTC is missing or cannot compile it.
        CudaError: the GPU refuses the kernel or has no memory for its tables.
    """
    try:
        return LogMelKernels(gpu, spec, log_mel_cubin(spec, gpu.architecture, store, nvrtc))
    except CudaError as error:
        if store is None or error.code not in BAD_KERNEL:
            raise
        LOG.warning("the log-mel kernel does not load (%s); it is compiled again now", error.found)
    return LogMelKernels(gpu, spec, log_mel_cubin(spec, gpu.architecture, store, nvrtc, anew=True))


def log_mel_cubin(
    spec: FeatureSpec,
    architecture: str,
    store: Artifacts | None,
    nvrtc: Callable[[], Nvrtc],
    *,
    anew: bool = False,
) -> bytes:
    """Machine code of the kernels, from the store or compiled on this device.

    Args:
        spec: its numbers are compiled in.
        architecture: as in sm_87.
        store: keeps what was compiled; None keeps nothing.
        nvrtc: opens the compiler.
        anew: compile, whatever the store has.

    Raises:
        UnavailableError: there is no driver or NVRTC, the spec does not suit the kernel, or it does not compile.
    """
    check_spec(spec)
    compiler = nvrtc()
    source = kernel_source()
    options = kernel_options(spec)
    key = {
        "source_sha256": hashlib.sha256(source.encode("utf-8")).hexdigest(),
        "architecture": architecture,
        "driver": dotted(open_driver().version),
        "nvrtc": "{}.{}".format(*compiler.version),
        "options": " ".join(options),
    }
    cubin = store.get("kernel", key) if store and not anew else None
    if cubin is None:
        cubin = compiler.cubin(source, name=SOURCE, architecture=architecture, options=options)
        if store:
            store.put("kernel", key, cubin)
    return cubin


def kernel_source() -> str:
    """The CUDA C++ that ships with this package."""
    return resources.files("edge_asd.cuda").joinpath(SOURCE).read_text(encoding="utf-8")


def kernel_options(spec: FeatureSpec) -> tuple[str, ...]:
    """The compiler's options that put the spec's numbers into the kernel."""
    numbers = {
        "WINDOW_SAMPLES": spec.window_samples,
        "N_FFT": spec.n_fft,
        "HOP_SAMPLES": spec.hop_samples,
        "N_MELS": spec.n_mels,
        "N_FRAMES": spec.n_frames,
        "POWER_FLOOR": f"{float(spec.power_floor)!r}f",
    }
    return tuple(f"-D{name}={value}" for name, value in numbers.items())


def check_spec(spec: FeatureSpec) -> None:
    """Refuse what the kernel cannot compute.

    Raises:
        UnavailableError: the FFT's length is no power of two or out of range, or a block's memory is too small.
    """
    if spec.n_fft & (spec.n_fft - 1) or not _MIN_FFT <= spec.n_fft <= _MAX_FFT:
        raise UnavailableError(
            f"the GPU's front end cannot compute n_fft {spec.n_fft}; expected a power of two from {_MIN_FFT} to "
            f"{_MAX_FFT}; use another engine"
        )
    # The kernel's spectrum, power, energy and is_faint; and what each mel band takes of its tile.
    fixed_bytes = 16 * (spec.n_fft // 2) + 4 * (spec.n_fft // 2 + 1 + spec.n_fft // 8 + _FRAMES_PER_BLOCK)
    most_mels = (_MAX_SHARED_BYTES - fixed_bytes) // (4 * _FRAMES_PER_BLOCK)
    if spec.n_mels > most_mels:
        raise UnavailableError(
            f"the GPU's front end cannot compute {spec.n_mels} mel bands with n_fft {spec.n_fft}; expected at most "
            f"{most_mels}, for which a block's memory suffices; use another engine"
        )


def _twiddles(n_fft: int) -> tuple[FloatArray, FloatArray]:
    """exp(-2 pi i n / n_fft), rounded, as (n_fft, 2), and once more with what rounding took, as (n_fft, 4) float32."""
    turns = np.exp(-2j * np.pi * np.arange(n_fft) / n_fft)
    exact = np.stack((turns.real, turns.imag), axis=1)
    rounded = exact.astype(np.float32)
    return rounded, np.concatenate((rounded, (exact - rounded).astype(np.float32)), axis=1)


def _sparse_filters(spec: FeatureSpec) -> tuple[NDArray[np.int32], NDArray[np.int32], FloatArray]:
    """Of each mel filter: its first bin (n_mels,), where its weights begin (n_mels + 1,), and all weights in a row."""
    first_bins, weights = [], []
    for row in mel_filters(spec):
        used = np.flatnonzero(row)
        first, last = (int(used[0]), int(used[-1]) + 1) if used.size else (0, 1)
        first_bins.append(first)
        weights.append(row[first:last].astype(np.float32))
    begins = np.cumsum([0, *(len(part) for part in weights)], dtype=np.int32)
    return np.array(first_bins, dtype=np.int32), begins, np.concatenate(weights)
