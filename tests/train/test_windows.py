"""Training windows are whole, in range and the same for the same seed; alterations change them."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from train.augment import alter_window, draw_window
from train.processes import Processes
from train.settings import AugmentSettings
from train.windows import EpochDraws, TrainingWindows, network_classes, validation_windows

ALL = AugmentSettings(join_pieces=4, speed_share=0.1, gain_db=6.0, noise_snr_db=10.0, altered_share=0.5)


def sound(n, seed=0):
    return (0.1 * np.random.default_rng(seed).standard_normal(n)).astype(np.float32)


@given(n=st.integers(1, 9000), seed=st.integers(0, 1000), pieces=st.integers(1, 5), speed=st.floats(0.0, 0.5))
@settings(max_examples=80, deadline=None)
def test_window_is_whole_and_in_range(n, seed, pieces, speed):
    """For recordings of any length, shorter than the window too."""
    augment = AugmentSettings(join_pieces=pieces, speed_share=speed, gain_db=40.0, noise_snr_db=0.0)
    window = draw_window(sound(n), [sound(n), sound(3000)], augment, np.random.default_rng(seed), 4000)
    assert window.shape == (4000,)
    assert window.dtype == np.float32
    assert np.isfinite(window).all()
    assert np.abs(window).max() <= 1.0


def test_default_window_is_a_stretch_of_the_recording():
    """Without augmentation nothing is changed."""
    wave = sound(6000)
    window = draw_window(wave, [wave], AugmentSettings(), np.random.default_rng(1), 4000)
    starts = np.flatnonzero(wave[:2001] == window[0])
    assert any(np.array_equal(wave[start : start + 4000], window) for start in starts)


@given(seed=st.integers(0, 5000))
@settings(max_examples=80, deadline=None)
def test_alteration_changes_the_window_and_keeps_it_sound(seed):
    """By more than rounding, within -1..1."""
    wave = sound(4000)
    altered = alter_window(wave, np.random.default_rng(seed))
    assert altered.shape == wave.shape
    assert np.isfinite(altered).all()
    assert np.abs(altered).max() <= 1.0
    assert np.sqrt(np.mean((altered - wave) ** 2)) > 0.05 * np.sqrt(np.mean(wave**2))


def test_same_seed_and_draw_give_the_same_window():
    """Whatever was drawn before."""
    waves, labels = [sound(5000, 1), sound(5000, 2), sound(5000, 3)], [0, 1, 1]

    def windows():
        return TrainingWindows(waves, labels, ALL, n_classes=2, n_samples=4000, seed=7)

    first, second = windows(), windows()
    drawn, labels = first.__getitems__(range(20))
    for draw in reversed(range(20)):
        wave, label = second.__getitems__([draw])
        assert torch.equal(wave[0], drawn[draw])
        assert label[0] == labels[draw]
    assert set(labels.tolist()) == {0, 1, 2, 3}


@given(
    lengths=st.lists(st.integers(3000, 9000), min_size=1, max_size=5),
    seed=st.integers(0, 1000),
    batch=st.integers(1, 7),
)
@settings(max_examples=60, deadline=None)
def test_batches_cut_at_once_are_stretches_of_their_recordings(lengths, seed, batch):
    """Of mixed lengths, shorter than the window too, whatever the batch size."""
    waves = [np.arange(n, dtype=np.float32) + 10_000 * place for place, n in enumerate(lengths)]
    windows = TrainingWindows(
        waves, list(range(len(waves))), AugmentSettings(), n_classes=len(waves), n_samples=4000, seed=seed
    )
    first = 0
    while first < 2 * len(waves):
        drawn, labels = windows.__getitems__(range(first, first + batch))
        for window, label in zip(drawn.numpy(), labels.tolist(), strict=True):
            begin = int(window[0]) - 10_000 * label
            assert np.array_equal(window, np.take(waves[label], np.arange(begin, begin + 4000), mode="wrap"))
            assert begin + 4000 <= max(4000, lengths[label])
        first += batch


def test_every_turn_goes_through_all_recordings():
    """Each is the source of one window a turn."""
    waves = [np.full(5000, level, dtype=np.float32) for level in (0.1, 0.2, 0.3)]
    windows = TrainingWindows(waves, [0, 0, 1], AugmentSettings(), n_classes=2, n_samples=4000, seed=0)
    for turn in range(3):
        drawn, _ = windows.__getitems__(range(3 * turn, 3 * turn + 3))
        assert sorted(round(float(wave[0]), 1) for wave in drawn) == [0.1, 0.2, 0.3]


def test_longer_recording_is_heard_from_anywhere_in_training_and_from_its_start_in_validation():
    """Another stretch of it each turn, the first and the last whole one among them."""
    wave = np.arange(4003, dtype=np.float32)
    windows = TrainingWindows([wave], [0], AugmentSettings(), n_classes=1, n_samples=4000, seed=0)
    begins = [int(windows.__getitems__([turn])[0][0, 0]) for turn in range(40)]
    assert set(begins) == {0, 1, 2, 3}
    validation = validation_windows([wave], [0], AugmentSettings(), n_classes=1, n_samples=4000)
    assert validation.__getitems__([0])[0][0, 0] == 0.0


def test_epochs_never_repeat_a_draw():
    """The numbers go on from epoch to epoch."""
    draws = EpochDraws(4)
    first = list(draws)
    draws.set_epoch(1)
    assert [first, list(draws)] == [[0, 1, 2, 3], [4, 5, 6, 7]]


@given(
    epoch=st.integers(0, 3), n_batches=st.integers(1, 5), count=st.sampled_from([1, 2, 4]), skipped=st.integers(0, 4)
)
def test_processes_share_the_draws_of_each_batch(epoch, n_batches, count, skipped):
    """Each has its rows in order, none is drawn twice, and batches that were had are left out once."""
    shares = []
    for rank in range(count):
        rows = Processes(rank=rank, count=count).rows(8)
        draws = EpochDraws(8 * n_batches, batch_size=8, rows=rows)
        assert len(draws) == 8 * n_batches // count
        draws.set_epoch(epoch)
        draws.skip(skipped)
        shares.append(np.array(list(draws)).reshape(-1, 8 // count))
        assert len(list(draws)) == len(draws)
    together = np.concatenate(shares, axis=1).flatten().tolist()
    assert together == list(range(8 * (epoch * n_batches + skipped), 8 * (epoch + 1) * n_batches))


def test_altered_classes_stand_behind_their_classes():
    """And only where altered windows are drawn."""
    assert network_classes(("t/a", "t/b"), ALL) == ("t/a", "t/b", "t/a~altered", "t/b~altered")
    assert network_classes(("t/a", "t/b"), AugmentSettings()) == ("t/a", "t/b")


@pytest.mark.parametrize(("augment", "labels"), [(AugmentSettings(), [0, 1]), (ALL, [0] + [2] * 4 + [1] + [3] * 4)])
def test_validation_windows_are_always_the_same(augment, labels):
    """The first window of each recording, and altered ones where they are learnt."""
    waves = [sound(5000, 1), sound(3000, 2)]
    first, second = (validation_windows(waves, [0, 1], augment, n_classes=2, n_samples=4000) for _ in range(2))
    (drawn, drawn_labels), (again, _) = (windows.__getitems__(range(len(windows))) for windows in (first, second))
    assert drawn_labels.tolist() == labels
    assert torch.equal(drawn, again)
    assert np.array_equal(drawn[0].numpy(), waves[0][:4000])
    for place, row in enumerate(drawn):
        assert torch.equal(first.__getitems__([place])[0][0], row)
