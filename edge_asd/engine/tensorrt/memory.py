"""What one engine needs of GPU and pinned memory in, all of it allocated once, with views by name, out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_asd.cuda import ROW, FrontEndBuffers, Gpu
from edge_asd.types import FeatureSpec, FloatArray

_ALIGNMENT_BYTES = 256
_FLOAT_BYTES = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """n_rows: the largest batch. n_rings: machines whose waveform is kept. max_fresh: samples of the longest hop.

    outputs: numbers of each output of the network, by its name.
    """

    n_rows: int
    n_rings: int
    max_fresh: int
    outputs: Mapping[str, int]


class Memory:
    """All buffers of one engine; the GPU gives them back when it is closed.

    Upload and download are one block each, so that one copy does it. Views of pinned memory: `rows` (n_rows,) ROW,
    `fresh` (n_rows, max_fresh), `windows` (n_rows, window_samples) and `one_log_mel` (n_mels, n_frames) go up;
    `outputs` (n_rows, numbers) by name and `not_finite` (n_rows,) come down.

    Raises:
        CudaError: the GPU's memory is exhausted.
    """

    def __init__(self, gpu: Gpu, spec: FeatureSpec, sizes: Sizes) -> None:
        self._gpu = gpu
        self._sizes = sizes
        n_rows, window_bytes = sizes.n_rows, _FLOAT_BYTES * spec.window_samples
        self._window_bytes = window_bytes
        log_mel_bytes = _FLOAT_BYTES * spec.n_mels * spec.n_frames
        rows_bytes = _aligned(n_rows * ROW.itemsize)
        fresh_bytes = _FLOAT_BYTES * sizes.max_fresh

        self._up = gpu.pinned(rows_bytes + n_rows * fresh_bytes, "fresh sound")
        self._up_bytes = [rows_bytes + n * fresh_bytes for n in range(n_rows + 1)]
        self._up_address = gpu.allocate(self._up.nbytes, "fresh sound")
        self.rows: NDArray[Any] = self._up[: n_rows * ROW.itemsize].view(ROW)
        self.fresh: FloatArray = _floats(self._up[rows_bytes:], (n_rows, sizes.max_fresh))
        self.rows["ring"] = -1

        self.windows: FloatArray = _floats(gpu.pinned(n_rows * window_bytes, "windows"), (n_rows, -1))
        self.one_log_mel: FloatArray = _floats(
            gpu.pinned(log_mel_bytes, "a log-mel spectrogram"), (spec.n_mels, spec.n_frames)
        )
        self._rings = gpu.allocate(sizes.n_rings * window_bytes, f"the sound of {sizes.n_rings} machines")
        self.wave = gpu.allocate(n_rows * window_bytes, "windows")
        self.log_mel = gpu.allocate(n_rows * log_mel_bytes, "log-mel spectrograms")

        widths = {**sizes.outputs, "not_finite": 1}  # all of 4 bytes a number
        part_bytes = {name: _aligned(n_rows * width * _FLOAT_BYTES) for name, width in widths.items()}
        self._down = gpu.pinned(sum(part_bytes.values()), "outputs")
        self._down_address = gpu.allocate(self._down.nbytes, "outputs")
        self._addresses: dict[str, int] = {}
        self.outputs: dict[str, FloatArray] = {}
        start = 0
        for name, width in widths.items():
            part = self._down[start : start + n_rows * width * _FLOAT_BYTES]
            self.outputs[name] = _floats(part, (n_rows, width))
            self._addresses[name] = self._down_address + start
            start += part_bytes[name]
        self.not_finite: NDArray[np.int32] = self.outputs.pop("not_finite")[:, 0].view(np.int32)

    def tensor_addresses(self) -> dict[str, int]:
        """Where the network's inputs and outputs lie, by tensor name."""
        outputs = {name: self._addresses[name] for name in self.outputs}
        return {"wave": self.wave, "log_mel": self.log_mel, **outputs}

    def front_end_buffers(self) -> FrontEndBuffers:
        """Where the front end's kernels read and write."""
        return FrontEndBuffers(
            rows=self._up_address,
            fresh=self._up_address + self._up_bytes[0],
            max_fresh=self._sizes.max_fresh,
            rings=self._rings,
            wave=self.wave,
            log_mel=self.log_mel,
            not_finite=self._addresses["not_finite"],
        )

    def put_upload(self, n_rows: int) -> None:
        """Put the copy of that many rows and their fresh sound on the stream."""
        self._gpu.upload(self._up_address, self._up[: self._up_bytes[n_rows]])

    def put_window_into_ring(self, row: int, ring: int) -> None:
        """Put the copy of a whole window from `windows[row]` on the stream; the ring then begins with it."""
        self._gpu.upload(self._rings + ring * self._window_bytes, self.windows[row])

    def put_download(self) -> None:
        """Put the copy of all outputs on the stream."""
        self._gpu.download(self._down, self._down_address)


def _aligned(n_bytes: int) -> int:
    return -(-n_bytes // _ALIGNMENT_BYTES) * _ALIGNMENT_BYTES


def _floats(memory: NDArray[np.uint8], shape: tuple[int, int]) -> FloatArray:
    return memory.view(np.float32).reshape(shape)
