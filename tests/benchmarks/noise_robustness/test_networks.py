"""Trainings are counted over all their starts, and every row draws as many windows as any other."""

import pytest

from benchmarks.noise_robustness.methods import METHODS, Compute, settings_for
from benchmarks.noise_robustness.networks import finished, multiply_adds, times_of
from benchmarks.noise_robustness.trial import Protocol
from train.models import network_of
from train.network import NetworkSpec
from train.run_folder import METRICS_NAME


def test_a_training_that_was_cut_off_is_gone_on_with_and_counted_whole(tmp_path):
    """The time of every start counts, and one that has ended is not started again."""
    run = tmp_path / "run"
    starts = []

    def train():
        run.mkdir(exist_ok=True)
        starts.append(len(starts))
        sum(range(200_000))
        if len(starts) < 2:
            raise KeyboardInterrupt
        (run / METRICS_NAME).write_text("{}")

    with pytest.raises(KeyboardInterrupt):
        finished(run, train)
    first = times_of(run)
    finished(run, train)
    both = times_of(run)
    finished(run, train)
    assert starts == [0, 1]
    assert 0.0 < first[0] < both[0]
    assert 0.0 < first[1] < both[1]
    assert times_of(run) == both


def test_multiply_adds_are_the_published_ones():
    """TFgramNet 1,460 M, MobileFaceNet 704 M, TgramNet 87 M."""
    assert multiply_adds(network_of(NetworkSpec()).eval()) == pytest.approx(2_251e6, rel=0.01)


@pytest.mark.parametrize("method", [name for name in METHODS if name != "log-mel"])
def test_every_training_draws_the_same_number_of_windows(method):
    """Whatever the batch and the epochs of its preset."""
    settings = settings_for(method, Protocol(), Compute(precision="bf16-mixed"), seed=3)
    assert settings.windows_per_epoch * settings.all_epochs == Protocol().windows
    assert settings.seed == 3
    if settings.model == "margin":
        assert (settings.learning_rate, settings.final_learning_rate) == (1e-3, 1e-4)
        assert (settings.batch_size, settings.precision) == (32, "bf16-mixed")
