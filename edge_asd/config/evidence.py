"""The keys of evidence: how much sound around an alarm is kept, and what disk it may take."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from edge_asd.config.part import Part


class EvidenceConfig(Part):
    """What is kept of each alarm: sound, spectrogram and scores. `edge-asd evidence` lists and exports it."""

    max_bytes: Annotated[int, Field(ge=4 * 1024 * 1024, le=64 * 1024**3)] | None = Field(
        default=512 * 1024 * 1024,
        description="Disk that it may take, in bytes; the oldest makes room. About 1 MB an alarm; null keeps none.",
    )
    max_age_days: float = Field(
        default=90.0, gt=0.0, le=3_650.0, description="Days after which it is removed, by a clock that is synchronised."
    )
    min_free_bytes: int = Field(
        default=256 * 1024 * 1024,
        ge=0,
        le=64 * 1024**3,
        description="Disk that is left free for all else, in bytes: evidence makes room for it, or is not written.",
    )
    before_s: float = Field(
        default=20.0,
        ge=1.0,
        le=120.0,
        description="Sound from before the alarm was raised, in s; 64 KB of memory each.",
    )
    after_s: float = Field(default=10.0, ge=0.0, le=120.0, description="Sound from after it, in s; likewise.")
