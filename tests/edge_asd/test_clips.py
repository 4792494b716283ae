"""Recorded clips of every kind, good and bad."""

import os
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import soundfile

from edge_asd.capture import clips
from edge_asd.capture.clips import SAMPLE_RATE_HZ, check_clip, find_clips, read_clip, stream_clip
from edge_asd.errors import ClipError


def tone(*, rate_hz: int, seconds: float = 1.0, frequency_hz: float = 1000.0, amplitude: float = 0.5) -> np.ndarray:
    """A sine (n,)."""
    return amplitude * np.sin(2 * np.pi * frequency_hz * np.arange(round(rate_hz * seconds)) / rate_hz)


def write(path: Path, samples: np.ndarray, rate_hz: int = SAMPLE_RATE_HZ, subtype: str | None = None) -> Path:
    """Write a clip."""
    soundfile.write(path, samples, rate_hz, subtype=subtype)
    return path


@pytest.mark.parametrize(
    ("name", "subtype", "tolerance"),
    [
        ("c.wav", "PCM_U8", 1e-2),
        ("c.wav", "PCM_16", 1e-4),
        ("c.wav", "PCM_24", 1e-6),
        ("c.wav", "PCM_32", 1e-6),
        ("c.wav", "FLOAT", 1e-6),
        ("c.wav", "DOUBLE", 1e-6),
        ("c.flac", "PCM_16", 1e-4),
        ("c.FLAC", "PCM_24", 1e-6),
    ],
)
def test_any_sample_format_gives_the_same_samples(tmp_path, name, subtype, tolerance):
    """8-bit, 16-bit, 24-bit, 32-bit and float clips give the sound that was written."""
    expected = tone(rate_hz=SAMPLE_RATE_HZ)
    samples = read_clip(write(tmp_path / name, expected, subtype=subtype))
    assert samples.dtype == np.float32
    np.testing.assert_allclose(samples, expected, atol=tolerance)


@pytest.mark.parametrize("rate_hz", [22_050, 44_100, 48_000, 96_000])
def test_other_rates_are_resampled(tmp_path, rate_hz):
    """A clip of another rate gives the same tone, of the same length, at 16 kHz."""
    samples = read_clip(write(tmp_path / "c.wav", tone(rate_hz=rate_hz, seconds=7.3), rate_hz, "FLOAT"))
    expected = tone(rate_hz=SAMPLE_RATE_HZ, seconds=7.3)
    assert len(samples) == len(expected)
    middle = slice(1000, -1000)  # the ends ring
    np.testing.assert_allclose(samples[middle], expected[middle], atol=1e-4)


def test_resampling_lets_nothing_above_8_khz_through(tmp_path):
    """A 10 kHz tone in a 44.1 kHz clip is gone at 16 kHz, not folded to 6 kHz."""
    samples = read_clip(write(tmp_path / "c.wav", tone(rate_hz=44_100, frequency_hz=10_000.0), 44_100, "FLOAT"))
    assert np.abs(samples[1000:-1000]).max() < 1e-4


def test_the_chosen_channel_is_read(tmp_path):
    """Of a clip with several channels, the chosen one is returned."""
    expected = tone(rate_hz=SAMPLE_RATE_HZ)
    path = write(tmp_path / "c.wav", np.stack([np.zeros_like(expected), expected], axis=1))
    np.testing.assert_allclose(read_clip(path, channel=1), expected, atol=1e-4)
    assert not read_clip(path, channel=0).any()


def test_blocks_join_to_the_whole_clip(tmp_path):
    """Streaming a clip gives what reading it gives."""
    path = write(tmp_path / "c.flac", tone(rate_hz=44_100, seconds=5), 44_100)
    blocks = list(stream_clip(path))
    assert len(blocks) > 2
    np.testing.assert_array_equal(np.concatenate(blocks), read_clip(path))


def test_streaming_a_long_clip_takes_constant_memory(tmp_path):
    """A clip of minutes is streamed in a few MB, whatever its length."""
    path = write(tmp_path / "c.wav", np.zeros((44_100 * 240, 1), dtype=np.int16), 44_100)
    tracemalloc.start()
    n_samples = sum(len(block) for block in stream_clip(path))
    _, peak_bytes = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert n_samples == SAMPLE_RATE_HZ * 240
    assert peak_bytes < 5e6


def put(path: Path, content: bytes) -> Path:
    """Write raw bytes."""
    path.write_bytes(content)
    return path


def truncated(path: Path) -> Path:
    """A FLAC file cut in its middle."""
    write(path, np.random.default_rng(0).uniform(-1, 1, 3 * SAMPLE_RATE_HZ))
    content = path.read_bytes()
    return put(path, content[: len(content) // 2])


def at(index: int, value: float) -> np.ndarray:
    """Silence with one odd sample."""
    samples = np.zeros(100_000, dtype=np.float32)
    samples[index] = value
    return samples


@pytest.mark.parametrize(
    ("make", "texts"),
    [
        (lambda d: d / "none.wav", ["no such file", "check the path"]),
        (lambda d: d, ["not a regular file"]),
        (lambda d: put(d / "c.wav", b""), ["0 bytes", "record or copy"]),
        (lambda d: put(d / "c.wav", b"hello, I am no sound"), ["cannot be read as sound", "WAV, FLAC or Ogg"]),
        (lambda d: put(d / "c.raw", bytes(1000)), ["cannot be read as sound", "WAV, FLAC or Ogg"]),
        (lambda d: write(d / "c.wav", np.zeros(0)), ["no samples", "record it again"]),
        (
            lambda d: write(d / "c.wav", at(70_000, np.nan), subtype="FLOAT"),
            ["sample 70000 (4.375 s) is nan", "finite"],
        ),
        (lambda d: write(d / "c.wav", at(7, -np.inf), subtype="FLOAT"), ["sample 7 (0.000 s) is -inf", "finite"]),
        (lambda d: write(d / "c.wav", at(7, 20_000), subtype="FLOAT"), ["sample 7", "is 20000", "-1..1", "divide"]),
        (lambda d: write(d / "c.wav", np.zeros((99, 2))), ["2 channels", "choose one from 0 to 1", "--channel"]),
        (lambda d: write(d / "c.wav", np.zeros(9_999), 8_000), ["8000 Hz", "at least 16000 Hz", "above 4 kHz"]),
        (lambda d: truncated(d / "c.flac"), ["copy it again"]),
    ],
    ids=[
        "missing",
        "folder",
        "empty",
        "text",
        "raw",
        "no-samples",
        "nan",
        "inf",
        "counts",
        "stereo",
        "8khz",
        "truncated",
    ],
)
def test_a_clip_that_cannot_be_used_says_why(tmp_path, make, texts):
    """The error names the file, what was found, what was expected and what to do; its exit code is 65."""
    path = make(tmp_path)
    with pytest.raises(ClipError) as caught:
        read_clip(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert [text for text in texts if text not in str(caught.value)] == []
    assert caught.value.exit_code == 65


@pytest.mark.parametrize("channel", [1, -1, 7])
def test_a_channel_that_is_not_there_is_refused(tmp_path, channel):
    """A channel outside the clip's own is an error, for a mono clip too."""
    path = write(tmp_path / "c.wav", np.zeros(99))
    with pytest.raises(ClipError, match=rf"channel {channel} was asked for, but it has 1; .* from 0 to 0"):
        check_clip(path, channel=channel)


def test_a_clip_longer_than_memory_should_hold_is_refused_before_it_is_read(tmp_path, monkeypatch):
    """The header's length alone refuses a clip that is too long."""
    monkeypatch.setattr(clips, "MAX_CLIP_S", 2)
    path = write(tmp_path / "c.wav", np.zeros(2 * SAMPLE_RATE_HZ + 1))
    with pytest.raises(ClipError, match="expected at most 2 s; split it"):
        read_clip(path)
    assert len(read_clip(write(path, np.zeros(2 * SAMPLE_RATE_HZ)))) == 2 * SAMPLE_RATE_HZ


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads what nobody may read")
def test_a_clip_that_may_not_be_read_says_so(tmp_path):
    """A clip without read permission is an error that names it."""
    path = write(tmp_path / "c.wav", np.zeros(99))
    path.chmod(0)
    with pytest.raises(ClipError, match="cannot be read"):
        read_clip(path)


def test_a_folder_gives_its_clips_by_name(tmp_path):
    """Folders give all clips below them in order; named files stay as they are, where they are."""
    (tmp_path / "folder" / "deep").mkdir(parents=True)
    for name in ("folder/b.wav", "folder/a.FLAC", "folder/deep/c.ogg", "folder/notes.txt", "z.aiff"):
        put(tmp_path / name, b"x")
    found = find_clips([tmp_path / "z.aiff", tmp_path / "folder"])
    names = ["z.aiff", "folder/a.FLAC", "folder/b.wav", "folder/deep/c.ogg"]
    assert [str(path.relative_to(tmp_path)) for path in found] == names


def test_a_folder_without_clips_is_an_error(tmp_path):
    """An empty folder and a missing path are errors that say what to do."""
    with pytest.raises(ClipError, match="holds no clip"):
        find_clips([tmp_path])
    with pytest.raises(ClipError, match="no such file or folder"):
        find_clips([tmp_path / "none"])


@pytest.mark.parametrize(
    ("name", "file_format", "subtype"),
    [
        ("c.wav", "WAV", "PCM_16"),
        ("c.wav", "WAVEX", "FLOAT"),
        ("c.wav", "RF64", "PCM_16"),
        ("c.ogg", "OGG", "VORBIS"),
        ("c.ogg", "OGG", "OPUS"),
    ],
)
@pytest.mark.parametrize("share", [0.7, 0.99])
def test_clip_that_was_cut_off_is_refused(tmp_path, name, file_format, subtype, share):
    """However long what is left is; the whole clip is read."""
    path = tmp_path / name
    sound = 0.1 * np.random.default_rng(0).standard_normal(20 * 48_000)
    soundfile.write(path, sound, 48_000, subtype=subtype, format=file_format)
    assert len(read_clip(path)) == 20 * SAMPLE_RATE_HZ
    os.truncate(path, int(share * path.stat().st_size))
    for read in (read_clip, check_clip):
        with pytest.raises(ClipError, match="it was cut off"):
            read(path)


def test_ogg_cut_between_two_pages_is_refused(tmp_path):
    """Its last page is whole, but does not end the stream."""
    path = tmp_path / "c.ogg"
    soundfile.write(path, 0.1 * np.random.default_rng(0).standard_normal(20 * SAMPLE_RATE_HZ), SAMPLE_RATE_HZ)
    content = path.read_bytes()
    path.write_bytes(content[: content.rindex(b"OggS")])
    with pytest.raises(ClipError, match="it was cut off"):
        read_clip(path)


@pytest.mark.parametrize("size", [0xFFFFFFFF, 0x7FFFF000, 0x80000000])
def test_wav_of_a_stream_is_read_to_its_end(tmp_path, size):
    """Its header holds no length, but what the recorder wrote in its place."""
    path = write(tmp_path / "c.wav", tone(rate_hz=SAMPLE_RATE_HZ))
    content = bytearray(path.read_bytes())
    at = content.index(b"data") + 4
    content[at : at + 4] = size.to_bytes(4, "little")
    path.write_bytes(content)
    assert len(read_clip(path)) == SAMPLE_RATE_HZ
