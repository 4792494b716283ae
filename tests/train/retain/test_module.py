"""Losses, the teacher beside the student, encoders and their layers, and settings."""

import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - the name that torch's own documents use
from torch import nn

from edge_asd.errors import UsageError
from edge_asd.types import FeatureSpec
from train.network import Network, NetworkSpec
from train.retain import encoders
from train.retain.encoders import (
    EMBEDDING,
    FEATURE_MAP,
    Encoder,
    NetworkEncoder,
    PluggedEncoder,
    open_plugged,
    register_encoder,
)
from train.retain.losses import alignment, mixture_target, naming, rare_tags_bias, scaled, tagging
from train.retain.mixtures import MixtureBatch
from train.retain.module import RetainModule
from train.retain.settings import RetainSettings

SPEC = FeatureSpec()


def test_target_is_the_weighted_mean_of_the_parts():
    """As the paper has it, without scaling."""
    clean, noise = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 2.0]])
    torch.testing.assert_close(mixture_target(clean, noise, 0.75, "none"), torch.tensor([[0.75, 0.5]]))


@pytest.mark.parametrize("scaling", ["rms", "layer"])
def test_scaling_makes_the_loss_independent_of_the_level(scaling):
    """And leaves no difference where the student gives the target's direction."""
    clean, noise = torch.randn(4, 8), torch.randn(4, 8)
    target = mixture_target(clean, 5.0 * noise, 0.5, scaling)
    torch.testing.assert_close(target.square().mean(dim=1), torch.ones(4), rtol=1e-3, atol=1e-3)
    assert alignment(scaled(3.0 * target, scaling), target) < 1e-6
    torch.testing.assert_close(target, mixture_target(2.0 * clean, noise, 0.5, scaling), rtol=1e-3, atol=1e-3)


def test_tagging_equals_torch_with_two_tags_true():
    """One of the machines and one of the noises, whose tags follow; a window weighs as the sum over its tags."""
    logits = torch.randn(2, 5)
    truth = torch.tensor([[1.0, 0, 0, 1, 0], [0, 1.0, 0, 0, 1]])
    found = tagging(logits, torch.tensor([0, 1]), torch.tensor([3, 4]))
    torch.testing.assert_close(found, 5 * F.binary_cross_entropy_with_logits(logits, truth))
    torch.testing.assert_close(
        found, tagging(torch.cat((logits, logits)), *(torch.tensor([0, 1] * 2) + d for d in (0, 3)))
    )


def test_tags_begin_as_likely_as_they_are():
    """What the first steps of a short training would otherwise go into."""
    torch.testing.assert_close(
        torch.sigmoid(rare_tags_bias(4, 50)), torch.tensor([1 / 4] * 4 + [1 / 50] * 50), rtol=1e-5, atol=1e-6
    )
    assert torch.isfinite(rare_tags_bias(2, 1)).all()
    assert torch.equal(module_of().tags.bias, rare_tags_bias(2, 3))


def small_network(n_classes=2):
    torch.manual_seed(0)
    return Network(NetworkSpec(branches=("log_mel",), n_classes=n_classes)).eval()


def test_feature_map_keeps_frequency_and_forgets_time():
    """The backbone's map, averaged over its 20 columns."""
    encoder = NetworkEncoder(small_network())
    wave, log_mel = torch.zeros(2, SPEC.window_samples), torch.randn(2, SPEC.n_mels, SPEC.n_frames)
    with torch.inference_mode():
        backbone = encoder.network.backbone
        maps = backbone.blocks(backbone.stem_depthwise(backbone.stem(log_mel[:, None])))
        found = encoder(wave, log_mel, FEATURE_MAP)
        assert encoder(wave, log_mel, EMBEDDING).shape == (2, encoder.sizes[EMBEDDING])
    assert found.shape == (2, encoder.sizes[FEATURE_MAP])
    torch.testing.assert_close(found.view(2, 128, 8), maps.mean(dim=3))


class Levels(nn.Module):
    """An encoder from elsewhere: a linear layer on the mean of each mel band, with a batch norm."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(SPEC.n_mels)
        self.linear = nn.Linear(SPEC.n_mels, 6)

    def forward(self, _wave, log_mel):
        return self.linear(self.norm(log_mel.mean(dim=2)))


def batch_of(n):
    torch.manual_seed(1)
    clean, noise = 0.1 * torch.randn(2, n, SPEC.window_samples)
    return MixtureBatch(
        mixture=clean + noise, clean=clean, noise=noise, machine=torch.arange(n) % 2, tag=torch.arange(n) % 3
    )


def module_of(**settings):
    torch.manual_seed(0)
    return RetainModule(
        PluggedEncoder(Levels(), 6), RetainSettings(**settings), n_machines=2, n_tags=3, feature_spec=SPEC
    )


@pytest.mark.parametrize(
    ("settings", "terms", "n_logits"),
    [
        ({}, {"tagging", "alignment"}, 5),
        ({"align_weight": 0.0}, {"tagging"}, 5),
        ({"tag_weight": 0.0}, {"alignment"}, 5),
        ({"objective": "denoise"}, {"naming"}, 2),
    ],
)
def test_each_loss_can_be_switched_off(settings, terms, n_logits):
    """And the baseline names machines alone, without a teacher."""
    module, batch = module_of(**settings), batch_of(4)
    found = module._losses(*module.front_end(batch.mixture), batch)
    assert set(found) == terms
    assert module.tags.out_features == n_logits
    assert (module.teacher is not None) == ("alignment" in terms)


def test_teacher_stays_as_it_was():
    """Its weights get no gradient and its batch norm no average, also while the student trains."""
    module, batch = module_of(), batch_of(4)
    module.train()
    before = {name: value.clone() for name, value in module.teacher.state_dict().items()}
    assert module.student.training
    assert not module.teacher.training
    sum(module._losses(*module.front_end(batch.mixture), batch).values()).backward()
    assert all(parameter.grad is None for parameter in module.teacher.parameters())
    assert all(parameter.grad is not None for parameter in module.student.parameters())
    assert all(torch.equal(before[name], value) for name, value in module.teacher.state_dict().items())


def test_weights_scale_their_losses():
    """Each its own."""
    batch = batch_of(4)
    plain, weighted = module_of(), module_of(tag_weight=2.0, align_weight=0.3)
    one, other = (m._losses(*m.front_end(batch.mixture), batch) for m in (plain, weighted))
    torch.testing.assert_close(other["tagging"], 2.0 * one["tagging"])
    torch.testing.assert_close(other["alignment"], 3.0 * one["alignment"])


def test_baseline_loss_ignores_the_noise():
    """Cross-entropy of the machine alone."""
    logits = torch.randn(3, 2)
    torch.testing.assert_close(
        naming(logits, torch.tensor([0, 1, 1])), F.cross_entropy(logits, torch.tensor([0, 1, 1]))
    )


def test_learning_rate_rises_then_falls():
    """Straight to its highest at the end of the warm-up, and to the final one at the last step."""
    settings = RetainSettings(steps=14, warm_up_steps=4, learning_rate=1.0, final_learning_rate=0.1)
    rates = [settings.learning_rate_at(step) for step in range(15)]
    assert rates[:5] == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert rates[9] == pytest.approx(0.55)
    assert rates[14] == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"snr_db": (5.0, -5.0)}, "--snr-db is 5 to -5; expected one number, or the lower one first"),
        ({"tag_weight": 0.0, "align_weight": 0.0}, "both 0"),
        ({"clean_share": 1.5}, "--clean-share is 1.5; expected 0 to 1"),
        ({"align_weight": float("nan")}, "--align-weight is nan"),
        ({"warm_up_steps": 20, "steps": 20}, "--warm-up-steps is 20; expected fewer"),
        ({"batch_size": 1}, "--batch-size is 1; expected 2 or more"),
    ],
)
def test_impossible_setting_is_refused(settings, message):
    """With its option and value."""
    with pytest.raises(UsageError, match=message):
        RetainSettings(**settings)


def test_unknown_layer_is_refused():
    """With those that the encoder has."""
    with pytest.raises(UsageError, match=r"--layer is 'feature_map'; expected one of embedding"):
        module_of(layer="feature_map")


def test_registered_encoder_is_opened_by_its_name():
    """And hears windows at once, so that another size than the registered one is noticed."""
    register_encoder("levels-of-test", embedding_size=6, make=lambda _start: Levels())
    register_encoder("wrong-size-of-test", embedding_size=7, make=lambda _start: Levels())
    encoder = open_plugged("levels-of-test", None, SPEC)
    assert isinstance(encoder, Encoder)
    assert encoder.sizes == {"embedding": 6}
    with pytest.raises(UsageError, match=r"gives \(2, 6\) for two windows; expected \(2, 7\)"):
        open_plugged("wrong-size-of-test", None, SPEC)
    with pytest.raises(UsageError, match=r"--encoder is 'beats'; expected one of tfstgram, .*levels-of-test"):
        open_plugged("beats", None, SPEC)


def _raise(_start):
    raise KeyError("weights")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            _raise,
            r", `make` called with 'w.pt': KeyError: 'weights' \(.*test_module.py line \d+\); expected a torch module",
        ),
        (lambda _start: "w.pt", ": `make` gives a str; expected a torch.nn.Module"),
        (lambda _start: nn.Linear(1, 6), r", called with wave \(2, 160000\) and log-mel \(2, 128, 313\): TypeError: "),
        (lambda _start: Pair(), r" gives a tuple for two windows; expected a tensor \(2, 6\)"),
        (lambda _start: Levels().requires_grad_(False).apply(_spoil), " gives NaN or infinity for silence"),
    ],
)
def test_fault_of_a_registered_encoder_is_told(monkeypatch, make, message):
    """What raised it, with which arguments, and what was expected."""
    monkeypatch.setattr(encoders, "_REGISTERED", {})
    register_encoder("faulty", embedding_size=6, make=make)
    with pytest.raises(UsageError, match=f"encoder faulty{message}"):
        open_plugged("faulty", "w.pt", SPEC)


class Pair(nn.Module):
    """Gives more than an embedding."""

    def forward(self, wave, log_mel):
        return log_mel[:, :6, 0], wave


def _spoil(module):
    if isinstance(module, nn.Linear):
        module.weight.fill_(float("nan"))


def test_name_of_an_encoder_is_taken_once():
    """That of the device's network is taken from the start."""
    with pytest.raises(ValueError, match="registered already"):
        register_encoder("tfstgram", embedding_size=6, make=lambda _start: Levels())
