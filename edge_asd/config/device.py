"""The whole of a device's configuration, and the keys of its engine, spool, log and metrics."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, PrivateAttr

from edge_asd.config.enroll import EnrollConfig
from edge_asd.config.evidence import EvidenceConfig
from edge_asd.config.machine import MachineConfig
from edge_asd.config.models import ShadowConfig, TrustConfig
from edge_asd.config.mqtt import MqttConfig
from edge_asd.config.part import Part
from edge_asd.config.values import TOPIC_PART, Engines, ExistingFile, ResolvedPath, TopicPart, expected
from edge_asd.config.yaml_lines import Document, KeyPath


class EngineConfig(Part):
    """What computes the network."""

    prefer: Engines = Field(
        default=("tensorrt", "openvino", "onnxruntime"),
        min_length=1,
        description="Engines in order of preference; the first that works on this device is taken.",
    )
    precision: Literal["int8", "fp16", "fp32"] = Field(
        default="int8",
        description="Precision of the network; int8 is fastest, fp32 the reference; fp16 is for GPUs, with bundles "
        "that have such a network.",
    )
    threads: Annotated[int, Field(ge=1, le=64)] | None = Field(
        default=None, description="CPU threads of the engine; null is one for each core."
    )


class SpoolConfig(Part):
    """Where messages wait while the broker is away."""

    max_bytes: int = Field(
        default=64 * 1024 * 1024,
        ge=1024 * 1024,
        le=64 * 1024**3,
        description="Disk that waiting messages may take, in bytes; beyond it scores are thinned, then dropped, then "
        "health, states and last alarms; all of it is counted and announced.",
    )
    max_age_h: int = Field(
        default=720,
        ge=1,
        le=87_600,
        description="Hours, counted while the daemon runs, after which a message that waits is dropped, counted and "
        "announced.",
    )


class LogConfig(Part):
    """What the daemon says on stderr."""

    level: Literal["debug", "info", "warning", "error"] = Field(default="info", description="The least that is told.")
    format: Literal["auto", "timed", "json"] = Field(
        default="auto",
        description="timed is one line of text with the time; json is one object a line; auto is json under systemd, "
        "else timed.",
    )


class MetricsConfig(Part):
    """Where Prometheus and `edge-asd status` ask how the daemon stands: a port of this machine alone."""

    port: Annotated[int, Field(ge=1, le=65_535)] | None = Field(
        default=None, description="TCP port on 127.0.0.1; null is none, and `edge-asd status` then has nobody to ask."
    )


class DeviceConfig(Part):
    """A device: what it listens to, with which model, and where it reports."""

    _path: Path = PrivateAttr(default=Path())
    _document: Document = PrivateAttr(default=Document(data=None, lines={}, faults=()))

    schema_version: Literal[1] = Field(alias="schema", description="Version of this file's format.")
    site: TopicPart = Field(description="The site's name, a part of the MQTT topics.", json_schema_extra=TOPIC_PART)
    device: TopicPart = Field(
        description="The device's name, a part of the MQTT topics; no two devices of a site share one.",
        json_schema_extra=TOPIC_PART,
    )
    bundle: ExistingFile | None = Field(
        default=None,
        description="null runs the model that `edge-asd bundle install` put into state_dir; the path of a bundle, "
        "NAME-VERSION.asd, runs that one, without shadow period and rollback. Relative to this file.",
        json_schema_extra=expected("the path of a bundle, NAME-VERSION.asd, or null"),
    )
    trust: TrustConfig = Field(default=TrustConfig(), description="Whose models may run here.")
    shadow: ShadowConfig = Field(
        default=ShadowConfig(), description="What a new model must do beside the installed one before it takes over."
    )
    state_dir: ResolvedPath = Field(
        default=Path("/var/lib/edge-asd"),
        description="Folder of what survives a restart (spool, sequence numbers). Relative to this file.",
        json_schema_extra=expected("the path of a folder"),
    )
    engine: EngineConfig = Field(default=EngineConfig(), description="What computes the network.")
    machines: tuple[MachineConfig, ...] = Field(
        min_length=1,
        max_length=64,
        description="The machines that are listened to.",
        json_schema_extra=expected("a list of 1 to 64 machines"),
    )
    enroll: EnrollConfig = Field(
        default=EnrollConfig(), description="How machines that no bundle knows are learned: `edge-asd enroll`."
    )
    mqtt: MqttConfig = Field(default=MqttConfig(), description="The broker that scores and alarms go to.")
    spool: SpoolConfig = Field(default=SpoolConfig(), description="Where messages wait while the broker is away.")
    evidence: EvidenceConfig = Field(default=EvidenceConfig(), description="What is kept of each alarm, in state_dir.")
    log: LogConfig = Field(default=LogConfig(), description="What the daemon says on stderr.")
    metrics: MetricsConfig = Field(
        default=MetricsConfig(), description="Where Prometheus and `edge-asd status` ask how the daemon stands."
    )

    def remember(self, path: Path, document: Document) -> None:
        """Keep where this came from, for errors that show only later."""
        self._path = path
        self._document = document

    @property
    def path(self) -> Path:
        """The file that this was read from."""
        return self._path

    @property
    def evidence_dir(self) -> Path:
        """Where evidence is kept."""
        return self.state_dir / "evidence"

    def line_of(self, path: KeyPath) -> int:
        """The line of that key in the file."""
        return self._document.line_of(path)
