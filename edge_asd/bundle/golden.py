"""Golden values of a bundle: two windows and what the float32 network said of them, to and from golden.npz."""

from __future__ import annotations

import io
import re
import struct
import zipfile
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_asd.bundle.manifest import EMBEDDING_SIZE
from edge_asd.errors import BundleError
from edge_asd.types import FeatureSpec, FloatArray

N_WINDOWS = 2
# Zip and array headers around the plain arrays.
MAX_OVERHEAD_BYTES = 64 * 1024
# A .npy file of version 1.0 as numpy writes it for plain arrays; numpy itself would parse any Python literal.
# Source: numpy.lib.format.
_NPY_MAGIC = b"\x93NUMPY\x01\x00"
_NPY_LENGTH = struct.Struct("<H")
_NPY_HEADER = re.compile(
    rb"\{'descr': '([<|][fi][48])', 'fortran_order': False, 'shape': \((\d{1,9}),( \d{1,9}(?:, \d{1,9})*)?\), \} *\n"
)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Golden:
    """Expected values of the float32 network, for the self-test of a device.

    wave: (2, window_samples) float32. log_mel: (2, n_mels, n_frames) float32 in dB. embedding: (2, 128) float32 of
    unit length. cosine: (2, classes) float32. label: (2,) int64, the class of each window as index into the manifest's
    classes. score: (2,) float32, z of each window at its label. Arrays that were read from a bundle are read-only.
    """

    wave: FloatArray
    log_mel: FloatArray
    embedding: FloatArray
    cosine: FloatArray
    label: NDArray[np.int64]
    score: FloatArray


def npz_from_golden(golden: Golden) -> bytes:
    """The same bytes for the same values: arrays stored plain, without times."""
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **{field.name: getattr(golden, field.name) for field in fields(Golden)})
    return buffer.getvalue()


def golden_from_npz(data: bytes, *, spec: FeatureSpec, n_classes: int, where: str) -> Golden:
    """Read golden.npz; every shape and type is checked against the manifest before memory is taken for it.

    Raises:
        BundleError: an array is missing, unknown, compressed, of another shape or type, or not finite.
    """
    expected = _layout(spec, n_classes)
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            names = sorted(info.filename for info in archive.infolist())
            if names != sorted(f"{name}.npy" for name in expected):
                raise BundleError(
                    f"{where}: holds {names}; expected one .npy each of {sorted(expected)}; export it again"
                )
            if any(info.compress_type != zipfile.ZIP_STORED for info in archive.infolist()):
                raise BundleError(f"{where}: holds compressed arrays; expected them stored plain; export it again")
            arrays = {
                name: _array(archive.read(f"{name}.npy"), shape=shape, dtype=dtype, where=f"{where}: {name}")
                for name, (shape, dtype) in expected.items()
            }
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, OSError, ValueError) as error:
        raise BundleError(
            f"{where}: cannot be read ({error}); expected an npz of plain arrays; export it again"
        ) from error
    if not all(0 <= label < n_classes for label in arrays["label"]):
        raise BundleError(
            f"{where}: labels are {arrays['label'].tolist()}; expected 0 to {n_classes - 1}, indices into the classes "
            "of the manifest; export it again"
        )
    return Golden(**arrays)


def golden_limit_bytes(spec: FeatureSpec, n_classes: int) -> int:
    """The most bytes that a golden.npz of this spec can need."""
    arrays = sum(int(np.prod(shape)) * dtype.itemsize for shape, dtype in _layout(spec, n_classes).values())
    return arrays + MAX_OVERHEAD_BYTES


def _layout(spec: FeatureSpec, n_classes: int) -> dict[str, tuple[tuple[int, ...], np.dtype[np.generic]]]:
    real: np.dtype[np.generic] = np.dtype("<f4")
    return {
        "wave": ((N_WINDOWS, spec.window_samples), real),
        "log_mel": ((N_WINDOWS, spec.n_mels, spec.n_frames), real),
        "embedding": ((N_WINDOWS, EMBEDDING_SIZE), real),
        "cosine": ((N_WINDOWS, n_classes), real),
        "label": ((N_WINDOWS,), np.dtype("<i8")),
        "score": ((N_WINDOWS,), real),
    }


def _array(data: bytes, *, shape: tuple[int, ...], dtype: np.dtype[np.generic], where: str) -> NDArray[Any]:
    """The array of a .npy file: its header is read first, since numpy would take the memory that a header claims."""
    start = len(_NPY_MAGIC) + _NPY_LENGTH.size
    header_bytes = _NPY_LENGTH.unpack(data[len(_NPY_MAGIC) : start])[0] if len(data) >= start else 0
    header = data[start : start + header_bytes]
    read = _NPY_HEADER.fullmatch(header)
    if not data.startswith(_NPY_MAGIC) or read is None:
        raise BundleError(
            f"{where} has the header {header[:80]!r}; expected a .npy file of version 1.0 with an array of "
            f"{dtype} {shape} in C order; export it again"
        )
    found_dtype = np.dtype(read[1].decode("ascii"))
    found_shape = tuple(int(size) for size in (read[2] + b"," + (read[3] or b"")).split(b",") if size)
    if (found_shape, found_dtype) != (shape, dtype):
        raise BundleError(
            f"{where} is {found_dtype} {found_shape}; expected {dtype} {shape} in C order; export it again"
        )
    content = data[start + header_bytes :]
    if len(content) != int(np.prod(shape)) * dtype.itemsize:
        raise BundleError(
            f"{where} has {len(content)} bytes of data; expected those of {dtype} {shape}; export it again"
        )
    array = np.frombuffer(content, dtype=dtype).reshape(shape)
    if not np.isfinite(array.astype(np.float64)).all():
        raise BundleError(f"{where} holds values that are not finite; expected numbers; export it again")
    return array
