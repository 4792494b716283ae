"""Whether somebody speaks in a window: voices of a synthesizer over sound of machines, and machines alone."""

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from edge_asd.capture.clips import read_clip
from edge_asd.enroll.speech import has_speech
from edge_asd.types import FeatureSpec

SPEC = FeatureSpec()
CLIPS = Path(__file__).resolve().parents[3] / "examples" / "bldc_motor" / "clips"
WORDS = (
    "Good morning, did you see the game last night? The second shift starts at two o'clock, and the foreman asked "
    "whether the press can be stopped for half an hour. I think we should wait until the new bearings arrive."
)


@pytest.fixture(scope="module", params=["en", "en+f3", "de"])
def voice(request, tmp_path_factory):
    """Ten seconds of one voice, full scale 1."""
    if shutil.which("espeak-ng") is None:
        pytest.skip("espeak-ng, which speaks the test's words, is not installed (apt install espeak-ng)")
    path = tmp_path_factory.mktemp("voice") / "words.wav"
    subprocess.run(["espeak-ng", "-v", request.param, "-s", "150", "-w", path, WORDS], check=True)
    return read_clip(path)[: SPEC.window_samples]


def motor(name):
    """A window of a real motor."""
    return read_clip(CLIPS / name)[: SPEC.window_samples]


def at_level(voice, machine, snr_db):
    """The voice over the machine, so much louder, without clipping."""
    gain = np.sqrt(np.square(machine).mean() / np.square(voice).mean()) * 10.0 ** (snr_db / 20.0)
    mixed = machine + gain * voice
    return (mixed / max(1.0, float(np.abs(mixed).max()))).astype(np.float32)


def test_voice_that_is_louder_than_the_machine_is_speech(voice) -> None:
    """10 dB above a motor."""
    assert has_speech(at_level(voice, motor("M1/healthy_1450.flac"), 10.0), SPEC)


@pytest.mark.parametrize("level", [1.0, 0.01])
@pytest.mark.parametrize("at_s", [0.0, 2.5, 6.3])
def test_short_remark_is_speech(voice, at_s, level) -> None:
    """Three seconds, 20 dB above a motor, wherever they fall and whatever the recording level."""
    machine = motor("M1/healthy_1450.flac")
    n, start = 3 * SPEC.sample_rate_hz, round(at_s * SPEC.sample_rate_hz)
    spoken = np.zeros_like(machine)
    spoken[start : start + n] = voice[:n] * np.sqrt(np.square(machine).mean() / np.square(voice[:n]).mean()) * 10.0
    mixed = machine + spoken
    assert has_speech((level * mixed / np.abs(mixed).max()).astype(np.float32), SPEC)


def test_voice_far_below_the_machine_is_not_heard(voice) -> None:
    """30 dB below, where it changes nothing that is learned either."""
    assert not has_speech(at_level(voice, motor("M2/healthy_1850.flac"), -30.0), SPEC)


@pytest.mark.parametrize("clip", sorted(str(path.relative_to(CLIPS)) for path in CLIPS.rglob("*.flac")))
def test_motor_is_no_speech(clip) -> None:
    """Healthy or damaged, though WebRTC's detector alone hears a voice in some."""
    assert not has_speech(motor(clip), SPEC)


def test_steady_hum_is_no_speech() -> None:
    """Voiced throughout, but without syllables."""
    time_s = np.arange(SPEC.window_samples) / SPEC.sample_rate_hz
    hum = sum(np.sin(2 * np.pi * 120.0 * harmonic * time_s) / harmonic for harmonic in range(1, 30))
    assert not has_speech((0.1 * hum).astype(np.float32), SPEC)
