"""What the ear knows of its machine: faults that only that tells, and how it is kept."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_asd.sensor import Baseline, BaselineError, SensorSettings
from tests.edge_asd.sensor.kit import (
    FEW,
    LEARN_S,
    WINDOW_S,
    assert_fault,
    at,
    clip_names,
    hear,
    learned_from,
    low_passed,
    make_sensor,
    sound,
)


@FEW
@given(
    name=clip_names.filter(lambda name: "healthy" in name),
    corner_hz=st.floats(1_500.0, 2_200.0),
    order=st.integers(2, 4),
)
def test_a_covered_microphone_is_muffled(name, corner_hz, order):
    """A cover that takes the high frequencies away is told within a window, and no longer than it is there."""
    wave = sound(name, 40.0)
    sensor = make_sensor(learned_from(wave))
    covered = np.concatenate((wave, low_passed(wave, corner_hz, order), wave))
    told = hear(sensor, covered)
    assert_fault(told, "muffled", began_s=40.0, within_s=WINDOW_S, ended_s=80.0)


@FEW
@given(name=clip_names.filter(lambda name: "healthy" in name), fall_db=st.floats(12.0, 30.0))
def test_a_recording_level_that_was_turned_down_is_told(name, fall_db):
    """All frequencies 12 to 30 dB down, at once, is the ear."""
    wave = sound(name, 40.0)
    sensor = make_sensor(learned_from(wave))
    told = hear(sensor, np.concatenate((wave, wave * np.float32(10 ** (-fall_db / 20)), wave)))
    assert {kind for end_s, kind in told if end_s <= 40.0 or end_s > 90.5} == {None}
    assert {kind for end_s, kind in told if 50.5 < end_s <= 80.0} == {"quieter"}


def test_changes_of_the_ear_can_be_left_untold():
    """A machine whose colour and level change by nature has both checks off."""
    wave = sound("M1/healthy_1950.flac", 20.0)
    for changed, check in ((low_passed(wave, 1_500, 3), "muffled_db"), (wave / 5, "quieter_db")):
        baseline = learned_from(wave)
        assert {kind for end_s, kind in hear(make_sensor(baseline), changed)} != {None}
        assert {kind for end_s, kind in hear(make_sensor(baseline, **{check: None}), changed)} == {None}


def test_a_baseline_survives_a_restart():
    """An ear that was covered while the daemon was down is found to be, and one half learned goes on learning."""
    wave = sound("M2/healthy_1550.flac", 30.0)
    kept = learned_from(wave).to_bytes(source="sound card 'USB', channel 0")
    baseline = Baseline.from_bytes(kept, source="sound card 'USB', channel 0", learn_s=LEARN_S - 3.0)
    assert {kind for _, kind in hear(make_sensor(baseline), low_passed(wave, 1_500, 3))} == {"muffled"}
    more = Baseline.from_bytes(kept, source="sound card 'USB', channel 0", learn_s=100.0)
    hear(make_sensor(more), wave)
    assert not more.learned
    assert more.heard_s > baseline.heard_s


def test_a_baseline_of_another_source_is_not_taken():
    """What was learned through another microphone says nothing of this one."""
    kept = learned_from(sound("M2/healthy_1550.flac", 30.0)).to_bytes(source="channel 0")
    with pytest.raises(BaselineError, match="learned through channel 0; expected channel 1"):
        Baseline.from_bytes(kept, source="channel 1", learn_s=1.0)


@given(data=st.binary(max_size=200), cut=st.integers(0, 200), at_byte=st.integers(0, 10_000), bit=st.integers(0, 7))
@settings(max_examples=60)
def test_a_damaged_baseline_is_an_error_that_says_so(data, cut, at_byte, bit):
    """Any bytes are a baseline or a BaselineError with what is wrong."""
    kept = bytearray(Baseline(learn_s=5.0, heard_s=3.0).to_bytes(source="s"))
    kept[at_byte % len(kept)] ^= 1 << bit
    for damaged in (data, bytes(kept), bytes(kept[:cut])):
        try:
            baseline = Baseline.from_bytes(damaged, source="s", learn_s=1.0)
        except BaselineError as caught:
            error = caught
        else:
            error = None
        assert str(error) if error else np.isfinite(baseline.heard_s)


def test_sounds_in_passing_are_not_learned():
    """What was heard for a moment while the baseline was learned is no sound of the machine afterwards."""
    machine, passing = sound("M1/healthy_1950.flac", 90.0), sound("M1/propeller_1850.flac", 10.0)
    baseline = learned_from(machine[: at(30)], passing, machine)
    assert len(baseline.sounds) == 1


def test_settings_are_numbers():
    """A limit that is not finite is refused."""
    with pytest.raises(ValueError, match="muffled_db is nan"):
        SensorSettings(muffled_db=float("nan"))
