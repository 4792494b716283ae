"""Waves of clips and the classes to score them as in, the score of every window and clip by any kind of network out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edge_asd.errors import UnavailableError
from edge_asd.score import MarginScorer
from edge_asd.types import FloatArray
from train.checkpoint import Checkpoint
from train.data import Waves
from train.front_end import FrontEnd
from train.models import branches_of
from train.network import Network
from train.settings import Device

HOP_SAMPLES = 15_360
WhichWindows: TypeAlias = Literal["all", "first"]

_WINDOWS_PER_BATCH = 32


class ClipScorer:
    """Scores whole clips window by window, in batches that go across clips."""

    def __init__(self, checkpoint: Checkpoint, *, device: Device = "cpu", windows: WhichWindows = "all") -> None:
        """Move the network to the device.

        Args:
            checkpoint: its network and classes.
            device: that scores.
            windows: all at the default hop, or the first of each clip alone.

        Raises:
            UnavailableError: the device is not there.
        """
        if device == "cuda" and not torch.cuda.is_available():
            raise UnavailableError("--device is cuda and torch finds no CUDA device; expected one; use --device cpu")
        self._device = torch.device(device)
        self._network = checkpoint.network.to(self._device).eval()
        self._front_end = FrontEnd(branches_of(checkpoint.spec), checkpoint.feature_spec).to(self._device)
        self._classes = {name: index for index, name in enumerate(checkpoint.classes)}
        self._n_samples = checkpoint.feature_spec.window_samples
        self._windows = windows

    def score(self, waves: Waves, class_names: Sequence[str]) -> NDArray[np.float64]:
        """Mean z of each clip's windows, (N,).

        class_names: (N,) as which class each clip is scored.
        """
        return np.array([scores.mean(dtype=np.float64) for scores in self.score_windows(waves, class_names)])

    def score_windows(self, waves: Waves, class_names: Sequence[str]) -> list[FloatArray]:
        """Scores z of each clip's windows, (windows,) a clip.

        A clip shorter than a window is repeated to its length.
        """
        if not len(waves):
            return []
        spare = np.maximum(0, waves.lengths - self._n_samples)
        n_windows = spare // HOP_SAMPLES + 1 if self._windows == "all" else np.ones_like(spare)
        clips = np.repeat(np.arange(len(waves)), n_windows)  # (windows of all clips,) the clip of each
        first = np.cumsum(n_windows) - n_windows
        begins = HOP_SAMPLES * (np.arange(len(clips)) - np.repeat(first, n_windows))
        own = np.array([self._classes[name] for name in class_names], dtype=np.int64)
        scores = np.empty(len(clips), dtype=np.float32)
        with torch.inference_mode():
            for start in range(0, len(clips), _WINDOWS_PER_BATCH):
                batch = slice(start, start + _WINDOWS_PER_BATCH)
                wave = torch.from_numpy(waves.cut(clips[batch], begins[batch], self._n_samples)).to(self._device)
                scores[batch] = self._score_batch(wave, own[clips[batch]])
        return np.split(scores, first[1:])

    def _score_batch(self, wave: Tensor, own: NDArray[np.int64]) -> FloatArray:
        """Score windows (B, window_samples) as classes (B,): z of a network with margin, the error of a baseline."""
        wave, log_mel = self._front_end(wave)  # (B, window_samples), (B, n_mels, n_frames)
        network = self._network
        if not isinstance(network, Network):
            scores: FloatArray = network(log_mel, torch.from_numpy(own).to(self._device)).float().cpu().numpy()
            return scores
        _, cosine = network(wave, log_mel)
        spec = network.spec
        scorer = MarginScorer(spec.scale, spec.margin, n_classes=spec.n_classes)
        return scorer.score(cosine.float().cpu().numpy(), own)
