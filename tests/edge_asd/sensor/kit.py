"""The example's real clips, what an ear says of them, and faults made from them."""

from pathlib import Path

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st

from edge_asd.capture.clips import read_clip
from edge_asd.sensor import Baseline, Sensor, SensorSettings
from edge_asd.types import Block, FeatureSpec
from edge_asd.window import Windower

CLIPS = Path(__file__).resolve().parents[3] / "examples" / "bldc_motor" / "clips"

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


def block(end_s: float, n_samples: int = 16_000, lost_samples: int = 0) -> Block:
    return Block(
        samples=np.zeros(n_samples, dtype=np.float32), end_monotonic_s=end_s, end_utc_s=end_s, lost_samples=lost_samples
    )
