"""The keys that say whose models may run, and what a new one must do before it takes over."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, StringConstraints

from edge_asd.config.part import Part
from edge_asd.config.values import expected


class TrustConfig(Part):
    """Whose models may run here."""

    public_keys: tuple[Annotated[str, StringConstraints(pattern=r"^ed25519:[A-Za-z0-9+/]{43}=$")], ...] = Field(
        default=(),
        max_length=16,
        description="Public keys of those whose bundles are taken, as `edge-asd bundle keygen` prints them.",
        json_schema_extra=expected("a list of public keys, as ed25519: and 44 characters"),
    )
    require_signature: bool = Field(
        default=True,
        description="Refuse bundles that none of these keys signed; false runs the model of anyone who can write it.",
    )


class ShadowConfig(Part):
    """What a new model must do beside the installed one before it takes over."""

    period_s: float = Field(
        default=86_400.0,
        gt=0.0,
        le=2_592_000.0,
        description="Sound of each machine that the installed model calls normal and both must score, in s.",
    )
    max_extra_alarms: int = Field(
        default=1,
        ge=0,
        le=1_000,
        description="Alarms that the new model alone may raise on a machine meanwhile.",
    )
    max_drift: float = Field(
        default=4.0,
        gt=1.0,
        le=1_000.0,
        description="How many times as far below its threshold as those of the installed model its scores may lie in "
        "the mean; and as near, the other way round.",
    )
    trial_s: float = Field(
        default=3_600.0,
        gt=0.0,
        le=2_592_000.0,
        description="Sound that it must score after it has taken over until it counts as proven, in s; a crash before "
        "counts against it.",
    )
