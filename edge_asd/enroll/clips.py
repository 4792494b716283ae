"""Recorded clips of a machine at work in, the windows of them that are fit to be learned out, one clip at a time."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from edge_asd.bundle import Encoder
from edge_asd.capture.clips import stream_clip
from edge_asd.enroll.collector import GROUP_S, SPEECH, Collector, Kept
from edge_asd.enroll.level import TOO_QUIET, is_too_quiet
from edge_asd.enroll.remembering import RememberingScorer
from edge_asd.enroll.speech import has_speech
from edge_asd.errors import ClipError
from edge_asd.pipeline import Pipeline
from edge_asd.sensor import Baseline, Sensor, SensorSettings
from edge_asd.types import Block, Window
from edge_asd.window import Windower

_FOREVER_S = 1e12  # a baseline of the ear is nothing that clips could tell


@dataclass(frozen=True, slots=True, kw_only=True)
class LearnedClip:
    """What one clip gave: kept windows, sound that was refused, by reason, and how much time its windows take.

    Their times are whole seconds from its beginning on.
    """

    kept: list[Kept]
    refused_s: dict[str, float]
    length_s: int


class ClipLearner:
    """Hears clips as the daemon would hear the machine: windows that do not overlap, each judged by the ear's checks.

    Args:
        pipeline: of the model that serves.
        encoder: of it.
        settings: of the ear's checks.
        refuse_speech: whether windows with speech are not learned.
        channel: of clips that hold several.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        encoder: Encoder,
        *,
        settings: SensorSettings,
        refuse_speech: bool,
        channel: int | None,
    ) -> None:
        self._pipeline = pipeline
        self._encoder = encoder
        self._settings = settings
        self._refuse_speech = refuse_speech
        self._channel = channel

    def learn(self, clip: Path, *, first_group: int) -> LearnedClip:
        """Hear one clip.

        Args:
            clip: its path.
            first_group: of its first minute; the next minute has the next number.

        Raises:
            ClipError: it cannot be used, or is shorter than a window.
        """
        spec = self._pipeline.spec
        window_s = spec.window_samples / spec.sample_rate_hz
        slot_s = math.ceil(window_s)  # times are told, and typed, in whole seconds
        collector = Collector(window_s=window_s)
        remembering = RememberingScorer(self._encoder)
        ear = self._pipeline.ear_with(remembering)
        sensor = Sensor(spec, self._settings, Baseline(learn_s=_FOREVER_S))
        n_windows = 0
        for window in self._windows(clip):
            n_windows += 1
            collector.is_due(window, sample_rate_hz=spec.sample_rate_hz)
            fault = sensor.judge(window)
            scored = ear.score(window)
            if fault is not None or scored.fault is not None or remembering.vector is None:
                collector.refuse(fault.kind if fault else "not_finite")
            elif is_too_quiet(window.wave):
                collector.refuse(TOO_QUIET)
            elif self._refuse_speech and has_speech(window.wave, spec):
                collector.refuse(SPEECH)
            else:
                group = first_group + int((window.end_monotonic_s - window_s) // GROUP_S)
                collector.keep(remembering.vector, group=group, end_utc_s=float(n_windows * slot_s))
        if not n_windows:
            raise ClipError(f"{clip} is shorter than {window_s:g} s, the window that the model looks at; expected more")
        kept, refused_s = collector.take()
        return LearnedClip(kept=kept, refused_s=refused_s, length_s=n_windows * slot_s)

    def _windows(self, clip: Path) -> Iterator[Window]:
        spec = self._pipeline.spec
        windower = Windower(spec, spec.window_samples)
        n_heard = 0
        for samples in stream_clip(clip, channel=self._channel):
            n_heard += samples.size
            end_s = n_heard / spec.sample_rate_hz
            yield from windower.push(Block(samples=samples, end_monotonic_s=end_s, end_utc_s=end_s))


def clip_sha256(clip: Path) -> str:
    """Of the file's bytes: a copy under another name is the same clip.

    Raises:
        ClipError: it cannot be read.
    """
    digest = hashlib.sha256()
    try:
        with clip.open("rb") as stream:
            while data := stream.read(1 << 20):
                digest.update(data)
    except OSError as error:
        raise ClipError(f"{clip}: it cannot be read ({error.strerror}); check its owner and mode") from error
    return digest.hexdigest()
