"""A machine's keys: where its sound comes from, which class it is, and when it alarms."""

from __future__ import annotations

from typing import Annotated, TypeAlias

from pydantic import Discriminator, Field, StringConstraints, Tag, model_validator
from pydantic_core import PydanticCustomError

from edge_asd.config.part import Part
from edge_asd.config.sensor import SensorConfig
from edge_asd.config.values import (
    FAULT_OF_WHOLE,
    HOP_STEP_SAMPLES,
    MAX_HOP_SAMPLES,
    TOPIC_PART,
    ExistingPath,
    HopSamples,
    TopicPart,
    expected,
)
from edge_asd.types import ScorerName

_Text: TypeAlias = Annotated[str, StringConstraints(min_length=1)]


class SoundCardSource(Part):
    """Listen to one channel of a sound card. Machines may share a card, each on its own channel.

    At most one of device, alsa_id and usb_path says which card; `edge-asd devices` lists all three. None of them
    changes from boot to boot.
    """

    device: _Text | None = Field(
        default=None,
        description="The sound card's name, a part that no other card's name holds, or a pattern with `*` and `?`; "
        "null, with alsa_id and usb_path null too, is the system's default card.",
        json_schema_extra=expected("the name of a sound card or null"),
    )
    alsa_id: _Text | None = Field(
        default=None,
        description="The card's id in /proc/asound instead, as `Device`; of two cards alike, the one found later is "
        "`Device_1`.",
        json_schema_extra=expected("a card's id in /proc/asound or null"),
    )
    usb_path: Annotated[str, StringConstraints(pattern=r"^\d+-\d+(\.\d+)*$")] | None = Field(
        default=None,
        description="The USB port that the card is plugged into instead, as `1-2.3` (bus 1, port 2, port 3 of the hub "
        "there); it tells cards alike apart.",
        json_schema_extra=expected("a USB port, as 1-2.3, or null"),
    )
    channel: int = Field(default=0, ge=0, le=63, description="Channel of the card, counted from 0.")

    @model_validator(mode="after")
    def _one_choice(self) -> SoundCardSource:
        given = [key for key in ("device", "alsa_id", "usb_path") if getattr(self, key) is not None]
        if len(given) > 1:
            raise PydanticCustomError(
                FAULT_OF_WHOLE,
                "{given} are given; expected one alone to say which card is meant; remove the others",
                {"given": " and ".join(given)},
            )
        return self


class ClipsSource(Part):
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


class AlarmConfig(Part):
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


class MachineConfig(Part):
    """A machine that is listened to."""

    name: TopicPart = Field(
        description="The machine's name, a part of its MQTT topics; no two machines share one.",
        json_schema_extra=TOPIC_PART,
    )
    listens_to: Annotated[str, StringConstraints(pattern=r"^([^/\s]+/[^/\s]+|enrolled)$")] = Field(
        description="Machine type and machine ID: a class that the bundle was trained on. `enrolled` is a machine that "
        "no bundle knows: `edge-asd enroll` learns it on this device.",
        json_schema_extra=expected("TYPE/ID, as bldc/M1, or enrolled"),
    )
    source: Annotated[
        Annotated[SoundCardSource, Tag("SoundCardSource")] | Annotated[ClipsSource, Tag("ClipsSource")],
        Discriminator(_kind_of_source),
    ] = Field(
        default=SoundCardSource(),
        description="Where its sound comes from: a sound card, or recorded clips.",
        json_schema_extra=expected(
            "a sound card (device or alsa_id or usb_path, channel) or recordings (clips, speed, repeat, channel)"
        ),
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
    scorer: ScorerName | None = Field(
        default=None,
        description="How it is scored: `margin` (how much more it sounds like other classes), `knn` (how far it is "
        "from the nearest healthy sound of the bundle's memory), `fusion` (the mean of both); null is the bundle's "
        "choice.",
        json_schema_extra=expected("margin, knn, fusion or null"),
    )
    threshold: float | None = Field(
        default=None,
        description="Scores from here on are anomalous, in units of its scorer; null takes the bundle's threshold for "
        "this class and scorer.",
    )
    alarm: AlarmConfig = Field(default=AlarmConfig(), description="When its alarms begin, repeat and end.")
    sensor: SensorConfig = Field(default=SensorConfig(), description="When its ear counts as at fault.")

    @model_validator(mode="after")
    def _scorer_of_enrolled(self) -> MachineConfig:
        if self.is_enrolled and self.scorer not in {None, "knn"}:
            raise PydanticCustomError(
                FAULT_OF_WHOLE,
                "scorer is {scorer} with listens_to: enrolled; expected knn or null, for a machine that no bundle "
                "knows has no class to score it by; remove scorer",
                {"scorer": str(self.scorer)},
            )
        return self

    @property
    def is_enrolled(self) -> bool:
        """Whether the device learns it, rather than that the bundle was trained on it."""
        return self.listens_to == "enrolled"
