"""What an ear knows of its machine, kept on disk from run to run."""

import numpy as np
import pytest

from edge_asd.config import ClipsSource, MachineConfig, SensorConfig, SoundCardSource
from edge_asd.daemon.ear_health import EarHealth
from edge_asd.types import FeatureSpec, Window

SPEC = FeatureSpec()
NOISE = np.random.default_rng(5).standard_normal(SPEC.window_samples).astype(np.float32) / 20


def machine(name="motor-1", channel=0, baseline_h=0.02, **sensor):
    return MachineConfig(
        name=name,
        listens_to="bldc/M1",
        source=SoundCardSource(channel=channel),
        sensor=SensorConfig(baseline_h=baseline_h, **sensor),
    )


def judge(health, wave, *, times=1):
    """What is said of the same window again and again, as if each were new sound."""
    window = Window(
        wave=wave,
        end_monotonic_s=0.0,
        end_utc_s=0.0,
        fresh_samples=len(wave),
        heard_samples=len(wave),
        lost_samples=0,
    )
    return {fault.kind if fault else None for fault in (health.judge(window) for _ in range(times))}


def test_what_was_learned_is_there_after_a_restart(tmp_path):
    """The next run judges by what this one learned, and a half-learned baseline goes on where it was."""
    for _ in range(2):
        health = EarHealth(machine(), spec=SPEC, state_dir=tmp_path)
        assert judge(health, NOISE, times=4) == {None}
        assert judge(health, NOISE / 10) == {None}  # learned as well: 90 s in all
        health.close()
    assert judge(EarHealth(machine(), spec=SPEC, state_dir=tmp_path), NOISE / 100) == {"quieter"}


def test_what_was_learned_outlives_a_kill(tmp_path):
    """Without a `close`, at most ten minutes of learning are lost, and none once it is complete."""
    health = EarHealth(machine(), spec=SPEC, state_dir=tmp_path)
    judge(health, NOISE, times=8)
    assert judge(EarHealth(machine(), spec=SPEC, state_dir=tmp_path), NOISE / 10) == {"quieter"}
    slow = EarHealth(machine(name="slow", baseline_h=1.0), spec=SPEC, state_dir=tmp_path)
    judge(slow, NOISE, times=59)
    assert not (tmp_path / "sensor" / "slow.json").exists()
    judge(slow, NOISE)
    assert (tmp_path / "sensor" / "slow.json").exists()


@pytest.mark.parametrize("damage", ["other source", "torn", "foreign"])
def test_a_baseline_that_cannot_be_used_is_learned_afresh(damage, tmp_path, caplog):
    """Another microphone or a damaged file is told, and judges nothing."""
    judge(EarHealth(machine(), spec=SPEC, state_dir=tmp_path), NOISE, times=8)
    path = tmp_path / "sensor" / "motor-1.json"
    if damage == "torn":
        path.write_bytes(path.read_bytes()[:50])
    elif damage == "foreign":
        path.write_bytes(b"\x00\xff")
    health = EarHealth(machine(channel=int(damage == "other source")), spec=SPEC, state_dir=tmp_path)
    assert judge(health, NOISE / 10) == {None}
    assert "learned afresh" in caplog.text


def test_a_disk_that_refuses_stops_nothing(tmp_path, caplog):
    """Where the folder cannot be made, the ear judges all the same and says once what a restart would cost."""
    (tmp_path / "sensor").write_text("a file where the folder should be")
    health = EarHealth(machine(), spec=SPEC, state_dir=tmp_path)
    assert judge(health, NOISE, times=8) == {None}
    assert judge(health, NOISE / 10) == {"quieter"}
    health.close()
    assert caplog.text.count("cannot be written") == 1


def test_machines_have_files_of_their_own_whatever_their_names(tmp_path):
    """Names that differ by what no file name takes do not share a file, and none leaves the folder."""
    names = ["motor-1", "motor 1", "motor:1", "..", "é" * 64, "ü" * 64]
    for name in names:
        judge(EarHealth(machine(name=name), spec=SPEC, state_dir=tmp_path), NOISE, times=8)
    assert len(list((tmp_path / "sensor").iterdir())) == len(names)
    assert [path.name for path in tmp_path.iterdir()] == ["sensor"]


def test_recordings_teach_a_sound_card_nothing(tmp_path):
    """A trial with clips leaves no baseline for the microphone that comes after it."""
    clip = tmp_path / "a.flac"
    trial = machine().model_copy(update={"source": ClipsSource(clips=(clip,))})
    judge(EarHealth(trial, spec=SPEC, state_dir=tmp_path), NOISE, times=8)
    assert judge(EarHealth(machine(), spec=SPEC, state_dir=tmp_path), NOISE / 10) == {None}
