"""A device's YAML file in, its validated configuration out: every key typed, bounded and described in one place."""

from edge_asd.config.device import DeviceConfig, EngineConfig, LogConfig, MetricsConfig, SpoolConfig
from edge_asd.config.enroll import EnrollConfig
from edge_asd.config.evidence import EvidenceConfig
from edge_asd.config.load import check_classes, load_config
from edge_asd.config.machine import AlarmConfig, ClipsSource, MachineConfig, SoundCardSource
from edge_asd.config.models import ShadowConfig, TrustConfig
from edge_asd.config.mqtt import MqttConfig
from edge_asd.config.sensor import SensorConfig

__all__ = [
    "AlarmConfig",
    "ClipsSource",
    "DeviceConfig",
    "EngineConfig",
    "EnrollConfig",
    "EvidenceConfig",
    "LogConfig",
    "MachineConfig",
    "MetricsConfig",
    "MqttConfig",
    "SensorConfig",
    "ShadowConfig",
    "SoundCardSource",
    "SpoolConfig",
    "TrustConfig",
    "check_classes",
    "load_config",
]
