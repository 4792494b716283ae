"""Sound in, the engine's inputs in GPU memory out: the CUDA driver and the log-mel kernel."""

from edge_asd.cuda.driver import CudaError
from edge_asd.cuda.gpu import Gpu
from edge_asd.cuda.logmel import ROW, FrontEndBuffers, LogMelKernels, log_mel_cubin, open_log_mel_kernels
from edge_asd.cuda.nvrtc import Nvrtc

__all__ = [
    "ROW",
    "CudaError",
    "FrontEndBuffers",
    "Gpu",
    "LogMelKernels",
    "Nvrtc",
    "log_mel_cubin",
    "open_log_mel_kernels",
]
