"""Settings of train.fit and a trial in, a trained network that hears mixtures, and what it cost, out."""

from __future__ import annotations

import dataclasses
import json
import logging
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.noise_robustness.mixtures import N_SAMPLES, MixtureSet
from benchmarks.noise_robustness.scorers import Outputs
from edge_asd.score import MarginScorer
from edge_asd.types import FloatArray
from train.checkpoint import Checkpoint, load_checkpoint
from train.features import LogMel
from train.fit import fit
from train.models import AnyNetwork
from train.network import Network
from train.resume import has_ended
from train.run_folder import write_json
from train.settings import TrainingSettings

_TIME_NAME = "training_time.json"
"""Seconds on the clock and of the processor that a training took, over all its starts."""
_BATCH = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What a method took.

    training_s, training_cpu_s: on the clock and of all processors; of starts that were killed it is missing.
    multiply_adds: of the network for one window of 10 s, without its log-mel.
    """

    training_s: float
    training_cpu_s: float
    steps: int
    parameters: int
    multiply_adds: int


def trained(folder: Path, run: Path, settings: TrainingSettings) -> Checkpoint:
    """Train on a data folder, unless the run folder holds it whole.

    Raises:
        EdgeAsdError: as `train.fit.fit`.
    """
    finished(run, lambda: fit(folder, run, settings, Console(quiet=True), resume=True))
    return load_checkpoint(run)


def finished(run: Path, train: Callable[[], object]) -> None:
    """Train, or go on with, a run that has not come to its end, and note its time."""
    if not has_ended(run):
        logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
        warnings.filterwarnings("ignore", module="lightning.*")  # advice on worker counts, not faults
        began_s, began_cpu_s = time.perf_counter(), time.process_time()
        try:
            train()
        finally:
            _add_time(run, time.perf_counter() - began_s, time.process_time() - began_cpu_s)


def _add_time(run: Path, training_s: float, training_cpu_s: float) -> None:
    """Add the time of one start to those of earlier ones; of one that was killed it is missing."""
    if run.is_dir():
        earlier = times_of(run)
        write_json(run / _TIME_NAME, [earlier[0] + training_s, earlier[1] + training_cpu_s])


def times_of(run: Path) -> tuple[float, float]:
    """Seconds on the clock and of the processor that a training took so far."""
    path = run / _TIME_NAME
    training_s, training_cpu_s = json.loads(path.read_text()) if path.is_file() else (0.0, 0.0)
    return float(training_s), float(training_cpu_s)


def cost_of(run: Path, settings: TrainingSettings) -> Cost:
    """What the training of a whole run took."""
    network = load_checkpoint(run).network
    windows = settings.windows_per_epoch or 0
    training_s, training_cpu_s = times_of(run)
    return Cost(
        training_s=training_s,
        training_cpu_s=training_cpu_s,
        steps=settings.all_epochs * -(-windows // settings.batch_size),
        parameters=sum(parameter.numel() for parameter in network.parameters()),
        multiply_adds=multiply_adds(network),
    )


def multiply_adds(network: AnyNetwork) -> int:
    """Of a window of 10 s, without its log-mel."""
    wave = torch.zeros(1, N_SAMPLES)
    log_mel = LogMel()(wave)
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        if isinstance(network, Network):
            network(wave, log_mel)
        else:
            network(log_mel, torch.zeros(1, dtype=torch.int64))
    return int(counter.get_total_flops()) // 2


class Listener:
    """A trained network that hears sets of mixtures."""

    def __init__(self, checkpoint: Checkpoint, device: str) -> None:
        self._device = torch.device(device)
        self._network = checkpoint.network.to(self._device).eval()
        self._log_mel = LogMel(checkpoint.feature_spec).to(self._device)
        self._classes = {name: index for index, name in enumerate(checkpoint.classes)}

    def __call__(self, mixtures: MixtureSet) -> Outputs:
        """Hear all: `embedding` (N, 128), `feature_map` (N, 1024) and the margin score, or a baseline's error."""
        outputs = self.hear(np.stack(list(mixtures.waves())), mixtures.class_names)
        return dataclasses.replace(outputs, groups=mixtures.groups)

    def hear(self, waves: FloatArray, class_names: tuple[str, ...]) -> Outputs:
        """The same of waves (N, samples), each as one of the classes."""
        own = np.array([self._classes.get(name, -1) for name in class_names])
        knows = bool((own >= 0).all())
        own = np.maximum(own, 0)
        parts = []
        with torch.inference_mode():
            for start in range(0, len(waves), _BATCH):
                batch = slice(start, start + _BATCH)
                parts.append(self._hear(torch.from_numpy(waves[batch]).to(self._device), own[batch]))
        scores, embedding, feature_map = (np.concatenate(column) for column in zip(*parts, strict=True))
        layers = {"embedding": embedding, "feature_map": feature_map} if embedding.shape[1] else {}
        return Outputs(class_names=class_names, layers=layers, own=scores.astype(np.float64) if knows else None)

    def _hear(self, wave: Tensor, own: NDArray[np.int64]) -> tuple[FloatArray, FloatArray, FloatArray]:
        log_mel = self._log_mel(wave)  # (B, 128, 313)
        network = self._network
        if not isinstance(network, Network):
            error = network(log_mel, torch.from_numpy(own).to(self._device)).float().cpu().numpy()
            nothing = np.empty((len(wave), 0), dtype=np.float32)
            return error, nothing, nothing
        maps: list[Tensor] = []
        hook = network.backbone.blocks.register_forward_hook(lambda _module, _input, output: maps.append(output))
        try:
            embedding, cosine = network(wave, log_mel)
        finally:
            hook.remove()
        feature_map = maps[0].mean(dim=3).flatten(1)  # (B, 128, 8, 20) -> (B, 1024): averaged over time
        scorer = MarginScorer(network.spec.scale, network.spec.margin, n_classes=network.spec.n_classes)
        score = scorer.score(cosine.float().cpu().numpy(), own)
        return score, embedding.float().cpu().numpy(), feature_map.float().cpu().numpy()
