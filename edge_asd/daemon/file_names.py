"""A machine's name in, a name that any file system takes out."""

from __future__ import annotations

import hashlib
import re


def file_name(machine: str) -> str:
    """A name that any file system takes; machines whose names differ have different ones."""
    plain = re.sub(r"[^A-Za-z0-9_-]", "_", machine)[:64]
    return plain if plain == machine else f"{plain}-{hashlib.sha256(machine.encode()).hexdigest()[:8]}"
