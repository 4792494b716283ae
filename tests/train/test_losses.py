"""Margin logits and losses agree with golden values and keep their properties everywhere."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - the name that torch's own documents use
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_asd.score import MarginScorer
from train.losses import arcmix, margin_logits, noisy_arcmix, noisy_supcon


def test_losses_and_gradients_agree_with_golden_values(golden_losses_file):
    """Within 1e-5; gradients, which are up to a hundred times as large, within 1e-5 of their largest."""
    golden = np.load(golden_losses_file)
    raw = torch.from_numpy(golden["raw_embedding"]).requires_grad_()
    weight = torch.from_numpy(golden["class_weight"]).requires_grad_()
    label_a, label_b = torch.from_numpy(golden["label_a"]), torch.from_numpy(golden["label_b"])
    margin, scale = float(golden["margin"]), float(golden["scale"])
    embedding = F.normalize(raw)
    cosine = F.linear(embedding, F.normalize(weight))
    arcmix = noisy_arcmix(cosine, label_a, label_b, float(golden["lam"]), margin=margin, scale=scale)
    supcon = noisy_supcon(
        embedding,
        label_a,
        temperature=float(golden["temperature"]),
        base_temperature=float(golden["base_temperature"]),
    )
    (arcmix + supcon).backward()
    assert arcmix.item() == pytest.approx(float(golden["noisy_arcmix"]), abs=1e-5)
    assert supcon.item() == pytest.approx(float(golden["noisy_supcon"]), abs=1e-5)
    assert (arcmix + supcon).item() == pytest.approx(float(golden["total"]), abs=1e-5)
    for found, name in ((raw.grad, "grad_raw_embedding"), (weight.grad, "grad_class_weight")):
        assert np.abs(found.numpy() - golden[name]).max() <= 1e-5 * max(1.0, np.abs(golden[name]).max())


@pytest.mark.parametrize("margin", [0.4, 0.7, 1.0])
def test_own_logit_rises_with_the_cosine(margin):
    """Strictly, over the whole range and across the joint at pi - margin."""
    cosine = torch.linspace(-1.0, 1.0, 2001, dtype=torch.float64)[:, None]
    logit = margin_logits(cosine, torch.zeros(2001, dtype=torch.int64), margin=margin, scale=30.0)[:, 0]
    # The published joint steps down by a part of a logit; on either side of it the logit rises.
    joint = math.cos(math.pi - margin)
    for side in (cosine[:, 0] <= joint, cosine[:, 0] > joint):
        assert (logit[side].diff() > 0).all()


def test_meeting_the_class_weight_keeps_the_gradient_finite():
    """Where the angle is 0 or pi an unclamped root would give NaN."""
    cosine = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [1.0 + 1e-7, 0.0]], requires_grad=True)
    margin_logits(cosine, torch.zeros(3, dtype=torch.int64), margin=0.4, scale=30.0).sum().backward()
    assert torch.isfinite(cosine.grad).all()


@given(
    cosine=st.lists(st.lists(st.floats(-1.0, 1.0), min_size=3, max_size=3), min_size=1, max_size=5),
    margin=st.sampled_from([0.4, 0.7]),
)
@settings(deadline=None)
def test_cross_entropy_is_the_softplus_of_the_device_score(cosine, margin):
    """Training and the device speak of the same score."""
    cosine = torch.tensor(cosine)
    label = torch.arange(len(cosine)) % 3
    logits = margin_logits(cosine, label, margin=margin, scale=30.0)
    z = MarginScorer(30.0, margin, n_classes=3).score(cosine.numpy(), label.numpy())
    torch.testing.assert_close(
        F.cross_entropy(logits, label, reduction="none"), F.softplus(torch.from_numpy(z)), atol=1e-3, rtol=1e-4
    )


def test_unmixed_arcmix_is_plain_arcface():
    """With lambda 1 the second labels do not count."""
    cosine = torch.rand(4, 3) * 2 - 1
    label = torch.tensor([0, 1, 2, 0])
    logits = margin_logits(cosine, label, margin=0.4, scale=30.0)
    mixed = noisy_arcmix(cosine, label, label.flip(0), 1.0, margin=0.4, scale=30.0)
    torch.testing.assert_close(mixed, F.cross_entropy(logits, label))


def test_arcmix_is_the_mean_of_two_arcfaces():
    """Each with the margin on its own label."""
    cosine = torch.rand(4, 3) * 2 - 1
    a, b = torch.tensor([0, 1, 2, 0]), torch.tensor([1, 1, 0, 2])
    alone = [F.cross_entropy(margin_logits(cosine, label, margin=0.4, scale=30.0), label) for label in (a, b)]
    mixed = arcmix(cosine, a, b, 0.3, margin=0.4, scale=30.0)
    torch.testing.assert_close(mixed, 0.3 * alone[0] + 0.7 * alone[1])


def test_supcon_without_positives_is_zero_and_has_a_gradient():
    """All labels differ."""
    embedding = F.normalize(torch.randn(4, 8)).requires_grad_()
    loss = noisy_supcon(embedding, torch.arange(4))
    loss.backward()
    assert loss.item() == 0.0
    assert torch.isfinite(embedding.grad).all()


@given(seed=st.integers(0, 1000))
@settings(max_examples=30, deadline=None)
def test_supcon_does_not_depend_on_the_order_of_the_batch(seed):
    """A permutation of the batch leaves it."""
    generator = torch.Generator().manual_seed(seed)
    embedding = F.normalize(torch.randn(8, 16, generator=generator))
    label = torch.randint(0, 3, (8,), generator=generator)
    order = torch.randperm(8, generator=generator)
    torch.testing.assert_close(noisy_supcon(embedding, label), noisy_supcon(embedding[order], label[order]))
