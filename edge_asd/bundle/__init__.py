"""The model bundle: a NAME-VERSION.asd file in, verified models, manifest, golden values and model card out."""

from edge_asd.bundle.bundle_file import Bundle, open_bundle, sign_bundle, write_bundle
from edge_asd.bundle.figures import ClassFigures, GoldenTolerance, Metrics, ParityFigures, Tolerance
from edge_asd.bundle.golden import Golden
from edge_asd.bundle.manifest import SCHEMA_VERSION, FileEntry, Manifest, ModelDescription, TensorSpec, tensor_specs
from edge_asd.bundle.memory import Encoder, KnnFit, Memory, Spread, memory_from_vectors
from edge_asd.bundle.part import EMBEDDING_SIZE, EngineName, Precision
from edge_asd.bundle.scorers import ClassMemory, KnnSection, MemoryScorerName, ScorerSpec, Threshold
from edge_asd.bundle.signature import TRUST_ANYONE, PublicKey, Trust

__all__ = [
    "EMBEDDING_SIZE",
    "SCHEMA_VERSION",
    "TRUST_ANYONE",
    "Bundle",
    "ClassFigures",
    "ClassMemory",
    "Encoder",
    "EngineName",
    "FileEntry",
    "Golden",
    "GoldenTolerance",
    "KnnFit",
    "KnnSection",
    "Manifest",
    "Memory",
    "MemoryScorerName",
    "Metrics",
    "ModelDescription",
    "ParityFigures",
    "Precision",
    "PublicKey",
    "ScorerSpec",
    "Spread",
    "TensorSpec",
    "Threshold",
    "Tolerance",
    "Trust",
    "memory_from_vectors",
    "open_bundle",
    "sign_bundle",
    "tensor_specs",
    "write_bundle",
]
