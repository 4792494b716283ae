"""Waves in, log-mel spectrograms in dB out, in torch and on its device; the numbers are those of the device runtime."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from edge_asd.features import mel_filters
from edge_asd.types import FeatureSpec
from train.data.waves import FULL_SCALE


def in_full_scale(wave: Tensor) -> Tensor:
    """Samples as they are stored, int16 or float32 in -1..1, as the latter, on the device where they are."""
    return wave if wave.is_floating_point() else wave.float() / FULL_SCALE


class LogMel(nn.Module):
    """Log-mel spectrogram, 10 log10(max(power, floor)), with centred frames and zero padding.

    Source: TFSTgram OS-SCL; equals librosa's `melspectrogram` with `center=True, pad_mode="constant"`.
    """

    window: Tensor
    filters: Tensor

    def __init__(self, spec: FeatureSpec | None = None) -> None:
        super().__init__()
        self.spec = spec or FeatureSpec()
        self.register_buffer("window", torch.hann_window(self.spec.n_fft), persistent=False)
        filters = torch.from_numpy(mel_filters(self.spec)).float()  # (n_mels, bins)
        self.register_buffer("filters", filters, persistent=False)

    def forward(self, wave: Tensor) -> Tensor:
        """Transform (B, window_samples) float32 in -1..1 into (B, n_mels, n_frames) float32 in dB."""
        spectrum = torch.stft(
            wave,
            self.spec.n_fft,
            self.spec.hop_samples,
            window=self.window,
            center=True,
            pad_mode="constant",
            return_complex=True,
        )  # (B, bins, n_frames)
        power = spectrum.real.square() + spectrum.imag.square()
        return 10.0 * torch.log10((self.filters @ power).clamp(min=self.spec.power_floor))
