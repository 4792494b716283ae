"""The file NAME-VERSION.asd: read, written and signed, verified whole each time."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from pydantic import BaseModel, ValidationError

from edge_asd.bundle.archive import MAX_BUNDLE_BYTES, Archive, read_sealed, sealed_zip, write_durably
from edge_asd.bundle.golden import Golden, golden_from_npz, golden_limit_bytes, npz_from_golden
from edge_asd.bundle.manifest import SCHEMA_VERSION, FileEntry, Manifest, ModelDescription
from edge_asd.bundle.memory import Memory
from edge_asd.bundle.memory_file import memories_from_npz, memory_limit_bytes, npz_from_memories
from edge_asd.bundle.onnx_check import check_onnx
from edge_asd.bundle.part import Precision
from edge_asd.bundle.signature import MAX_SIGNATURE_BYTES, TRUST_ANYONE, PublicKey, Trust, sign, verified_signer
from edge_asd.errors import BundleError
from edge_asd.json_fault import name_faults

_MANIFEST = "manifest.json"
_MODELS: dict[Precision, str] = {"fp32": "model.onnx", "fp16": "model.fp16.onnx", "int8": "model.int8.onnx"}
_GOLDEN = "golden.npz"
_MEMORY = "memory.npz"
_CARD = "MODEL_CARD.md"
_SIGNATURE = "signature"
_NAMES = (_MANIFEST, *_MODELS.values(), _GOLDEN, _MEMORY, _CARD)
_OPTIONAL_NAMES = frozenset({_MODELS["fp16"], _MEMORY})

_MAX_TEXT_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Bundle:
    """A bundle whose every byte has been verified.

    path: where it was read from. sha256: hex digest of the whole file. memories: of healthy sound, by class, in the
    manifest's order. model_card: Markdown. signer: whose signature it bears, verified; None where it bears none.
    """

    manifest: Manifest
    path: Path
    sha256: str
    golden: Golden
    memories: Mapping[str, Memory]
    model_card: str
    signer: PublicKey | None
    _models: dict[Precision, bytes] = field(repr=False)

    def onnx_model(self, precision: Precision) -> bytes:
        """The network as a serialized ONNX model: inputs wave and log_mel, outputs embedding and cosine.

        Raises:
            BundleError: the bundle has none of that precision.
        """
        if precision not in self._models:
            raise BundleError(
                f"{self.path}: has no {precision} network; expected {_MODELS[precision]}; choose one of "
                f"{', '.join(self._models)} (engine.precision), or export the model again"
            )
        return self._models[precision]


def open_bundle(path: Path, *, trust: Trust = TRUST_ANYONE) -> Bundle:
    """Read a bundle whole and verify it: seal, bounds, signature, schema, hash of each file, networks, golden values.

    A signature that does not fit is refused whoever is trusted; who is not trusted is refused before anything but the
    archive's directory is parsed.

    Raises:
        BundleError: it is absent, truncated, altered, foreign, beyond the bounds, or of a newer schema.
    """
    return _bundle_from_bytes(read_sealed(path), path, trust)


def sign_bundle(path: Path, key: Ed25519PrivateKey, out: Path) -> Bundle:
    """Write the bundle again with the signature of `key` in the place of any it had, durably; `out` may be `path`.

    The same bytes for the same bundle and key. All but the signature stays as it was.

    Raises:
        BundleError: the bundle does not verify; nothing is written.
    """
    data = read_sealed(path)
    _bundle_from_bytes(data, path, TRUST_ANYONE)
    archive = Archive(data, where=str(path))
    contents = {name: archive.read(name, limit_bytes=MAX_BUNDLE_BYTES) for name in _NAMES if name in archive.names}
    signed = sealed_zip({**contents, _SIGNATURE: sign(contents[_MANIFEST], key)})
    bundle = _bundle_from_bytes(signed, out, TRUST_ANYONE)
    write_durably(out, signed)
    return bundle


def write_bundle(
    path: Path,
    description: ModelDescription,
    *,
    onnx_fp32: bytes,
    onnx_int8: bytes,
    golden: Golden,
    model_card: str,
    onnx_fp16: bytes | None = None,
    memories: Mapping[str, Memory] | None = None,
) -> Bundle:
    """Write a bundle, durably and deterministically, once it has been verified as a device would verify it.

    memories: of the classes that the description's `knn` names.

    Raises:
        BundleError: what was given does not make a bundle that a device would accept; nothing is written.
    """
    contents = {
        _MODELS["fp32"]: onnx_fp32,
        **({_MODELS["fp16"]: onnx_fp16} if onnx_fp16 is not None else {}),
        _MODELS["int8"]: onnx_int8,
        _GOLDEN: npz_from_golden(golden),
        **(
            {_MEMORY: npz_from_memories([memories[name] for name in description.knn.memories])}
            if memories and description.knn
            else {}
        ),
        _CARD: model_card.encode("utf-8"),
    }
    entries = {
        name: FileEntry(sha256=hashlib.sha256(content).hexdigest(), size_bytes=len(content))
        for name, content in contents.items()
    }
    manifest = Manifest(**{name: getattr(description, name) for name in ModelDescription.model_fields}, files=entries)
    text = manifest.model_dump_json(indent=2) + "\n"
    data = sealed_zip({_MANIFEST: text.encode("utf-8"), **contents})
    bundle = _bundle_from_bytes(data, path, TRUST_ANYONE)
    write_durably(path, data)
    return bundle


def _bundle_from_bytes(data: bytes, path: Path, trust: Trust) -> Bundle:
    where = str(path)
    archive = Archive(data, where=where)
    manifest_text = archive.read(_MANIFEST, limit_bytes=_MAX_TEXT_BYTES)
    signer = None
    if _SIGNATURE in archive.names:
        signature = archive.read(_SIGNATURE, limit_bytes=MAX_SIGNATURE_BYTES)
        signer = verified_signer(manifest_text, signature, where=where)
    trust.check(signer, where=where)
    manifest = _manifest(manifest_text, where=f"{where}: {_MANIFEST}")
    _check_names(archive, manifest, where)
    models = {
        precision: _verified(archive, manifest, name, MAX_BUNDLE_BYTES, where)
        for precision, name in _MODELS.items()
        if name in manifest.files
    }
    for precision, model in models.items():
        check_onnx(model, inputs=manifest.inputs, outputs=manifest.outputs, where=f"{where}: {_MODELS[precision]}")
    memories = _memories(archive, manifest, where)
    golden_limit = golden_limit_bytes(manifest.feature_spec, len(manifest.classes), len(memories))
    golden = golden_from_npz(
        _verified(archive, manifest, _GOLDEN, golden_limit, where),
        spec=manifest.feature_spec,
        n_classes=len(manifest.classes),
        n_memories=len(memories),
        where=f"{where}: {_GOLDEN}",
    )
    card = _verified(archive, manifest, _CARD, _MAX_TEXT_BYTES, where)
    try:
        model_card = card.decode("utf-8")
    except UnicodeDecodeError as error:
        raise BundleError(
            f"{where}: {_CARD} is not UTF-8 ({error}); expected Markdown text; export it again"
        ) from error
    return Bundle(
        manifest=manifest,
        path=path,
        sha256=hashlib.sha256(data).hexdigest(),
        golden=golden,
        memories=memories,
        model_card=model_card,
        signer=signer,
        _models=models,
    )


def _memories(archive: Archive, manifest: Manifest, where: str) -> dict[str, Memory]:
    knn, encoder = manifest.knn, manifest.encoder
    if knn is None or encoder is None:
        if _MEMORY in manifest.files:
            raise BundleError(f"{where}: has {_MEMORY}, of which the manifest's knn says nothing; export it again")
        return {}
    if _MEMORY not in manifest.files:
        raise BundleError(f"{where}: lacks {_MEMORY}, which the manifest's knn describes; export it again")
    network = manifest.files.get(_MODELS[knn.precision])
    if network is None or network.sha256 != knn.encoder_sha256:
        raise BundleError(
            f"{where}: {_MEMORY} is of the {knn.precision} network with SHA-256 {knn.encoder_sha256}; expected "
            f"{network.sha256 if network else 'one that the bundle has'}, that of {_MODELS[knn.precision]}: distances "
            "to vectors of another network mean nothing; export it again"
        )
    fits = [memory.fit for memory in knn.memories.values()]
    data = _verified(archive, manifest, _MEMORY, memory_limit_bytes(knn.vector_size, fits), where)
    memories = memories_from_npz(
        data, encoder=encoder, vector_size=knn.vector_size, fits=fits, where=f"{where}: {_MEMORY}"
    )
    return dict(zip(knn.memories, memories, strict=True))


class _SchemaVersion(BaseModel):
    """The one key that a manifest of any schema has."""

    schema_version: int


def _manifest(text: bytes, *, where: str) -> Manifest:
    try:
        version = _SchemaVersion.model_validate_json(text).schema_version
        if version > SCHEMA_VERSION:
            raise BundleError(
                f"{where}: is of schema version {version}; this edge-asd reads versions 1 to {SCHEMA_VERSION}; "
                "update edge-asd, or export the model with the exporter of this version"
            )
        return Manifest.model_validate_json(text)
    except ValidationError as error:
        raise BundleError(
            f"{where}: {error.error_count()} fault(s): {name_faults(error, most=5)}; expected a manifest of "
            f"schema version {SCHEMA_VERSION}; export the model again"
        ) from error


def _check_names(archive: Archive, manifest: Manifest, where: str) -> None:
    expected = ", ".join(_NAMES)
    in_archive = set(archive.names) - {_SIGNATURE}
    in_manifest = {_MANIFEST, *manifest.files}
    for held_by, names, others in (("the archive", in_archive, in_manifest), (_MANIFEST, in_manifest, in_archive)):
        strangers = sorted(names - set(_NAMES))
        if strangers:
            raise BundleError(
                f"{where}: {held_by} names {', '.join(map(repr, strangers))}, which no bundle has; expected "
                f"{expected}; this is not a bundle to trust: get it again from its source"
            )
        missing = sorted((set(_NAMES) - _OPTIONAL_NAMES | others) - names)
        if missing:
            raise BundleError(f"{where}: {held_by} lacks {', '.join(missing)}; expected {expected}; export it again")


def _verified(archive: Archive, manifest: Manifest, name: str, limit_bytes: int, where: str) -> bytes:
    """One content, read no further than its stated size, whose SHA-256 is that of the manifest."""
    entry = manifest.files[name]
    if archive.size_bytes(name) != entry.size_bytes:
        raise BundleError(
            f"{where}: {name} has {archive.size_bytes(name)} bytes; the manifest states {entry.size_bytes}; "
            "copy the bundle again or export it again"
        )
    content = archive.read(name, limit_bytes=limit_bytes)
    digest = hashlib.sha256(content).hexdigest()
    if digest != entry.sha256:
        raise BundleError(
            f"{where}: {name} has SHA-256 {digest}; the manifest states {entry.sha256}; copy the bundle again or "
            "export it again"
        )
    return content
