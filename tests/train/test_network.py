"""The network has the published shape, and its pools and branches behave as their definitions."""

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - the name that torch's own documents use
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from edge_asd.errors import EdgeAsdError
from train.branches import FixedAdaptiveMaxPool, MaxPool, TAgram
from train.network import BRANCHES, ConvNorm, Network, NetworkSpec


def n_parameters(module):
    return sum(parameter.numel() for parameter in module.parameters())


def test_has_the_published_number_of_parameters():
    """With 41 classes, whole and by part."""
    network = Network(NetworkSpec(n_classes=41))
    assert n_parameters(network) == 1_377_535
    assert n_parameters(network.tgram) == 280_406
    assert n_parameters(network.tfgram) == 198_720
    assert n_parameters(network.backbone) == 876_201
    assert n_parameters(network.head) == 16_960


def test_log_mel_alone_has_the_published_backbone():
    """One input channel, no wave branch."""
    network = Network(NetworkSpec(branches=("log_mel",)))
    assert n_parameters(network.backbone) == 875_049
    assert network.tgram is None
    assert network.tfgram is None


@given(n_out=st.integers(1, 40), extra=st.integers(0, 300))
@settings(max_examples=60, deadline=None)
def test_fixed_pool_is_the_adaptive_pool(n_out, extra):
    """For any pair of lengths, as it is trained, with its gradient, and as it is exported."""
    generator = torch.Generator().manual_seed(n_out)
    x = torch.randn(2, 3, n_out + extra, generator=generator, requires_grad=True)
    pool = FixedAdaptiveMaxPool(n_out + extra, n_out)
    expected = F.adaptive_max_pool1d(x, n_out)
    weights = torch.randn(expected.shape, generator=generator)
    assert torch.equal(pool(x), expected)
    assert torch.equal(pool.eval()(x), expected)
    (gradient,) = torch.autograd.grad((pool.train()(x) * weights).sum(), x)
    (expected_gradient,) = torch.autograd.grad((expected * weights).sum(), x)
    torch.testing.assert_close(gradient, expected_gradient)


def test_pool_leaves_a_rest_out():
    """As torch's does."""
    x = torch.randn(2, 3, 11)
    assert torch.equal(MaxPool(4)(x), F.max_pool1d(x, 4))


@pytest.mark.parametrize(("stride", "dtype"), [(1, torch.bfloat16), (2, torch.float32)])
def test_only_strided_depthwise_convolutions_keep_float32(stride, dtype):
    """Under autocast; the result is that of float32."""
    layer = ConvNorm(8, 8, 3, stride=stride, padding=1, depthwise=True, linear=True)
    layer.norm = nn.Identity()
    x = torch.randn(2, 8, 12, 12, dtype=torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16):
        y = layer(x)
    assert y.dtype is dtype
    atol = 1e-5 if dtype is torch.float32 else 0.05
    torch.testing.assert_close(y.float(), layer.conv(x.float()), rtol=0.0, atol=atol)


def test_outputs_are_unit_embeddings_and_their_cosines():
    """Embeddings have length 1 and cosines are those to the class weights."""
    network = Network(NetworkSpec(n_classes=5)).eval()
    with torch.inference_mode():
        embedding, cosine = network(torch.randn(2, 160_000) * 0.1, torch.randn(2, 128, 313))
    assert embedding.shape == (2, 128)
    torch.testing.assert_close(embedding.norm(dim=1), torch.ones(2))
    torch.testing.assert_close(cosine, F.cosine_similarity(embedding[:, None], network.class_weight[None], dim=2))


def test_log_mel_alone_ignores_the_wave():
    """Any wave gives the same embedding."""
    network = Network(NetworkSpec(branches=("log_mel",), head_activation="leaky_relu", n_classes=2)).eval()
    log_mel = torch.randn(1, 128, 313)
    with torch.inference_mode():
        assert torch.equal(network(torch.zeros(1, 160_000), log_mel)[0], network(torch.ones(1, 160_000), log_mel)[0])


@given(
    branches=st.sets(st.sampled_from(BRANCHES), min_size=1), head_reduction=st.sampled_from([None, 128, 32, 16, 8, 4])
)
@settings(max_examples=8, deadline=None)
def test_any_branches_and_head_make_a_network(branches, head_reduction):
    """An unused branch or head has no weights, and the outputs keep their shapes."""
    spec = NetworkSpec(
        branches=tuple(branch for branch in BRANCHES if branch in branches), head_reduction=head_reduction, n_classes=3
    )
    network = Network(spec).eval()
    with torch.inference_mode():
        embedding, cosine = network(torch.randn(1, 160_000) * 0.1, torch.randn(1, 128, 313))
    assert (embedding.shape, cosine.shape) == ((1, 128), (1, 3))
    owners = {name.split(".")[0] for name in network.state_dict()}
    assert owners & {"tgram", "tfgram"} == branches & {"tgram", "tfgram"}
    assert ("head" in owners) == (head_reduction is not None)


def test_tagram_weighs_each_frame_by_its_level():
    """Against the definition, frame by frame."""
    log_mel = torch.randn(2, 128, 4)
    frames = log_mel.unbind(dim=2)  # each (2, 128)
    weights = [
        torch.sigmoid(frame.max(dim=1, keepdim=True).values + frame.mean(dim=1, keepdim=True)) for frame in frames
    ]
    expected = torch.stack([frame * weight for frame, weight in zip(frames, weights, strict=True)], dim=2)
    torch.testing.assert_close(TAgram()(log_mel), expected)


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"branches": ()}, "branches are none"),
        ({"branches": ("tgram", "tgram")}, r"branches are tgram\+tgram"),
        ({"head_reduction": 0}, "head_reduction is 0"),
        ({"branches": ("tgram", "log_mel")}, "in that order"),
        ({"head_activation": "gelu"}, "'gelu'"),
        ({"n_classes": 1}, "2 or more"),
    ],
)
def test_impossible_spec_is_refused(fields, text):
    """With what was found and expected."""
    with pytest.raises(EdgeAsdError, match=text):
        NetworkSpec(**fields)
