"""Embeddings of mixtures and of their parts in, the losses of retention and of the denoising baseline out."""

from __future__ import annotations

import torch
import torch.nn.functional as F  # noqa: N812 - the name that torch's own documents use
from torch import Tensor

from train.retain.settings import Scaling

_TINY = 1e-6


def scaled(embedding: Tensor, scaling: Scaling) -> Tensor:
    """Scale embeddings (B, size), each by itself."""
    if scaling == "none":
        return embedding
    if scaling == "layer":
        return F.layer_norm(embedding, embedding.shape[1:])
    return embedding / embedding.square().mean(dim=1, keepdim=True).sqrt().clamp(min=_TINY)


def mixture_target(clean: Tensor, noise: Tensor, clean_share: float, scaling: Scaling) -> Tensor:
    """What the embedding of a mixture should be, (B, size), from the teacher's of its parts.

    Source: retain-not-denoise (arXiv 2510.25182): lambda * T(clean) + (1 - lambda) * T(noise), each scaled, and the sum
    again, since the student's embedding is.
    """
    return scaled(torch.lerp(scaled(noise, scaling), scaled(clean, scaling), clean_share), scaling)


def alignment(student: Tensor, target: Tensor) -> Tensor:
    """Mean squared difference of (B, size); a scalar."""
    return F.mse_loss(student, target)


def tagging(logits: Tensor, machine: Tensor, noise: Tensor) -> Tensor:
    """Binary cross-entropy of (B, tags), summed over the tags, mean over windows, with two tags true; a scalar.

    The sum weighs what names one window alike however many tags there are; of a mean, as torch takes it by default, 60
    tags leave a sixtieth.

    machine, noise: (B,) int64, places of the true tags.
    """
    truth = torch.zeros_like(logits).scatter(1, torch.stack((machine, noise), dim=1), 1.0)
    return F.binary_cross_entropy_with_logits(logits, truth, reduction="sum") / len(logits)


def rare_tags_bias(n_machines: int, n_tags: int) -> Tensor:
    """Bias (n_machines + n_tags,) with which each tag is as likely at first as one of so many is.

    Else the first steps of a training, all of a short one, go into learning that most tags are false.

    Source: Lin et al., Focal Loss for Dense Object Detection (2017), prior of the last layer.
    """
    shares = torch.tensor([1.0 / n_machines] * n_machines + [1.0 / n_tags] * n_tags)
    return torch.logit(shares, eps=1e-3)


def naming(logits: Tensor, machine: Tensor) -> Tensor:
    """Cross-entropy of (B, machines) with the machine in the mixture, whatever the noise; a scalar."""
    return F.cross_entropy(logits, machine)
