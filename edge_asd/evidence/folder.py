"""Evidence in, files on disk out, as many as a budget of bytes, age and free space allows; the oldest go first."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from edge_asd.bundle.archive import write_durably
from edge_asd.evidence.kept import SUFFIXES, Kept, parse_kept

LOG = logging.getLogger(__name__)

_EARLIEST_UTC_S = 1_767_225_600.0
"""2026-01-01: evidence that seems older was written by a clock that was wrong, and its age is not known."""

_SECTOR_BYTES = 512
"""Source: stat(2), the unit of st_blocks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """What evidence may take: bytes of disk, age, and only disk that leaves so much free for all else."""

    max_bytes: int
    max_age_s: float
    min_free_bytes: int


@dataclass(slots=True)
class _Files:
    """The files of one piece of evidence, and when the newest was written (POSIX seconds)."""

    id: str
    n_bytes: int = 0
    written_utc_s: float = 0.0


class EvidenceFolder:
    """A folder that holds `ID.flac`, `ID.png` and `ID.json` of each alarm.

    A file is there whole or not at all, and the JSON is written last: evidence without one is half-written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def clean(self) -> None:
        """Remove what a kill left half-written; only while nobody writes.

        Raises:
            OSError: the folder cannot be made or written.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        for entry in sorted(self.path.iterdir()):
            half = entry.suffix in SUFFIXES and not entry.with_suffix(".json").exists()
            if entry.is_file() and (entry.name.startswith(".") or half):
                LOG.info("%s was half-written; it is removed", entry)
                entry.unlink(missing_ok=True)

    def put(self, evidence_id: str, files: Mapping[str, bytes], budget: Budget, *, utc_s: float | None) -> list[str]:
        """Write evidence, or replace it, after making room for it; the ids of what was removed for that.

        utc_s: the time, None where the clock cannot be trusted: then nothing counts as old.

        Raises:
            OSError: the disk refused it, or has no room for it even without other evidence; nothing of it is left, but
                an earlier state of the same evidence is.
        """
        block = os.statvfs(self.path).f_frsize
        n_bytes = sum(-(-len(content) // block) * block for content in files.values())
        if n_bytes > budget.max_bytes:
            raise OSError(f"it takes {n_bytes} bytes; the budget is {budget.max_bytes} bytes in all")
        removed = self.make_room(budget, n_bytes=n_bytes, utc_s=utc_s, keep=evidence_id)
        free_bytes = self._free_bytes()
        if free_bytes < budget.min_free_bytes + n_bytes:
            raise OSError(f"the disk has {free_bytes} bytes free; {budget.min_free_bytes} are kept for all else")
        is_new = not (self.path / f"{evidence_id}.json").exists()
        try:
            for suffix, content in files.items():
                write_durably(self.path / f"{evidence_id}{suffix}", content)
        except OSError:
            if is_new:
                self.remove(evidence_id)
            raise
        return removed

    def make_room(self, budget: Budget, *, n_bytes: int = 0, utc_s: float | None, keep: str = "") -> list[str]:
        """Remove the oldest evidence, but for `keep`, until the budget holds with `n_bytes` more; the ids of it."""
        removed = []
        files = sorted((each for each in self._files() if each.id != keep), key=lambda each: each.written_utc_s)
        total = sum(each.n_bytes for each in files)
        for each in files:
            is_old = utc_s is not None and _EARLIEST_UTC_S < each.written_utc_s < utc_s - budget.max_age_s
            is_full = total + n_bytes > budget.max_bytes or self._free_bytes() < budget.min_free_bytes + n_bytes
            if is_old or is_full:
                self.remove(each.id)
                total -= each.n_bytes
                removed.append(each.id)
        return removed

    def remove(self, evidence_id: str) -> None:
        """Remove evidence; its JSON first, so that what a kill leaves is half-written."""
        for suffix in reversed(SUFFIXES):
            (self.path / f"{evidence_id}{suffix}").unlink(missing_ok=True)

    def kept(self) -> list[Kept]:
        """Return all evidence, oldest alarm first; what cannot be read is told and left out."""
        kept = []
        for path in self.path.glob("*.json"):
            try:
                kept.append(parse_kept(path.read_bytes()))
            except FileNotFoundError:  # it was the oldest just now
                continue
            except (OSError, ValueError) as error:
                LOG.warning("%s: %s; expected the description of evidence; it is left out", path, error)
        return sorted(kept, key=lambda each: (each.began_utc, each.id))

    @property
    def n_bytes(self) -> int:
        """What all of it takes."""
        return sum(each.n_bytes for each in self._files())

    def _files(self) -> Iterable[_Files]:
        """List all evidence, in little memory: it is done with each alarm, and there may be thousands of them."""
        files: dict[str, _Files] = {}
        if not self.path.exists():
            return ()
        with os.scandir(self.path) as entries:
            for entry in entries:
                stem, suffix = os.path.splitext(entry.name)  # noqa: PTH122 - a Path for each takes ten times as much
                if suffix in SUFFIXES and not stem.startswith("."):
                    found, stat = files.setdefault(stem, _Files(stem)), entry.stat()
                    found.n_bytes += _SECTOR_BYTES * stat.st_blocks
                    found.written_utc_s = max(found.written_utc_s, stat.st_mtime)
        return files.values()

    def _free_bytes(self) -> int:
        disk = os.statvfs(self.path)
        return disk.f_bavail * disk.f_frsize
