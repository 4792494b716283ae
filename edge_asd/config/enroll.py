"""The keys of enrolment: how a machine that no bundle knows is learned on the device."""

from __future__ import annotations

from pydantic import Field

from edge_asd.config.part import Part


class EnrollConfig(Part):
    """How `edge-asd enroll` learns machines whose listens_to is `enrolled`; docs/enroll.md."""

    minutes: float = Field(
        default=30.0,
        ge=5.0,
        le=1_440.0,
        description="Normal sound that is collected from the microphone, in minutes; what is refused does not count.",
    )
    false_alarms_per_week: float = Field(
        default=1.0,
        gt=0.0,
        le=500.0,
        description="Windows a week that may score above the threshold while the machine is well; a machine. From 500 "
        "(three an hour) on, a threshold would lie within what the machine itself sounds like.",
    )
    refuse_speech: bool = Field(
        default=True,
        description="Whether windows in which somebody speaks are not learned; false where a machine's rhythm is taken "
        "for speech.",
    )
