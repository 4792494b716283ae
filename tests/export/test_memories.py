"""What of the clips makes a memory, what its thresholds, and what is said where there are too few."""

from __future__ import annotations

import argparse
from dataclasses import replace

import numpy as np
import pytest

from edge_asd.bundle import EMBEDDING_SIZE
from edge_asd.errors import ClipError, UsageError
from edge_asd.score import ClassScorer, KnnScorer
from edge_asd.threshold import Target
from edge_asd.types import EngineOutputs, FeatureSpec
from export.memories import remember
from export.parity import Evaluated
from export.scorer_options import WantedScorers, add_scorer_options, wanted_scorers
from export.windows import Clips
from train.data import Recording

CLASSES = ("fan/A", "fan/B", "fan/A~fast")
MODELS = {"fp32": b"float network", "int8": b"int8 network"}
TARGET = Target(false_alarms_per_day=800.0, window_s=10.0)
KNN = WantedScorers(default="knn")
CEILINGS = dict.fromkeys(CLASSES, 40.0)


def recordings(class_name, label, *names, domain="none"):
    files = [f"{class_name}/{name}.wav" for name in names]
    return tuple(
        Recording(file=file, class_name=class_name, label=label, stated_split="none", group=file, domain=domain)
        for file in files
    )


@pytest.fixture
def clips():
    """A: 6 trained on, 4 fresh, 2 healthy and 2 damaged for the test; B: 8 fresh alone."""
    a, b = "fan/A", "fan/B"
    return Clips(
        trained=recordings(a, "normal", *range(6)),
        calibration=recordings(a, "normal", *range(6, 10)) + recordings(b, "normal", *range(8)),
        test_normal=recordings(a, "normal", 10, 11),
        test_anomaly=recordings(a, "anomaly", 12, 13),
    )


def heard(clips, *, noise=0.0, seed=0):
    """What a network says of them: healthy clips about their class's direction, damaged ones elsewhere."""
    random = np.random.default_rng(seed)
    centres = {name: random.standard_normal(EMBEDDING_SIZE) for name in ("fan/A", "fan/B", "anomaly")}
    names = ["anomaly" if each.label == "anomaly" else each.class_name for each in clips.everything]
    embedding = np.stack([centres[name] for name in names]) + 0.2 * random.standard_normal((len(names), EMBEDDING_SIZE))
    embedding += noise * np.random.default_rng(seed + 1).standard_normal(embedding.shape)
    embedding /= np.linalg.norm(embedding, axis=1, keepdims=True)
    score = random.standard_normal(len(names)) + 20.0 * np.array([name == "anomaly" for name in names])
    embedding = embedding.astype(np.float32)
    return Evaluated(embedding=embedding, score=score.astype(np.float32), feature_map=3.0 * embedding)


def remembered(clips, wanted=KNN, *, int8_noise=0.0, said=None, change=lambda found: found, **changes):
    evaluated = {
        "torch": heard(clips),
        "fp32 onnxruntime": heard(clips),
        "int8 onnxruntime": heard(clips, noise=int8_noise),
    }
    evaluated = {name: change(found) for name, found in evaluated.items()}
    settings = {
        "served": ("int8", "onnxruntime"),
        "models": MODELS,
        "classes": CLASSES,
        "spec": FeatureSpec(),
        "target": TARGET,
        "margin_ceilings": CEILINGS,
    }
    say = (said if said is not None else []).append
    return remember(evaluated, clips, wanted=wanted, say=say, **{**settings, **changes})


def test_memory_is_of_clips_trained_on_and_thresholds_of_fresh_ones(clips):
    """No clip is in both, and no test clip in either."""
    found = remembered(clips)
    vectors = heard(clips).embedding
    assert {name: len(memory) for name, memory in found.memories.items()} == {"fan/A": 6, "fan/B": 4}
    np.testing.assert_allclose(found.memories["fan/A"].vectors, vectors[:6], atol=1e-6)
    np.testing.assert_allclose(found.memories["fan/B"].vectors, vectors[10:18:2], atol=1e-6)
    counts = {name: section.thresholds["knn"].n_clips for name, section in found.section.memories.items()}
    assert counts == {"fan/A": 4, "fan/B": 4}


def test_damaged_clips_are_above_the_threshold_by_each_scorer(clips):
    """Made-up ones, far from all that is healthy."""
    figures = {(each.class_name, each.precision, each.scorer): each for each in remembered(clips).test}
    assert set(figures) == {("fan/A", precision, scorer) for precision in MODELS for scorer in ("knn", "fusion")}
    for each in figures.values():
        assert (each.n_normal, each.n_anomaly, each.auc, each.anomaly_above_threshold) == (2, 2, 1.0, 2)


def test_fusion_is_the_mean_of_both_over_the_same_clips(clips):
    """Both parts have mean 0 and deviation 1 over the memory's clips."""
    found = remembered(clips, WantedScorers(default="fusion"))
    section = found.section.memories["fan/A"]
    margin = heard(clips).score[:6].astype(float)
    assert section.scorer == "fusion"
    assert section.margin.mean == pytest.approx(margin.mean())
    assert section.margin.std == pytest.approx(margin.std(ddof=1))


def test_scorer_is_chosen_by_class(clips):
    """One for all, and others by name."""
    found = remembered(clips, WantedScorers(default="knn", by_class={"fan/B": "margin"}))
    assert {name: section.scorer for name, section in found.section.memories.items()} == {
        "fan/A": "knn",
        "fan/B": "margin",
    }


def test_class_without_clips_enough_is_told_and_scored_by_margin(clips):
    """Unless a memory was asked for by its name."""
    few = Clips(trained=clips.trained, calibration=clips.calibration[:6], test_normal=(), test_anomaly=())
    said = []
    assert list(remembered(few, said=said).memories) == ["fan/A"]
    assert len(said) == 1
    assert said[0].startswith("fan/B has no memory and is scored by margin: 1 healthy recordings of the source domain")
    with pytest.raises(ClipError, match="fan/B cannot be scored by knn: 1 healthy"):
        remembered(few, WantedScorers(by_class={"fan/B": "knn"}))


def test_folder_without_clips_for_any_memory_is_refused(clips):
    """With the reason of every class."""
    none = Clips(trained=(), calibration=clips.calibration[:2], test_normal=(), test_anomaly=())
    with pytest.raises(ClipError, match=r"no class has clips enough.*: fan/A: 1 .*; fan/B: no healthy clips"):
        remembered(none)


def test_domains_are_kept_apart(clips):
    """Where the data names them."""
    target = recordings("fan/A", "normal", 20, 21, 22, domain="target")
    found = remembered(
        Clips(trained=clips.trained + target, calibration=clips.calibration, test_normal=(), test_anomaly=())
    )
    fit = found.section.memories["fan/A"].fit
    assert (fit.source.n, fit.target.n) == (6, 3)


def test_golden_tolerance_follows_what_engines_differ_by(clips):
    """Twice the farthest that a vector of a precision lies from the trained network's."""
    alike, noisy = remembered(clips), remembered(clips, int8_noise=0.3)
    assert alike.max_vector_distance == {"fp32": 0.002, "int8": 0.2}
    difference = np.linalg.norm(heard(clips, noise=0.3).embedding - heard(clips).embedding, axis=1).max()
    assert noisy.max_vector_distance["int8"] == pytest.approx(2.0 * difference, rel=1e-5)


def test_windows_are_scored_by_every_memory(clips):
    """In the manifest's order, for the golden values."""
    found = remembered(clips)
    said = heard(clips)
    outputs = EngineOutputs(
        embedding=said.embedding[:2], cosine=np.zeros((2, 3), np.float32), feature_map=said.feature_map[:2]
    )
    scores = found.scores(outputs)
    scorer: ClassScorer = KnnScorer(found.memories["fan/B"], found.section.memories["fan/B"].fit)
    assert scores.shape == (2, 2)
    assert scores[:, 1].tolist() == scorer.score(outputs).tolist()


def alike(found):
    """What a network says that was trained for long: its own clips' margin scores lie close together."""
    return replace(found, score=np.where(np.arange(len(found.score)) < 6, 0.002 * found.score, found.score))


def test_fusion_whose_margin_part_is_large_is_not_refused(clips):
    """Its threshold lies far above what k-NN alone could reach, and damaged clips far above that."""
    found = remembered(clips, WantedScorers(by_class={"fan/A": "fusion"}), change=alike)
    section = found.section.memories["fan/A"]
    assert section.thresholds["fusion"].threshold > (2.0**0.5 - section.fit.source.mean) / section.fit.source.std
    figures = {(each.class_name, each.precision, each.scorer): each for each in found.test}
    assert figures["fan/A", "int8", "fusion"].anomaly_above_threshold == 2


def test_fusion_that_no_fault_could_reach_is_refused(clips):
    """Though by k-NN alone a fault would reach it: those taken for another class score low by margin."""
    wanted, low = WantedScorers(by_class={"fan/A": "fusion"}), {**CEILINGS, "fan/A": -60.0}
    few = Target(false_alarms_per_day=0.01, window_s=10.0)
    with pytest.raises(
        UsageError, match=r"the scorer fusion .*\nfan/A: .* is not below .*wholly for another class and"
    ):
        remembered(clips, wanted, target=few, margin_ceilings=low)
    assert "knn" in remembered(clips, target=few, margin_ceilings=low).section.memories["fan/A"].thresholds


@pytest.fixture
def more_clips():
    """A: 6 trained on, 6 fresh; B: 14 fresh alone. So none borrows the spread of the other's."""
    calibration = recordings("fan/A", "normal", *range(6, 12)) + recordings("fan/B", "normal", *range(14))
    trained = recordings("fan/A", "normal", *range(6))
    return Clips(trained=trained, calibration=calibration, test_normal=(), test_anomaly=())


def scattered(found):
    """Every second clip of fan/B, which its memory is not made of, lies anywhere."""
    feature_map, rows = found.feature_map.copy(), slice(13, None, 2)
    feature_map[rows] = np.random.default_rng(5).standard_normal(feature_map[rows].shape)
    feature_map[13] = feature_map[12]
    return replace(found, feature_map=feature_map)


@pytest.mark.parametrize(
    "wanted", [WantedScorers(by_class={"fan/A": "knn"}), WantedScorers(by_class={"fan/A": "fusion"})]
)
def test_class_that_is_scored_otherwise_stops_no_other(more_clips, wanted):
    """fan/B, by margin, goes without the threshold, and that is told; fan/A keeps its own of each scorer."""
    said = []
    found = remembered(more_clips, wanted, said=said, change=scattered)
    memories = found.section.memories
    assert {name: sorted(memory.thresholds) for name, memory in memories.items()} == {
        "fan/A": ["fusion", "knn"],
        "fan/B": [],
    }
    assert memories["fan/A"].thresholds == remembered(more_clips, wanted).section.memories["fan/A"].thresholds
    assert [line.partition(" (")[0].rstrip("0123456789.") for line in said] == [
        f"no threshold of the scorer {name}, which devices may not choose then: fan/B: " for name in ("knn", "fusion")
    ]


def test_class_that_is_scored_so_is_refused_alone(more_clips):
    """The message names no class that nobody scores so."""
    with pytest.raises(UsageError, match=r"the scorer knn .*\nfan/B: ") as caught:
        remembered(more_clips, WantedScorers(by_class={"fan/B": "knn"}), change=scattered)
    assert "fan/A" not in str(caught.value)


def test_fusion_that_falls_back_on_knn_needs_that_threshold(more_clips):
    """Where margin scores of the memory's clips show no spread."""

    def level(found):
        return replace(scattered(found), score=np.zeros_like(found.score))

    with pytest.raises(UsageError, match=r"the scorer knn .*\nfan/B: "):
        remembered(more_clips, WantedScorers(by_class={"fan/B": "fusion"}), change=level)


def options(*arguments):
    parser = argparse.ArgumentParser()
    add_scorer_options(parser)
    return wanted_scorers(parser.parse_args(arguments), CLASSES)


def test_options_name_scorers_for_all_and_for_one():
    """The last of a kind counts."""
    wanted = options("--scorer", "knn", "--scorer", "fan/B=fusion", "--layer", "embedding", "--neighbours", "3")
    assert [wanted.of(name) for name in CLASSES] == ["knn", "fusion", "knn"]
    assert (wanted.neighbours, wanted.need_memories, wanted.layer) == (3, True, "embedding")
    assert not options().need_memories
    assert options().layer == "feature_map"


@pytest.mark.parametrize(
    "arguments",
    [
        ("--scorer", "nearest"),
        ("--scorer", "fan/Z=knn"),
        ("--scorer", "fan/A=best"),
        ("--neighbours", "0"),
        ("--neighbours", "99"),
        ("--memory-bytes", "0"),
        ("--memory-bytes", "10000", "--layer", "feature_map"),
    ],
)
def test_impossible_options_are_refused(arguments):
    """With what was expected."""
    with pytest.raises(UsageError, match="expected"):
        options(*arguments)
