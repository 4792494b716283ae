"""A contestant's command in, the answers to the turns that it is told to take, line by line as JSON, out."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).resolve().parent.parent


class Contestant:
    """A process that answers each line of its stdin with a line of JSON, and is ready when it has written one."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.ready = self._answer()

    def ask(self, line: str) -> dict[str, Any]:
        """Have it take a turn.

        Raises:
            RuntimeError: it ended instead.
        """
        if self._process.stdin is None:
            raise RuntimeError("the contestant has no stdin")
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        line = self._process.stdout.readline() if self._process.stdout is not None else ""
        if not line:
            raise RuntimeError(f"a contestant ended (exit code {self._process.wait()}); its message stands above")
        answer: dict[str, Any] = json.loads(line)
        return answer


@contextmanager
def contestant(module: str, arguments: Sequence[str]) -> Iterator[Contestant]:
    """Start `python -m MODULE ARGUMENTS` and wait until it is ready; it ends when its stdin does."""
    command = [sys.executable, "-m", module, *arguments]
    with subprocess.Popen(command, cwd=_ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield Contestant(process)
        if process.stdin is not None:
            process.stdin.close()
