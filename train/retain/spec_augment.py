"""Mixtures in, the same with stretches of time and bands of frequency masked out."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edge_asd.types import FeatureSpec
from train.retain.settings import RetainSettings


def mask_mixture(
    wave: Tensor, log_mel: Tensor, settings: RetainSettings, spec: FeatureSpec, rng: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """Mask (B, window_samples) and (B, n_mels, n_frames), each window with masks of its own; neither is altered.

    What is empty, (B, 0), stays so, and the other's masks are the same.

    Masked log-mel takes the window's mean in dB. The wave is silent in the masked frames, as its branches would hear
    what is masked otherwise; bands are masked in the log-mel alone.

    Source: D. S. Park et al., SpecAugment (2019), without time warping.
    """
    frames = _stretches(rng, len(wave), spec.n_frames, settings.time_masks, settings.time_mask_frames)
    mels = _stretches(rng, len(wave), spec.n_mels, settings.frequency_masks, settings.frequency_mask_mels)
    if wave.numel():
        samples = np.repeat(frames, spec.hop_samples, axis=1)[:, : spec.window_samples]  # (B, window_samples)
        wave = wave.masked_fill(torch.from_numpy(samples).to(wave.device), 0.0)
    if log_mel.numel():
        masked = torch.from_numpy(frames[:, None, :] | mels[:, :, None]).to(log_mel.device)  # (B, n_mels, n_frames)
        log_mel = torch.where(masked, log_mel.mean(dim=(1, 2), keepdim=True), log_mel)
    return wave, log_mel


def _stretches(rng: np.random.Generator, n_windows: int, n_places: int, n_masks: int, widest: int) -> NDArray[np.bool_]:
    """Which of the places are masked, (n_windows, n_places)."""
    widths = rng.integers(0, min(widest, n_places) + 1, (n_windows, n_masks, 1))
    begins = (rng.random((n_windows, n_masks, 1)) * (n_places - widths + 1)).astype(np.int64)
    places = np.arange(n_places)
    masked: NDArray[np.bool_] = np.any((places >= begins) & (places < begins + widths), axis=1)
    return masked
