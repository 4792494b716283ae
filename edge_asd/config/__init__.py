"""A device's YAML file in, its validated configuration out: every key typed, bounded and described in one place."""

from edge_asd.config.load import check_classes, load_config
from edge_asd.config.model import (
    AlarmConfig,
    ClipsSource,
    DeviceConfig,
    EngineConfig,
    LogConfig,
    MachineConfig,
    MqttConfig,
    SoundCardSource,
    SpoolConfig,
)

__all__ = [
    "AlarmConfig",
    "ClipsSource",
    "DeviceConfig",
    "EngineConfig",
    "LogConfig",
    "MachineConfig",
    "MqttConfig",
    "SoundCardSource",
    "SpoolConfig",
    "check_classes",
    "load_config",
]
