"""The health of an ear: faults made from the example's real clips, at any moment and of many strengths."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_asd.capture.clips import read_clip
from edge_asd.sensor import Baseline, BaselineError, Sensor, SensorSettings
from edge_asd.types import Block, FeatureSpec
from edge_asd.window import Windower

CLIPS = Path(__file__).resolve().parents[2] / "examples" / "bldc_motor" / "clips"
SPEC = FeatureSpec()
RATE_HZ = SPEC.sample_rate_hz
HOP_SAMPLES = 15_360
HOP_S = HOP_SAMPLES / RATE_HZ
WINDOW_S = 10.0
LEARN_S = 30.0
FEW = settings(max_examples=8)

clip_names = st.sampled_from(sorted(str(path.relative_to(CLIPS)) for path in CLIPS.rglob("*.flac")))
moments_s = st.floats(10.5, 18.0)


def sound(name: str, duration_s: float) -> np.ndarray:
    """A clip's sound, said again until it is long enough."""
    return np.resize(read_clip(CLIPS / name), round(duration_s * RATE_HZ)).copy()


def hear(sensor: Sensor, wave: np.ndarray, *, begin_s: float = 0.0, hop_samples: int = HOP_SAMPLES):
    """What the sensor says of each window: the end of the window from the beginning of the wave, in s, and the kind."""
    windower = Windower(SPEC, hop_samples)
    told = []
    for start in range(0, len(wave), 1_920):
        samples = wave[start : start + 1_920]
        end_s = begin_s + (start + len(samples)) / RATE_HZ
        block = Block(samples=samples, end_monotonic_s=end_s, end_utc_s=end_s)
        assert sensor.hear(block) is None
        for window in windower.push(block):
            fault = sensor.judge(window)
            told.append((window.end_monotonic_s - begin_s, fault.kind if fault else None))
    return told


def make_sensor(baseline: Baseline | None = None, **changes) -> Sensor:
    return Sensor(SPEC, SensorSettings(**changes), baseline or Baseline(learn_s=1e9))


def learned_from(*waves: np.ndarray) -> Baseline:
    """The baseline of an ear that heard these sounds."""
    baseline = Baseline(learn_s=sum(len(wave) for wave in waves) / RATE_HZ - 3.0)
    sensor = make_sensor(baseline)
    for number, wave in enumerate(waves):
        assert {kind for _, kind in hear(sensor, wave, begin_s=1_000.0 * number)} == {None}
    assert baseline.learned
    return baseline


def at(moment_s: float) -> int:
    return round(moment_s * RATE_HZ)


def assert_fault(told, kind, *, began_s, within_s, ended_s=None):
    """Nothing ahead of the fault; then it, soon and for as long as a window holds it; nothing afterwards."""
    assert {kind for end_s, kind in told if end_s <= began_s} <= {None}
    first_s = next(end_s for end_s, found in told if found is not None)
    assert first_s <= began_s + within_s + HOP_S
    until_s = began_s + WINDOW_S if ended_s is None else ended_s + 1.0
    assert {found for end_s, found in told if first_s <= end_s <= until_s} == {kind}
    if ended_s is not None:
        assert {found for end_s, found in told if end_s > ended_s + WINDOW_S + 0.2} == {None}


def low_passed(wave: np.ndarray, corner_hz: float, order: int) -> np.ndarray:
    """As through a cover: a Butterworth filter's magnitude over the whole wave."""
    spectrum = np.fft.rfft(wave)
    spectrum /= np.sqrt(1.0 + (np.fft.rfftfreq(len(wave), 1 / RATE_HZ) / corner_hz) ** (2 * order))
    return np.fft.irfft(spectrum, len(wave)).astype(np.float32)


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
@given(name=clip_names, began_s=moments_s, rms=st.floats(1.0, 20.0), full_scale=st.sampled_from([1.0, 0.4]))
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


def block(end_s: float, n_samples: int = 16_000, lost_samples: int = 0) -> Block:
    return Block(
        samples=np.zeros(n_samples, dtype=np.float32), end_monotonic_s=end_s, end_utc_s=end_s, lost_samples=lost_samples
    )


def test_sound_that_is_never_whole_is_told_without_a_window():
    """Gaps every 5 s leave no window; within 30 s that is a fault, told once, and a whole window ends it."""
    sensor = make_sensor()
    told = [sensor.hear(block(float(second), lost_samples=100 * (second % 5 == 0))) for second in range(1, 60)]
    assert [(second, fault.kind) for second, fault in enumerate(told, 1) if fault] == [(31, "drop_outs")]
    assert {kind for _, kind in hear(sensor, sound("M1/healthy_1950.flac", 12.0), begin_s=100.0)} == {None}


@pytest.mark.parametrize(("lost_s", "kinds"), [(0.5, {None}), (2.0, {"drop_outs"})])
def test_many_losses_within_a_minute_are_a_fault(lost_s, kinds):
    """Three gaps a minute that cost 5 % of it are drop-outs, less is not; a minute later it is over."""
    sensor = make_sensor()
    wave = sound("M1/healthy_1950.flac", 10.5)
    told = {}
    for number in range(4):
        sensor.hear(block(20.0 * number, lost_samples=at(lost_s) if number else 0))
        told[number] = {kind for _, kind in hear(sensor, wave, begin_s=20.0 * number)}
    assert told[3] == kinds
    assert {kind for _, kind in hear(sensor, wave, begin_s=200.0)} == {None}


def test_a_silence_of_the_source_is_no_drop_out():
    """What is missing after the card was unplugged, even three times, was told as such."""
    sensor = make_sensor()
    for number in range(5):
        sensor.restart()
        sensor.hear(block(20.0 * number, lost_samples=at(8.0)))
        told = hear(sensor, sound("M1/healthy_1950.flac", 10.5), begin_s=20.0 * number)
        assert {kind for _, kind in told} == {None}


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


def test_changes_of_the_ear_can_be_left_untold():
    """A machine whose colour and level change by nature has both checks off."""
    wave = sound("M1/healthy_1950.flac", 20.0)
    for changed, check in ((low_passed(wave, 1_500, 3), "muffled_db"), (wave / 5, "quieter_db")):
        baseline = learned_from(wave)
        assert {kind for end_s, kind in hear(make_sensor(baseline), changed)} != {None}
        assert {kind for end_s, kind in hear(make_sensor(baseline, **{check: None}), changed)} == {None}


def test_nan_is_a_fault_and_is_over_with_its_window():
    """One NaN, infinity or absurd number is told for as long as a window holds it, and spoils nothing after."""
    for bad in (np.nan, np.inf, 1e30):
        wave = sound("M1/healthy_1950.flac", 40.0)
        wave[at(12.0)] = bad
        told = hear(make_sensor(Baseline(learn_s=20.0)), wave)
        assert_fault(told, "not_finite", began_s=12.0, within_s=0.0, ended_s=12.0)


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
