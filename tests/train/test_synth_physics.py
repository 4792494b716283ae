"""Generated sound holds what the physics of each machine and of each fault says."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import hilbert

from train.synth.bearing import Bearing
from train.synth.fan import Fan
from train.synth.friction import gates, squeal
from train.synth.gears import GearPair, tooth_fault
from train.synth.levels import at_rms, rms
from train.synth.looseness import bounces
from train.synth.machine import HEALTHY, SAMPLE_RATE_HZ, Damage, Operation, Take
from train.synth.pump import Pump
from train.synth.shaft import events, passages, turns
from train.synth.slider import Slider
from train.synth.structure import Structure, blows
from train.synth.types import MACHINES
from train.synth.valve import Valve

N_SAMPLES = 4 * SAMPLE_RATE_HZ


def take(seed=0, n_samples=N_SAMPLES):
    return Take(n_samples=n_samples, healthy=np.random.default_rng(seed), damaged=np.random.default_rng(seed + 1))


def steady(speed_hz, n_samples=N_SAMPLES):
    """Angle of a shaft of constant speed."""
    return np.arange(n_samples) * (speed_hz / SAMPLE_RATE_HZ)


def level_near(wave, frequency_hz, width_hz=1.0):
    """Amplitude of the strongest line within a band."""
    spectrum = np.abs(np.fft.rfft(wave * np.hanning(len(wave))))
    frequencies_hz = np.fft.rfftfreq(len(wave), 1.0 / SAMPLE_RATE_HZ)
    return spectrum[np.abs(frequencies_hz - frequency_hz) <= width_hz].max()


def strongest_hz(wave, low_hz, high_hz):
    spectrum = np.abs(np.fft.rfft((wave - wave.mean()) * np.hanning(len(wave))))
    frequencies_hz = np.fft.rfftfreq(len(wave), 1.0 / SAMPLE_RATE_HZ)
    inside = (frequencies_hz >= low_hz) & (frequencies_hz <= high_hz)
    return frequencies_hz[inside][np.argmax(spectrum[inside])]


def envelope(wave):
    return np.abs(hilbert(wave))


@pytest.mark.parametrize("seed", range(4))
def test_a_fans_blade_pass_tone_is_at_blades_times_speed(seed):
    """At whatever speed it runs, and well above the flow noise beside it."""
    fan = Fan.draw(np.random.default_rng(seed))
    speed_hz = 1.05 * fan.shaft_hz
    wave = fan.sound(Operation(speed_hz=speed_hz, load=0.8), HEALTHY, take())
    passing_hz = fan.n_blades * speed_hz
    tone = level_near(wave, passing_hz, 0.01 * passing_hz)
    assert tone > 4.0 * level_near(wave, passing_hz * 1.06, 0.02 * passing_hz)
    assert strongest_hz(wave, 0.8 * passing_hz, 1.2 * passing_hz) == pytest.approx(passing_hz, rel=0.01)


def test_a_fan_is_louder_by_50_log10_of_its_speed():
    """The fan law of sound, but for the hum of its motor and the chance of its noise."""
    fan = Fan.draw(np.random.default_rng(0))
    slow, fast = (
        rms(fan.sound(Operation(speed_hz=ratio * fan.shaft_hz, load=0.5), HEALTHY, take())) for ratio in (1.0, 1.5)
    )
    assert 20.0 * np.log10(fast / slow) == pytest.approx(50.0 * np.log10(1.5), abs=0.7)


def test_imbalance_sets_sidebands_at_the_shafts_rate_around_the_blade_pass_tone():
    """They grow with severity."""
    fan = Fan.draw(np.random.default_rng(1))
    sidebands = []
    for severity in (0.0, 0.5, 1.0):
        damage = Damage(fault="imbalance", severity=severity)
        wave = fan.sound(Operation(speed_hz=fan.shaft_hz, load=0.8), damage, take())
        sidebands.append(level_near(wave, (fan.n_blades - 1) * fan.shaft_hz, 2.0))
    assert sidebands[0] < 0.7 * sidebands[1] < 0.7 * sidebands[2]


@settings(max_examples=15, deadline=None)
@given(
    speed_hz=st.floats(15.0, 60.0), n_elements=st.integers(7, 12), ratio=st.floats(0.15, 0.3), seed=st.integers(0, 99)
)
def test_the_envelope_of_an_outer_race_defect_has_its_line_at_bpfo(speed_hz, n_elements, ratio, seed):
    """BPFO = n/2 (1 - d/D) f, for any bearing and speed; within the slip of the elements."""
    rng = np.random.default_rng(seed)
    structure = Structure.draw(rng, 2_200.0, 6_000.0, n_modes=2, damping=0.03)
    bearing = Bearing(n_elements=n_elements, diameter_ratio=ratio, contact_angle_rad=0.0, structure=structure)
    wave = bearing.outer_defect(rng, steady(speed_hz))
    bpfo_hz = 0.5 * n_elements * (1.0 - ratio) * speed_hz
    assert strongest_hz(envelope(wave), 0.6 * bpfo_hz, 1.5 * bpfo_hz) == pytest.approx(bpfo_hz, rel=0.01)


def test_the_envelope_of_an_inner_race_defect_has_the_shafts_rate_and_bpfi():
    """The pit turns through the loaded zone once a turn."""
    rng = np.random.default_rng(0)
    bearing = Bearing.draw(rng)
    course = envelope(bearing.inner_defect(rng, steady(20.0)))
    assert strongest_hz(course, 10.0, 35.0) == pytest.approx(20.0, rel=0.01)
    bpfi_hz = 20.0 * bearing.inner_per_turn
    assert strongest_hz(course, bpfi_hz - 9.0, bpfi_hz + 9.0) == pytest.approx(bpfi_hz, rel=0.01)


def test_a_fans_bearing_defect_is_found_at_bpfo_in_the_sound_of_the_fan():
    """In the band of its resonance, where there is nothing of it in the healthy fan."""
    fan = Fan.draw(np.random.default_rng(2))
    lines = []
    for severity in (0.0, 1.0):
        damage = Damage(fault="bearing", severity=severity)
        wave = fan.sound(Operation(speed_hz=fan.shaft_hz, load=0.5), damage, take())
        spectrum = np.fft.rfft(wave)
        spectrum[np.fft.rfftfreq(len(wave), 1.0 / SAMPLE_RATE_HZ) < 2_000.0] = 0.0
        course = envelope(np.fft.irfft(spectrum, len(wave)))
        bpfo_hz = fan.bearing.outer_per_turn * fan.shaft_hz
        lines.append(level_near(course, bpfo_hz, 0.01 * bpfo_hz))
    assert lines[1] > 4.0 * lines[0]


@settings(max_examples=10, deadline=None)
@given(teeth=st.integers(10, 40), speed_hz=st.integers(12, 40), seed=st.integers(0, 99))
def test_a_cracked_tooth_sets_sidebands_spaced_by_the_shafts_rate_around_the_mesh(teeth, speed_hz, seed):
    """Several on either side; a healthy mesh has none."""
    rng = np.random.default_rng(seed)
    pair = GearPair.draw(rng, teeth, 50)
    angle = steady(float(speed_hz))
    healthy = pair.mesh(np.random.default_rng(seed), angle)
    cracked = pair.mesh(np.random.default_rng(seed), angle, tooth_fault(angle))
    mesh_hz = teeth * speed_hz
    tone = level_near(healthy, mesh_hz)
    for number in (-3, -2, -1, 1, 2, 3):
        place_hz = mesh_hz + number * speed_hz
        assert level_near(healthy, place_hz) < 1e-3 * tone
        assert level_near(cracked, place_hz) > 0.02 * tone
        assert level_near(cracked, place_hz + 0.5 * speed_hz) < 0.005 * tone


def test_a_pumps_ripple_repeats_once_a_piston():
    """Alike pistons: the delivery has the rate of pistons (2 n a turn with odd numbers), and nothing at the shaft's."""
    pump = Pump.draw(np.random.default_rng(0))
    angle = steady(8.0)
    alike = pump.ripple(angle, np.ones(5))
    assert level_near(alike - alike.mean(), 8.0) < 1e-3 * level_near(alike - alike.mean(), 80.0)
    leaking = pump.ripple(angle, np.array([0.5, 1.0, 1.0, 1.0, 1.0]))
    assert level_near(leaking - leaking.mean(), 8.0) > level_near(alike - alike.mean(), 80.0)


def test_a_valves_leak_hisses_while_it_is_closed():
    """High frequencies rise in the quiet parts of a cycle."""
    valve = Valve.draw(np.random.default_rng(0))
    quiet = []
    for severity in (0.0, 1.0):
        wave = valve.sound(
            Operation(speed_hz=valve.cycle_hz, load=0.5), Damage(fault="leak", severity=severity), take()
        )
        high = np.diff(wave, n=2)
        powers = np.mean(high[: len(high) // 160 * 160].reshape(-1, 160) ** 2, axis=1)  # each 10 ms
        quiet.append(np.quantile(powers, 0.2))
    assert quiet[1] > 10.0 * quiet[0]


def test_a_sticking_valve_moves_at_odd_times():
    """Intervals between openings scatter."""
    valve = Valve.draw(np.random.default_rng(3))
    spreads = []
    for severity in (0.0, 1.0):
        damage = Damage(fault="sticking_valve", severity=severity)
        wave = valve.sound(Operation(speed_hz=valve.cycle_hz, load=0.5), damage, take(n_samples=8 * SAMPLE_RATE_HZ))
        loud = np.flatnonzero(np.abs(wave) > 0.3 * np.abs(wave).max())
        strokes = loud[np.r_[True, np.diff(loud) > 0.08 * SAMPLE_RATE_HZ]]
        spreads.append(np.std(np.diff(strokes[::2])) if len(strokes) > 3 else np.inf)
    assert spreads[0] < 0.02 * SAMPLE_RATE_HZ < 2.0 * spreads[1]


def test_a_slider_goes_as_far_to_as_it_goes_fro():
    """And its speed has no step."""
    slider = Slider.draw(np.random.default_rng(0))
    speed = slider.velocity(steady(0.5))
    assert abs(speed.sum()) < 1.0
    assert (speed.min(), speed.max()) == (-1.0, 1.0)
    assert np.abs(np.diff(speed)).max() < 0.01


def test_a_squeal_is_heard_while_the_belt_slips_alone():
    """The gate is open for about its share of the time."""
    rng = np.random.default_rng(0)
    gate = gates(rng, N_SAMPLES, share=0.3)
    assert np.mean(gate) == pytest.approx(0.3, abs=0.05)
    wave = squeal(rng, gate, 1_000.0)
    assert strongest_hz(wave, 500.0, 7_000.0) == pytest.approx(1_000.0, rel=0.05)
    assert rms(wave[gate < 0.01]) < 0.02 * rms(wave[gate > 0.9])


def test_rebounds_come_closer_and_softer_by_the_restitution():
    """Each flight and each blow is that share of the one before."""
    later, shares = bounces(np.random.default_rng(0), np.array([1_000.0]), 300.0, 0.5, 6)
    gaps = np.diff(np.r_[1_000.0, later])
    np.testing.assert_allclose(gaps[1:] / gaps[:-1], 0.5)
    np.testing.assert_allclose(shares[1:] / shares[:-1], 0.5)


@settings(max_examples=30, deadline=None)
@given(places=st.lists(st.floats(0.0, 98.0), min_size=1, max_size=20), seed=st.integers(0, 99))
def test_blows_keep_their_sum_and_their_mean_place(places, seed):
    """However they fall between samples."""
    places = np.array(places)
    strengths = np.random.default_rng(seed).uniform(0.1, 1.0, len(places))
    force = blows(100, places, strengths)
    assert force.sum() == pytest.approx(strengths.sum())
    assert force @ np.arange(100) == pytest.approx(strengths @ places)


@settings(max_examples=30, deadline=None)
@given(speed_hz=st.floats(1.0, 100.0), per_turn=st.floats(0.5, 12.0), seed=st.integers(0, 99))
def test_events_without_jitter_are_evenly_spaced(speed_hz, per_turn, seed):
    """At per_turn times the speed."""
    places = events(steady(speed_hz), per_turn, np.random.default_rng(seed))
    np.testing.assert_allclose(np.diff(places), SAMPLE_RATE_HZ / speed_hz / per_turn, rtol=1e-6)


@settings(max_examples=30, deadline=None)
@given(speed_hz=st.floats(2.0, 100.0), offset=st.floats(-2.0, 2.0), seed=st.integers(0, 99))
def test_a_shaft_passes_an_angle_once_a_turn(speed_hz, offset, seed):
    """Where the interpolated angle is the offset and whole turns."""
    angle = turns(np.random.default_rng(seed), speed_hz, N_SAMPLES)
    at = np.interp(passages(angle, offset), np.arange(len(angle)), angle) - offset
    np.testing.assert_allclose(at, np.round(at), atol=1e-6)
    assert len(at) == pytest.approx(angle[-1] - angle[0], abs=1.0)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 999), n_modes=st.integers(1, 8), wanted=st.floats(0.01, 10.0))
def test_a_blow_puts_unit_energy_into_any_structure(seed, n_modes, wanted):
    """So that a fault's level does not hang on how a unit was drawn; and a level asked for is the level given."""
    structure = Structure.draw(np.random.default_rng(seed), 200.0, 5_000.0, n_modes=n_modes)
    assert np.sum(structure.response() ** 2) == pytest.approx(1.0)
    assert rms(at_rms(structure.response(), wanted)) == pytest.approx(wanted)


@pytest.mark.parametrize("machine_type", MACHINES)
def test_a_machine_runs_already_when_its_sound_begins(machine_type):
    """No blow at the first samples that the machine itself does not make."""
    machine = MACHINES[machine_type].draw(np.random.default_rng(1))
    peaks = []
    for seed in range(5):
        wave = np.abs(machine.sound(Operation(speed_hz=machine.speed_hz, load=0.5), HEALTHY, take(seed)))
        peaks.append(wave[:160].max() / wave[160:].max())
    assert np.median(peaks) < 0.9


@pytest.mark.parametrize("machine_type", MACHINES)
@pytest.mark.parametrize("seed", range(3))
def test_no_unit_makes_less_or_more_than_sound(machine_type, seed):
    """Whatever was drawn, at the edges of speed, load and severity: finite, and as long as asked for."""
    machine = MACHINES[machine_type].draw(np.random.default_rng(seed))
    for fault in machine.FAULTS:
        operation = Operation(speed_hz=machine.speed_hz * 0.94, load=0.2 if seed else 1.0)
        wave = machine.sound(operation, Damage(fault=fault, severity=3.0), take(seed, SAMPLE_RATE_HZ))
        assert wave.shape == (SAMPLE_RATE_HZ,)
        assert np.isfinite(wave).all()
        assert rms(wave) > 0.05
