"""Batches of mixtures and their parts in, the losses of retention and their optimizer's steps out."""

from __future__ import annotations

import copy
from typing import Any, cast

import lightning
import numpy as np
import torch
from torch import Tensor, nn
from torch.optim import AdamW
from torch.optim.lr_scheduler import LambdaLR

from edge_asd.errors import EdgeAsdError, UsageError
from edge_asd.types import FeatureSpec
from train.curves import log_now
from train.front_end import FrontEnd
from train.network import BRANCHES
from train.retain.encoders import Encoder, NetworkEncoder
from train.retain.losses import alignment, mixture_target, naming, rare_tags_bias, scaled, tagging
from train.retain.mixtures import MixtureBatch
from train.retain.settings import RetainSettings
from train.retain.spec_augment import mask_mixture


class RetainModule(lightning.LightningModule):
    """Training of one encoder, the student, beside its own frozen copy, the teacher.

    Source: retain-not-denoise (arXiv 2510.25182), and its denoising baseline.
    """

    def __init__(
        self, encoder: Encoder, settings: RetainSettings, *, n_machines: int, n_tags: int, feature_spec: FeatureSpec
    ) -> None:
        """Take the encoder, which is trained in place; n_tags are those of noise.

        Raises:
            UsageError: the encoder has no such layer.
        """
        super().__init__()
        if settings.layer not in encoder.sizes:
            raise UsageError(f"--layer is {settings.layer!r}; expected one of {', '.join(encoder.sizes)}")
        self.settings = settings
        self.feature_spec = feature_spec
        self.n_machines = n_machines
        branches = encoder.network.spec.branches if isinstance(encoder, NetworkEncoder) else BRANCHES
        self.front_end = FrontEnd(branches, feature_spec)
        self.student = encoder
        self.teacher = copy.deepcopy(encoder).requires_grad_(requires_grad=False) if settings.aligns else None
        n_logits = n_machines if settings.objective == "denoise" else n_machines + n_tags
        self.tags = nn.Linear(encoder.sizes[settings.layer], n_logits)
        if settings.objective == "retain":
            with torch.no_grad():
                self.tags.bias.copy_(rare_tags_bias(n_machines, n_tags))

    def train(self, mode: bool = True) -> RetainModule:
        """Set the mode of all but the teacher, whose averages stay."""
        super().train(mode)
        if self.teacher is not None:
            self.teacher.eval()
        return self

    def training_step(self, batch: MixtureBatch, _batch_index: int) -> Tensor:
        """Return the loss of a batch, the mixture masked."""
        rng = np.random.default_rng([self.settings.seed, 6, self.global_step])
        wave, log_mel = mask_mixture(*self._inputs(batch.mixture), self.settings, self.feature_spec, rng)
        terms = self._losses(wave, log_mel, batch)
        loss = torch.stack(list(terms.values())).sum()
        if not torch.isfinite(loss):
            raise EdgeAsdError(
                f"the loss is {float(loss)} in step {self.global_step}; expected a finite number; try a lower "
                "--learning-rate or --precision 32-true"
            )
        figures = {f"train_{name}": term.detach() for name, term in (*terms.items(), ("loss", loss))}
        learning_rate = self.trainer.optimizers[0].param_groups[0]["lr"]
        log_now(self, {**figures, "learning_rate": learning_rate}, self.global_step)
        return loss

    def validation_step(self, batch: MixtureBatch, _batch_index: int) -> None:
        """Log the losses of a batch, not masked."""
        terms = self._losses(*self._inputs(batch.mixture), batch)
        for name, term in (*terms.items(), ("loss", torch.stack(list(terms.values())).sum())):
            self.log(f"validation_{name}", term, on_step=False, on_epoch=True, batch_size=len(batch.mixture))

    def configure_optimizers(self) -> Any:
        """AdamW with warm-up and cosine, step by step; what no gradient reaches, as class weights, stays as it is."""
        settings = self.settings
        parameters = [parameter for parameter in self.parameters() if parameter.requires_grad]
        optimizer = AdamW(parameters, settings.learning_rate, weight_decay=settings.weight_decay)
        schedule = LambdaLR(optimizer, lambda step: settings.learning_rate_at(step) / settings.learning_rate)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def _losses(self, wave: Tensor, log_mel: Tensor, batch: MixtureBatch) -> dict[str, Tensor]:
        """Weighted terms of the loss by name; their sum is trained."""
        settings = self.settings
        # Compiled for the batches of training alone; those of validation would have it compiled once more.
        hear = self.student if self.training else self.student.forward
        student = scaled(hear(wave, log_mel, settings.layer).float(), settings.scaling)  # (B, size)
        if settings.objective == "denoise":
            return {"naming": naming(self.tags(student).float(), batch.machine)}
        terms: dict[str, Tensor] = {}
        if settings.tag_weight:
            loss = tagging(self.tags(student).float(), batch.machine, self.n_machines + batch.tag)
            terms["tagging"] = settings.tag_weight * loss
        if self.teacher is not None:
            terms["alignment"] = settings.align_weight * alignment(student, self._target(batch))
        return terms

    @torch.no_grad()
    def _target(self, batch: MixtureBatch) -> Tensor:
        """The teacher's embeddings of the parts, mixed: (B, size)."""
        teacher = cast("Encoder", self.teacher) if self.training else cast("Encoder", self.teacher).forward
        parts = torch.cat((batch.clean, batch.noise))  # (2 B, window_samples)
        clean, noise = teacher(*self._inputs(parts), self.settings.layer).float().chunk(2)
        return mixture_target(clean, noise, self.settings.clean_share, self.settings.scaling)

    def _inputs(self, wave: Tensor) -> tuple[Tensor, Tensor]:
        inputs: tuple[Tensor, Tensor] = self.front_end(wave)
        return inputs
