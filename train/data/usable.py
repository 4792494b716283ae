"""A clip's samples block by block in, what keeps it from use out: it is too short, or silent."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np

from edge_asd.errors import ClipError
from edge_asd.types import FeatureSpec, FloatArray

Unusable: TypeAlias = Literal["short", "silent", ""]

_MIN_SAMPLES = FeatureSpec().sample_rate_hz
"""One second: less holds no turn of a slow machine. What is shorter than a window is repeated to it."""
_MIN_SPREAD = 1.0 / 32_768
"""Standard deviation of samples in -1..1 (-90 dB) below which there is no sound but rounding to 16 bits."""


class Heard:
    """What is to be known of a clip's samples to say whether it can be used, in constant memory."""

    def __init__(self) -> None:
        self._n_samples = 0
        self._total = 0.0
        self._total_squared = 0.0

    def add(self, block: FloatArray) -> None:
        """Hear the next samples (n,) in -1..1."""
        self._n_samples += len(block)
        self._total += float(np.sum(block, dtype=np.float64))
        self._total_squared += float(np.sum(np.square(block, dtype=np.float64)))

    def fault(self) -> tuple[Unusable, str]:
        """What keeps the clip from use, by name and in words; both empty where nothing does."""
        if self._n_samples < _MIN_SAMPLES:
            return "short", f"it holds {self._n_samples} samples at 16 kHz; expected {_MIN_SAMPLES} (1 s) or more"
        mean = self._total / self._n_samples
        spread = math.sqrt(max(0.0, self._total_squared / self._n_samples - mean**2))
        if spread < _MIN_SPREAD:
            return "silent", (
                f"it is silent: the standard deviation of its samples is {spread:.1g} of full scale; expected "
                f"{_MIN_SPREAD:.1g} (-90 dB) or more"
            )
        return "", ""


def check_usable(path: Path, blocks: Iterable[FloatArray]) -> None:
    """Hear all blocks (n,) of the clip at `path`.

    Raises:
        ClipError: it cannot be used.
    """
    heard = Heard()
    for block in blocks:
        heard.add(block)
    kind, detail = heard.fault()
    if kind:
        raise ClipError(f"{path}: {detail}")
