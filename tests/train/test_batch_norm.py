"""Statistics of batch norm after a training are those of the training windows as they are."""

import copy

import numpy as np
import pytest
import torch

from train.batch_norm import _batches, measure_batch_norm
from train.features import LogMel
from train.network import Network, NetworkSpec
from train.settings import AugmentSettings
from train.windows import TrainingWindows

N_SAMPLES = 160_000


@pytest.fixture
def windows():
    """Of four clips, each as long as a window."""
    rng = np.random.default_rng(0)
    clips = [0.1 * rng.standard_normal(N_SAMPLES).astype(np.float32) for _ in range(4)]
    return TrainingWindows(clips, [0, 0, 1, 1], AugmentSettings(), n_classes=2, n_samples=N_SAMPLES, seed=0)


def test_statistics_are_those_of_the_windows(windows):
    """Whatever they were before; nothing else changes, and the network stays in its mode."""
    torch.manual_seed(0)
    network = Network(NetworkSpec(branches=("log_mel",), n_classes=2)).eval()
    before = copy.deepcopy(network.state_dict())
    measure_batch_norm(network, windows, n_windows=4, device="cpu")
    wave, _ = windows.__getitems__(range(4))
    stem = network.backbone.stem
    with torch.inference_mode():
        image = stem.conv(network.branch_image(wave, LogMel()(wave)))  # (4, 64, 64, 157)
    statistics = stem.norm.state_dict()
    torch.testing.assert_close(statistics["running_mean"], image.mean(dim=(0, 2, 3)), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(statistics["running_var"], image.var(dim=(0, 2, 3)), rtol=1e-3, atol=1e-3)
    changed = {name.rpartition(".")[2] for name, value in network.state_dict().items() if not value.equal(before[name])}
    assert changed == {"running_mean", "running_var", "num_batches_tracked"}
    assert not network.training


@pytest.mark.parametrize(("n_windows", "sizes"), [(2, [2]), (64, [64]), (65, [65]), (66, [64, 2]), (129, [64, 65])])
def test_no_window_is_measured_alone(n_windows, sizes):
    """Batch norm has no variance of one; all other batches are as they were."""
    batches = _batches(n_windows)
    assert [len(batch) for batch in batches] == sizes
    assert [number for batch in batches for number in batch] == list(range(n_windows))
