"""Clips and the float32 model in, the golden values of a device's self-test and what they may differ by out."""

from __future__ import annotations

from collections.abc import Sequence

from edge_asd.bundle import Golden, GoldenTolerance, ParityFigures, Precision, Tolerance
from edge_asd.score import MarginScorer
from export.memories import Remembered
from export.runners import runner_from_onnx
from export.windows import Clips, Windows
from train.data import Recording


def golden_clips(clips: Clips) -> tuple[Recording, Recording]:
    """A healthy clip and, where there is one, a damaged clip of its class: the two ends of what a device will hear."""
    first = (clips.test_normal or clips.calibration)[0]
    others = [recording for recording in clips.everything if recording is not first]
    same = [recording for recording in others if recording.class_name == first.class_name]
    damaged = [recording for recording in same if recording.label == "anomaly"]
    return first, (damaged or same or others or [first])[0]


def golden_values(
    batch: Windows, onnx_fp32: bytes, scorer: MarginScorer, remembered: Remembered | None = None
) -> Golden:
    """What the float32 model says of two windows, and how near they are to every memory."""
    outputs = runner_from_onnx(onnx_fp32, "fp32")(batch.wave, batch.log_mel)
    return Golden(
        wave=batch.wave,
        log_mel=batch.log_mel,
        embedding=outputs.embedding,
        cosine=outputs.cosine,
        label=batch.label,
        score=scorer.score(outputs.cosine, batch.label),
        knn_score=None if remembered is None else remembered.scores(outputs),
    )


def golden_tolerance(parity: Sequence[ParityFigures], remembered: Remembered | None = None) -> GoldenTolerance:
    """Twice the most that was measured on all clips here, since engines round differently, and never below a floor."""

    def tolerance(precision: Precision, cosine_floor: float, score_floor: float) -> Tolerance:
        found = [figures for figures in parity if figures.precision == precision]
        loss = max([cosine_floor, *(1.0 - figures.embedding_cosine_min for figures in found)])
        return Tolerance(
            min_embedding_cosine=max(0.5, 1.0 - 2.0 * loss),
            max_score_difference=2.0 * max([score_floor, *(figures.score_difference_max for figures in found)]),
            max_vector_distance=None if remembered is None else remembered.max_vector_distance[precision],
        )

    return GoldenTolerance(
        max_log_mel_difference_db=1e-2,
        fp32=tolerance("fp32", 5e-5, 0.01),
        fp16=tolerance("fp16", 5e-4, 0.1) if any(figures.precision == "fp16" for figures in parity) else None,
        int8=tolerance("int8", 5e-3, 0.5),
    )
