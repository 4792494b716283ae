"""Log-mel front end: golden values, known sounds, and reuse of frames between windows."""

import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_asd.features import LogMelStream, log_mel_db, mel_filters
from edge_asd.types import FeatureSpec

GOLDEN = Path(__file__).parents[3] / "shared" / "golden" / "tfstgram.npz"
SPEC = FeatureSpec()
# A small front end keeps the property tests fast; the code knows no other difference.
SMALL = FeatureSpec(window_samples=4_000, n_fft=256, hop_samples=64, n_mels=20)


def noise(n_samples: int, seed: int = 0) -> np.ndarray:
    return (0.1 * np.random.default_rng(seed).standard_normal(n_samples)).astype(np.float32)


@pytest.mark.skipif(not GOLDEN.exists(), reason="golden values of the published method are not at hand")
def test_golden_log_mel_is_met() -> None:
    """Real sound gives the log-mel of an independent implementation within 1e-3 dB."""
    golden = np.load(GOLDEN)
    assert np.abs(log_mel_db(golden["wave"]) - golden["log_mel"]).max() < 1e-3


def test_direct_transform_gives_the_same() -> None:
    """A plain float64 computation, frame by frame with a dense mel product, agrees within 1e-3 dB."""
    wave = noise(SPEC.window_samples)
    padded = np.pad(wave.astype(np.float64), SPEC.n_fft // 2)
    frames = np.lib.stride_tricks.sliding_window_view(padded, SPEC.n_fft)[:: SPEC.hop_samples]
    taper = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(SPEC.n_fft) / SPEC.n_fft)
    power = np.abs(np.fft.rfft(frames * taper)) ** 2
    expected = 10 * np.log10(np.maximum(mel_filters(SPEC) @ power.T, SPEC.power_floor))
    np.testing.assert_allclose(log_mel_db(wave), expected, atol=1e-3)


def test_silence_is_at_the_floor() -> None:
    """Digital silence gives the floor of -100 dB everywhere, without a warning."""
    log_mel = log_mel_db(np.zeros(SPEC.window_samples, dtype=np.float32))
    assert log_mel.shape == (128, 313)
    assert log_mel.dtype == np.float32
    np.testing.assert_allclose(log_mel, -100.0, atol=1e-4)


def test_tone_is_loudest_in_its_mel_band() -> None:
    """A 1 kHz tone is loudest in the band whose filter weighs 1 kHz most."""
    seconds = np.arange(SPEC.window_samples) / SPEC.sample_rate_hz
    log_mel = log_mel_db(np.sin(2 * np.pi * 1_000 * seconds).astype(np.float32))
    assert np.argmax(log_mel[:, 100]) == np.argmax(mel_filters(SPEC)[:, 1_000 * SPEC.n_fft // SPEC.sample_rate_hz])


def test_not_a_number_is_not_hidden() -> None:
    """A NaN sample makes the frames that hold it NaN, never the floor."""
    wave = noise(SPEC.window_samples)
    wave[80_000] = np.nan
    assert np.isnan(log_mel_db(wave)).any()


def test_any_leading_axes_are_kept() -> None:
    """A batch gives what its windows give one by one."""
    waves = noise(2 * SMALL.window_samples).reshape(2, -1)
    np.testing.assert_array_equal(log_mel_db(waves, SMALL), np.stack([log_mel_db(wave, SMALL) for wave in waves]))


@pytest.mark.parametrize("n_samples", [0, 159_999, 160_001])
def test_other_lengths_are_refused(n_samples: int) -> None:
    """A wave that is not a whole window is refused with its shape and the shape expected."""
    with pytest.raises(ValueError, match="160000"):
        log_mel_db(np.zeros(n_samples, dtype=np.float32))
    with pytest.raises(ValueError, match="160000"):
        LogMelStream().log_mel_db(np.zeros(n_samples, dtype=np.float32), 512)


@settings(max_examples=60, deadline=None)
@given(
    steps=st.lists(
        st.one_of(st.integers(0, 70).map(lambda hops: 64 * hops), st.integers(0, SMALL.window_samples)),
        min_size=1,
        max_size=6,
    )
)
def test_stream_equals_whole_computation_for_any_steps(steps: list[int]) -> None:
    """Whatever the steps between windows, multiples of the STFT hop or not, reuse changes nothing beyond rounding."""
    sound = noise(SMALL.window_samples + sum(steps))
    stream = LogMelStream(SMALL)
    stream.log_mel_db(sound[: SMALL.window_samples], SMALL.window_samples)
    begin = 0
    for fresh_samples in steps:
        begin += fresh_samples
        wave = sound[begin : begin + SMALL.window_samples]
        np.testing.assert_allclose(stream.log_mel_db(wave, fresh_samples), log_mel_db(wave, SMALL), rtol=0, atol=1e-5)


@pytest.mark.parametrize("hop_samples", [512, 2_560, 15_360, 16_000, 160_000])
def test_stream_equals_whole_computation_at_full_size(hop_samples: int) -> None:
    """Ten-second windows at usual hops, with a start afresh in between, match the whole computation."""
    sound = noise(SPEC.window_samples + 3 * hop_samples)
    stream = LogMelStream()
    for step in range(4):
        wave = sound[step * hop_samples :][: SPEC.window_samples]
        log_mel = stream.log_mel_db(wave, hop_samples if step else SPEC.window_samples)
        np.testing.assert_allclose(log_mel, log_mel_db(wave), rtol=0, atol=1e-5)
    after_gap = noise(SPEC.window_samples, seed=1)
    np.testing.assert_array_equal(stream.log_mel_db(after_gap, SPEC.window_samples), log_mel_db(after_gap))


def test_earlier_result_is_left_as_it_was() -> None:
    """The log-mel of a window stays what it was when the next one is computed, and cannot be written to."""
    sound = noise(SPEC.window_samples + 15_360)
    stream = LogMelStream()
    first = stream.log_mel_db(sound[: SPEC.window_samples], SPEC.window_samples)
    kept = first.copy()
    stream.log_mel_db(sound[15_360:], 15_360)
    np.testing.assert_array_equal(first, kept)
    assert not first.flags.writeable


def test_hop_costs_less_than_a_window() -> None:
    """At the default hop the stream takes less than half the time of the whole computation."""
    sound = noise(SPEC.window_samples + 40 * 15_360)
    stream = LogMelStream()
    stream.log_mel_db(sound[: SPEC.window_samples], SPEC.window_samples)
    whole_s, stream_s = [], []
    for step in range(1, 41):
        wave = sound[step * 15_360 :][: SPEC.window_samples]
        began = time.perf_counter()
        stream.log_mel_db(wave, 15_360)
        between = time.perf_counter()
        log_mel_db(wave)
        stream_s.append(between - began)
        whole_s.append(time.perf_counter() - between)
    assert min(stream_s) < 0.5 * min(whole_s)
