"""What the parts of a manifest share: how strictly they are read, and the names that several of them use."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

Precision: TypeAlias = Literal["fp32", "fp16", "int8"]
EngineName: TypeAlias = Literal["onnxruntime", "openvino"]
ClassName: TypeAlias = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.-]{1,48}/[A-Za-z0-9_.~-]{1,64}$")]
"""TYPE/ID of a machine; with a `~` in it, a class that the network only learnt against and nothing listens as."""

Sha256: TypeAlias = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Share: TypeAlias = Annotated[float, Field(ge=0.0, le=1.0)]

EMBEDDING_SIZE = 128
MAX_CLASSES = 4_096


class Part(BaseModel):
    """Frozen, strict and closed: a key or type that is not known is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)
