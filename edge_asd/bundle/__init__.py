"""The model bundle: a NAME-VERSION.asd file in, verified models, manifest, golden values and model card out."""

from edge_asd.bundle.bundle_file import Bundle, open_bundle, sign_bundle, write_bundle
from edge_asd.bundle.golden import Golden
from edge_asd.bundle.manifest import (
    EMBEDDING_SIZE,
    SCHEMA_VERSION,
    ClassFigures,
    EngineName,
    FileEntry,
    GoldenTolerance,
    Manifest,
    Metrics,
    ModelDescription,
    ParityFigures,
    Precision,
    ScorerSpec,
    TensorSpec,
    Threshold,
    Tolerance,
    tensor_specs,
)
from edge_asd.bundle.signature import TRUST_ANYONE, PublicKey, Trust

__all__ = [
    "EMBEDDING_SIZE",
    "SCHEMA_VERSION",
    "TRUST_ANYONE",
    "Bundle",
    "ClassFigures",
    "EngineName",
    "FileEntry",
    "Golden",
    "GoldenTolerance",
    "Manifest",
    "Metrics",
    "ModelDescription",
    "ParityFigures",
    "Precision",
    "PublicKey",
    "ScorerSpec",
    "TensorSpec",
    "Threshold",
    "Tolerance",
    "Trust",
    "open_bundle",
    "sign_bundle",
    "tensor_specs",
    "write_bundle",
]
