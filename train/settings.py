"""What may be set of a training run, each with its default, in; the same, checked, out."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from typing import Any, Literal

from edge_asd.errors import UsageError
from train.network import TFSTGRAM, Branch, HeadActivation, NetworkSpec

Device = Literal["cpu", "cuda"]
Precision = Literal["32-true", "bf16-mixed"]
Model = Literal["margin", "mobilenetv2", "ae", "idnn"]
Loss = Literal["os-scl", "noisy-arcmix", "arcface", "supcon"]
Keep = Literal["lowest-loss", "last"]
BatchNorm = Literal["averaged", "measured"]


@dataclass(frozen=True, slots=True, kw_only=True)
class AugmentSettings:
    """How training windows differ from the recordings; by default they are cut at random from them, and no more."""

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
        if self.noise_snr_db is not None and not -40.0 <= self.noise_snr_db <= 100.0:
            raise UsageError(f"--noise-snr-db is {self.noise_snr_db}; expected -40 to 100")
        if self.join_pieces < 1:
            raise UsageError(f"--join-pieces is {self.join_pieces}; expected 1 or more")
        if not 0.0 <= self.speed_share <= 0.5:
            raise UsageError(f"--speed-share is {self.speed_share}; expected 0 to 0.5")
        if not 0.0 <= self.gain_db <= 40.0:
            raise UsageError(f"--gain-db is {self.gain_db}; expected 0 to 40")
        if not 0.0 <= self.altered_share < 1.0:
            raise UsageError(f"--altered-share is {self.altered_share}; expected 0 or more and below 1")


_LONG_RUN_STEPS = 50_000
"""From which on the paper's EMA decay is used."""
MARGIN_ONLY = (
    *("branches", "head_reduction", "head_activation", "margin", "scale", "loss", "contrastive_epochs"),
    *("contrastive_learning_rate", "mixup_alpha", "supcon_temperature", "batch_norm"),
)
"""Settings that a baseline has no use for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingSettings:
    """A training run; the defaults are the paper's but for what is named here.

    Other than there: the EMA decay of a short run, the mini-batches, the shares held out, and the window of a longer
    clip, in training another one each epoch, at random (the public code of OS-SCL: always the first 10 s).

    Source: TFSTgram OS-SCL; what other presets change, and from where, is in train/presets.py.
    """

    preset: str = "tfstgram-os-scl"
    """Where the settings came from; single ones may have been changed since."""
    model: Model = "margin"
    """margin: a network with ArcFace score; else a baseline, of which MARGIN_ONLY says nothing."""
    branches: tuple[Branch, ...] = TFSTGRAM
    """Input channels of the network."""
    head_reduction: int | None = 64
    """Width of the feature perturbation head (R); None: no head."""
    head_activation: HeadActivation = "relu"
    """In the head."""
    margin: float = 0.4
    """Of ArcFace, in radians; also of the score."""
    scale: float = 30.0
    """Of ArcFace."""
    loss: Loss = "os-scl"
    """os-scl: noisy ArcMix and SupCon. supcon alone: the class weights follow the classes' mean embeddings."""
    epochs: int = 300
    """Those with `loss`."""
    contrastive_epochs: int = 0
    """Epochs of SupCon alone ahead of them: two-stage training."""
    contrastive_learning_rate: float = 5e-4
    """In the first stage, constant. Source: CLP-SCF."""
    windows_per_epoch: int | None = None
    """None: as many as the training recordings hold; rounded up to whole batches."""
    batch_size: int = 64
    """Windows a step, of all processes together."""
    learning_rate: float = 1e-4
    """With `loss`, at its first epoch."""
    final_learning_rate: float = 1e-5
    """At the end of the cosine."""
    weight_decay: float = 0.01
    """Of AdamW, which is Adam at 0."""
    mixup_alpha: float | None = 0.5
    """Both parameters of the Beta distribution that the mixing factor of a batch is drawn from; None mixes nothing."""
    supcon_temperature: float = 0.02
    """Of SupCon, in both stages."""
    ema_decay: float | None = None
    """None: the paper's 0.9999 from 50,000 steps on (its recipe has some 89,000); in a shorter run 1 - 10 / steps, as
    the average would lag behind; 0: off."""
    ema_extra_decay: float = 0.0
    """Share that every averaged weight loses a step; 2e-6 in the public code, which its paper does not mention."""
    batch_norm: BatchNorm = "averaged"
    """Its statistics. averaged: as every entry of the state (the paper's). measured: once more at the end, with the
    weights that are kept, over training windows as they are. In a short run the averaged ones lag behind the weights,
    and they are of mixed windows, which nothing hears later."""
    validate_every: int = 1
    """Epochs between two validations."""
    keep: Keep = "lowest-loss"
    """The weights of the validation with the lowest loss (the paper's), or those that the run ends with. A network that
    grows sure of itself can lose on clips of recordings that it has not heard while it still learns to tell them apart:
    of a short training through loud noise the lowest loss may be that of the first epoch."""
    validation_share: float = 0.05
    """Of each class's groups, at least one; the paper's."""
    held_out_share: float = 0.1
    """Of each class's groups, at least one, where the data states no test. Source: none; our own choice."""
    start_from: str | None = None
    """Checkpoint file or run folder whose weights the run starts from; None: random weights by the seed."""
    limit: int | None = None
    """At most this many healthy recordings of a class, for a quick try."""
    seed: int = 0
    """Of the split, the first weights and all chance in training."""
    device: Device = "cpu"
    """Where it trains."""
    precision: Precision | None = None
    """None: bf16-mixed for a network with margin on a device that multiplies in it, else 32-true. Losses, log-mel and
    batch statistics are in float32 either way."""
    compile: bool | None = None
    """Compile the network for its training steps. None: where a run is long enough to make up for it."""
    augment: AugmentSettings = field(default_factory=AugmentSettings)

    def __post_init__(self) -> None:
        if self.model in ("ae", "idnn") and self.augment.altered_share:
            raise UsageError(
                f"--altered-share is {self.augment.altered_share}; expected 0 with {self.model}: what it has heard "
                "counts as healthy"
            )
        for name, lowest in (
            ("epochs", 1),
            ("contrastive_epochs", 0),
            ("head_reduction", 1),
            ("validate_every", 1),
            ("batch_size", 2),
            ("windows_per_epoch", 1),
            ("limit", 3),
        ):
            value = getattr(self, name)
            if value is not None and value < lowest:
                option = "--" + name.replace("_", "-")
                raise UsageError(f"{option} is {value}; expected {lowest} or more")
        self._check_averaging()
        if self.keep == "last" and self.all_epochs % self.validation_interval:
            raise UsageError(
                f"--validate-every is {self.validate_every}; expected a divisor of the {self.all_epochs} epochs with "
                "--keep last: weights are kept where they are validated"
            )
        for name in ("validation_share", "held_out_share"):
            if not 0.0 < getattr(self, name) < 0.5:
                option = "--" + name.replace("_", "-")
                raise UsageError(f"{option} is {getattr(self, name)}; expected above 0 and below 0.5")
        if not 0.0 <= self.margin < math.pi:
            raise UsageError(f"--margin is {self.margin}; expected 0 or more and below pi")
        for name in ("final_learning_rate", "weight_decay"):
            value = getattr(self, name)
            if not (math.isfinite(value) and value >= 0.0):
                raise UsageError(f"--{name.replace('_', '-')} is {value}; expected 0 or more, and finite")
        if not 0 <= self.seed < 2**32:
            raise UsageError(f"--seed is {self.seed}; expected 0 to {2**32 - 1}")
        for name in ("learning_rate", "contrastive_learning_rate", "mixup_alpha", "supcon_temperature", "scale"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value > 0.0):
                raise UsageError(f"--{name.replace('_', '-')} is {value}; expected above 0, and finite")

    def _check_averaging(self) -> None:
        if self.ema_decay is not None and not 0.0 <= self.ema_decay < 1.0:
            raise UsageError(f"--ema-decay is {self.ema_decay}; expected 0 or more and below 1")
        if not 0.0 <= self.ema_extra_decay < 0.01:
            raise UsageError(f"--ema-extra-decay is {self.ema_extra_decay}; expected 0 or more and below 0.01")
        if self.ema_extra_decay and self.ema_decay == 0.0:
            raise UsageError(
                "--ema-extra-decay is given and --ema-decay is 0, so there is no average; give both or none"
            )

    def network_spec(self, n_classes: int) -> NetworkSpec:
        """The network for so many classes."""
        return NetworkSpec(
            branches=self.branches,
            head_reduction=self.head_reduction,
            head_activation=self.head_activation,
            n_classes=n_classes,
            margin=self.margin,
            scale=self.scale,
        )

    @property
    def fewest_classes(self) -> int:
        """That the model learns from: an autoencoder hears each machine type alone, a classifier tells IDs apart."""
        return 1 if self.model in ("ae", "idnn") else 2

    @property
    def validation_interval(self) -> int:
        """Epochs between two validations, of which every run has one with `loss` at least."""
        return min(self.validate_every, self.epochs)

    @property
    def trains_device_network(self) -> bool:
        """Whether it is the network that a device runs, not a baseline."""
        return self.model == "margin"

    @property
    def all_epochs(self) -> int:
        """Of both stages."""
        return self.contrastive_epochs + self.epochs

    def learning_rate_at(self, epoch: int) -> float:
        """Constant in the first stage, then a cosine from the first to the final learning rate."""
        if epoch < self.contrastive_epochs:
            return self.contrastive_learning_rate
        progress = (epoch - self.contrastive_epochs) / self.epochs
        span = self.learning_rate - self.final_learning_rate
        return self.final_learning_rate + span * (1.0 + math.cos(math.pi * progress)) / 2.0

    def ema_decay_for(self, n_steps: int) -> float:
        """The EMA decay of a run of so many steps."""
        if self.ema_decay is not None:
            return self.ema_decay
        return 0.9999 if n_steps >= _LONG_RUN_STEPS else max(0.0, 1.0 - 10.0 / n_steps)

    def as_plain(self) -> dict[str, Any]:
        """Every setting by its name, for files."""
        plain = dataclasses.asdict(self) | {"branches": list(self.branches)}
        return plain if self.model == "margin" else {k: v for k, v in plain.items() if k not in MARGIN_ONLY}
