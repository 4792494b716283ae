"""Cosines, embeddings and labels of a mixed batch in, losses of OS-SCL and its rivals and margin logits out."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F  # noqa: N812 - the name that torch's own documents use
from torch import Tensor


def margin_logits(cosine: Tensor, label: Tensor, *, margin: float, scale: float) -> Tensor:
    """ArcFace logits (B, classes): scale * cos(angle + margin) on the label, scale * cos(angle) elsewhere.

    Beyond an angle of pi - margin the label's logit is scale * (cos - margin * sin(margin)), so that it keeps falling.

    Args:
        cosine: (B, classes) to every class weight.
        label: (B,) int64.
        margin: in radians.
        scale: factor on all logits.

    Source: J. Deng et al., ArcFace (2019).
    """
    own = cosine.gather(1, label[:, None])  # (B, 1)
    # The smallest positive number, not 0: the gradient of the root at 0 is infinite, and an embedding may meet its
    # class weight.
    sine = (1.0 - own.square()).clamp(min=torch.finfo(own.dtype).tiny).sqrt()
    within = own * math.cos(margin) - sine * math.sin(margin)
    beyond = own - margin * math.sin(margin)
    own_with_margin = torch.where(own > math.cos(math.pi - margin), within, beyond)
    return scale * cosine.scatter(1, label[:, None], own_with_margin)


def arcmix(cosine: Tensor, label_a: Tensor, label_b: Tensor, lam: float, *, margin: float, scale: float) -> Tensor:
    """ArcFace cross-entropy of a batch mixed as lam * a + (1 - lam) * b, each part with its own margin; a scalar.

    With lam 1, which is a batch that is not mixed, it is plain ArcFace.

    Source: ArcMix in Noisy-ArcMix (Choi and Choi, 2024).
    """
    part_a = F.cross_entropy(margin_logits(cosine, label_a, margin=margin, scale=scale), label_a)
    part_b = F.cross_entropy(margin_logits(cosine, label_b, margin=margin, scale=scale), label_b)
    return lam * part_a + (1.0 - lam) * part_b


def noisy_arcmix(
    cosine: Tensor, label_a: Tensor, label_b: Tensor, lam: float, *, margin: float, scale: float
) -> Tensor:
    """ArcFace cross-entropy of a batch mixed as lam * a + (1 - lam) * b, with the margin on a; a scalar.

    Source: Noisy-ArcMix (Choi and Choi, 2024), as OS-SCL uses it.
    """
    logits = margin_logits(cosine, label_a, margin=margin, scale=scale)
    return lam * F.cross_entropy(logits, label_a) + (1.0 - lam) * F.cross_entropy(logits, label_b)


def noisy_supcon(
    embedding: Tensor, label: Tensor, *, temperature: float = 0.02, base_temperature: float = 0.07
) -> Tensor:
    """Supervised contrastive loss of mixed embeddings with the labels of their first part; a scalar.

    The mean is over all anchors; one without positives counts as 0.

    Args:
        embedding: (B, 128) of unit length.
        label: (B,) int64.
        temperature: divides the cosines.
        base_temperature: the loss is scaled by temperature / base_temperature.

    Source: P. Khosla et al., Supervised Contrastive Learning (2020), as OS-SCL uses it.
    """
    others = ~torch.eye(len(label), dtype=torch.bool, device=label.device)  # (B, B)
    positives = (label[:, None] == label[None, :]) & others
    similarity = embedding @ embedding.T / temperature
    log_share = similarity - similarity.masked_fill(~others, -math.inf).logsumexp(dim=1, keepdim=True)
    n_positives = positives.sum(dim=1)
    per_anchor = -(log_share * positives).sum(dim=1) / n_positives.clamp(min=1)
    return temperature / base_temperature * per_anchor.mean()
