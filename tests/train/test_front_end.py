"""What no branch of a network takes is not computed, and all losses and scores are as if it were."""

import numpy as np
import pytest
import torch

from train.checkpoint import Checkpoint
from train.data import Waves
from train.evaluation.clip_scorer import ClipScorer
from train.features import LogMel
from train.front_end import FrontEnd
from train.module import TrainingModule
from train.network import TFSTGRAM, Network, NetworkSpec
from train.presets import preset_settings

N_SAMPLES = 160_000


@pytest.mark.parametrize(
    ("branches", "takes_wave", "takes_log_mel"),
    [
        (("log_mel",), False, True),
        (("tagram",), False, True),
        (("tgram",), True, False),
        (("tfgram",), True, False),
        (("tfgram", "tagram"), True, True),
    ],
)
def test_front_end_gives_what_the_branches_take(branches, takes_wave, takes_log_mel):
    """The other input is empty, with as many rows."""
    wave = 0.1 * torch.randn(2, N_SAMPLES)
    given, log_mel = FrontEnd(branches)(wave)
    assert torch.equal(given, wave if takes_wave else torch.empty(2, 0))
    assert torch.equal(log_mel, LogMel()(wave) if takes_log_mel else torch.empty(2, 0))


@pytest.mark.parametrize(
    ("branches", "takes_wave", "takes_log_mel"),
    [(("log_mel",), False, True), (("tgram",), True, False), (TFSTGRAM, True, True)],
)
def test_loss_is_that_of_both_inputs_mixed(branches, takes_wave, takes_log_mel):
    """To the last bit, with the mixture that the step draws; the network is given what it takes alone."""
    settings = preset_settings("tfstgram-os-scl")
    torch.manual_seed(0)
    module = TrainingModule(NetworkSpec(branches=branches, n_classes=2), settings).train()
    wave, label = 0.1 * torch.randn(2, N_SAMPLES), torch.tensor([0, 1])
    lam, partners = module._draw_mixture(settings.mixup_alpha, 2, wave.device)
    assert 0.0 < lam < 1.0
    assert partners.tolist() == [1, 0]
    both = [torch.lerp(rows[partners], rows, lam) for rows in (wave, LogMel()(wave))]
    given = []
    module.network.register_forward_pre_hook(
        lambda _network, inputs: given.append([rows.numel() > 0 for rows in inputs])
    )
    with torch.no_grad():
        expected = torch.stack(list(module._losses(*both, label, label[partners], lam).values())).sum()
        found = module.training_step((wave, label), 0)
    assert torch.equal(found, expected)
    assert given == [[True, True], [takes_wave, takes_log_mel]]


def test_scores_of_wave_branches_need_no_log_mel(monkeypatch):
    """It is never computed."""
    torch.manual_seed(0)
    spec = NetworkSpec(branches=("tgram",), n_classes=2)
    checkpoint = Checkpoint(network=Network(spec).eval(), spec=spec, classes=("t/a", "t/b"))
    waves = Waves.from_arrays([np.random.default_rng(0).uniform(-0.1, 0.1, N_SAMPLES).astype(np.float32)])
    monkeypatch.setattr(LogMel, "forward", None)
    assert np.isfinite(ClipScorer(checkpoint).score(waves, ["t/a"])).all()
