"""The kinds of values that a configuration holds: each a type whose error says what was expected and what to do."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias
from urllib.parse import urlsplit

from pydantic import AfterValidator, StringConstraints, ValidationInfo, WithJsonSchema
from pydantic_core import PydanticCustomError

from edge_asd.messages import TOPIC_NAME_PATTERN, TOPIC_NAME_RULE, is_topic_name
from edge_asd.types import FeatureSpec

HOP_STEP_SAMPLES = 2_560
"""Least common multiple of the STFT hop (512) and TFgramNet's first strides (20): windows share their work."""

MAX_HOP_SAMPLES = FeatureSpec().window_samples // HOP_STEP_SAMPLES * HOP_STEP_SAMPLES

CREDENTIALS = "$CREDENTIALS_DIRECTORY"
"""How a path begins that names a credential of the systemd unit."""

FAULT = "fault"
"""Type of our own errors: their message follows `KEY is VALUE; `."""

FAULT_OF_WHOLE = "fault_of_whole"
"""The same for what concerns several keys: their message follows `KEY: `."""


def expected(text: str) -> dict[str, Any]:
    """What error messages and the key reference say of a value, where its JSON schema does not say it well."""
    return {"x-expected": text}


def _topic_part(value: str) -> str:
    if not is_topic_name(value):
        raise PydanticCustomError(FAULT, "expected {rule}; correct it", {"rule": TOPIC_NAME_RULE})
    return value


def _resolved(value: Path, info: ValidationInfo) -> Path:
    """Relative paths are relative to the file that names them."""
    if value.parts[:1] == (CREDENTIALS,):
        return value
    folder: Path = (info.context or {}).get("folder", Path())
    return folder / value


def _credential(value: Path) -> Path:
    """Under systemd a unit is told where its credentials lie; else the path stays as written, and is no file."""
    folder = os.environ.get(CREDENTIALS[1:])
    return Path(folder, *value.parts[1:]) if folder and value.parts[:1] == (CREDENTIALS,) else value


def _existing_credential(value: Path, info: ValidationInfo) -> Path:
    return value if CREDENTIALS in value.parts else _existing_file(value, info)


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
        raise PydanticCustomError(
            FAULT, "expected mqtt://HOST:PORT or mqtts://HOST:PORT, with a port from 1 to 65535; correct it"
        )
    return value


def _distinct(value: tuple[str, ...]) -> tuple[str, ...]:
    if len(set(value)) != len(value):
        raise PydanticCustomError(FAULT, "expected each name once; remove the repeated one")
    return value


TopicPart: TypeAlias = Annotated[
    str, AfterValidator(_topic_part), WithJsonSchema({"type": "string", "pattern": TOPIC_NAME_PATTERN})
]
TOPIC_PART = expected(TOPIC_NAME_RULE)

ResolvedPath: TypeAlias = Annotated[Path, AfterValidator(_resolved)]
ExistingFile: TypeAlias = Annotated[ResolvedPath, AfterValidator(_existing_file)]
CredentialFile: TypeAlias = Annotated[
    Path, AfterValidator(_credential), AfterValidator(_resolved), AfterValidator(_existing_credential)
]
ExistingPath: TypeAlias = Annotated[ResolvedPath, AfterValidator(_existing_path)]
HopSamples: TypeAlias = Annotated[int, AfterValidator(_hop)]
BrokerUrl: TypeAlias = Annotated[
    str, StringConstraints(pattern=r"^mqtts?://[^/@?#\s]+/?$"), AfterValidator(_broker_url)
]
Engines: TypeAlias = Annotated[tuple[Literal["tensorrt", "openvino", "onnxruntime"], ...], AfterValidator(_distinct)]
