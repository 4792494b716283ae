"""Batches of waves and labels in, the losses of a preset and their optimizer's steps out: the LightningModule."""

from __future__ import annotations

from typing import Any, cast

import lightning
import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - the name that torch's own documents use
from torch import Tensor
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR

from train.features import LogMel
from train.losses import arcmix, noisy_arcmix, noisy_supcon
from train.models import AnySpec, network_of
from train.network import Network
from train.settings import TrainingSettings

_CLASS_MEAN_STEP = 0.1
"""How far a class weight moves towards the mean embedding of its class in a batch, where no loss trains it."""


class TrainingModule(lightning.LightningModule):
    """Training of one network, in one stage or two, mixed or not.

    Source: TFSTgram OS-SCL; rivals as train/presets.py says.
    """

    def __init__(self, spec: AnySpec, settings: TrainingSettings) -> None:
        super().__init__()
        self.settings = settings
        self.log_mel = LogMel()
        self.network = network_of(spec)
        self._mix_rng = np.random.default_rng([settings.seed, 2])

    @property
    def in_contrastive_stage(self) -> bool:
        """Whether this epoch trains by SupCon alone, ahead of the loss of the settings."""
        return self.current_epoch < self.settings.contrastive_epochs

    def on_train_epoch_start(self) -> None:
        """Begin the second stage with a fresh optimizer, as a run of its own would."""
        if self.current_epoch == self.settings.contrastive_epochs > 0:
            self.trainer.optimizers[0].state.clear()

    def training_step(self, batch: tuple[Tensor, Tensor], _batch_index: int) -> Tensor:
        """Return the loss of the batch, mixed where wanted with a permutation of itself: waves and dB log-mels."""
        wave, label_a = batch  # (B, samples), (B,)
        log_mel = self._log_mel_db(wave)  # (B, 128, 313)
        label_b, lam = label_a, 1.0
        if self.settings.mixup_alpha is not None:
            lam = float(self._mix_rng.beta(self.settings.mixup_alpha, self.settings.mixup_alpha))
            permutation = torch.from_numpy(self._mix_rng.permutation(len(wave))).to(wave.device)
            wave = lam * wave + (1.0 - lam) * wave[permutation]
            log_mel = lam * log_mel + (1.0 - lam) * log_mel[permutation]
            label_b = label_a[permutation]
        terms = self._losses(wave, log_mel, label_a, label_b, lam)
        loss = torch.stack(list(terms.values())).sum()
        for name, term in (*terms.items(), ("loss", loss)):
            self.log(f"train_{name}", term, on_step=False, on_epoch=True, batch_size=len(wave))
        self.log("learning_rate", self.trainer.optimizers[0].param_groups[0]["lr"], on_step=False, on_epoch=True)
        return loss

    def validation_step(self, batch: tuple[Tensor, Tensor], _batch_index: int) -> None:
        """Log the loss of the batch unmixed."""
        wave, label = batch
        terms = self._losses(wave, self._log_mel_db(wave), label, label, 1.0)
        loss = torch.stack(list(terms.values())).sum()
        self.log("validation_loss", loss, on_step=False, on_epoch=True, batch_size=len(wave))

    def configure_optimizers(self) -> Any:
        """AdamW with the learning rate of the settings, one step an epoch."""
        settings = self.settings
        optimizer = AdamW(self.network.parameters(), settings.learning_rate, weight_decay=settings.weight_decay)
        schedule = LambdaLR(optimizer, lambda epoch: settings.learning_rate_at(epoch) / settings.learning_rate)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "epoch"}}

    def _log_mel_db(self, wave: Tensor) -> Tensor:
        with torch.no_grad(), torch.autocast(wave.device.type, enabled=False):  # dB need float32
            return cast("Tensor", self.log_mel(wave))

    def _losses(self, wave: Tensor, log_mel: Tensor, label_a: Tensor, label_b: Tensor, lam: float) -> dict[str, Tensor]:
        """Terms of the loss by name; their sum is trained."""
        if not isinstance(self.network, Network):  # a baseline trains what it scores, on unmixed windows
            return {"error": self.network(log_mel, label_a).mean()}
        loss = "supcon" if self.in_contrastive_stage else self.settings.loss
        spec = self.network.spec
        embedding, cosine = self.network(wave, log_mel)
        embedding, cosine = embedding.float(), cosine.float()
        terms: dict[str, Tensor] = {}
        if loss == "arcface":
            terms["arcface"] = arcmix(cosine, label_a, label_b, lam, margin=spec.margin, scale=spec.scale)
        elif loss in ("noisy-arcmix", "os-scl"):
            terms["noisy_arcmix"] = noisy_arcmix(cosine, label_a, label_b, lam, margin=spec.margin, scale=spec.scale)
        if loss in ("supcon", "os-scl"):
            terms["supcon"] = noisy_supcon(embedding, label_a, temperature=self.settings.supcon_temperature)
        if self.training and self.settings.loss == "supcon":
            self._follow_class_means(self.network.class_weight, embedding.detach(), label_a)
        return terms

    @torch.no_grad()
    def _follow_class_means(self, weight: Tensor, embedding: Tensor, label: Tensor) -> None:
        """Move the weights of the classes in the batch towards their mean embeddings, for the margin score."""
        here = F.one_hot(label, len(weight)).to(embedding.dtype)  # (B, classes)
        means = F.normalize(here.T @ embedding)  # (classes, 128)
        moved = F.normalize(torch.lerp(F.normalize(weight), means, _CLASS_MEAN_STEP))
        weight.copy_(torch.where(here.any(dim=0)[:, None], moved, weight))
