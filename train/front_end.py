"""Waves in, what the branches of a network take of them out: the waves, their log-mels, or both."""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import Tensor, nn

from edge_asd.types import FeatureSpec
from train.features import LogMel
from train.network import WAVE_BRANCHES, Branch


class FrontEnd(nn.Module):
    """Both inputs of a network; the one that none of its branches takes is empty, (B, 0), and costs nothing."""

    def __init__(self, branches: Collection[Branch], feature_spec: FeatureSpec | None = None) -> None:
        super().__init__()
        self._takes_wave = any(branch in WAVE_BRANCHES for branch in branches)
        takes_log_mel = any(branch not in WAVE_BRANCHES for branch in branches)
        self._log_mel = LogMel(feature_spec) if takes_log_mel else None

    @torch.no_grad()
    def forward(self, wave: Tensor) -> tuple[Tensor, Tensor]:
        """Take waves (B, window_samples) float32 in -1..1.

        Returns:
            wave (B, window_samples) and log_mel (B, n_mels, n_frames) in dB.
        """
        unused = wave.new_empty(len(wave), 0)
        if self._log_mel is None:
            return wave, unused
        with torch.autocast(wave.device.type, enabled=False):  # dB need float32
            log_mel = self._log_mel(wave)
        return wave if self._takes_wave else unused, log_mel
