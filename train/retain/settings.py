"""What may be set of a retention training, each with its default, in; the same, checked, out."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from edge_asd.errors import UsageError
from train.settings import Device, Precision

Objective: TypeAlias = Literal["retain", "denoise"]
Scaling: TypeAlias = Literal["rms", "layer", "none"]

DEVICE_ENCODER = "tfstgram"
"""The name of the network that a device runs; others are registered."""
RETAIN_ONLY = ("tag_weight", "align_weight", "clean_share")
"""Settings that the denoising baseline has no use for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RetainSettings:
    """A retention training.

    Source: Saengthong et al., Retaining Mixture Representations for Domain Generalized Anomalous Sound Detection
    (arXiv 2510.25182), for objective, mixing, steps, batch and learning rate. It does not state the loss weights, the
    masks of SpecAugment and the warm-up.
    """

    encoder: str = DEVICE_ENCODER
    """The network that a device runs, or the name of a registered encoder."""
    start_from: str | None = None
    """Checkpoint file or run folder of the encoder; what a registered encoder makes of it is its own."""
    objective: Objective = "retain"
    """retain: tag and align the mixture. denoise: name the machine in it, the baseline."""
    tag_weight: float = 1.0
    """Of the loss that names the machine and the noise; 0 leaves it out."""
    align_weight: float = 0.1
    """Of the loss that holds the mixture's embedding against those of its parts; 0 leaves it out. Source: none; of 1
    and 0.1, tried in the benchmark's study `retention` (docs/retain.md)."""
    clean_share: float = 0.5
    """Lambda: share of the clean embedding in the target; the noise has the rest."""
    layer: str = "embedding"
    """What is tagged and aligned, one of the encoder's layers."""
    scaling: Scaling = "rms"
    """Of every embedding ahead of both losses. rms: to a root mean square of 1, so that the loss does not depend on the
    size of the layer. layer: to mean 0 and variance 1. none: as the layer gives it."""
    snr_db: tuple[float, float] = (0.0, 0.0)
    """Lowest and highest ratio of the machine's power to the noise's in a window; drawn evenly between."""
    gain_db: float = 0.0
    """The machine is made louder by so much (negative: quieter) ahead of mixing, as room for the noise."""
    noise_channel: int | None = None
    """Of noise clips, counted from 0; needed where they have several."""
    time_masks: int = 2
    time_mask_frames: int = 40
    """Each is up to so long."""
    frequency_masks: int = 2
    frequency_mask_mels: int = 16
    """Each is up to so wide."""
    steps: int = 20_000
    warm_up_steps: int = 1_000
    batch_size: int = 64
    learning_rate: float = 1e-4
    final_learning_rate: float = 0.0
    weight_decay: float = 0.01
    validate_every: int = 500
    """Steps between two validations; after each the run can be resumed."""
    validation_share: float = 0.1
    """Of the noise recordings, and of a class's groups where the start does not say how it was divided."""
    held_out_share: float = 0.1
    limit: int | None = None
    """At most this many healthy recordings of a class, for a quick try."""
    seed: int = 0
    device: Device = "cpu"
    precision: Precision | None = None
    """None: bf16-mixed for the network that a device runs where the trainer's device multiplies in it, else 32-true."""
    compile: bool | None = None
    """Compile student and teacher for the training steps. None: where a run with the network that a device runs is long
    enough to make up for it."""

    def __post_init__(self) -> None:
        self._check_mixing()
        for name in ("tag_weight", "align_weight", "final_learning_rate", "weight_decay"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0.0):
                raise UsageError(f"{_option(name)} is {value}; expected 0 or more")
        if self.objective == "retain" and self.tag_weight == self.align_weight == 0.0:
            raise UsageError(
                "--tag-weight and --align-weight are both 0; expected one above 0: nothing would be learnt"
            )
        if not 0.0 <= self.clean_share <= 1.0:
            raise UsageError(f"--clean-share is {self.clean_share}; expected 0 to 1")
        for name, lowest in (
            *(("steps", 1), ("warm_up_steps", 0), ("batch_size", 2), ("validate_every", 1), ("limit", 3)),
            *(("time_masks", 0), ("time_mask_frames", 1), ("frequency_masks", 0), ("frequency_mask_mels", 1)),
            ("noise_channel", 0),
        ):
            value = getattr(self, name)
            if value is not None and value < lowest:
                raise UsageError(f"{_option(name)} is {value}; expected {lowest} or more")
        if self.warm_up_steps >= self.steps:
            raise UsageError(
                f"--warm-up-steps is {self.warm_up_steps}; expected fewer than the {self.steps} of --steps"
            )
        for name in ("validation_share", "held_out_share"):
            if not 0.0 < getattr(self, name) < 0.5:
                raise UsageError(f"{_option(name)} is {getattr(self, name)}; expected above 0 and below 0.5")
        if not (math.isfinite(self.learning_rate) and self.learning_rate > 0.0):
            raise UsageError(f"--learning-rate is {self.learning_rate}; expected above 0, and finite")
        if not 0 <= self.seed < 2**32:
            raise UsageError(f"--seed is {self.seed}; expected 0 to {2**32 - 1}")

    def _check_mixing(self) -> None:
        low, high = self.snr_db
        if not -40.0 <= low <= high <= 60.0:
            raise UsageError(f"--snr-db is {low:g} to {high:g}; expected one number, or the lower one first, -40 to 60")
        if not -60.0 <= self.gain_db <= 20.0:
            raise UsageError(f"--gain-db is {self.gain_db:g}; expected -60 to 20")

    def learning_rate_at(self, step: int) -> float:
        """Straight up over the warm-up, then a cosine to the final one."""
        if step < self.warm_up_steps:
            return self.learning_rate * (step + 1) / self.warm_up_steps
        progress = min(1.0, (step - self.warm_up_steps) / (self.steps - self.warm_up_steps))
        span = self.learning_rate - self.final_learning_rate
        return self.final_learning_rate + span * (1.0 + math.cos(math.pi * progress)) / 2.0

    @property
    def trains_device_network(self) -> bool:
        """Whether it is the network that a device runs, not one from elsewhere."""
        return self.encoder == DEVICE_ENCODER

    @property
    def aligns(self) -> bool:
        """Whether the teacher is needed."""
        return self.objective == "retain" and self.align_weight > 0.0

    def as_plain(self) -> dict[str, Any]:
        """Every setting by its name, for files."""
        plain = dataclasses.asdict(self) | {"snr_db": list(self.snr_db)}
        return plain if self.objective == "retain" else {k: v for k, v in plain.items() if k not in RETAIN_ONLY}


def _option(name: str) -> str:
    return "--" + name.replace("_", "-")
