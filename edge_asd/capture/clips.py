"""A recorded clip (WAV, FLAC, Ogg ...) in, its samples at 16 kHz mono out, or an error that says what is wrong."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, Literal

import numpy as np
import soundfile
import soxr

from edge_asd.errors import ClipError
from edge_asd.types import FeatureSpec, FloatArray

SAMPLE_RATE_HZ = FeatureSpec().sample_rate_hz
CLIP_SUFFIXES = (".wav", ".flac", ".ogg")
"""What is taken from a folder; a file that is named is opened whatever its suffix."""

MAX_CLIP_S = 1_800
"""The longest clip that `read_clip` holds in memory (115 MB at 16 kHz); `stream_clip` has no limit."""

MAX_PEAK = 10.0
"""Above it (20 dB over full scale) float samples are not in -1..1 but in units of their own, such as 16-bit counts."""

_READ_SAMPLES = 65_536  # of all channels together
_UNKNOWN_FRAMES = 2**62  # libsndfile answers about 2**63 for a stream whose header holds no length


def read_clip(path: str | Path, *, channel: int | None = None) -> FloatArray:
    """Read a whole clip as (n,) float32 at 16 kHz.

    channel: counted from 0; needed where the clip has several.

    Raises:
        ClipError: it is not there, not audio, empty, truncated, holds NaN or infinity, is sampled below 16 kHz, has
            several channels and none was chosen, or is longer than `MAX_CLIP_S`.
    """
    blocks: list[FloatArray] = []
    n_samples = 0
    for block in stream_clip(path, channel=channel, max_s=MAX_CLIP_S):
        blocks.append(block)
        n_samples += len(block)
    samples = np.empty(n_samples, dtype=np.float32)
    start = 0
    while blocks:  # emptied as it goes, so that the clip is not held twice
        block = blocks.pop(0)
        samples[start : start + len(block)] = block
        start += len(block)
    return samples


def stream_clip(path: str | Path, *, channel: int | None = None, max_s: float | None = None) -> Iterator[FloatArray]:
    """Yield a clip in blocks (n,) float32 at 16 kHz, in constant memory.

    channel: counted from 0; needed where the clip has several. max_s: the longest that the caller takes, in seconds.

    Raises:
        ClipError: as `read_clip`; what only shows in the samples shows when they are reached.
    """
    path = Path(path)
    with _open_checked(path, channel=channel) as file:
        rate_hz = file.samplerate
        known = file.frames < _UNKNOWN_FRAMES
        if known:
            _check_length(path, file.frames / rate_hz, max_s)
        resampler = None if rate_hz == SAMPLE_RATE_HZ else soxr.ResampleStream(rate_hz, SAMPLE_RATE_HZ, 1)
        n_read = 0
        for block in _read_channel(path, file, channel or 0):
            n_read += len(block)
            _check_length(path, n_read / rate_hz, max_s)
            yield block if resampler is None else resampler.resample_chunk(block)
        if resampler is not None:
            yield resampler.resample_chunk(np.zeros(0, dtype=np.float32), last=True)
        if n_read == 0:
            raise ClipError(f"{path}: it holds no samples; expected sound; record it again")
        if known and n_read < file.frames:
            raise ClipError(
                f"{path}: it ends after {n_read} of the {file.frames} samples in its header; expected the whole file; "
                "copy it again"
            )


def check_clip(path: str | Path, *, channel: int | None = None) -> None:
    """Raise the ClipError that a clip's header alone can tell: not there, not audio, too slow, channels."""
    _open_checked(Path(path), channel=channel).close()


def find_clips(paths: Iterable[str | Path]) -> tuple[Path, ...]:
    """Return the files among `paths` as they are, and for a folder all clips below it, by name.

    Raises:
        ClipError: a path is not there, or a folder holds no clip.
    """
    found: list[Path] = []
    for path in map(Path, paths):
        if not path.is_dir():
            if not path.exists():
                raise ClipError(f"{path}: no such file or folder; expected recorded clips; check the path")
            found.append(path)
            continue
        clips = sorted(clip for clip in path.rglob("*") if clip.suffix.lower() in CLIP_SUFFIXES and clip.is_file())
        if not clips:
            raise ClipError(
                f"{path}: the folder holds no clip; expected {', '.join(CLIP_SUFFIXES)} files; check the path"
            )
        found.extend(clips)
    return tuple(found)


def _open_checked(path: Path, *, channel: int | None) -> soundfile.SoundFile:
    if not path.exists():
        raise ClipError(f"{path}: no such file; expected a recorded clip; check the path")
    if not path.is_file():  # opening a pipe would wait for ever
        raise ClipError(f"{path}: it is not a regular file; expected a recorded clip; check the path")
    try:
        if path.stat().st_size == 0:
            raise ClipError(f"{path}: the file is empty (0 bytes); expected a recorded clip; record or copy it again")
        file = soundfile.SoundFile(path)
    except OSError as error:
        raise ClipError(f"{path}: it cannot be read ({error.strerror}); check its owner and mode") from error
    except (soundfile.LibsndfileError, TypeError) as error:  # TypeError: a .raw file has no header to go by
        raise ClipError(
            f"{path}: it cannot be read as sound ({_reason(error)}); expected a WAV, FLAC or Ogg file; convert it"
        ) from error
    try:
        _check_header(path, file, channel)
        _check_whole(path, file.format)
    except ClipError:
        file.close()
        raise
    return file


def _check_header(path: Path, file: soundfile.SoundFile, channel: int | None) -> None:
    if file.samplerate < SAMPLE_RATE_HZ:
        raise ClipError(
            f"{path}: it is sampled at {file.samplerate} Hz; expected at least {SAMPLE_RATE_HZ} Hz, because the model "
            f"listens up to {SAMPLE_RATE_HZ / 2000:g} kHz and this clip holds nothing above "
            f"{file.samplerate / 2000:g} kHz; record it at {SAMPLE_RATE_HZ} Hz or more"
        )
    last = file.channels - 1
    if channel is None and last > 0:
        raise ClipError(
            f"{path}: it has {file.channels} channels; expected one; choose one from 0 to {last} "
            "(`--channel` of train.prepare and of the device's commands, `channel` beside `clips` in a config)"
        )
    if channel is not None and not 0 <= channel <= last:
        raise ClipError(
            f"{path}: channel {channel} was asked for, but it has {file.channels}; expected a number from 0 to {last}; "
            "choose another channel"
        )


def _check_whole(path: Path, file_format: str) -> None:
    """Raise where the file ends before its header or its stream does: libsndfile takes that for a shorter clip."""
    try:
        with path.open("rb") as file:
            if file_format in ("WAV", "WAVEX", "RF64"):
                whole = _wav_is_whole(file, path.stat().st_size)
            else:
                whole = file_format != "OGG" or _ogg_is_whole(file, path.stat().st_size)
    except OSError as error:
        raise ClipError(f"{path}: it cannot be read ({error.strerror}); check its owner and mode") from error
    if not whole:
        raise ClipError(
            f"{path}: it was cut off: it ends before its sound does; expected the whole file; copy it again"
        )


def _wav_is_whole(file: BinaryIO, n_bytes: int) -> bool:
    """Whether the data chunk lies within the file.

    Source of the layout: EBU Tech 3306 (RF64), which holds that of RIFF.
    """
    order: Literal["little", "big"] = "big" if file.read(12)[:4] == b"RIFX" else "little"
    n_data_long: int | None = None
    while len(head := file.read(8)) == 8:
        size = int.from_bytes(head[4:], order)
        start = file.tell()
        if head[:4] == b"ds64":
            n_data_long = int.from_bytes(file.read(16)[8:], order)
        if head[:4] == b"data":
            if size == 0xFFFFFFFF and n_data_long is not None:
                size = n_data_long
            return _is_of_a_stream(size) or start + size <= n_bytes
        file.seek(start + size + size % 2)
    return True  # no data chunk where it should be: what libsndfile made of it stands


def _is_of_a_stream(n_data: int) -> bool:
    """Whether a recorder wrote this size because it did not know the length: 0, -1, or about 2**31 (SoX, arecord)."""
    return n_data == 0 or 0x7FFF0000 <= n_data <= 0x80000000 or n_data in (0xFFFFFFFF, 2**64 - 1)


def _ogg_is_whole(file: BinaryIO, n_bytes: int) -> bool:
    """Whether the last page is there and ends its stream.

    Source: RFC 3533, section 6.
    """
    ends = False
    while (head := file.read(27))[:4] == b"OggS":
        lacing = file.read(head[26]) if len(head) == 27 else b""
        if len(head) < 27 or len(lacing) < head[26] or file.tell() + sum(lacing) > n_bytes:
            return False
        ends = bool(head[5] & 4)
        file.seek(sum(lacing), 1)
    return ends


def _check_length(path: Path, length_s: float, max_s: float | None) -> None:
    if max_s is not None and length_s > max_s:
        raise ClipError(f"{path}: it is {length_s:.0f} s long or longer; expected at most {max_s:g} s; split it")


def _read_channel(path: Path, file: soundfile.SoundFile, channel: int) -> Iterator[FloatArray]:
    start = 0
    # `read` would make an array each time, and ask it for the name of its type, which CPython's method cache keeps.
    frames = np.empty((max(1, _READ_SAMPLES // file.channels), file.channels), dtype=np.float32)
    while True:
        try:
            n_read = file.buffer_read_into(frames, dtype="float32")
        except soundfile.LibsndfileError as error:
            raise ClipError(
                f"{path}: it is damaged after {start / file.samplerate:.3f} s ({_reason(error)}); expected the whole "
                "file; copy it again"
            ) from error
        if n_read == 0:
            return
        block = frames[:n_read, channel].copy()
        _check_samples(path, block, start, file.samplerate)
        yield block
        start += len(block)


def _check_samples(path: Path, block: FloatArray, start: int, rate_hz: int) -> None:
    good = np.abs(block) <= MAX_PEAK  # False for NaN
    if good.all():
        return
    index = int(np.argmin(good))
    value = float(block[index])
    where = f"sample {start + index} ({(start + index) / rate_hz:.3f} s)"
    if np.isfinite(value):
        raise ClipError(f"{path}: {where} is {value:g}; expected samples in -1..1; divide the clip by its full scale")
    raise ClipError(f"{path}: {where} is {value:g}; expected finite numbers; record or convert it again")


def _reason(error: Exception) -> str:
    return error.error_string if isinstance(error, soundfile.LibsndfileError) else str(error)
