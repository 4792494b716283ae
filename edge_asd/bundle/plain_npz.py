"""An npz of plain arrays and the layout that it must have in, read-only arrays out; nothing is unpickled."""

from __future__ import annotations

import io
import re
import struct
import zipfile
from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from edge_asd.bundle.archive import UNREADABLE
from edge_asd.errors import BundleError

Layout: TypeAlias = Mapping[str, tuple[tuple[int, ...], np.dtype[Any]]]
"""Shape and dtype of each array, by name."""

# Zip and array headers around the plain arrays.
MAX_OVERHEAD_BYTES = 64 * 1024
# A .npy file of version 1.0 as numpy writes it for plain arrays; numpy itself would parse any Python literal.
# Source: numpy.lib.format.
_NPY_MAGIC = b"\x93NUMPY\x01\x00"
_NPY_LENGTH = struct.Struct("<H")
_NPY_HEADER = re.compile(
    rb"\{'descr': '([<|][fi][48])', 'fortran_order': False, 'shape': \((\d{1,9}),( \d{1,9}(?:, \d{1,9})*)?\), \} *\n"
)


def npz_from_arrays(arrays: Mapping[str, NDArray[Any]]) -> bytes:
    """The same bytes for the same values: arrays stored plain, without times."""
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **dict(arrays))
    return buffer.getvalue()


def arrays_from_npz(data: bytes, layout: Layout, *, where: str) -> dict[str, NDArray[Any]]:
    """Read every array; its shape and type are checked before memory is taken for it.

    Raises:
        BundleError: an array is missing, unknown, compressed, of another shape or type, or not finite.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            names = sorted(info.filename for info in archive.infolist())
            if names != sorted(f"{name}.npy" for name in layout):
                raise BundleError(
                    f"{where}: holds {names}; expected one .npy each of {sorted(layout)}; export it again"
                )
            if any(info.compress_type != zipfile.ZIP_STORED for info in archive.infolist()):
                raise BundleError(f"{where}: holds compressed arrays; expected them stored plain; export it again")
            return {
                name: _array(archive.read(f"{name}.npy"), shape=shape, dtype=dtype, where=f"{where}: {name}")
                for name, (shape, dtype) in layout.items()
            }
    except UNREADABLE as error:
        raise BundleError(
            f"{where}: cannot be read ({error}); expected an npz of plain arrays; export it again"
        ) from error


def limit_bytes(layout: Layout) -> int:
    """The most bytes that an npz of this layout can need."""
    return sum(int(np.prod(shape)) * dtype.itemsize for shape, dtype in layout.values()) + MAX_OVERHEAD_BYTES


def _array(data: bytes, *, shape: tuple[int, ...], dtype: np.dtype[Any], where: str) -> NDArray[Any]:
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
