"""Batches of waves and labels in, OS-SCL losses and their optimizer's steps out: the LightningModule."""

from __future__ import annotations

from typing import Any, cast

import lightning
import numpy as np
import torch
from torch import Tensor
from torch.optim import AdamW
from torch.optim.lr_scheduler import CosineAnnealingLR

from train.features import LogMel
from train.losses import noisy_arcmix, noisy_supcon
from train.network import Network, NetworkSpec
from train.settings import TrainingSettings


class OsSclModule(lightning.LightningModule):
    """One-stage supervised contrastive learning on mixed windows.

    Source: TFSTgram OS-SCL.
    """

    def __init__(self, spec: NetworkSpec, settings: TrainingSettings) -> None:
        super().__init__()
        self.settings = settings
        self.log_mel = LogMel()
        self.network = Network(spec)
        self._mix_rng = np.random.default_rng([settings.seed, 2])

    def training_step(self, batch: tuple[Tensor, Tensor], _batch_index: int) -> Tensor:
        """Mix the batch with a permutation of itself, waves and dB log-mels alike, and return its loss."""
        wave, label_a = batch  # (B, samples), (B,)
        log_mel = self._log_mel_db(wave)  # (B, 128, 313)
        lam = float(self._mix_rng.beta(self.settings.mixup_alpha, self.settings.mixup_alpha))
        permutation = torch.from_numpy(self._mix_rng.permutation(len(wave))).to(wave.device)
        wave = lam * wave + (1.0 - lam) * wave[permutation]
        log_mel = lam * log_mel + (1.0 - lam) * log_mel[permutation]
        loss = self._loss(wave, log_mel, label_a, label_a[permutation], lam)
        self.log("train_loss", loss, on_step=False, on_epoch=True, batch_size=len(wave))
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], _batch_index: int) -> None:
        """Log the loss of the batch unmixed."""
        wave, label = batch
        loss = self._loss(wave, self._log_mel_db(wave), label, label, 1.0)
        self.log("validation_loss", loss, on_step=False, on_epoch=True, batch_size=len(wave))

    def configure_optimizers(self) -> Any:
        """AdamW with a cosine from the first to the final learning rate, one step an epoch."""
        settings = self.settings
        optimizer = AdamW(self.network.parameters(), settings.learning_rate, weight_decay=settings.weight_decay)
        schedule = CosineAnnealingLR(optimizer, settings.epochs, eta_min=settings.final_learning_rate)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "epoch"}}

    def _log_mel_db(self, wave: Tensor) -> Tensor:
        with torch.no_grad(), torch.autocast(wave.device.type, enabled=False):  # dB need float32
            return cast("Tensor", self.log_mel(wave))

    def _loss(self, wave: Tensor, log_mel: Tensor, label_a: Tensor, label_b: Tensor, lam: float) -> Tensor:
        spec = self.network.spec
        embedding, cosine = self.network(wave, log_mel)
        embedding, cosine = embedding.float(), cosine.float()
        arcmix = noisy_arcmix(cosine, label_a, label_b, lam, margin=spec.margin, scale=spec.scale)
        return arcmix + noisy_supcon(embedding, label_a, temperature=self.settings.supcon_temperature)
