"""How many clips of what in, every clip with its fault, severity, speed and load out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from train.synth.machine import Damage, Operation
from train.synth.random_streams import stream
from train.synth.types import MACHINES

Split: TypeAlias = Literal["train", "test"]
Label: TypeAlias = Literal["normal", "anomaly"]

DEFAULT_SEVERITY = 0.4
"""At which a k-NN on log-mel is near AUC 0.8 over all types (docs/synth.md), fixed before any other method was run."""

DEFAULT_SNR_DB = 6.0
_SPEED_SPREAD = 0.06
_SEVERITY_SPREAD = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Clip:
    """One clip to be generated. speed_ratio: its speed over the nominal speed of the unit."""

    machine_type: str
    machine_id: str
    split: Split
    label: Label
    number: int
    damage: Damage
    speed_ratio: float
    load: float

    @property
    def file(self) -> str:
        """Path below the data folder, in the layout of DCASE 2020."""
        return f"{self.machine_type}/{self.split}/{self.label}_{self.machine_id}_{self.number:08}.wav"

    def operation(self, nominal_hz: float) -> Operation:
        """How a unit of this nominal speed runs."""
        return Operation(speed_hz=nominal_hz * self.speed_ratio, load=self.load)


def plan_clips(
    types: Sequence[str], *, ids: int, train: int, test: int, seed: int, severity: float
) -> tuple[Clip, ...]:
    """Plan all clips; what one is depends on the seed, the severity and its own name alone, not on how many there are.

    Args:
        types: of `MACHINES`.
        ids: units of each type, id_00 on.
        train: healthy clips of each unit for training.
        test: healthy clips of each unit for testing, and as many damaged ones; each fault has its turn.
        seed: of everything.
        severity: mean of the damaged clips, which are even from half to one and a half of it.
    """
    return tuple(_clips(types, ids=ids, train=train, test=test, seed=seed, severity=severity))


def _clips(types: Sequence[str], *, ids: int, train: int, test: int, seed: int, severity: float) -> Iterator[Clip]:
    for machine_type in types:
        faults = MACHINES[machine_type].FAULTS
        for machine_id in (f"id_{number:02}" for number in range(ids)):
            parts: tuple[tuple[Split, Label, int], ...] = (
                ("train", "normal", train),
                ("test", "normal", test),
                ("test", "anomaly", test),
            )
            for split, label, count in parts:
                for number in range(count):
                    rng = stream(seed, machine_type, machine_id, split, label, str(number), "plan")
                    speed_ratio = float(rng.uniform(1.0 - _SPEED_SPREAD, 1.0 + _SPEED_SPREAD))
                    load = float(rng.uniform(0.2, 1.0))
                    share = float(rng.uniform(1.0 - _SEVERITY_SPREAD, 1.0 + _SEVERITY_SPREAD))
                    damage = Damage()
                    if label == "anomaly":
                        damage = Damage(fault=faults[number % len(faults)], severity=share * severity)
                    yield Clip(
                        machine_type=machine_type,
                        machine_id=machine_id,
                        split=split,
                        label=label,
                        number=number,
                        damage=damage,
                        speed_ratio=speed_ratio,
                        load=load,
                    )
