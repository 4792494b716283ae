"""Training windows are whole, in range and the same for the same seed; alterations change them."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from train.augment import alter_window, draw_window
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
    drawn = [first[draw] for draw in range(20)]
    for draw in reversed(range(20)):
        wave, label = second[draw]
        assert torch.equal(wave, drawn[draw][0])
        assert label == drawn[draw][1]
    assert {label for _, label in drawn} == {0, 1, 2, 3}


def test_every_turn_goes_through_all_recordings():
    """Each is the source of one window a turn."""
    waves = [np.full(5000, level, dtype=np.float32) for level in (0.1, 0.2, 0.3)]
    windows = TrainingWindows(waves, [0, 0, 1], AugmentSettings(), n_classes=2, n_samples=4000, seed=0)
    for turn in range(3):
        levels = sorted(round(float(windows[3 * turn + place][0][0]), 1) for place in range(3))
        assert levels == [0.1, 0.2, 0.3]


def test_epochs_never_repeat_a_draw():
    """The numbers go on from epoch to epoch."""
    draws = EpochDraws(4)
    assert [list(draws), list(draws)] == [[0, 1, 2, 3], [4, 5, 6, 7]]


def test_altered_classes_stand_behind_their_classes():
    """And only where altered windows are drawn."""
    assert network_classes(("t/a", "t/b"), ALL) == ("t/a", "t/b", "t/a~altered", "t/b~altered")
    assert network_classes(("t/a", "t/b"), AugmentSettings()) == ("t/a", "t/b")


@pytest.mark.parametrize(("augment", "labels"), [(AugmentSettings(), [0, 1]), (ALL, [0] + [2] * 4 + [1] + [3] * 4)])
def test_validation_windows_are_always_the_same(augment, labels):
    """The first window of each recording, and altered ones where they are learnt."""
    waves = [sound(5000, 1), sound(3000, 2)]
    first, second = (validation_windows(waves, [0, 1], augment, n_classes=2, n_samples=4000) for _ in range(2))
    assert first.tensors[1].tolist() == labels
    assert torch.equal(first.tensors[0], second.tensors[0])
    assert np.array_equal(first.tensors[0][0].numpy(), waves[0][:4000])
