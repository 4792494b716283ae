"""Sound that says where it is, an alarm in it, and the evidence of that."""

import uuid

import numpy as np

from edge_asd.evidence import Budget, EvidenceWriter, Recorder
from edge_asd.evidence.kept import describe, files_of
from edge_asd.types import AlarmEvent, Block

RATE_HZ = 1_000

MODEL = {"name": "bldc", "version": "1.0.0", "sha256": "0" * 64}

ROOMY = Budget(max_bytes=10**9, max_age_s=1e9, min_free_bytes=0)


def log_mel(samples):
    """A picture of the right shape; the real front end is another module's."""
    return np.tile(np.abs(samples[::100]), (8, 1)).astype(np.float32)


def event(number=1, **changes):
    fields = {
        "kind": "new",
        "alarm_id": str(uuid.UUID(int=number)),
        "began_utc_s": 1_800_000_000.0 + number,
        "duration_s": 5.0,
        "score": 2.0,
        "peak_score": 2.5,
        "threshold": 1.0,
    }
    return AlarmEvent(**(fields | changes))


def ramp(begin, end):
    """Samples that say where they are."""
    return (np.arange(begin, end) / 1e6).astype(np.float32)


def block(begin, end, lost_samples=0):
    return Block(
        samples=ramp(begin, end),
        end_monotonic_s=end / RATE_HZ,
        end_utc_s=1e9 + end / RATE_HZ,
        lost_samples=lost_samples,
    )


def take_of(number=1, length_s=3.0):
    """A whole take of an alarm."""
    recorder = Recorder("motor-1", sample_rate_hz=RATE_HZ, before_s=length_s - 1.0, after_s=1.0)
    n_samples = round(length_s * RATE_HZ)
    recorder.hear(block(0, n_samples - RATE_HZ))
    recorder.note(0.5, length_s - 2.0)
    recorder.note(2.0, length_s - 1.0)
    recorder.begin(event(number), length_s - 1.0)
    (take,) = recorder.hear(block(n_samples - RATE_HZ, n_samples))
    return take


def put(folder, take, budget=ROOMY, utc_s=None):
    kept = describe(take, model=MODEL)
    return folder.put(kept.id, files_of(take, kept, log_mel), budget, utc_s=utc_s)


def make_writer(folder, budget=ROOMY, **changes):
    return EvidenceWriter(folder, budget, **({"model": MODEL, "log_mel": log_mel, "utc_now": lambda: None} | changes))
