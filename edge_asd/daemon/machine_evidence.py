"""A device's configuration in, its evidence writer out; and what one machine adds to the evidence."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, replace

from edge_asd.config import DeviceConfig
from edge_asd.evidence import Budget, EvidenceWriter, Recorder, Take
from edge_asd.features import log_mel_db
from edge_asd.health import clock_state
from edge_asd.messages import ModelIdentity
from edge_asd.types import AlarmEvent, Block, FeatureSpec, FloatArray, Window

_DAY_S = 86_400.0


def open_evidence(config: DeviceConfig, *, spec: FeatureSpec, model: ModelIdentity) -> EvidenceWriter | None:
    """Return the writer of a device, not yet started; None where the configuration keeps no evidence."""
    keys = config.evidence
    if keys.max_bytes is None:
        return None

    def log_mel(samples: FloatArray) -> FloatArray:
        return log_mel_db(samples, replace(spec, window_samples=len(samples)))

    return EvidenceWriter(
        config.evidence_dir,
        Budget(max_bytes=keys.max_bytes, max_age_s=keys.max_age_days * _DAY_S, min_free_bytes=keys.min_free_bytes),
        model=asdict(model),
        log_mel=log_mel,
        utc_now=lambda: time.time() if clock_state().synced else None,
    )


class MachineEvidence:
    """Sound and scores of one machine, on their way to the writer when there is an alarm.

    Args:
        writer: of the device; None keeps nothing.
        recorder: of the machine.
    """

    def __init__(self, writer: EvidenceWriter | None, recorder: Recorder) -> None:
        self._writer = writer
        self._recorder = recorder

    def hear(self, block: Block) -> None:
        """Remember a block, and have written what is whole with it."""
        if self._writer is not None:
            self._write(self._recorder.hear(block))

    def note(self, score: float, window: Window, events: Sequence[AlarmEvent]) -> None:
        """Remember a window's score, and have written what led to an alarm that it raises."""
        if self._writer is None:
            return
        self._recorder.note(score, window.end_monotonic_s)
        for event in events:
            if event.kind == "new":
                self._write(self._recorder.begin(event, window.end_monotonic_s))

    def end(self) -> None:
        """Have written what there is: no more sound comes for now."""
        self._write(self._recorder.end())

    def _write(self, takes: Sequence[Take]) -> None:
        if self._writer is not None:
            for take in takes:
                self._writer.put(take)
