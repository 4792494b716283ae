"""Mixtures: noise at its ratio, draws that depend on nothing before them, room for both sounds, masks."""

import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from edge_asd.errors import UsageError
from edge_asd.types import FeatureSpec
from train.data import Waves
from train.retain.mixing import noise_at_snr, refuse_clipping
from train.retain.mixtures import Mixtures
from train.retain.settings import RetainSettings
from train.retain.spec_augment import mask_mixture

SPEC = FeatureSpec()


def power(wave):
    return np.mean(np.square(wave, dtype=np.float64), axis=-1)


@given(snr_db=st.floats(-40, 60), seed=st.integers(0, 1000))
def test_noise_is_at_the_ratio(snr_db, seed):
    """Whatever the levels that the clips came with."""
    rng = np.random.default_rng(seed)
    clean, noise = (rng.standard_normal((2, 500)).astype(np.float32) * rng.uniform(0.01, 1) for _ in range(2))
    found_db = 10.0 * np.log10(power(clean) / power(noise_at_snr(clean, noise, snr_db)))
    np.testing.assert_allclose(found_db, snr_db, atol=1e-3)


def mixtures(lengths=(40, 40, 40, 40, 40), labels=(0, 0, 0, 1, 1), n_noise=7, **changes):
    rng = np.random.default_rng(0)
    settings = {"snr_db": (0.0, 0.0), "gain_db": 0.0, "n_samples": 40, "seed": 0, **changes}
    machines = Waves.from_arrays([np.full(length, 0.01 * (n + 1), np.float32) for n, length in enumerate(lengths)])
    noise = Waves.from_arrays([rng.standard_normal(40).astype(np.float32) for _ in range(n_noise)])
    return Mixtures(machines, labels, noise, np.arange(n_noise), list(range(n_noise)), **settings)


@given(start=st.integers(0, 50), n_noise=st.integers(1, 12))
def test_noise_is_drawn_without_replacement(start, n_noise):
    """Every turn of as many draws as there are pieces has each of them once."""
    tags = mixtures(n_noise=n_noise).__getitems__(range(start * n_noise, (start + 1) * n_noise)).tag
    assert sorted(tags.tolist()) == list(range(n_noise))


def test_long_noise_is_drawn_no_oftener_than_short():
    """A clip of eight pieces beside two of one: each comes once a turn, the long one with all of its pieces in time."""
    rng = np.random.default_rng(0)
    pieces = Waves.from_arrays([np.full(40, 0.1 * (n + 1), np.float32) * rng.choice([-1, 1], 40) for n in range(10)])
    clip_of_piece = np.array([0] + [1] * 8 + [2])
    machine = Waves.from_arrays([np.ones(40, np.float32)])
    settings = {"snr_db": (0.0, 0.0), "gain_db": 0.0, "n_samples": 40, "seed": 0}
    batch = Mixtures(machine, [0], pieces, clip_of_piece, [5, 6, 7], **settings).__getitems__(range(180))
    assert np.bincount(batch.tag).tolist()[5:] == [60, 60, 60]
    signs = {tuple(np.sign(wave).tolist()) for wave in batch.noise[batch.tag == 6].numpy()}
    assert signs == {tuple(np.sign(pieces[n]).tolist()) for n in range(1, 9)}


def test_classes_are_drawn_alike_and_their_clips_in_turn():
    """However many clips a class has."""
    batch = mixtures().__getitems__(range(12))
    assert np.bincount(batch.machine).tolist() == [6, 6]
    levels = np.rint(batch.clean[:, 0].numpy() / 0.01).astype(int)  # tells the clip
    assert np.bincount(levels)[1:].tolist() == [2, 2, 2, 3, 3]


def test_a_draw_does_not_depend_on_those_before_it():
    """So a run that was cut off goes on with the same mixtures."""
    drawn = mixtures(snr_db=(-5.0, 5.0))
    whole, later = drawn.__getitems__(range(20)), mixtures(snr_db=(-5.0, 5.0)).__getitems__([17, 3])
    for one, other in zip(whole, later, strict=True):
        torch.testing.assert_close(one[[17, 3]], other, rtol=0, atol=0)


def test_mixture_is_the_sum_of_its_parts_within_the_range():
    """At ratios that differ from window to window, the machine at its gain."""
    batch = mixtures(snr_db=(-5.0, 5.0), gain_db=-20.0).__getitems__(range(50))
    torch.testing.assert_close(batch.mixture, batch.clean + batch.noise)
    snr_db = 10.0 * np.log10(power(batch.clean.numpy()) / power(batch.noise.numpy()))
    assert -5.0 <= snr_db.min() < -3.0
    assert 3.0 < snr_db.max() <= 5.0
    np.testing.assert_allclose(batch.clean.max(), 0.005, rtol=1e-6)


@given(
    machine=st.integers(1, 90),
    piece=st.integers(1, 40),
    snr_db=st.sampled_from([-10.0, 0.0, 10.0]),
    seed=st.integers(0, 99),
)
def test_what_passes_the_check_never_leaves_full_scale(machine, piece, snr_db, seed):
    """With the gain that the refusal asks for, whatever is drawn."""
    rng = np.random.default_rng(seed)
    waves = [Waves.from_arrays([rng.uniform(-1, 1, n).astype(np.float32)]) for n in (machine, piece)]
    gain_db = 0.0
    try:
        refuse_clipping(*waves, lowest_snr_db=snr_db, gain_db=gain_db, n_samples=40)
    except UsageError as error:
        gain_db = float(str(error).split("--gain-db ")[1].split()[0])
        refuse_clipping(*waves, lowest_snr_db=snr_db, gain_db=gain_db, n_samples=40)
    drawn = Mixtures(
        waves[0],
        [0],
        waves[1],
        np.zeros(1, np.int64),
        [0],
        snr_db=(snr_db, snr_db),
        gain_db=gain_db,
        n_samples=40,
        seed=seed,
    )
    assert drawn.__getitems__(range(20)).mixture.abs().max() <= 1.0 + 1e-6


def test_pieces_cover_every_clip_end_to_end():
    """The last of a clip is what is left of it."""
    waves = Waves.from_arrays([np.arange(n, dtype=np.float32) for n in (7, 3, 6)])
    pieces, clips = waves.pieces(3)
    assert clips.tolist() == [0, 0, 0, 1, 2, 2]
    assert [piece.tolist() for piece in pieces] == [[0, 1, 2], [3, 4, 5], [6], [0, 1, 2], [0, 1, 2], [3, 4, 5]]


def test_masks_silence_the_wave_where_they_hide_frames():
    """Bands are hidden in the log-mel alone, and what is masked holds the window's mean."""
    wave, log_mel = torch.ones(3, SPEC.window_samples), torch.randn(3, SPEC.n_mels, SPEC.n_frames)
    settings = RetainSettings(time_masks=1, time_mask_frames=30, frequency_masks=0)
    masked_wave, masked = mask_mixture(wave, log_mel, settings, SPEC, np.random.default_rng(1))
    assert wave.min() == 1.0
    hidden = masked != log_mel  # (3, 128, 313)
    torch.testing.assert_close(masked[hidden], log_mel.mean(dim=(1, 2))[:, None, None].expand_as(masked)[hidden])
    frames = hidden.any(dim=1)
    assert 0 < frames.sum() <= 90
    silent = (masked_wave == 0.0).unfold(1, SPEC.hop_samples, SPEC.hop_samples).all(dim=2)  # (3, 312)
    assert torch.equal(silent, frames[:, : silent.shape[1]])
    bands = RetainSettings(time_masks=0, frequency_masks=2, frequency_mask_mels=10)
    masked_wave, masked = mask_mixture(wave, log_mel, bands, SPEC, np.random.default_rng(1))
    assert torch.equal(masked_wave, wave)
    assert 0 < (masked != log_mel).all(dim=2).sum() <= 60


def test_no_masks_change_nothing():
    """With both numbers at 0."""
    wave, log_mel = torch.randn(2, SPEC.window_samples), torch.randn(2, SPEC.n_mels, SPEC.n_frames)
    settings = RetainSettings(time_masks=0, frequency_masks=0)
    found = mask_mixture(wave, log_mel, settings, SPEC, np.random.default_rng(0))
    assert all(torch.equal(one, other) for one, other in zip(found, (wave, log_mel), strict=True))


def test_unused_input_is_not_masked():
    """It stays empty, and the other one's masks are the same."""
    wave, log_mel = torch.randn(2, SPEC.window_samples), torch.randn(2, SPEC.n_mels, SPEC.n_frames)
    unused, settings = torch.empty(2, 0), RetainSettings()
    both, first, second = (
        mask_mixture(*inputs, settings, SPEC, np.random.default_rng(0))
        for inputs in ((wave, log_mel), (wave, unused), (unused, log_mel))
    )
    assert torch.equal(first[0], both[0])
    assert torch.equal(second[1], both[1])
    assert not torch.equal(both[0], wave)
    assert not torch.equal(both[1], log_mel)
    assert (first[1].shape, second[0].shape) == ((2, 0), (2, 0))
