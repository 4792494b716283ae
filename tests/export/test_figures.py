"""Figures of a bundle where not every scorer can have thresholds."""

from __future__ import annotations

import dataclasses

import pytest

from edge_asd.errors import UsageError
from edge_asd.score import MarginScorer
from edge_asd.threshold import Target
from edge_asd.types import FeatureSpec
from export.figures import bundle_figures
from export.onnx_model import onnx_from_network
from export.scorer_options import WantedScorers
from export.thresholds import score_ceiling
from export.windows import Clips, find_calibration_clips, read_windows


@pytest.fixture
def figures_of(clip_folder, small_checkpoint, monkeypatch):
    """A function that makes figures by a scorer, where no fault of fan/A could reach its margin threshold.

    Of fan/A alone, or of several classes.
    """
    real = score_ceiling
    monkeypatch.setattr(
        "export.figures.score_ceiling",
        lambda cosine, index, scorer: -1e9 if index == 0 else real(cosine, index, scorer),
    )
    monkeypatch.setattr("export.figures.ENGINES", ("onnxruntime",))  # one is enough here
    spec, classes = FeatureSpec(), small_checkpoint.classes
    found = find_calibration_clips(clip_folder, small_checkpoint)
    sides = {side.name: getattr(found, side.name) for side in dataclasses.fields(found)}

    def make(wanted, say, *, of=("fan/A",)):
        return bundle_figures(
            small_checkpoint.network,
            {"int8": onnx_from_network(small_checkpoint.network, spec)},
            Clips(**{name: tuple(one for one in side if one.class_name in of) for name, side in sides.items()}),
            lambda recordings: read_windows(clip_folder, recordings, classes=classes, spec=spec),
            classes=classes,
            spec=spec,
            scorer=MarginScorer(30.0, 0.4, n_classes=len(classes)),
            wanted=wanted,
            target=Target(false_alarms_per_day=800.0, window_s=10.0),
            say=say,
        )

    return make


def test_scorer_that_nobody_chose_needs_no_threshold(figures_of):
    """Encoders that keep noise are for nearest neighbours: their margin may tell nothing."""
    said = []
    figures = figures_of(WantedScorers(default="knn"), said.append)
    assert figures.thresholds == {}
    assert "knn" in figures.remembered.section.memories["fan/A"].thresholds
    assert any(
        line.startswith("no threshold of the scorer margin, which devices may not choose then: fan/A") for line in said
    )


def test_class_by_another_scorer_costs_the_others_no_threshold(figures_of):
    """fan/A is scored by k-NN, fan/B by margin."""
    figures = figures_of(WantedScorers(by_class={"fan/A": "knn"}), print, of=("fan/A", "fan/B"))
    assert list(figures.thresholds) == ["fan/B"]


def test_scorer_that_was_chosen_needs_one(figures_of):
    """Else a device could not serve the class."""
    with pytest.raises(UsageError, match=r"no threshold of the scorer margin .*\nfan/A: "):
        figures_of(WantedScorers(), print)


def test_ceiling_of_the_fusion_is_made_of_that_of_the_margin(figures_of):
    """So the fusion of fan/A, whose margin no fault raises, is out of reach too."""
    with pytest.raises(UsageError, match=r"no threshold of the scorer fusion .*\nfan/A: "):
        figures_of(WantedScorers(default="fusion"), print)
