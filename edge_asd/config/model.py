"""What a device's configuration holds: every key with its type, bounds, default and meaning."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal
from urllib.parse import urlsplit

from pydantic import (
    BaseModel,
    ConfigDict,
    Discriminator,
    Field,
    PrivateAttr,
    StringConstraints,
    Tag,
    model_validator,
)
from pydantic_core import PydanticCustomError

from edge_asd.config.values import (
    FAULT_OF_WHOLE,
    HOP_STEP_SAMPLES,
    MAX_HOP_SAMPLES,
    TOPIC_PART,
    BrokerUrl,
    Engines,
    ExistingFile,
    ExistingPath,
    HopSamples,
    ResolvedPath,
    TopicPart,
    expected,
)
from edge_asd.config.yaml_lines import Document, KeyPath
from edge_asd.errors import ConfigError


class _Part(BaseModel):
    """Frozen, strict and closed: a key or type that is not known is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class SoundCardSource(_Part):
    """Listen to one channel of a sound card. Machines may share a card, each on its own channel."""

    device: Annotated[str, StringConstraints(min_length=1)] | None = Field(
        default=None,
        description="The sound card's name, or a part that no other card's name holds (`edge-asd devices` lists them); "
        "null is the system's default card.",
        json_schema_extra=expected("the name of a sound card or null"),
    )
    channel: int = Field(default=0, ge=0, le=63, description="Channel of the card, counted from 0.")


class ClipsSource(_Part):
    """Play recorded clips instead of listening."""

    clips: tuple[ExistingPath, ...] = Field(
        min_length=1,
        description="Recorded clips, or folders whose clips are played by name, joined without a gap. Relative to this "
        "file.",
        json_schema_extra=expected("a list of clips or folders"),
    )
    speed: float = Field(
        default=1.0, gt=0.0, le=1_000.0, description="How many times as fast as real time they are played."
    )
    repeat: bool = Field(default=False, description="Start again after the last clip; otherwise the daemon then ends.")
    channel: int | None = Field(
        default=None, ge=0, le=63, description="Channel of the clips, counted from 0; null where they have one alone."
    )


def _kind_of_source(value: object) -> str:
    if isinstance(value, ClipsSource) or (isinstance(value, dict) and "clips" in value):
        return "ClipsSource"
    return "SoundCardSource"


class AlarmConfig(_Part):
    """When an alarm begins, repeats and ends, as in OPC UA Part 9."""

    on_delay_s: float = Field(
        default=5.0,
        ge=0.0,
        le=86_400.0,
        description="How long scores must stay above the threshold before an alarm is raised, in s.",
    )
    off_delay_s: float = Field(
        default=10.0,
        ge=0.0,
        le=86_400.0,
        description="How long scores must stay below the threshold less the deadband before an alarm ends, in s.",
    )
    deadband: float = Field(
        default=0.5,
        ge=0.0,
        le=1_000.0,
        description="How far below the threshold scores must fall before an alarm may end, in units of the score.",
    )
    re_alarm_s: float | None = Field(
        default=3_600.0, gt=0.0, description="How often an active alarm is told again, in s; null is never."
    )


class MachineConfig(_Part):
    """A machine that is listened to."""

    name: TopicPart = Field(
        description="The machine's name, a part of its MQTT topics; no two machines share one.",
        json_schema_extra=TOPIC_PART,
    )
    listens_to: Annotated[str, StringConstraints(pattern=r"^[^/\s]+/[^/\s]+$")] = Field(
        description="Machine type and machine ID: a class that the bundle was trained on.",
        json_schema_extra=expected("TYPE/ID, as bldc/M1"),
    )
    source: Annotated[
        Annotated[SoundCardSource, Tag("SoundCardSource")] | Annotated[ClipsSource, Tag("ClipsSource")],
        Discriminator(_kind_of_source),
    ] = Field(
        default=SoundCardSource(),
        description="Where its sound comes from: a sound card, or recorded clips.",
        json_schema_extra=expected("a sound card (device, channel) or recordings (clips, speed, repeat, channel)"),
    )
    hop_samples: HopSamples = Field(
        default=15_360,
        description="Step from window to window, in samples at 16 kHz; one score each. 15360 is 0.96 s.",
        json_schema_extra={
            "minimum": HOP_STEP_SAMPLES,
            "maximum": MAX_HOP_SAMPLES,
            "multipleOf": HOP_STEP_SAMPLES,
        },
    )
    threshold: float | None = Field(
        default=None,
        description="Scores from here on are anomalous; null takes the bundle's threshold for this class.",
    )
    alarm: AlarmConfig = Field(default=AlarmConfig(), description="When its alarms begin, repeat and end.")


class EngineConfig(_Part):
    """What computes the network."""

    prefer: Engines = Field(
        default=("tensorrt", "openvino", "onnxruntime"),
        min_length=1,
        description="Engines in order of preference; the first that works on this device is taken.",
    )
    precision: Literal["int8", "fp32"] = Field(
        default="int8", description="Precision of the network; int8 is faster, fp32 the reference."
    )
    threads: Annotated[int, Field(ge=1, le=64)] | None = Field(
        default=None, description="CPU threads of the engine; null is one for each core."
    )


class MqttConfig(_Part):
    """The broker that scores and alarms go to."""

    url: BrokerUrl = Field(
        default="mqtt://localhost:1883",
        description="The broker; without a port, 1883.",
        json_schema_extra=expected("mqtt://HOST:PORT, with the login in username and password_file"),
    )
    username: Annotated[str, StringConstraints(min_length=1)] | None = Field(
        default=None, description="Login name; null logs in without one."
    )
    password_file: ExistingFile | None = Field(
        default=None,
        description="File whose first line is the password; readable by the daemon's user alone. Relative to this "
        "file.",
        json_schema_extra=expected("a path or null"),
    )
    client_id: Annotated[str, StringConstraints(min_length=1, max_length=128)] | None = Field(
        default=None,
        description="MQTT client ID, which no other client of the broker may use; null is `edge-asd-SITE-DEVICE`.",
    )
    keepalive_s: int = Field(
        default=30,
        ge=5,
        le=3_600,
        description="The broker declares the device offline after 1.5 times this silence, in s.",
    )

    @model_validator(mode="after")
    def _password_has_a_user(self) -> MqttConfig:
        if self.password_file is not None and self.username is None:
            raise PydanticCustomError(FAULT_OF_WHOLE, "password_file is given without username; expected both; add it")
        return self

    @property
    def host(self) -> str:
        """The broker's host."""
        return urlsplit(self.url).hostname or ""

    @property
    def port(self) -> int:
        """The broker's port."""
        return urlsplit(self.url).port or 1883

    def read_password(self) -> str | None:
        """Return the first line of the password file, None without one.

        Raises:
            ConfigError: it cannot be read, or its first line is empty.
        """
        if self.password_file is None:
            return None
        try:
            lines = self.password_file.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
            raise ConfigError(
                f"{self.password_file}: the broker's password cannot be read ({reason}); expected it in "
                "the first line; check the file's owner and mode"
            ) from error
        if not lines or not lines[0]:
            raise ConfigError(
                f"{self.password_file}: the first line is empty; expected the broker's password there; write it"
            )
        return lines[0]


class SpoolConfig(_Part):
    """Where messages wait while the broker is away."""

    max_bytes: int = Field(
        default=64 * 1024 * 1024,
        ge=1024 * 1024,
        le=64 * 1024**3,
        description="Disk that waiting messages may take, in bytes; beyond it the least important are dropped, counted "
        "and announced.",
    )


class LogConfig(_Part):
    """What the daemon says on stderr."""

    level: Literal["debug", "info", "warning", "error"] = Field(default="info", description="The least that is told.")
    format: Literal["timed", "plain"] = Field(
        default="timed", description="timed begins each line with the time; plain leaves that to systemd's journal."
    )


class DeviceConfig(_Part):
    """A device: what it listens to, with which model, and where it reports."""

    _path: Path = PrivateAttr(default=Path())
    _document: Document = PrivateAttr(default=Document(data=None, lines={}, faults=()))

    schema_version: Literal[1] = Field(alias="schema", description="Version of this file's format.")
    site: TopicPart = Field(description="The site's name, a part of the MQTT topics.", json_schema_extra=TOPIC_PART)
    device: TopicPart = Field(
        description="The device's name, a part of the MQTT topics; no two devices of a site share one.",
        json_schema_extra=TOPIC_PART,
    )
    bundle: ExistingFile = Field(
        description="The model bundle, NAME-VERSION.asd. Relative to this file.",
        json_schema_extra=expected("the path of a bundle, NAME-VERSION.asd"),
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
    mqtt: MqttConfig = Field(default=MqttConfig(), description="The broker that scores and alarms go to.")
    spool: SpoolConfig = Field(default=SpoolConfig(), description="Where messages wait while the broker is away.")
    log: LogConfig = Field(default=LogConfig(), description="What the daemon says on stderr.")

    def remember(self, path: Path, document: Document) -> None:
        """Keep where this came from, for errors that show only later."""
        self._path = path
        self._document = document

    @property
    def path(self) -> Path:
        """The file that this was read from."""
        return self._path

    def line_of(self, path: KeyPath) -> int:
        """The line of that key in the file."""
        return self._document.line_of(path)
