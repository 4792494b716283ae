"""Windows of one machine and the losses of its capture in, the health of the ear out: what is wrong, or nothing."""

from edge_asd.sensor.baseline import Baseline, BaselineError
from edge_asd.sensor.faults import FaultKind, SensorFault, SensorSettings
from edge_asd.sensor.sensor import Sensor

__all__ = ["Baseline", "BaselineError", "FaultKind", "Sensor", "SensorFault", "SensorSettings"]
