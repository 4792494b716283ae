"""Rows that are finished in, the JSON file that a later start goes on from out."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.noise_robustness.figures import Figures
from benchmarks.noise_robustness.trial import Protocol
from edge_asd.errors import EdgeAsdError, UsageError
from train.environment import environment, git_state


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class ResultRow:
    """One method with one seed."""

    method: str
    seed: int
    figures: Figures
    training_s: float
    training_cpu_s: float
    scoring_s: float
    steps: int
    parameters: int
    multiply_adds: int
    settings: Mapping[str, object]
    compute: Mapping[str, object]
    git: str | None = dataclasses.field(default_factory=git_state)
    environment: Mapping[str, Any] = dataclasses.field(default_factory=environment)


class Results:
    """The table's file: what is in it is done; it is written whole after every row."""

    def __init__(self, path: Path, sound: Mapping[str, Any], protocol: Protocol) -> None:
        """Read what there is.

        Args:
            path: of the JSON; it need not be there.
            sound: what the rows are measured on.
            protocol: that they have in common.

        Raises:
            UsageError: it is no such file, or its rows were measured otherwise.
        """
        self._path = path
        self._head = {"benchmark": "noise_robustness", "sound": sound, "protocol": json.loads(_protocol_json(protocol))}
        self.rows: tuple[ResultRow, ...] = self._read() if path.exists() else ()

    def has(self, method: str, seed: int) -> bool:
        """Whether the row is done."""
        return any((row.method, row.seed) == (method, seed) for row in self.rows)

    def add(self, row: ResultRow, order: Sequence[str]) -> None:
        """Add a row and write the file.

        order: of the methods.

        Raises:
            EdgeAsdError: it cannot be written.
        """
        places = {method: place for place, method in enumerate(order)}
        self.rows = tuple(sorted((*self.rows, row), key=lambda one: (places.get(one.method, len(places)), one.seed)))
        content = json.dumps({**self._head, "rows": [dataclasses.asdict(one) for one in self.rows]}, indent=1) + "\n"
        temporary = self._path.with_name(f".{self._path.name}.tmp")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_text(content, encoding="utf-8")
            temporary.replace(self._path)
        except OSError as error:
            raise EdgeAsdError(
                f"{self._path}: cannot be written: {error.strerror}; free the disk or give another --json"
            ) from error

    def _read(self) -> tuple[ResultRow, ...]:
        try:
            content = json.loads(self._path.read_text(encoding="utf-8"))
            rows = tuple(ResultRow(**row) for row in content["rows"])
            differing = [name for name, value in self._head.items() if content[name] != value]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UsageError(
                f"{self._path}: not results of this benchmark ({error!r}); give another --json or remove it"
            ) from error
        if differing:
            raise UsageError(
                f"{self._path}: its rows were measured with another {' and '.join(differing)}; expected the same, as "
                "rows of one table are compared; give another --json, or remove it and start anew"
            )
        return rows


def _protocol_json(protocol: Protocol) -> str:
    return json.dumps(dataclasses.asdict(protocol), sort_keys=True)
