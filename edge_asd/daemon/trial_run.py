"""A bundle's file in; nothing out, if this device runs it: its self-test in a process of its own, bounded."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from edge_asd.errors import BundleError, EdgeAsdError, UnavailableError, UsageError

MAX_MEMORY_BYTES = 4 * 1024**3
"""What opening a model may take; an engine of TensorRT is built within it."""

MAX_TIME_S = 1_800.0
_LOOK_EVERY_S = 0.05
_MAX_WORDS = 4_000
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_ERRORS: dict[int, type[EdgeAsdError]] = {kind.exit_code: kind for kind in (UsageError, UnavailableError)}


def trial_run(
    bundle: Path,
    config: Path,
    *,
    command: Sequence[str] = (sys.executable, "-m", "edge_asd.cli", "bundle", "test"),
    max_memory_bytes: int = MAX_MEMORY_BYTES,
    max_time_s: float = MAX_TIME_S,
) -> None:
    """Run `edge-asd bundle test` on the bundle; a crash, a hang or a network that eats all memory harms nobody else.

    Raises:
        BundleError: the self-test failed, crashed, took too long or too much memory.
        UnavailableError: no engine runs the model.
        UsageError: what was asked cannot be.
    """
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(  # noqa: S603 - our own program with paths that were checked
            [*command, str(bundle), "--config", str(config)], stdout=subprocess.DEVNULL, stderr=said
        )
        try:
            fault = _watch(process, max_memory_bytes=max_memory_bytes, max_time_s=max_time_s)
        finally:
            process.kill()
            process.wait()
        said.seek(0)
        words = said.read(_MAX_WORDS).decode("utf-8", "replace").strip().removeprefix("edge-asd: ")
    if fault is None and process.returncode < 0:
        fault = f"was ended by signal {-process.returncode}"
    if fault is not None:
        raise BundleError(
            f"{bundle}: the self-test {fault}; expected a model that runs on this device; it is not installed: export "
            f"it again{f' ({words})' if words else ''}"
        )
    if process.returncode:
        raise _ERRORS.get(process.returncode, BundleError)(words or f"{bundle}: the self-test failed without a word")


def _watch(process: subprocess.Popen[bytes], *, max_memory_bytes: int, max_time_s: float) -> str | None:
    """Wait for its end; what it did wrong where it must be ended."""
    give_up_s = time.monotonic() + max_time_s
    while process.poll() is None:
        if time.monotonic() > give_up_s:
            return f"took longer than {max_time_s:g} s"
        try:
            resident = int(Path(f"/proc/{process.pid}/statm").read_text(encoding="ascii").split()[1]) * _PAGE_BYTES
        except (OSError, IndexError):  # it has just ended
            resident = 0
        if resident > max_memory_bytes:
            return f"took more than {max_memory_bytes / 1024**2:.0f} MiB of memory"
        time.sleep(_LOOK_EVERY_S)
    return None
