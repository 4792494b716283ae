"""Preset name in, every setting of a training run with its default out."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from edge_asd.errors import UsageError
from train.network import BRANCHES, NetworkSpec

Device = Literal["cpu", "cuda"]
Precision = Literal["32-true", "bf16-mixed"]


@dataclass(frozen=True, slots=True, kw_only=True)
class AugmentSettings:
    """How training windows differ from the recordings; the defaults leave them as the paper has them."""

    join_pieces: int = 1
    """Windows are joined from up to this many pieces of recordings of one class, cut at random."""
    speed_share: float = 0.0
    """Windows are played faster or slower by up to this share, by resampling."""
    gain_db: float = 0.0
    """Windows are louder or quieter by up to this."""
    noise_snr_db: float | None = None
    """White noise is added at this signal-to-noise ratio or up to 30 dB above it; None adds none."""
    altered_share: float = 0.0
    """This share of the windows is altered as a fault might, and learnt as a class of its own beside each class."""

    def __post_init__(self) -> None:
        if self.join_pieces < 1:
            raise UsageError(f"--join-pieces is {self.join_pieces}; expected 1 or more")
        if not 0.0 <= self.speed_share <= 0.5:
            raise UsageError(f"--speed-share is {self.speed_share}; expected 0 to 0.5")
        if not 0.0 <= self.gain_db <= 40.0:
            raise UsageError(f"--gain-db is {self.gain_db}; expected 0 to 40")
        if not 0.0 <= self.altered_share < 1.0:
            raise UsageError(f"--altered-share is {self.altered_share}; expected 0 or more and below 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingSettings:
    """A training run; the defaults are the paper's but for the EMA decay, the mini-batches and the shares held out.

    Source: TFSTgram OS-SCL.
    """

    preset: str = "tfstgram-os-scl"
    epochs: int = 300
    windows_per_epoch: int | None = None
    """None: as many as the training recordings hold; rounded up to whole batches."""
    batch_size: int = 64
    learning_rate: float = 1e-4
    final_learning_rate: float = 1e-5
    weight_decay: float = 0.01
    mixup_alpha: float = 0.5
    """Both parameters of the Beta distribution that the mixing factor of a batch is drawn from."""
    supcon_temperature: float = 0.02
    ema_decay: float | None = None
    """None: 1 - 10 / steps, at most the paper's 0.9999, which only a run of 100,000 steps or more can follow."""
    validate_every: int = 1
    """Epochs between two validations."""
    validation_share: float = 0.05
    held_out_share: float = 0.1
    start_from: str | None = None
    """Checkpoint file or run folder whose weights the run starts from; None: random weights by the seed."""
    limit: int | None = None
    """At most this many healthy recordings of a class, for a quick try."""
    seed: int = 0
    device: Device = "cpu"
    precision: Precision = "32-true"
    compile: bool = False
    """Compile the network with torch.compile: a minute at the start, then up to twice as fast."""
    augment: AugmentSettings = field(default_factory=AugmentSettings)

    def __post_init__(self) -> None:
        for name, lowest in (
            ("epochs", 1),
            ("validate_every", 1),
            ("batch_size", 2),
            ("windows_per_epoch", 1),
            ("limit", 3),
        ):
            value = getattr(self, name)
            if value is not None and value < lowest:
                option = "--" + name.replace("_", "-")
                raise UsageError(f"{option} is {value}; expected {lowest} or more")
        for name in ("validation_share", "held_out_share"):
            if not 0.0 < getattr(self, name) < 0.5:
                option = "--" + name.replace("_", "-")
                raise UsageError(f"{option} is {getattr(self, name)}; expected above 0 and below 0.5")
        if self.ema_decay is not None and not 0.0 <= self.ema_decay < 1.0:
            raise UsageError(f"--ema-decay is {self.ema_decay}; expected 0 or more and below 1")
        if self.learning_rate <= 0.0 or self.final_learning_rate < 0.0:
            raise UsageError(
                f"learning rates are {self.learning_rate} and {self.final_learning_rate}; expected above 0 at the start"
            )
        if self.mixup_alpha <= 0.0 or self.supcon_temperature <= 0.0:
            raise UsageError(
                f"--mixup-alpha is {self.mixup_alpha} and --supcon-temperature {self.supcon_temperature}; "
                "expected both above 0"
            )
        if self.preset not in PRESETS:
            raise UsageError(f"--preset is {self.preset!r}; expected one of {', '.join(PRESETS)}")

    def network_spec(self, n_classes: int) -> NetworkSpec:
        """The preset's network for so many classes."""
        preset = PRESETS[self.preset]
        return NetworkSpec(
            branches=preset.branches,
            head_reduction=preset.head_reduction,
            head_activation=preset.head_activation,
            n_classes=n_classes,
            margin=preset.margin,
            scale=preset.scale,
        )

    def ema_decay_for(self, n_steps: int) -> float:
        """The EMA decay of a run of so many steps."""
        return self.ema_decay if self.ema_decay is not None else min(0.9999, max(0.0, 1.0 - 10.0 / n_steps))


PRESETS = {
    "tfstgram-os-scl": NetworkSpec(branches=BRANCHES, head_activation="relu", margin=0.4),
    "logmel-os-scl": NetworkSpec(branches=("log_mel",), head_activation="leaky_relu", margin=0.7),
}
"""Networks by name; n_classes comes from the data."""
