"""The same sound is found whatever was done to its file, and no two recordings are taken for one."""

import io

import numpy as np
import pytest
import soundfile
import soxr

from edge_asd.capture.clips import read_clip
from train.data import Waves
from train.retain.same_sound import likeness, mark, shared_with

RATE_HZ = 16_000


def written(wave, rate_hz=RATE_HZ, **how):
    file = io.BytesIO()
    soundfile.write(file, wave, rate_hz, **how)
    file.seek(0)
    return soundfile.read(file, dtype="float32")[0]


def at_48_khz(wave):
    raised = written(soxr.resample(wave, RATE_HZ, 48_000), 48_000, format="WAV", subtype="PCM_24")
    return soxr.resample(raised, 48_000, RATE_HZ)


CHANGES = {
    "PCM_16": lambda wave: written(wave, format="WAV", subtype="PCM_16"),
    "PCM_24": lambda wave: written(wave, format="WAV", subtype="PCM_24"),
    "FLAC": lambda wave: written(wave, format="FLAC"),
    "Vorbis": lambda wave: written(wave, format="OGG", subtype="VORBIS"),
    "48 kHz": at_48_khz,
    "half level": lambda wave: 0.5 * wave,
    "20 dB lower in PCM_16": lambda wave: written(0.1 * wave, format="WAV", subtype="PCM_16"),
    "other sign": lambda wave: -wave,
    "shorter at its end": lambda wave: wave[:-100],
    "shorter ahead": lambda wave: wave[1_357:],
    "within a longer one": lambda wave: np.concatenate([noise(99, 3.3), wave[: 2 * RATE_HZ + 700], noise(98, 2.0)]),
    "Vorbis at 48 kHz, lower, cut": lambda wave: at_48_khz(written(0.3 * wave[777:-5_000], format="OGG")),
}


def noise(seed, seconds=5.0):
    """White noise: as steady as can be."""
    return (0.02 * np.random.default_rng(seed).standard_normal(int(seconds * RATE_HZ))).astype(np.float32)


def tone(seed, hz=1_000.0, seconds=5.0):
    """A tone in little noise, with a phase by chance."""
    rng = np.random.default_rng(seed)
    steady = np.sin(2.0 * np.pi * (hz * np.arange(int(seconds * RATE_HZ)) / RATE_HZ + rng.random()))
    return (0.1 * steady).astype(np.float32) + 0.2 * noise(seed, seconds)


def clicks(seed, seconds=5.0):
    """Clicks that decay, at a steady rate, in little noise."""
    rng = np.random.default_rng(seed)
    n = int(0.5 * RATE_HZ)
    click = rng.standard_normal(n) * np.exp(-np.arange(n) / 200.0)
    return np.tile(0.3 * click, int(seconds / 0.5)).astype(np.float32) + 0.02 * noise(seed, seconds)


def found(waves, others):
    return shared_with(mark(Waves.from_arrays(waves)), Waves.from_arrays([one.astype(np.float32) for one in others]))


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("kind", [noise, tone, clicks])
def test_same_sound_is_found_whatever_was_done_to_it(change, kind):
    """Among others of its kind, and it is the right one."""
    waves = [kind(seed) for seed in range(4)]
    assert found(waves, [kind(7), CHANGES[change](waves[2])]) == {2: 1}


@pytest.mark.parametrize("change", CHANGES)
def test_same_recording_is_found(change, shared_data):
    """Real clips, coded before: steady ones and others."""
    folder = shared_data("esc50")
    waves = [read_clip(next((folder / tag).glob("2-*.ogg"))) for tag in ("rain", "wind", "engine", "vacuum_cleaner")]
    assert found(waves, [CHANGES[change](wave) for wave in waves]) == {0: 0, 1: 1, 2: 2, 3: 3}


@pytest.mark.parametrize("kind", [noise, tone, clicks])
def test_sound_of_one_kind_is_not_the_same(kind):
    """Steady noise, one tone and one rhythm, each recorded anew."""
    assert found([kind(seed) for seed in range(5)], [kind(seed) for seed in range(5, 15)]) == {}


def test_recordings_of_one_tag_are_not_the_same(shared_data):
    """Rain is rain, but no copy."""
    folder = shared_data("esc50")
    for tag in ("rain", "engine", "washing_machine"):
        clips = sorted((folder / tag).glob("*.ogg"))
        first, second = ([read_clip(clip) for clip in clips if clip.name[0] in folds] for folds in ("1", "234"))
        assert found(first, second) == {}


@pytest.mark.parametrize("n", [400, 3_000, 12_000])
def test_short_sound_is_found_as_a_whole(n):
    """Also one shorter than a mark; of less than 50 ms nothing is said."""
    waves = [noise(seed, 0.75)[:n] for seed in range(3)]
    assert found(waves, [noise(8, 0.75)[:n], 0.5 * waves[1]]) == ({1: 1} if n > 400 else {})


def test_silence_and_nothing_are_like_nothing():
    """No clip is found in silence, and none where there are no clips."""
    silence = np.zeros(RATE_HZ, np.float32)
    assert found([silence, noise(0)], [silence]) == {}
    assert found([], [noise(0)]) == {}
    assert likeness(silence, silence) == 0.0
