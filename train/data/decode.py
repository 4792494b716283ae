"""A clip's file in, its samples as int16 at 16 kHz with their digest out, or what is wrong with it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np

from edge_asd.capture.clips import MAX_CLIP_S, stream_clip
from edge_asd.errors import ClipError
from train.data.folder import stat_of
from train.data.prepared import SAMPLES_DTYPE, Stat
from train.data.usable import Heard
from train.data.waves import FULL_SCALE

Fault: TypeAlias = Literal["broken", "short", "silent", ""]


@dataclass(frozen=True, slots=True, kw_only=True)
class Decoded:
    """What became of one file.

    stat: as `stat_of` gives it. digest: sha256 of the samples in hex. clipped: samples beyond full
    scale, which were limited to it. fault, detail: why it cannot be used; then there are no samples.
    """

    file: str
    stat: Stat
    digest: str = ""
    samples: bytearray
    clipped: int = 0
    fault: Fault = ""
    detail: str = ""


def decode_clip(folder: Path, file: str, *, channel: int | None) -> Decoded:
    """Decode one clip of a data folder; what is wrong with it is told, not raised.

    channel: counted from 0; needed where clips have several.
    """
    path = folder / file
    samples = bytearray()
    digest = hashlib.sha256()
    heard = Heard()
    clipped = 0
    stat = stat_of(path)
    try:
        for block in stream_clip(path, channel=channel, max_s=MAX_CLIP_S):
            heard.add(block)
            steps = np.rint(block * np.float32(FULL_SCALE))
            clipped += int(np.count_nonzero((steps < -FULL_SCALE) | (steps > FULL_SCALE)))
            steps = np.clip(steps, -FULL_SCALE, FULL_SCALE - 1.0)
            content = steps.astype(SAMPLES_DTYPE).tobytes()
            digest.update(content)
            samples += content
        if stat_of(path) != stat:
            return _faulty(file, stat, "broken", f"{path}: it changed while it was read; wait until it is whole")
    except (ClipError, OSError) as error:
        return _faulty(file, stat, "broken", str(error))
    fault, detail = heard.fault()
    if fault:
        return _faulty(file, stat, fault, detail)
    return Decoded(file=file, stat=stat, digest=digest.hexdigest(), samples=samples, clipped=clipped)


def _faulty(file: str, stat: Stat, fault: Fault, detail: str) -> Decoded:
    return Decoded(file=file, stat=stat, samples=bytearray(), fault=fault, detail=detail)
