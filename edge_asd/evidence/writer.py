"""Takes in, evidence on disk out, by a thread of its own that nobody waits for."""

from __future__ import annotations

import logging
import os
import queue
import threading
from collections.abc import Callable
from pathlib import Path

from edge_asd.evidence.folder import Budget, EvidenceFolder
from edge_asd.evidence.kept import LogMel, describe, files_of
from edge_asd.evidence.recorder import Take

LOG = logging.getLogger(__name__)

_QUEUE_LENGTH = 8
_TIDY_EVERY_S = 600.0
_NICENESS = 10  # beyond that of the others
_END_S = 5.0


class EvidenceWriter:
    """Writes evidence into a folder.

    Where takes come faster than the disk takes them, the newest is dropped and counted; so is what the disk refuses.

    Args:
        path: of the folder.
        budget: what it may take.
        model: name, version and SHA-256 of what scores.
        log_mel: computes spectrograms.
        utc_now: POSIX seconds; None where the clock cannot be trusted.
    """

    def __init__(
        self,
        path: Path,
        budget: Budget,
        *,
        model: dict[str, str],
        log_mel: LogMel,
        utc_now: Callable[[], float | None],
    ) -> None:
        self._folder = EvidenceFolder(path)
        self._budget = budget
        self._model = model
        self._log_mel = log_mel
        self._utc_now = utc_now
        self._takes: queue.Queue[Take | None] = queue.Queue(_QUEUE_LENGTH)
        self._thread = threading.Thread(target=self._run, name="evidence", daemon=True)
        self._trouble: str | None = None  # that was told
        self.written = 0
        self.dropped = 0

    def start(self) -> None:
        """Begin to write; whoever wrote into the folder before must have ended."""
        self._thread.start()

    def put(self, take: Take) -> None:
        """Have a take written; one of the same alarm replaces the one before."""
        try:
            self._takes.put_nowait(take)
        except queue.Full:
            self._drop(take, "the disk is too slow for so many alarms")

    def close(self) -> None:
        """Write what waits, within 5 s."""
        if not self._thread.is_alive():
            return
        try:
            self._takes.put(None, timeout=_END_S)
        except queue.Full:
            return
        self._thread.join(_END_S)

    def _run(self) -> None:
        os.setpriority(os.PRIO_PROCESS, 0, os.getpriority(os.PRIO_PROCESS, 0) + _NICENESS)  # of this thread, on Linux
        try:
            self._folder.clean()
        except OSError as error:
            self._tell(f"evidence folder {self._folder.path}: {error}")
        while True:
            try:
                take = self._takes.get(timeout=_TIDY_EVERY_S)
            except queue.Empty:
                self._tidy()
                continue
            if take is None:
                return
            self._write(take)

    def _write(self, take: Take) -> None:
        kept = describe(take, model=self._model)
        try:
            files = files_of(take, kept, self._log_mel)
            removed = self._folder.put(kept.id, files, self._budget, utc_s=self._utc_now())
        except OSError as error:
            self._drop(take, str(error))
            return
        except Exception:
            LOG.exception("evidence of alarm %s cannot be made; this is a bug, please report it", kept.id)
            self.dropped += 1
            return
        self.written += 1
        self._trouble = None
        if removed:
            LOG.info("evidence of %d alarms made room for that of alarm %s", len(removed), kept.id)

    def _tidy(self) -> None:
        try:
            self._folder.make_room(self._budget, utc_s=self._utc_now())
        except OSError as error:
            self._tell(f"evidence folder {self._folder.path}: {error}")

    def _drop(self, take: Take, why: str) -> None:
        self.dropped += 1
        self._tell(f"evidence of alarm {take.event.alarm_id} of {take.machine} is not kept: {why}")

    def _tell(self, trouble: str) -> None:
        if self._trouble is None:  # one line for a trouble that lasts
            LOG.warning("%s; alarms are told all the same: check the disk's space and health", trouble)
        self._trouble = trouble
