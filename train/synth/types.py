"""Names of machine types, as DCASE has them, to the machines that sound so."""

from __future__ import annotations

from collections.abc import Mapping

from train.synth.conveyor import Conveyor
from train.synth.fan import Fan
from train.synth.machine import Machine
from train.synth.pump import Pump
from train.synth.slider import Slider
from train.synth.toy_car import ToyCar
from train.synth.valve import Valve

MACHINES: Mapping[str, type[Machine]] = {
    "fan": Fan,
    "pump": Pump,
    "slider": Slider,
    "ToyCar": ToyCar,
    "ToyConveyor": Conveyor,
    "valve": Valve,
}
