"""Mixtures have the signal-to-noise ratio and the level that are asked for, and are the same for the same seed."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.noise_robustness.mixing import LEVEL_DBFS, mix, parts, repeated
from benchmarks.noise_robustness.mixtures import draw_mixtures
from benchmarks.noise_robustness.noise import NoiseClip, generate_noise, kind_of, list_kinds
from benchmarks.noise_robustness.sound import MachineClip
from edge_asd.errors import ClipError

RATE_HZ = 16_000


def power(wave):
    return np.mean(np.square(wave, dtype=np.float64))


@settings(deadline=None)
@given(
    snr_db=st.floats(-20.0, 30.0),
    gains_db=st.tuples(st.floats(-60.0, 20.0), st.floats(-60.0, 20.0)),
    offset=st.floats(-0.5, 0.5),
    seed=st.integers(0, 1000),
)
def test_ratio_and_level_are_exact(snr_db, gains_db, offset, seed):
    """However loud the machine and the noise were recorded, and with a constant offset or none."""
    rng = np.random.default_rng(seed)
    machine, noise = (
        (rng.standard_normal(8_000) * 10.0 ** (gain_db / 20.0) + offset).astype(np.float32) for gain_db in gains_db
    )
    machine_part, noise_part = parts(machine, noise, snr_db)
    assert 10.0 * np.log10(power(machine_part) / power(noise_part)) == pytest.approx(snr_db, abs=1e-3)
    mixture = mix(machine, noise, snr_db)
    assert 10.0 * np.log10(power(mixture)) == pytest.approx(LEVEL_DBFS, abs=1e-2)
    np.testing.assert_allclose(mixture, machine_part + noise_part, atol=0.51 / 32_768)
    np.testing.assert_array_equal(mixture * 32_768, np.rint(mixture * 32_768))


@pytest.mark.parametrize("silent", ["machine", "noise"])
def test_silence_cannot_be_mixed(silent):
    """A ratio to silence is none."""
    sound, nothing = np.random.default_rng(0).standard_normal(100), np.full(100, 0.25)
    with pytest.raises(ClipError, match=f"{silent} is silent"):
        mix(*((nothing, sound) if silent == "machine" else (sound, nothing)), 0.0)


def test_a_mixture_beyond_full_scale_is_refused():
    """Cutting its peak off would change the ratio."""
    click = np.zeros(160_000)
    click[5] = 1.0
    with pytest.raises(ClipError, match="of full scale"):
        mix(np.random.default_rng(0).standard_normal(160_000), click, -30.0)


def test_a_short_clip_repeats_from_where_it_begins():
    """Its end is followed by its start."""
    np.testing.assert_array_equal(repeated(np.arange(3), 7, start=2), [2, 0, 1, 2, 0, 1, 2])


def test_noise_is_told_by_how_its_level_moves(tmp_path):
    """Steady, in bursts, neither, silent, and a click that would leave full scale."""
    steady = np.random.default_rng(0).standard_normal(RATE_HZ * 5).astype(np.float32)
    seconds = np.arange(len(steady)) / RATE_HZ
    click = np.zeros_like(steady)
    click[100] = 1.0
    assert kind_of(0.1 * steady) == "stationary"
    assert kind_of(steady * (seconds % 1.0 < 0.2)) == "non-stationary"
    assert kind_of(steady * (1.0 + 0.7 * np.sin(2.0 * np.pi * seconds)).astype(np.float32)) is None
    assert kind_of(np.zeros_like(steady)) is None
    assert kind_of(click) is None
    generate_noise(tmp_path, seed=0)
    kinds = Counter((clip.tag, clip.kind) for clip in list_kinds(tmp_path))
    assert set(kinds) == {("rumble", "stationary"), ("burst", "non-stationary")}
    assert min(kinds.values()) > 20


def drawn(seed, snr_db=(-10.0, 10.0)):
    machines = [
        MachineClip(path=Path(f"m{number}"), class_name="a/b", is_anomaly=False, group="") for number in range(7)
    ]
    noise = [NoiseClip(path=Path(f"n{number}"), tag="", group="", kind="stationary") for number in range(10)]
    return draw_mixtures(machines, noise, np.random.default_rng(seed), snr_db=snr_db, each=4)


def test_drawn_mixtures_use_all_noise_alike_and_every_machine_clip_as_often():
    """28 mixtures of 10 noises: each 2 or 3 times."""
    mixtures = drawn(0).mixtures
    assert set(Counter(one.machine.path for one in mixtures).values()) == {4}
    assert set(Counter(one.noise.path for one in mixtures).values()) == {2, 3}
    assert len({one.snr_db for one in mixtures}) == len(mixtures)
    assert all(-10.0 <= one.snr_db <= 10.0 for one in mixtures)


def test_the_same_chance_gives_the_same_noise_at_every_ratio():
    """So that the ratio alone differs between two columns of the table."""
    quiet, loud = (
        [(one.machine, one.noise, one.noise_start) for one in drawn(3, (snr_db, snr_db)).mixtures]
        for snr_db in (10.0, -10.0)
    )
    assert quiet == loud
    assert drawn(3) == drawn(3) != drawn(4)
