"""What a generated machine is told: its operation, its damage, and the random numbers of one clip."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

Wave: TypeAlias = NDArray[np.float64]
Fault: TypeAlias = Literal[
    "none",
    "imbalance",
    "bearing",
    "looseness",
    "gear_damage",
    "leak",
    "sticking_valve",
    "slipping_belt",
    "dry_running",
]

SAMPLE_RATE_HZ = 16_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """How a machine runs during a clip.

    speed_hz: turns of its main shaft, strokes or switching cycles a second. load: 0 idle to 1 full.
    """

    speed_hz: float
    load: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Damage:
    """One fault and how far it has come: 0 is none, 1 is severe."""

    fault: Fault = "none"
    severity: float = 0.0

    def severity_of(self, fault: Fault) -> float:
        """Severity where this is the fault, else 0."""
        return self.severity if self.fault == fault else 0.0


HEALTHY = Damage()


@dataclass(frozen=True, slots=True, kw_only=True)
class Take:
    """Length and random numbers of one clip; those of its damage are apart, so that what is healthy stays the same."""

    n_samples: int
    healthy: np.random.Generator
    damaged: np.random.Generator

    @property
    def times_s(self) -> Wave:
        """Time of each sample, (n_samples,)."""
        return np.arange(self.n_samples) / SAMPLE_RATE_HZ


class Machine(Protocol):
    """One unit of a machine type."""

    FAULTS: ClassVar[tuple[Fault, ...]]

    @property
    def speed_hz(self) -> float:
        """Nominal speed, as `Operation` has it."""
        ...

    @classmethod
    def draw(cls, rng: np.random.Generator) -> Machine:
        """Build a unit; units differ in dimensions, as products of several makers do."""
        ...

    def sound(self, operation: Operation, damage: Damage, take: Take) -> Wave:
        """Sound pressure beside the machine, (n_samples,), in units of the unit's own."""
        ...
