"""Pydantic's account of a document in, the text of a message out."""

from __future__ import annotations

from pydantic import ValidationError


def name_faults(error: ValidationError, *, most: int = 1) -> str:
    """Say where the first faults of a document are and what they are, without their values."""
    faults = error.errors(include_url=False, include_context=False, include_input=False)[:most]
    return "; ".join(f"{'.'.join(map(str, fault['loc'])) or 'the whole'}: {fault['msg']}" for fault in faults)
