"""A network in torch or ONNX in, a function out that runs it on windows."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import onnxruntime
import torch

from edge_asd.types import EngineOutputs, FloatArray
from train.network import Network

Runner: TypeAlias = Callable[[FloatArray, FloatArray], EngineOutputs]
"""wave (B, window_samples), log_mel (B, n_mels, n_frames) -> embedding (B, 128), cosine (B, classes)."""


def runner_from_network(network: Network) -> Runner:
    """Run the trained network itself."""

    def run(wave: FloatArray, log_mel: FloatArray) -> EngineOutputs:
        with torch.inference_mode():
            embedding, cosine = network(torch.from_numpy(wave), torch.from_numpy(log_mel))
        return EngineOutputs(embedding=embedding.numpy(), cosine=cosine.numpy())

    return run


def runner_from_onnx(model: bytes) -> Runner:
    """Run a serialized ONNX model with ONNX Runtime on the CPU."""
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # against torch's threads in one process
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])

    def run(wave: FloatArray, log_mel: FloatArray) -> EngineOutputs:
        embedding, cosine = session.run(["embedding", "cosine"], {"wave": wave, "log_mel": log_mel})
        return EngineOutputs(embedding=np.asarray(embedding), cosine=np.asarray(cosine))

    return run
