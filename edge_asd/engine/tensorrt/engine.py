"""Waves of up to 16 machines in, embeddings and cosines out, by one replay of a CUDA graph: front end and network."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import TracebackType

from edge_asd.bundle import Precision
from edge_asd.cuda import FrontEndBuffers, Gpu, LogMelKernels
from edge_asd.engine import Heard, Hop
from edge_asd.engine.tensorrt.contexts import Network
from edge_asd.engine.tensorrt.memory import Memory
from edge_asd.errors import EngineError
from edge_asd.types import EngineOutputs, FeatureSpec, FloatArray

LOG = logging.getLogger(__name__)


@dataclass(slots=True, eq=False)
class WaveStream:
    """A machine's waveform on the GPU. ring: which of the rings holds it; None: none does."""

    ring: int | None = None
    write_at: int = 0
    used_at: int = 0


class TensorRtEngine:
    """An engine with a front end of its own (see `edge_asd.engine.Engine` and `WaveEngine`).

    A hop uploads its fresh samples alone; the window, its log-mel and the network follow on the GPU, and a few numbers
    come back. Each batch size has a CUDA graph of all that, recorded once. Where there are more machines than rings,
    the ring longest unused goes to the next machine, whose window is then uploaded whole.

    Args:
        gpu: is closed with the engine.
        spec: of the front end.
        precision: of the network.
        kernels: of the front end.
        memory: all of it.
        network: which reads and writes that memory; is closed with the engine.
        n_rings: machines whose waveform is kept.

    Raises:
        EngineError: the GPU cannot run it.
    """

    name = "tensorrt"

    def __init__(
        self,
        gpu: Gpu,
        spec: FeatureSpec,
        *,
        precision: Precision,
        kernels: LogMelKernels,
        memory: Memory,
        network: Network,
        n_rings: int,
    ) -> None:
        self.precision = precision
        self._gpu = gpu
        self._spec = spec
        self._kernels = kernels
        self._memory = memory
        self._front_end: FrontEndBuffers = memory.front_end_buffers()
        self._network = network
        self._owners: list[WaveStream | None] = [None] * n_rings
        self._clock = 0
        self._runs = {size: self._recorded(size) for size in network.batch_sizes}

    @property
    def max_batch(self) -> int:
        """How many machines' hops one replay takes."""
        return self._network.batch_sizes[-1]

    def stream(self) -> WaveStream:
        """A new machine's place for its waveform."""
        return WaveStream()

    def hear(self, hops: Sequence[Hop[WaveStream]]) -> list[Heard]:
        """Outputs of one hop each of up to `max_batch` different machines, in one replay.

        Raises:
            EngineError: the GPU has failed.
        """
        began_s = time.perf_counter()
        size = min(size for size in self._network.batch_sizes if size >= len(hops))
        with self._gpu.current():
            self._stage(hops, size)
            self._runs[size]()
            self._gpu.synchronize()
        engine_ms = 1e3 * (time.perf_counter() - began_s)
        memory = self._memory
        return [
            Heard(
                outputs=None if memory.not_finite[row] else self._outputs(row),
                features_ms=0.0,
                engine_ms=engine_ms,
            )
            for row in range(len(hops))
        ]

    def log_mel_db(self, wave: FloatArray) -> FloatArray:
        """What the kernels make of one window (window_samples,): (n_mels, n_frames) in dB."""
        with self._gpu.current():
            self._stage([Hop(stream=WaveStream(), wave=wave, fresh_samples=wave.size)], 1)
            self._memory.put_upload(1)
            self._kernels.put(self._front_end, 1)
            self._gpu.download(self._memory.one_log_mel, self._memory.log_mel)
            self._gpu.synchronize()
        return self._memory.one_log_mel.copy()

    def infer(self, wave: FloatArray, log_mel: FloatArray) -> EngineOutputs:
        """Outputs, owned by the caller, for wave (B, window_samples) and log_mel (B, n_mels, n_frames), float32."""
        memory = self._memory
        outputs = []
        for one_wave, one_log_mel in zip(wave, log_mel, strict=True):
            memory.windows[0] = one_wave
            memory.one_log_mel[:] = one_log_mel
            with self._gpu.current():
                self._gpu.upload(memory.wave, memory.windows[0])
                self._gpu.upload(memory.log_mel, memory.one_log_mel)
                self._network.put(1)
                memory.put_download()
                self._gpu.synchronize()
            outputs.append(self._outputs(0))
        return EngineOutputs.joined(outputs)

    def close(self) -> None:
        """Release network and GPU; a second call does nothing."""
        self._runs.clear()
        self._network.close()  # ahead of the memory that it uses
        self._gpu.close()

    def __enter__(self) -> TensorRtEngine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _recorded(self, size: int) -> Callable[[], None]:
        """One function that puts all work of a batch on the stream."""

        def put_all() -> None:
            self._memory.put_upload(size)
            self._kernels.put(self._front_end, size)
            self._network.put(size)
            self._memory.put_download()

        self._memory.rows["ring"] = -1
        put_all()  # TensorRT wants one plain run ahead of a recording
        self._gpu.synchronize()
        try:
            return self._gpu.captured(put_all)
        except EngineError as error:
            LOG.warning("batches of %d run without a CUDA graph, a little slower: %s", size, error)
            return put_all

    def _stage(self, hops: Sequence[Hop[WaveStream]], size: int) -> None:
        """Fill the upload's rows; whole windows, where they are needed, are put on the stream at once."""
        memory, n_window = self._memory, self._spec.window_samples
        memory.rows["ring"][:size] = -1
        for row, hop in enumerate(hops):
            stream, n_fresh = hop.stream, hop.fresh_samples
            if stream.ring is None or n_fresh > memory.fresh.shape[1]:
                stream.ring = stream.ring if stream.ring is not None else self._free_ring(hops)
                self._owners[stream.ring] = stream
                memory.windows[row] = hop.wave
                memory.put_window_into_ring(row, stream.ring)
                stream.write_at, n_fresh = 0, 0
            else:
                memory.fresh[row, :n_fresh] = hop.wave[n_window - n_fresh :]
            self._clock += 1
            stream.used_at = self._clock
            memory.rows[row] = (stream.ring, stream.write_at, n_fresh, 0)
            stream.write_at = (stream.write_at + n_fresh) % n_window

    def _free_ring(self, hops: Sequence[Hop[WaveStream]]) -> int:
        """A ring that no machine has, or else the one that was longest unused, but none of this batch's."""
        in_batch = {id(hop.stream) for hop in hops}
        used_at = {
            ring: -1 if owner is None else owner.used_at
            for ring, owner in enumerate(self._owners)
            if id(owner) not in in_batch
        }
        ring = min(used_at, key=lambda ring: used_at[ring])
        owner = self._owners[ring]
        if owner is not None:
            owner.ring = None
        return ring

    def _outputs(self, row: int) -> EngineOutputs:
        one = slice(row, row + 1)
        return EngineOutputs(**{name: values[one].copy() for name, values in self._memory.outputs.items()})
