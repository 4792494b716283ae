"""Figures of a bundle where not every scorer can have thresholds."""

import dataclasses

import pytest

from edge_asd.errors import UsageError
from edge_asd.score import MarginScorer
from edge_asd.threshold import Target
from edge_asd.types import FeatureSpec
from export.figures import bundle_figures
from export.onnx_model import onnx_from_network
from export.scorer_options import WantedScorers
from export.windows import find_calibration_clips, read_windows


@pytest.fixture
def figures_of(clip_folder, small_checkpoint, monkeypatch):
    """A function that makes the figures of fan/A alone by a scorer, where no margin threshold meets the target."""

    def refuse(*_, **__):
        raise UsageError("too few false alarms for this margin")

    monkeypatch.setattr("export.figures.fit_thresholds", refuse)
    monkeypatch.setattr("export.figures.ENGINES", ("onnxruntime",))  # one is enough here
    spec, classes = FeatureSpec(), small_checkpoint.classes
    clips = find_calibration_clips(clip_folder, small_checkpoint)
    sides = {side.name: getattr(clips, side.name) for side in dataclasses.fields(clips)}
    clips = dataclasses.replace(
        clips, **{name: tuple(one for one in side if one.class_name == "fan/A") for name, side in sides.items()}
    )

    def make(scorer, say):
        return bundle_figures(
            small_checkpoint.network,
            {"int8": onnx_from_network(small_checkpoint.network, spec)},
            clips,
            lambda recordings: read_windows(clip_folder, recordings, classes=classes, spec=spec),
            classes=classes,
            spec=spec,
            scorer=MarginScorer(30.0, 0.4, n_classes=len(classes)),
            wanted=WantedScorers(default=scorer),
            target=Target(false_alarms_per_day=800.0, window_s=10.0),
            say=say,
        )

    return make


def test_scorer_that_nobody_chose_needs_no_threshold(figures_of):
    """Encoders that keep noise are for nearest neighbours: their margin may tell nothing."""
    said = []
    figures = figures_of("knn", said.append)
    assert figures.thresholds == {}
    assert "knn" in figures.remembered.section.memories["fan/A"].thresholds
    assert any(line.startswith("no thresholds for the scorer margin") for line in said)


def test_scorer_that_was_chosen_needs_one(figures_of):
    """Else a device could not serve the class."""
    with pytest.raises(UsageError, match="for this margin"):
        figures_of("margin", print)
