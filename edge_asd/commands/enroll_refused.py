"""Sound that was not learned, by reason, in; what to say of it out."""

from __future__ import annotations

from collections.abc import Mapping

from edge_asd.enroll.collector import SPEECH


def told_refused(refused_s: Mapping[str, float], *, refuse_speech: bool) -> str:
    """How much for each reason, as `120 s speech, 10 s silence`, and the way out where most of it is speech.

    refuse_speech: of the configuration as it is now; what was refused may be older.
    """
    told = ", ".join(f"{seconds:.0f} s {why}" for why, seconds in refused_s.items())
    if refuse_speech and 2.0 * refused_s.get(SPEECH, 0.0) > sum(refused_s.values()):
        told += "; a machine's rhythm may be taken for it: if nobody speaks there, set enroll.refuse_speech: false"
    return told
