"""What is known of a model in, its MODEL_CARD.md out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edge_asd.bundle import ClassFigures, KnnSection, ModelDescription
from edge_asd.types import FeatureSpec
from export.fall_back import FittedModel
from export.int8_report import int8_text
from export.markdown import table
from export.windows import Clips
from train.data.generated import GENERATED, GENERATED_NOTE, SOUND
from train.network import NetworkSpec

_NO_STATEMENT = (
    "Nothing was stated when this bundle was made (`--about FILE`): ask whoever made it for data, licence and use."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class CardFacts:
    """What goes into a model card beside the manifest.

    n_repeated: clips that thresholds are fitted on and that are shorter than a window.
    about: Markdown of the maker on data, licence, attribution and use; empty when nothing was stated.
    training: settings of the training run. int8: how INT8 was fitted to its budget.
    """

    description: ModelDescription
    network: NetworkSpec
    n_parameters: int
    clips: Clips
    n_repeated: int
    training: Mapping[str, Any]
    about: str
    int8: FittedModel


def model_card(facts: CardFacts) -> str:
    """Markdown with data, training, figures with their counts, thresholds, intended use and limits."""
    description = facts.description
    sections = [
        f"# {description.name} {description.version}",
        f"Made {description.created_utc:%Y-%m-%d}. Bundle schema {description.schema_version}.",
        facts.about.strip() or _NO_STATEMENT,
        "## Network",
        _network(facts),
        "## Training",
        _training(facts),
        "## INT8 and float32 against the trained network",
        _parity(facts),
        "## Layers in INT8 and in float",
        int8_text(facts.int8),
        "## Held-out test clips",
        _test(description.metrics.test),
        "## Thresholds",
        _thresholds(facts),
        *(("## Memories of healthy sound", _memories(description.knn)) if description.knn else ()),
        "## Intended use and limits",
        _LIMITS,
    ]
    return "\n\n".join(sections) + "\n"


_LIMITS = """\
The model tells whether a machine sounds as the healthy recordings of its class did, in the place and with the
microphone of those recordings. It does not name faults, and it is no safety device. Other machines, places,
microphones, loads or speeds need recordings of their own: train on them, or at least fit the thresholds on them.
Figures over a handful of clips say that the chain works, not how well it will do on another machine."""


def _network(facts: CardFacts) -> str:
    spec: FeatureSpec = facts.description.feature_spec
    network = facts.network
    head = (
        "no feature perturbation head"
        if network.head_reduction is None
        else f"a feature perturbation head ({network.head_reduction}, {network.head_activation})"
    )
    return (
        f"TFSTgram with branches {', '.join(network.branches)}, MobileFaceNet and {head}; "
        f"{facts.n_parameters:,} parameters, class weights included. "
        f"Windows of {spec.window_samples} samples at {spec.sample_rate_hz} Hz, {spec.n_mels} mels. "
        f"Score: z = logsumexp(other margin logits) - margin logit of the class, ArcFace scale {network.scale:g}, "
        f"margin {network.margin:g}.\n\nClasses: {', '.join(facts.description.classes)}."
    )


def _training(facts: CardFacts) -> str:
    clips = facts.clips
    used = table(
        ("class", "trained on", "thresholds fitted on", "test, healthy", "test, damaged"),
        [
            (
                class_name,
                *(
                    sum(recording.class_name == class_name for recording in group)
                    for group in (clips.trained, clips.calibration, clips.test_normal, clips.test_anomaly)
                ),
            )
            for class_name in facts.description.machine_classes
        ],
    )
    settings = ", ".join(
        f"{name} {value}" for name, value in facts.training.items() if value is not None and not isinstance(value, dict)
    )
    augment = facts.training.get("augment")
    if isinstance(augment, Mapping):
        settings += "; augment: " + ", ".join(f"{name} {value}" for name, value in augment.items() if value is not None)
    source = (
        "of the clips at hand" if clips.trained else "of the clips at hand; what it was trained on is not among them"
    )
    generated = f"**{GENERATED_NOTE[0].upper()}{GENERATED_NOTE[1:]}.**\n\n"
    return (
        f"{generated if facts.training.get(SOUND) == GENERATED else ''}"
        f"Damaged clips were never trained on. Recordings {source}, each on one side of the split:\n\n{used}\n\n"
        f"Settings: {settings or 'not known; the weights were imported'}."
    )


def _parity(facts: CardFacts) -> str:
    return table(
        ("model", "engine", "windows", "embedding cosine, lowest", "mean", "score difference, largest", "mean"),
        [
            (
                figures.precision,
                figures.engine,
                figures.n_windows,
                f"{figures.embedding_cosine_min:.5f}",
                f"{figures.embedding_cosine_mean:.5f}",
                f"{figures.score_difference_max:.4f}",
                f"{figures.score_difference_mean:.4f}",
            )
            for figures in facts.description.metrics.parity
        ],
    )


def _test(figures: Sequence[ClassFigures]) -> str:
    if not figures:
        return "There were no test clips."
    return table(
        ("class", "model", "scorer", "healthy clips", "above threshold", "damaged clips", "above threshold", "AUC"),
        [
            (
                found.class_name,
                found.precision,
                found.scorer,
                found.n_normal,
                _known(found.normal_above_threshold),
                found.n_anomaly,
                _known(found.anomaly_above_threshold),
                "not measurable" if found.auc is None else f"{found.auc:.3f}",
            )
            for found in figures
        ],
    )


def _thresholds(facts: CardFacts) -> str:
    description = facts.description
    fitted = [(class_name, "margin", threshold) for class_name, threshold in description.thresholds.items()]
    memories = description.knn.memories if description.knn else {}
    fitted += [
        (class_name, scorer, threshold)
        for class_name, memory in memories.items()
        for scorer, threshold in memory.thresholds.items()
    ]
    lines = [
        f"- {class_name} by {scorer}: {threshold.threshold:.3f} for {threshold.target_false_alarms_per_day:g} false "
        f"alarms a day (alpha {threshold.alpha:.3g} a window), by {threshold.method} on {threshold.precision} scores"
        f"{', **extrapolated**' if threshold.extrapolated else ''}. {threshold.note}."
        for class_name, scorer, threshold in fitted
    ]
    lines += [
        f"- {class_name} by margin: none; it has no healthy clips that were not trained on, or too few for the target."
        for class_name in description.machine_classes
        if class_name not in description.thresholds
    ]
    repeated = (
        f" {facts.n_repeated} of the {len(facts.clips.calibration)} clips are shorter than a window and were repeated "
        "to one, which no device hears: whether these thresholds keep their target there is not known."
        if facts.n_repeated
        else ""
    )
    return (
        "Fitted on healthy clips that the network was not trained on, one window a clip. The target counts each window "
        "as independent and as an alarm of its own; the on-delay makes false alarms rarer, a change of place or "
        f"microphone more frequent.{repeated}\n\n" + "\n".join(lines)
    )


def _memories(knn: KnnSection) -> str:
    rows = [
        (
            class_name,
            memory.scorer,
            memory.fit.n_vectors,
            memory.fit.k,
            *("" if spread is None else f"{spread.mean:.4f}, {spread.std:.4f} ({spread.n})"
              for spread in (memory.fit.source, memory.fit.target)),
        )
        for class_name, memory in knn.memories.items()
    ]  # fmt: skip
    headings = ("class", "scored by", "vectors", "neighbours", "source distances", "target distances")
    return (
        f"Made by the {knn.precision} network, of its {knn.layer} ({knn.vector_size} values). Distances are those of "
        "leaving each recording out: mean, deviation and number. The k-NN score is the distance to the nearest in such "
        f"deviations; the fusion is its mean with the margin score in deviations of the same clips.\n\n"
        f"{table(headings, rows)}"
    )


def _known(count: int | None) -> str:
    return "no threshold" if count is None else str(count)
