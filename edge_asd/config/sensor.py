"""A machine's keys of sensor health: from where on its ear is at fault; null switches a check off."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from edge_asd.config.part import Part


class SensorConfig(Part):
    """When a machine's ear counts as at fault; docs/sensor.md gives the reasons for the defaults."""

    silence_dbfs: Annotated[float, Field(ge=-140.0, le=-40.0)] | None = Field(
        default=-90.0,
        description="Level below which half a second is silence, or stuck, in dB of full scale; null is never.",
    )
    repeats: bool = Field(
        default=True, description="Whether sound that repeats its samples for 1 s, as a hung driver's does, is a fault."
    )
    dc_offset: Annotated[float, Field(gt=0.0, le=1.0)] | None = Field(
        default=0.1, description="How far the mean of 10 s may be off zero, full scale 1; null is any."
    )
    clipping_share: Annotated[float, Field(gt=0.0, le=1.0)] | None = Field(
        default=0.1, description="Share of 10 s that may be cut off at full scale; null is any."
    )
    drop_out_share: Annotated[float, Field(gt=0.0, le=1.0)] | None = Field(
        default=0.05,
        description="Share of the sound that may be missing: zeros within 10 s, or losses in a minute; null is any.",
    )
    muffled_db: Annotated[float, Field(ge=6.0, le=60.0)] | None = Field(
        default=12.0,
        description="How much lower the sound above 4.5 kHz may be than the ear ever heard it while it got to know the "
        "machine, in dB; null is any.",
    )
    quieter_db: Annotated[float, Field(ge=6.0, le=60.0)] | None = Field(
        default=10.0, description="By how much all frequencies may fall alike, in dB; null is any."
    )
    baseline_h: float = Field(
        default=24.0,
        gt=0.0,
        le=8_760.0,
        description="Hours of sound in which the ear gets to know the machine; the two checks above begin after it.",
    )
