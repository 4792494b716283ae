"""Sound of machines, healthy, damaged, loud or off, which is no fault of the ear."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.edge_asd.sensor.kit import CLIPS, FEW, at, clip_names, hear, learned_from, make_sensor, sound


@pytest.mark.parametrize("path", sorted(CLIPS.rglob("*.flac")), ids=lambda path: path.stem + path.parent.name)
def test_sound_clips_are_no_fault_whatever_the_machine_has(path):
    """Neither a healthy nor a damaged motor's sound is a fault of the ear, though one clips and is 40 dB louder."""
    told = hear(make_sensor(), sound(str(path.relative_to(CLIPS)), 12.0))
    assert {kind for _, kind in told} == {None}


@pytest.mark.parametrize("machine", ["M1", "M2", "M3"])
def test_damage_and_loudness_are_no_change_of_the_ear(machine):
    """To an ear that knows the healthy motor, the damaged one is neither muffled nor turned up."""
    healthy = [sound(str(path.relative_to(CLIPS)), 20.0) for path in sorted((CLIPS / machine).glob("healthy*"))]
    sensor = make_sensor(learned_from(*healthy))
    for path in sorted((CLIPS / machine).glob("propeller*")):
        assert {kind for _, kind in hear(sensor, sound(str(path.relative_to(CLIPS)), 15.0))} == {None}, path


@FEW
@given(name=clip_names, level_dbfs=st.floats(-80.0, -40.0), tilt=st.floats(0.0, 1.0))
def test_a_machine_that_is_switched_off_is_no_fault(name, level_dbfs, tilt):
    """The noise of a hall, however quiet, is not silence."""
    random = np.random.default_rng(3)
    spectrum = np.fft.rfft(random.standard_normal(at(20.0)))
    spectrum[1:] /= np.arange(1, len(spectrum)) ** tilt  # from white to brown
    spectrum[: 20 * 20] = 0.0  # a microphone hears nothing below 20 Hz
    noise = np.fft.irfft(spectrum, at(20.0))
    noise *= 10 ** (level_dbfs / 20) / noise.std()
    wave = np.concatenate((sound(name, 20.0), np.round(noise * 2**15) / 2**15)).astype(np.float32)
    assert {kind for _, kind in hear(make_sensor(), wave)} == {None}


@FEW
@given(name=clip_names, seed=st.integers(0, 99), per_s=st.floats(0.2, 5.0), gain=st.floats(1.0, 30.0))
def test_a_loud_anomaly_is_the_machines(name, seed, per_s, gain):
    """Blows and bursts of noise up to and beyond full scale, however often a second, are no fault of the ear."""
    random = np.random.default_rng(seed)
    wave = sound(name, 30.0)
    sensor = make_sensor(learned_from(wave[: at(20.0)]))
    for start in random.integers(at(10.0), len(wave) - 1_600, round(20 * per_s)):
        blow = random.standard_normal(1_600) * np.exp(-np.arange(1_600) / 200) * gain * 0.1
        wave[start : start + 1_600] += blow
    assert {kind for _, kind in hear(sensor, np.clip(wave, -1, 1))} == {None}
