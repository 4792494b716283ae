"""Faults that the samples alone show, at any moment and of many strengths."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_asd.sensor import Baseline
from tests.edge_asd.sensor.kit import (
    FEW,
    RATE_HZ,
    WINDOW_S,
    assert_fault,
    at,
    clip_names,
    hear,
    make_sensor,
    moments_s,
    sound,
)


@FEW
@given(name=clip_names, began_s=moments_s, level_dbfs=st.floats(-140.0, -93.0))
def test_silence_is_told_within_seconds_and_until_it_has_left_the_window(name, began_s, level_dbfs):
    """Digital silence, or the last bit's noise, from any moment on."""
    wave = sound(name, 40.0)
    noise = np.random.default_rng(1).standard_normal(at(8.0)) * 10 ** (level_dbfs / 20)
    wave[at(began_s) : at(began_s) + at(8.0)] = noise
    assert_fault(hear(make_sensor(), wave), "silence", began_s=began_s, within_s=0.7, ended_s=began_s + 8.0)


@FEW
@given(name=clip_names, began_s=moments_s, value=st.floats(0.01, 0.4), sign=st.sampled_from([-1, 1]))
def test_samples_that_stand_still_are_stuck(name, began_s, value, sign):
    """A value that does not change is stuck, not silent."""
    wave = sound(name, 40.0)
    wave[at(began_s) : at(began_s) + at(4.0)] = sign * value
    assert_fault(hear(make_sensor(), wave, hop_samples=5_120), "stuck", began_s=began_s, within_s=0.7)


@FEW
@given(
    name=clip_names,
    began_s=moments_s,
    lag_samples=st.integers(64, 32_000),
    error=st.sampled_from([0.0, 1e-6]),
)
def test_a_buffer_that_comes_again_and_again_is_repeating(name, began_s, lag_samples, error):
    """A driver that delivers its last buffer for ever, of any length up to 2 s, through a resampler or not."""
    wave = sound(name, 40.0)
    start, length = at(began_s), at(6.0)
    wave[start : start + length] = np.resize(wave[start - lag_samples : start], length)
    wave[start : start + length] += error * np.random.default_rng(2).uniform(-1, 1, length)
    told = hear(make_sensor(), wave)
    assert_fault(told, "repeating", began_s=began_s, within_s=1.5, ended_s=began_s + 6.0)


@FEW
@given(name=clip_names, began_s=moments_s, offset=st.floats(0.12, 0.5), sign=st.sampled_from([-1, 1]))
def test_an_offset_is_told_once_it_fills_the_window(name, began_s, offset, sign):
    """Sound off zero by an eighth of full scale or more."""
    wave = sound(name, 30.0)
    wave[at(began_s) :] += sign * offset
    told = hear(make_sensor(clipping_share=None), wave)
    assert {kind for end_s, kind in told if end_s <= began_s} == {None}
    assert {kind for end_s, kind in told if end_s > began_s + WINDOW_S} == {"dc"}


@FEW
@given(name=clip_names, began_s=moments_s, rms=st.floats(2.0, 20.0), full_scale=st.sampled_from([1.0, 0.4]))
def test_sound_that_is_cut_off_is_clipping(name, began_s, rms, full_scale):
    """A recording level far too high, cut off by the converter or ahead of it."""
    wave = sound(name, 30.0)
    wave /= np.std(wave) / 0.05
    wave[at(began_s) :] *= full_scale * rms / 0.05
    told = hear(make_sensor(), np.clip(wave, -full_scale, full_scale))
    assert {kind for end_s, kind in told if end_s <= began_s} == {None}
    assert {kind for end_s, kind in told if end_s > began_s + WINDOW_S / 2} == {"clipping"}


@FEW
@given(name=clip_names, began_s=moments_s, hole_ms=st.floats(5.0, 300.0), seed=st.integers(0, 99))
def test_holes_that_a_driver_filled_with_zeros_are_drop_outs(name, began_s, hole_ms, seed):
    """Holes of any length that together take a tenth of the sound."""
    wave = sound(name, 30.0)
    random = np.random.default_rng(seed)
    hole = round(hole_ms * RATE_HZ / 1e3)
    for start in range(at(began_s), len(wave) - 20 * hole, 10 * hole):
        begin = start + int(random.integers(0, 9 * hole))
        wave[begin : begin + hole] = 0.0
    told = hear(make_sensor(), wave)
    assert {kind for end_s, kind in told if end_s <= began_s} == {None}
    assert {kind for end_s, kind in told if began_s + WINDOW_S < end_s < 30.0 - hole_ms / 50} <= {"drop_outs"}
    assert "drop_outs" in {kind for _, kind in told}


@pytest.mark.parametrize(
    ("change", "spoil"),
    [
        ({"silence_dbfs": None}, np.zeros_like),
        ({"repeats": False}, lambda wave: np.resize(wave[:8_000], len(wave))),
        ({"dc_offset": None}, lambda wave: wave + 0.3),
        ({"clipping_share": None}, lambda wave: np.clip(wave * 1e5, -1, 1)),
        ({"drop_out_share": None}, lambda wave: wave * (np.arange(len(wave)) % 1_000 > 300)),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_each_check_can_be_switched_off(change, spoil):
    """What is a fault by default is none for a site that says so."""
    wave = spoil(sound("M1/healthy_1950.flac", 12.0)).astype(np.float32)
    assert None not in {kind for _, kind in hear(make_sensor(), wave)}
    assert {kind for _, kind in hear(make_sensor(**change), wave)} == {None}


def test_nan_is_a_fault_and_is_over_with_its_window():
    """One NaN, infinity or absurd number is told for as long as a window holds it, and spoils nothing after."""
    for bad in (np.nan, np.inf, 1e30):
        wave = sound("M1/healthy_1950.flac", 40.0)
        wave[at(12.0)] = bad
        told = hear(make_sensor(Baseline(learn_s=20.0)), wave)
        assert_fault(told, "not_finite", began_s=12.0, within_s=0.0, ended_s=12.0)
