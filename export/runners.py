"""A network in torch or ONNX in, a function out that runs it on windows."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import torch

from edge_asd.bundle import EngineName, Precision
from edge_asd.engine.onnxruntime import OnnxRuntimeEngine
from edge_asd.engine.openvino import OpenVinoEngine
from edge_asd.types import EngineOutputs, FloatArray
from train.network import Network

Runner: TypeAlias = Callable[[FloatArray, FloatArray], EngineOutputs]
"""wave (B, window_samples), log_mel (B, n_mels, n_frames) -> embedding (B, 128), cosine (B, classes), feature_map."""


def runner_from_network(network: Network) -> Runner:
    """Run the trained network itself."""

    def run(wave: FloatArray, log_mel: FloatArray) -> EngineOutputs:
        with torch.inference_mode():
            outputs = network.with_feature_map(torch.from_numpy(wave), torch.from_numpy(log_mel))
        embedding, cosine, feature_map = (each.numpy() for each in outputs)
        return EngineOutputs(embedding=embedding, cosine=cosine, feature_map=feature_map)

    return run


def runner_from_onnx(model: bytes, precision: Precision, engine: EngineName = "onnxruntime") -> Runner:
    """Run a serialized ONNX model on an engine of the device, with all cores."""
    if engine == "openvino":
        return OpenVinoEngine(model, precision=precision, threads=0).infer
    return OnnxRuntimeEngine(model, precision=precision, threads=0).infer
