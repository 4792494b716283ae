"""The kinds of values that a configuration holds: each a type whose error says what was expected and what to do."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias
from urllib.parse import urlsplit

from pydantic import AfterValidator, StringConstraints, ValidationInfo
from pydantic_core import PydanticCustomError

from edge_asd.types import FeatureSpec

HOP_STEP_SAMPLES = 2_560
"""Least common multiple of the STFT hop (512) and TFgramNet's first strides (20): windows share their work."""

MAX_HOP_SAMPLES = FeatureSpec().window_samples // HOP_STEP_SAMPLES * HOP_STEP_SAMPLES

FAULT = "fault"
"""Type of our own errors: their message follows `KEY is VALUE; `."""

FAULT_OF_WHOLE = "fault_of_whole"
"""The same for what concerns several keys: their message follows `KEY: `."""


def expected(text: str) -> dict[str, Any]:
    """What error messages and the key reference say of a value, where its JSON schema does not say it well."""
    return {"x-expected": text}


def _topic_part(value: str) -> str:
    if not value.isprintable():
        raise PydanticCustomError(FAULT, "expected printable characters, for it is part of MQTT topics; rename it")
    return value


def _resolved(value: Path, info: ValidationInfo) -> Path:
    """Relative paths are relative to the file that names them."""
    folder: Path = (info.context or {}).get("folder", Path())
    return folder / value


def _existing_file(value: Path, info: ValidationInfo) -> Path:
    if (info.context or {}).get("files_must_exist") and not value.is_file():
        raise PydanticCustomError(FAULT, "there is no file {path}; expected one; check the path", {"path": str(value)})
    return value


def _existing_path(value: Path, info: ValidationInfo) -> Path:
    if (info.context or {}).get("files_must_exist") and not value.exists():
        raise PydanticCustomError(
            FAULT, "there is no file or folder {path}; expected one; check the path", {"path": str(value)}
        )
    return value


def _hop(value: int) -> int:
    if value % HOP_STEP_SAMPLES or not 0 < value <= MAX_HOP_SAMPLES:
        use = min(max(round(value / HOP_STEP_SAMPLES) * HOP_STEP_SAMPLES, HOP_STEP_SAMPLES), MAX_HOP_SAMPLES)
        at_most = "" if value <= MAX_HOP_SAMPLES else f" and at most {MAX_HOP_SAMPLES}, within one window"
        raise PydanticCustomError(
            FAULT,
            "expected a multiple of {step}{at_most}; use {use} ({use_s} s)",
            {
                "step": HOP_STEP_SAMPLES,
                "at_most": at_most,
                "use": use,
                "use_s": f"{use / FeatureSpec().sample_rate_hz:g}",
            },
        )
    return value


def _broker_url(value: str) -> str:
    url = urlsplit(value)
    try:
        good = url.hostname is not None and (url.port is None or url.port > 0)
    except ValueError:  # the port is not a number up to 65535
        good = False
    if not good:
        raise PydanticCustomError(FAULT, "expected mqtt://HOST:PORT, with a port from 1 to 65535; correct it")
    return value


def _distinct(value: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(value)) != len(value):
        raise PydanticCustomError(FAULT, "expected each name once; remove the repeated one")
    return value


TopicPart: TypeAlias = Annotated[
    str,
    StringConstraints(pattern=r"^[^\s$/+#*\x00-\x1f\x7f]([^/+#*\x00-\x1f\x7f]{0,62}[^\s/+#*\x00-\x1f\x7f])?$"),
    AfterValidator(_topic_part),
]
TOPIC_PART = expected("a name of 1 to 64 characters without / + # *, not beginning with $ nor with spaces around it")

ResolvedPath: TypeAlias = Annotated[Path, AfterValidator(_resolved)]
ExistingFile: TypeAlias = Annotated[ResolvedPath, AfterValidator(_existing_file)]
ExistingPath: TypeAlias = Annotated[ResolvedPath, AfterValidator(_existing_path)]
HopSamples: TypeAlias = Annotated[int, AfterValidator(_hop)]
BrokerUrl: TypeAlias = Annotated[str, StringConstraints(pattern=r"^mqtt://[^/@?#\s]+/?$"), AfterValidator(_broker_url)]
Engines: TypeAlias = Annotated[tuple[Literal["tensorrt", "openvino", "onnxruntime"], ...], AfterValidator(_distinct)]
