"""Batches of waves and labels in, the losses of a preset and their optimizer's steps out: the LightningModule."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import lightning
import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - the name that torch's own documents use
from torch import Tensor
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR

from train.curves import log_now
from train.features import in_full_scale
from train.front_end import FrontEnd
from train.losses import arcmix, noisy_arcmix, noisy_supcon
from train.models import AnySpec, branches_of, network_of
from train.network import Network
from train.processes import Processes, gather_rows
from train.settings import TrainingSettings

_CLASS_MEAN_STEP = 0.1
"""How far a class weight moves towards the mean embedding of its class in a batch, where no loss trains it."""


class TrainingModule(lightning.LightningModule):
    """Training of one network, in one stage or two, mixed or not.

    Each of several processes takes its rows of a batch; losses and mixture are those of the whole batch.

    Source: TFSTgram OS-SCL; rivals as train/presets.py says.
    """

    def __init__(self, spec: AnySpec, settings: TrainingSettings, processes: Processes | None = None) -> None:
        super().__init__()
        self.settings = settings
        # In a list: it is none of the entries that are averaged, or decay.
        self._front_end = [FrontEnd(branches_of(spec))]
        self.network = network_of(spec)
        self._processes = processes or Processes()
        self._sums: dict[str, Tensor] = {}  # of each term of the loss, over the steps of this epoch
        self._n_summed = 0

    @property
    def in_contrastive_stage(self) -> bool:
        """Whether this epoch trains by SupCon alone, ahead of the loss of the settings."""
        return self.current_epoch < self.settings.contrastive_epochs

    def on_train_epoch_start(self) -> None:
        """Begin the second stage with a fresh optimizer, as a run of its own would."""
        if self.current_epoch == self.settings.contrastive_epochs > 0:
            self.trainer.optimizers[0].state.clear()

    def on_after_batch_transfer(
        self,
        batch: tuple[Tensor, Tensor],
        dataloader_idx: int,  # noqa: ARG002 - Lightning's hook
    ) -> tuple[Tensor, Tensor]:
        """Turn stored int16 samples into -1..1 on the device that trains: half the bytes on the way there."""
        wave, label = batch
        return in_full_scale(wave), label

    def training_step(self, batch: tuple[Tensor, Tensor], _batch_index: int) -> Tensor:
        """Return the loss of the batch, mixed where wanted with a permutation of itself: waves and dB log-mels."""
        wave, label_a = batch  # (B, samples), (B,)
        wave, log_mel = self._inputs(wave)  # (B, samples), (B, 128, 313); empty where no branch takes it
        label_a = gather_rows(label_a)  # (all,), of all processes, as the losses are
        label_b, lam = label_a, 1.0
        alpha = self.settings.mixup_alpha
        if alpha is not None:
            lam, permutation = self._draw_mixture(alpha, len(label_a), wave.device)
            partners = permutation[self._processes.rows(len(label_a))]
            wave, log_mel = (_mixed(rows, partners, lam) for rows in (wave, log_mel))
            label_b = label_a[permutation]
        terms = self._losses(wave, log_mel, label_a, label_b, lam)
        loss = torch.stack(list(terms.values())).sum()
        for name, term in (*terms.items(), ("loss", loss)):
            self._sums[name] = self._sums[name] + term.detach() if name in self._sums else term.detach()
        self._n_summed += 1
        return loss

    def on_train_epoch_end(self) -> None:
        """Log the means of the epoch."""
        means = {f"train_{name}": total / self._n_summed for name, total in self._sums.items()}
        learning_rate = self.trainer.optimizers[0].param_groups[0]["lr"]
        log_now(self, {**means, "learning_rate": learning_rate}, self.global_step - 1)
        self._sums, self._n_summed = {}, 0

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the sums of the epoch so far, which a run that goes on from its middle needs for its means."""
        checkpoint["epoch_sums"] = {name: total.cpu() for name, total in self._sums.items()}
        checkpoint["epoch_steps"] = self._n_summed

    def on_load_checkpoint(self, checkpoint: Mapping[str, Any]) -> None:
        """Go on from there."""
        self._sums = {name: total.to(self.device) for name, total in checkpoint["epoch_sums"].items()}
        self._n_summed = checkpoint["epoch_steps"]

    def validation_step(self, batch: tuple[Tensor, Tensor], _batch_index: int) -> None:
        """Log the loss of the batch unmixed."""
        wave, label = batch
        terms = self._losses(*self._inputs(wave), label, label, 1.0)
        loss = torch.stack(list(terms.values())).sum()
        self.log("validation_loss", loss, on_step=False, on_epoch=True, batch_size=len(wave))

    def configure_optimizers(self) -> Any:
        """AdamW with the learning rate of the settings, one step an epoch."""
        settings = self.settings
        optimizer = AdamW(self.network.parameters(), settings.learning_rate, weight_decay=settings.weight_decay)
        schedule = LambdaLR(optimizer, lambda epoch: settings.learning_rate_at(epoch) / settings.learning_rate)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "epoch"}}

    def _draw_mixture(self, alpha: float, n_rows: int, device: torch.device) -> tuple[float, Tensor]:
        """Mixing factor and permutation (n_rows,) of this step, whatever was drawn before it."""
        rng = np.random.default_rng([self.settings.seed, 3, self.global_step])
        return float(rng.beta(alpha, alpha)), torch.from_numpy(rng.permutation(n_rows)).to(device)

    def _inputs(self, wave: Tensor) -> tuple[Tensor, Tensor]:
        inputs: tuple[Tensor, Tensor] = self._front_end[0].to(wave.device)(wave)
        return inputs

    def _losses(self, wave: Tensor, log_mel: Tensor, label_a: Tensor, label_b: Tensor, lam: float) -> dict[str, Tensor]:
        """Terms of the loss by name; their sum is trained. The labels are those of all processes."""
        if not isinstance(self.network, Network):  # a baseline trains what it scores, on unmixed windows
            return {"error": self.network(log_mel, label_a).mean()}
        # Compiled for the batches of training alone; those of validation would have it compiled once more.
        embedding, _ = (self.network if self.training else self.network.forward)(wave, log_mel)
        with torch.autocast(wave.device.type, enabled=False):  # cosines, divided by a temperature, need float32
            return self._margin_losses(self.network, F.normalize(embedding.float()), label_a, label_b, lam)

    def _margin_losses(
        self, network: Network, embedding: Tensor, label_a: Tensor, label_b: Tensor, lam: float
    ) -> dict[str, Tensor]:
        loss = "supcon" if self.in_contrastive_stage else self.settings.loss
        spec = network.spec
        cosine = network.cosine(embedding)
        if self.training:  # every process validates with all clips
            embedding, cosine = gather_rows(embedding), gather_rows(cosine)
        terms: dict[str, Tensor] = {}
        if loss == "arcface":
            terms["arcface"] = arcmix(cosine, label_a, label_b, lam, margin=spec.margin, scale=spec.scale)
        elif loss in ("noisy-arcmix", "os-scl"):
            terms["noisy_arcmix"] = noisy_arcmix(cosine, label_a, label_b, lam, margin=spec.margin, scale=spec.scale)
        if loss in ("supcon", "os-scl"):
            terms["supcon"] = noisy_supcon(embedding, label_a, temperature=self.settings.supcon_temperature)
        if self.training and self.settings.loss == "supcon":
            self._follow_class_means(network.class_weight, embedding.detach(), label_a)
        return terms

    @torch.no_grad()
    def _follow_class_means(self, weight: Tensor, embedding: Tensor, label: Tensor) -> None:
        """Move the weights of the classes in the batch towards their mean embeddings, for the margin score."""
        here = F.one_hot(label, len(weight)).to(embedding.dtype)  # (B, classes)
        means = F.normalize(here.T @ embedding)  # (classes, 128)
        moved = F.normalize(torch.lerp(F.normalize(weight), means, _CLASS_MEAN_STEP))
        weight.copy_(torch.where(here.any(dim=0)[:, None], moved, weight))


def _mixed(rows: Tensor, partners: Tensor, lam: float) -> Tensor:
    """Mix rows (B, ...) with those of all processes that are their partners (B,); what is empty stays so."""
    return torch.lerp(gather_rows(rows)[partners], rows, lam) if rows.numel() else rows
