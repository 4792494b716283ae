"""A folder of made-up clips and a random network whose batch norms have seen them."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from edge_asd.features import log_mel_db
from edge_asd.types import FeatureSpec
from export.onnx_model import onnx_from_network
from export.quantize import QuantizedNetwork, quantize
from export.windows import Windows, find_calibration_clips, read_windows
from train.checkpoint import Checkpoint, Split
from train.network import Network, NetworkSpec

CLASSES = ("fan/A", "fan/B", "pump/C")
SPEC = FeatureSpec()


def made_up_clip(seed: int, tone_hz: float) -> np.ndarray:
    """A tone in noise, 10.2 s at 16 kHz."""
    random = np.random.default_rng(seed)
    seconds = np.arange(163_200) / 16_000
    loudness = random.uniform(0.05, 0.2)
    return (loudness * np.sin(2 * np.pi * tone_hz * seconds) + 0.05 * random.standard_normal(len(seconds))).astype("f4")


@pytest.fixture(scope="session")
def clip_folder(tmp_path_factory) -> Path:
    """Seven healthy and two damaged clips of A, four and one of B, three healthy ones of C, one of a stranger.

    The clip of C that is not trained on has 6.2 s, less than a window.
    """
    folder = tmp_path_factory.mktemp("clips")
    rows = []
    for index, (machine, n_normal, n_anomaly) in enumerate((("A", 7, 2), ("B", 4, 1), ("C", 3, 0), ("stranger", 1, 0))):
        machine_type = "pump" if machine == "C" else "fan"
        for number in range(n_normal + n_anomaly):
            label = "normal" if number < n_normal else "anomaly"
            file = f"{machine}_{label}_{number}.flac"
            tone_hz = 300.0 * (index + 1) * (1.0 if label == "normal" else 4.1)
            clip = made_up_clip(100 * index + number, tone_hz)
            soundfile.write(folder / file, clip[:99_200] if file == "C_normal_2.flac" else clip, 16_000)
            rows.append([file, machine_type, machine, label, "none", file])
    with (folder / "metadata.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([["file", "machine_type", "machine_id", "label", "split", "group"], *rows])
    return folder


@pytest.fixture(scope="session")
def split() -> Split:
    """Two clips a class trained on, three of A; one of A and of B held out; the other healthy ones fit thresholds."""
    return Split(
        train=(
            *(f"{machine}_normal_{number}.flac" for machine in "ABC" for number in (0, 1)),
            "A_normal_6.flac",
        ),
        held_out=("A_normal_5.flac", "B_normal_3.flac"),
    )


@pytest.fixture(scope="session")
def checkpoint(split) -> Checkpoint:
    """A random network with all branches."""
    return random_checkpoint(NetworkSpec(n_classes=len(CLASSES)), split)


@pytest.fixture(scope="session")
def small_checkpoint(split) -> Checkpoint:
    """One of log-mel alone: half the layers, a third of the operations."""
    return random_checkpoint(NetworkSpec(n_classes=len(CLASSES), branches=("log_mel",)), split)


def random_checkpoint(spec: NetworkSpec, split: Split) -> Checkpoint:
    """A random network, deterministic, whose embeddings differ from clip to clip."""
    torch.manual_seed(3)
    network = Network(spec).train()
    for module in network.modules():
        if isinstance(module, torch.nn.modules.batchnorm._BatchNorm):
            module.momentum = 0.7  # one pass moves the running statistics most of the way
    wave = np.stack([made_up_clip(seed, 200.0 + 170.0 * seed)[: SPEC.window_samples] for seed in range(6)])
    with torch.no_grad():
        network(torch.from_numpy(wave), torch.from_numpy(log_mel_db(wave)))
    return Checkpoint(network=network.eval(), spec=spec, classes=CLASSES, split=split, training={"epochs": 0})


@pytest.fixture(scope="session")
def windows(clip_folder, checkpoint) -> list[Windows]:
    """The healthy clips' windows, in one batch."""
    clips = find_calibration_clips(clip_folder, checkpoint).for_ranges
    return list(
        read_windows(clip_folder, clips, classes=checkpoint.classes, spec=checkpoint.feature_spec, batch_size=16)
    )


@pytest.fixture(scope="session")
def onnx_fp32(checkpoint) -> bytes:
    """The exported network."""
    return onnx_from_network(checkpoint.network, checkpoint.feature_spec)


@pytest.fixture(scope="session")
def quantized(onnx_fp32, windows) -> QuantizedNetwork:
    """Its every layer in INT8."""
    return quantize(onnx_fp32, windows)
