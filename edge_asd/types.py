"""What passes between the stages: blocks, windows, engine outputs, scores, alarm events and messages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

FloatArray: TypeAlias = NDArray[np.float32]
Layer: TypeAlias = Literal["embedding", "feature_map"]
"""Which output of the network nearest neighbours are sought in."""

ScorerName: TypeAlias = Literal["margin", "knn", "fusion"]
"""How outputs become the anomaly score of a machine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FeatureSpec:
    """How a window becomes a log-mel spectrogram; the one place for these numbers on both sides.

    Source: TFSTgram OS-SCL (log-mel with Slaney scale and norm, centred frames with zero padding).
    """

    sample_rate_hz: int = 16_000
    window_samples: int = 160_000
    n_fft: int = 2_048
    hop_samples: int = 512
    n_mels: int = 128
    f_min_hz: float = 0.0
    f_max_hz: float = 8_000.0
    power_floor: float = 1e-10

    @property
    def n_frames(self) -> int:
        """STFT columns of a window with centred frames."""
        return 1 + self.window_samples // self.hop_samples


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """What one channel of a sound card or clip delivers at once.

    samples: (n,) float32 in -1..1 at 16 kHz.
    end_monotonic_s, end_utc_s: when the last sample was heard (POSIX seconds for UTC); for recordings, the start of
    play plus the position in the sound, whatever the speed.
    lost_samples: how many samples are missing between the block before and this one; above 0 it is a gap.
    """

    samples: FloatArray
    end_monotonic_s: float
    end_utc_s: float
    lost_samples: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class NoSound:
    """A source is silent because none comes from its card; the next block says that it is heard again.

    since_monotonic_s, since_utc_s: when the last sample was heard, or the source was started.
    reason: what was found and what to do, for people.
    """

    since_monotonic_s: float
    since_utc_s: float
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """The sound that the model looks at, never spanning a gap.

    wave: (window_samples,) float32, read-only.
    fresh_samples: how many of its newest samples no earlier window held (all of them after a start or a gap).
    heard_samples, lost_samples: of the sound since the end of the window before, or since the start.
    """

    wave: FloatArray
    end_monotonic_s: float
    end_utc_s: float
    fresh_samples: int
    heard_samples: int
    lost_samples: int

    @property
    def coverage(self) -> float:
        """Share, 0..1, of the sound since the end of the window before that was heard (1.0 without losses)."""
        return self.heard_samples / (self.heard_samples + self.lost_samples)


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineOutputs:
    """What the network says of a batch.

    embedding: (B, 128) of unit length.
    cosine: (B, classes), to every class weight.
    feature_map: (B, size), the last feature map averaged over time with frequency kept; None of a network without it.
    """

    embedding: FloatArray
    cosine: FloatArray
    feature_map: FloatArray | None = None

    @classmethod
    def joined(cls, parts: Sequence[EngineOutputs]) -> EngineOutputs:
        """One batch of several of the same network, one or more."""
        maps = [part.feature_map for part in parts if part.feature_map is not None]
        return cls(
            embedding=np.concatenate([part.embedding for part in parts]),
            cosine=np.concatenate([part.cosine for part in parts]),
            feature_map=np.concatenate(maps) if maps else None,
        )


class MachineState(str, Enum):
    """What is known of a machine now. `warning`: above the threshold, but not yet for the on-delay."""

    LEARNING = "learning"
    NORMAL = "normal"
    WARNING = "warning"
    ALARM = "alarm"
    SENSOR_FAULT = "sensor_fault"


@dataclass(frozen=True, slots=True, kw_only=True)
class AlarmEvent:
    """One step of one alarm's life; `alarm_id` is the same from `new` to `end`.

    duration_s: from the first score above the threshold to this event.
    acknowledged_by: who has seen the alarm; None is nobody.
    muted_until_utc_s: when the machine's mute ends; None while it is not muted.
    """

    kind: Literal["new", "update", "end"]
    alarm_id: str
    began_utc_s: float
    duration_s: float
    score: float
    peak_score: float
    threshold: float
    acknowledged_by: str | None = None
    muted_until_utc_s: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """What a new model said of one machine beside the one that serves, so far.

    heard_s: sound that both scored. normal_s: that of it which the serving model calls normal. serving_margin_sum,
    new_margin_sum: how far each model's scores of that sound lie below its threshold, summed over windows, in units of
    its score. extra_alarms: alarms of the new model alone. missed_alarms: alarms of the serving model alone.
    """

    heard_s: float = 0.0
    normal_s: float = 0.0
    serving_margin_sum: float = 0.0
    new_margin_sum: float = 0.0
    extra_alarms: int = 0
    missed_alarms: int = 0

    @property
    def drift(self) -> float:
        """How many times as far below its threshold the new model's scores lie in the mean; 1 ahead of normal sound."""
        return self.new_margin_sum / self.serving_margin_sum if self.serving_margin_sum else 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandAnswer:
    """What became of an operator's command; refused_because is None where it was obeyed."""

    command_id: str
    refused_because: str | None


Leaf: TypeAlias = Literal["score", "state", "alarm", "health"]


@dataclass(frozen=True, slots=True, kw_only=True)
class OutgoingMessage:
    """What the device has to say, before the spool numbers it.

    machine: None where it is about the device itself (health).
    payload: JSON object without `seq` and `historical`, which are known only later.
    """

    machine: str | None
    leaf: Leaf
    retain: bool
    payload: Mapping[str, object]


@dataclass(frozen=True, slots=True, kw_only=True)
class SpooledMessage:
    """A message committed to the spool; `row_id` grows from message to message over all machines.

    payload: JSON object with its `seq`.
    """

    row_id: int
    machine: str | None
    leaf: Leaf
    retain: bool
    payload: Mapping[str, object]
