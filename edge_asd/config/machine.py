"""A machine's keys: where its sound comes from, which class it is, and when it alarms."""

from __future__ import annotations

from typing import Annotated

from pydantic import Discriminator, Field, StringConstraints, Tag

from edge_asd.config.part import Part
from edge_asd.config.values import (
    HOP_STEP_SAMPLES,
    MAX_HOP_SAMPLES,
    TOPIC_PART,
    ExistingPath,
    HopSamples,
    TopicPart,
    expected,
)


class SoundCardSource(Part):
    """Listen to one channel of a sound card. Machines may share a card, each on its own channel."""

    device: Annotated[str, StringConstraints(min_length=1)] | None = Field(
        default=None,
        description="The sound card's name, or a part that no other card's name holds (`edge-asd devices` lists them); "
        "null is the system's default card.",
        json_schema_extra=expected("the name of a sound card or null"),
    )
    channel: int = Field(default=0, ge=0, le=63, description="Channel of the card, counted from 0.")


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
