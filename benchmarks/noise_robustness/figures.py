"""A fitted method and a trial in, its figures in every noise at every SNR out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

from benchmarks.noise_robustness.methods import Fitted
from benchmarks.noise_robustness.mixtures import MixtureSet
from benchmarks.noise_robustness.noise import NOISE_KINDS
from benchmarks.noise_robustness.scorers import SCORERS, WITHOUT_MEMORY, Outputs, Scores
from benchmarks.noise_robustness.trial import CASES, Trial
from train.evaluation.metrics import AVERAGE, FigureName, ScoredClip, evaluate_clips

FIGURES: Mapping[str, FigureName] = {
    "auc": "auc_id_mean",
    "pauc": "pauc_id_mean",
    "harmonic_mean": "harmonic_mean",
    "auc_pooled": "auc_pooled",
}

Figures: TypeAlias = Mapping[str, Mapping[str, Mapping[str, Mapping[str, float]]]]
"""By scorer, noise case, SNR in dB as text, name of the figure."""


def figures_of(fitted: Fitted, trial: Trial) -> Figures:
    """Hear memories and tests once each, and score them by every scorer that the method takes part in."""
    nothing = Outputs(class_names=(), layers={})
    needs_memory = any(name not in WITHOUT_MEMORY for name in fitted.scorers)
    memory = {kind: fitted.hear(trial.memory[kind]) if needs_memory else nothing for kind in NOISE_KINDS}
    test = {key: fitted.hear(mixtures) for key, mixtures in trial.test.items()}
    return {
        scorer: {
            case: {
                f"{snr_db:g}": figures_of_scores(
                    SCORERS[scorer](memory[remembered], test[tested, snr_db]), trial.test[tested, snr_db]
                )
                for snr_db in trial.protocol.snrs_db
            }
            for case, (remembered, tested) in CASES.items()
        }
        for scorer in fitted.scorers
    }


def figures_of_scores(scores: Scores, mixtures: MixtureSet) -> dict[str, float]:
    """Averages over the tested classes, by name of the figure."""
    clips = [
        ScoredClip(
            file=str(mixture.machine.path),
            class_name=mixture.machine.class_name,
            is_anomaly=mixture.machine.is_anomaly,
            domain="none",
            group=mixture.machine.group,
            score=float(score),
        )
        for mixture, score in zip(mixtures.mixtures, scores, strict=True)
    ]
    average = next(row for row in evaluate_clips(clips, replicates=0) if row.name == AVERAGE)
    return {name: average.figures[figure].value for name, figure in FIGURES.items()}
