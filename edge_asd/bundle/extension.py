"""What a device learned of a machine in, a signed file beside its bundle out, and back with every value checked."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pydantic import AwareDatetime, Field, ValidationError

from edge_asd.bundle.archive import Archive, read_sealed, sealed_zip, write_durably
from edge_asd.bundle.memory import MAX_VECTOR_SIZE, Encoder, KnnFit, Memory, Spread, check_encoder, memory_from_vectors
from edge_asd.bundle.memory_file import memories_from_npz, memory_limit_bytes, npz_from_memories
from edge_asd.bundle.part import Part, Precision, Sha256
from edge_asd.bundle.scorers import Threshold
from edge_asd.bundle.signature import MAX_SIGNATURE_BYTES, Trust, public_key, sign, verified_signer
from edge_asd.errors import BundleError
from edge_asd.json_fault import name_faults
from edge_asd.types import FeatureSpec, Layer

MAX_WINDOWS = 8_640
"""A day of sound in windows of 10 s."""

MAX_MEMORY_BYTES = 40 * 1024 * 1024
MAX_CLIPS = 8_640

_FACTS = "learned.json"
_MEMORY = "memory.npz"
_SIGNATURE = "signature"
_MAX_FACTS_BYTES = 16 * 1024 * 1024  # 8,640 clips with long names
_Seconds = Annotated[float, Field(ge=0.0)]


class Calibration(Part):
    """Where scores of a machine's healthy sound lie, and from where on one is anomalous.

    healthy_quantiles: scores of the enrolled sound, each against all that was not heard beside it: the 0th to the 100th
    percentile.
    """

    fit: KnnFit
    threshold: Threshold
    healthy_quantiles: tuple[float, ...] = Field(min_length=101, max_length=101)


class Clip(Part):
    """A clip of which something was learned.

    sha256: of the file. name: without its folder. begin_utc_s, end_utc_s: that its windows have for their own, which no
    other window has; nobody knows when they were heard. refused_s: of it that was not learned, by reason.
    """

    sha256: Sha256
    name: str = Field(max_length=255)
    begin_utc_s: float
    end_utc_s: float
    refused_s: dict[str, _Seconds] = Field(default={}, max_length=32)


class Facts(Part):
    """All that is known of an enrolment but its vectors.

    encoder_sha256, precision, layer, feature_spec: of what made the vectors. engine: that ran it, as openvino-int8.
    refused_s: sound that was not learned, by reason. clips: that windows are of. request: id of what was asked of the
    daemon; None where clips were learned. calibration: None while the enrolment goes on.
    """

    schema_version: Literal[1] = 1
    machine: str = Field(min_length=1, max_length=64)
    model: str = Field(max_length=128)
    encoder_sha256: Sha256
    precision: Precision
    layer: Layer
    feature_spec: FeatureSpec
    engine: str = Field(max_length=64)
    changed_utc: AwareDatetime
    n_vectors: int = Field(ge=0, le=MAX_WINDOWS)
    vector_size: int = Field(ge=1, le=MAX_VECTOR_SIZE)
    memory_sha256: Sha256 | None
    refused_s: dict[str, _Seconds] = Field(default={}, max_length=32)
    clips: tuple[Clip, ...] = Field(default=(), max_length=MAX_CLIPS)
    request: str | None = Field(default=None, max_length=64)
    calibration: Calibration | None = None

    @property
    def encoder(self) -> Encoder:
        """What made the vectors."""
        return Encoder(
            sha256=self.encoder_sha256, precision=self.precision, layer=self.layer, feature_spec=self.feature_spec
        )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Extension:
    """What a device learned of one machine: a memory for its bundle's encoder, and once it is whole its calibration."""

    facts: Facts
    memory: Memory

    def clip_of(self, row: int) -> Clip | None:
        """The clip that a window is of; None for one from the microphone."""
        begin_utc_s, end_utc_s = self.memory.begin_utc_s[row], self.memory.end_utc_s[row]
        for clip in self.facts.clips:
            if clip.begin_utc_s <= begin_utc_s and end_utc_s <= clip.end_utc_s:
                return clip
        return None

    def with_memory(self, memory: Memory) -> Extension:
        """The same with another memory; a clip of which it holds nothing is as one that was never heard."""
        begin_utc_s, end_utc_s = memory.begin_utc_s, memory.end_utc_s
        held = tuple(
            clip
            for clip in self.facts.clips
            if ((begin_utc_s >= clip.begin_utc_s) & (end_utc_s <= clip.end_utc_s)).any()
        )
        return Extension(facts=self.facts.model_copy(update={"clips": held}), memory=memory)


def begun(
    machine: str, encoder: Encoder, *, model: str, engine: str, vector_size: int, request: str | None = None
) -> Extension:
    """An enrolment in which nothing was learned yet."""
    facts = Facts(
        machine=machine,
        model=model,
        encoder_sha256=encoder.sha256,
        precision=encoder.precision,
        layer=encoder.layer,
        feature_spec=encoder.feature_spec,
        engine=engine,
        changed_utc=datetime.now(timezone.utc),
        n_vectors=0,
        vector_size=vector_size,
        memory_sha256=None,
        request=request,
    )
    return Extension(facts=facts, memory=_empty_memory(encoder, vector_size))


def _empty_memory(encoder: Encoder, vector_size: int) -> Memory:
    return memory_from_vectors(np.empty((0, vector_size), np.float32), encoder)


def write_extension(path: Path, extension: Extension, key: Ed25519PrivateKey) -> Extension:
    """Write it signed, whole or not at all, once it has been read back as it will be; what was read back.

    Raises:
        BundleError: it would not be accepted; nothing is written.
        OSError: the disk refused it.
    """
    memory = npz_from_memories([extension.memory]) if len(extension.memory) else None
    facts = extension.facts.model_copy(
        update={
            "n_vectors": len(extension.memory),
            "memory_sha256": None if memory is None else hashlib.sha256(memory).hexdigest(),
        }
    )
    text = (facts.model_dump_json(indent=1) + "\n").encode()
    contents = {_FACTS: text, **({} if memory is None else {_MEMORY: memory}), _SIGNATURE: sign(text, key)}
    data = sealed_zip(contents)
    found = _extension_from_bytes(data, path, trust=Trust(public_keys=(public_key(key),)), machine=facts.machine)
    write_durably(path, data)
    return found


def read_extension(path: Path, *, machine: str, encoder: Encoder, trust: Trust) -> Extension:
    """Read what `write_extension` wrote for this machine and encoder.

    Raises:
        BundleError: it is altered, foreign, of another machine or encoder, or holds what cannot be.
    """
    extension = _extension_from_bytes(read_sealed(path), path, trust=trust, machine=machine)
    check_encoder(extension.facts.encoder, encoder, where=str(path))
    return extension


def _extension_from_bytes(data: bytes, path: Path, *, trust: Trust, machine: str) -> Extension:
    where = str(path)
    archive = Archive(data, where=where)
    text = archive.read(_FACTS, limit_bytes=_MAX_FACTS_BYTES)
    signer = verified_signer(text, archive.read(_SIGNATURE, limit_bytes=MAX_SIGNATURE_BYTES), where=where)
    if signer not in trust.public_keys:
        raise BundleError(
            f"{where}: is signed by {signer}, not by this device; expected what `edge-asd enroll` wrote here; a memory "
            "of another device or of a key that was lost is not taken: enroll the machine again (--anew)"
        )
    try:
        facts = Facts.model_validate_json(text)
    except ValidationError as error:
        raise BundleError(
            f"{where}: {name_faults(error)}; expected what this edge-asd writes; enroll the machine again (--anew)"
        ) from error
    if facts.machine != machine:
        raise BundleError(f"{where}: is of machine {facts.machine!r}; expected {machine!r}; put the file where it was")
    return Extension(facts=facts, memory=_memory(archive, facts, where))


def _memory(archive: Archive, facts: Facts, where: str) -> Memory:
    if not facts.n_vectors:
        return _empty_memory(facts.encoder, facts.vector_size)
    fit = facts.calibration.fit if facts.calibration else _unfitted(facts.n_vectors)
    limit = memory_limit_bytes(facts.vector_size, [fit])
    data = archive.read(_MEMORY, limit_bytes=min(limit, MAX_MEMORY_BYTES))
    digest = hashlib.sha256(data).hexdigest()
    if digest != facts.memory_sha256:
        raise BundleError(
            f"{where}: {_MEMORY} has SHA-256 {digest}; expected {facts.memory_sha256}, which was signed; the file was "
            "altered: enroll the machine again (--anew)"
        )
    return memories_from_npz(
        data, encoder=facts.encoder, vector_size=facts.vector_size, fits=[fit], where=f"{where}: {_MEMORY}"
    )[0]


def _unfitted(n_vectors: int) -> KnnFit:
    """Says how many vectors there are while their distances have not been measured."""
    return KnnFit(k=1, n_vectors=n_vectors, source=Spread(mean=0.0, std=1.0, n=2), target=None)
