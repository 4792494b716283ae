"""Bytes, or what torch can save, in, a file that is either as it was or wholly written out, and back."""

from __future__ import annotations

import io
import os
import pickle
from pathlib import Path
from typing import Any

import torch

from edge_asd.errors import EdgeAsdError


def save_whole(path: Path, content: Any) -> None:
    """Write what torch can save.

    Raises:
        EdgeAsdError: it cannot be written; what stood at `path` stands there still.
    """
    buffer = io.BytesIO()  # torch tells a full disk as an error of its own making, and may end the process over it
    torch.save(content, buffer)
    write_whole(path, buffer.getbuffer())


def write_whole(path: Path, content: bytes | memoryview) -> None:
    """Write to a temporary file beside `path`, wait until the disk has it, and rename it into place.

    Raises:
        EdgeAsdError: it cannot be written; what stood at `path` stands there still.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        kept = "; the one before it is whole" if path.exists() else ""
        raise EdgeAsdError(
            f"{path}: cannot be written: {error.strerror}{kept}; free the disk or give a folder that is writable"
        ) from error


class UnreadableError(Exception):
    """A file holds nothing that torch reads without executing it; the text says why."""


def load_plain(path: Path) -> Any:
    """Read tensors and plain values; nothing in the file is executed.

    Raises:
        UnreadableError: it cannot be read, is damaged, of another kind, or holds more than those.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise UnreadableError(error.strerror or "it cannot be read") from error
    except pickle.UnpicklingError as error:
        raise UnreadableError("it is no file of torch, or holds more than tensors and plain values") from error
    except Exception as error:  # whatever the bytes make of torch's reader
        raise UnreadableError("it is damaged, or no file of torch") from error


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
