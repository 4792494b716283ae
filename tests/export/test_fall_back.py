"""INT8 keeps to its budget, by as many of its costliest layers in float as that takes."""

from __future__ import annotations

import json

import numpy as np
import pytest

from edge_asd.bundle import ParityFigures
from edge_asd.errors import EdgeAsdError
from edge_asd.score import MarginScorer
from edge_asd.types import EngineOutputs
from export.fall_back import fit_int8
from export.int8_report import int8_text, write_report
from export.parity import Evaluated
from export.quantize import QuantizedNetwork
from export.trial import Budget, Fit, Trial, fit_of
from export.windows import Windows

SCORER = MarginScorer(30.0, 0.4, n_classes=3)


class ThreeLayers(QuantizedNetwork):
    """Stands for a quantized network: its drafts name what is in float, and `answers` below takes them."""

    def __init__(self) -> None:
        self.layers = {"a": "first", "b": "second", "c": "third"}

    def draft(self, *, in_float):
        return ",".join(sorted(in_float)).encode()

    model = draft


@pytest.fixture
def make_runners(monkeypatch):
    """A function that gives each layer of `ThreeLayers` a loss in INT8, and float32 answers to four windows."""

    def make(**losses):
        def answers(model, _precision, engine="onnxruntime"):  # noqa: ARG001 - the runner's signature
            in_float = model.decode().split(",") if model != b"fp32" else list(losses)
            loss = sum(value for name, value in losses.items() if name not in in_float)

            def run(wave, _log_mel):
                angle = np.arccos(1.0 - loss) * wave[:, 0]  # (B,) the first sample says how hard a window is hit
                embedding = np.stack([np.cos(angle), np.sin(angle)], axis=1).astype(np.float32)  # (B, 2)
                cosine = np.tile(embedding[:, :1] - 0.5, (1, 3)) + wave[:, 1:2] * np.eye(3, dtype=np.float32)[0]
                return EngineOutputs(embedding=embedding, cosine=cosine.astype(np.float32))

            return run

        monkeypatch.setattr("export.fall_back.runner_from_onnx", answers)

    return make


def trial(hits=(1.0, 0.5, 0.2, 0.0)) -> Trial:
    """Four windows in two batches, the last two labelled."""
    wave = np.zeros((4, 8), np.float32)
    wave[:, 0] = hits
    wave[2:, 1] = (0.3, -0.3)  # the healthy clip is near its class, the damaged one is not
    batches = [
        Windows(wave=wave[rows], log_mel=np.zeros((2, 1, 1), np.float32), label=np.zeros(2, np.int64))
        for rows in (slice(0, 2), slice(2, 4))
    ]
    return Trial(windows=lambda: iter(batches), class_names=("m/1", "m/1"), is_anomaly=np.array([False, True]))


def test_no_layer_is_float_where_int8_keeps_to_the_budget(make_runners):
    """One try, on all windows."""
    make_runners(a=0.001, b=0.002, c=0.001)
    fitted = fit_int8(ThreeLayers(), b"fp32", trial(), SCORER, budget=Budget(), say=lambda _: None)
    assert (fitted.float_layers, len(fitted.steps), fitted.model) == ((), 1, b"")
    assert fitted.fit.parity.embedding_cosine_min == pytest.approx(0.996, abs=1e-5)


def test_costliest_layers_are_float_until_the_budget_holds(make_runners):
    """No more of them, and the model that comes out is the one that was tried on everything."""
    make_runners(a=0.002, b=0.009, c=0.004)
    lines: list[str] = []
    fitted = fit_int8(ThreeLayers(), b"fp32", trial(), SCORER, budget=Budget(), say=lines.append)
    assert [cost.name for cost in fitted.costs] == ["second", "third", "first"]
    assert [max(cost.embedding_loss) for cost in fitted.costs] == pytest.approx([0.009, 0.004, 0.002], abs=1e-5)
    assert fitted.float_layers == ("second", "third")
    assert fitted.model == b"b,c"
    assert [step.layer for step in fitted.steps] == [None, "second", "third"]
    assert fitted.fit.parity.n_windows == 4
    assert max(fitted.worst_loss) == pytest.approx(0.015, abs=1e-5)
    assert "second in float, 1 of 3" in lines[1]


def test_budget_that_no_layer_keeps_is_refused(make_runners):
    """With what was reached, the budget, and what to do."""
    make_runners(a=0.2, b=0.2, c=0.2)
    with pytest.raises(EdgeAsdError, match=r"all layers but .* in float: lowest .*0\.8.*at least 0\.995.*more varied"):
        fit_int8(ThreeLayers(), b"fp32", trial(), SCORER, budget=Budget(), say=lambda _: None)


@pytest.mark.parametrize(
    ("cosine", "drop", "holds"),
    [(0.995, 0.002, True), (0.9949, 0.0, False), (1.0, 0.0021, False), (1.0, None, True), (1.0, -0.1, True)],
)
def test_budget_has_two_parts(cosine, drop, holds):
    """Both bounds are allowed; a higher AUC is no drop; without labelled clips the cosine alone decides."""
    parity = ParityFigures(
        precision="int8",
        engine="onnxruntime",
        n_windows=3,
        embedding_cosine_min=cosine,
        embedding_cosine_mean=1.0,
        score_difference_max=0.0,
        score_difference_mean=0.0,
    )
    assert Budget().holds(Fit(parity=parity, auc_drop=drop)) is holds


def test_auc_drop_is_the_mean_over_classes():
    """Of the labelled clips alone, which come last; a class without damaged clips has no AUC."""
    asked = Trial(
        windows=lambda: iter(()),
        class_names=("m/1", "m/1", "m/2", "m/2", "m/3"),
        is_anomaly=np.array([False, True, False, True, False]),
    )
    embedding = np.ones((6, 2), np.float32)
    reference = Evaluated(embedding=embedding, score=np.array([99, 0, 1, 0, 1, 5], np.float32))
    found = Evaluated(embedding=embedding, score=np.array([-99, 0, 1, 1, 0, 5], np.float32))
    assert asked.n_pairs() == 2
    assert fit_of(reference, found, asked).auc_drop == 0.5
    assert fit_of(reference, found, None).auc_drop is None


def test_report_names_what_is_float_and_shows_it(make_runners, tmp_path):
    """Markdown, a picture, and the same figures as JSON, without the model."""
    make_runners(a=0.002, b=0.009, c=0.004)
    fitted = fit_int8(ThreeLayers(), b"fp32", trial(), SCORER, budget=Budget(), say=lambda _: None)
    write_report(tmp_path / "new", fitted, title="m 1.0")
    text = (tmp_path / "new" / "int8.md").read_text()
    assert int8_text(fitted) in text
    assert "keeps in float: second, third" in text
    assert "| first | INT8 | 0.00200 |" in text
    assert "1 pair" in text
    figures = json.loads((tmp_path / "new" / "int8.json").read_text())
    assert [cost["name"] for cost in figures["costs"]] == ["second", "third", "first"]
    assert figures["steps"][-1]["fit"]["parity"]["n_windows"] == 4
    assert "model" not in figures
    assert (tmp_path / "new" / "int8.png").read_bytes().startswith(b"\x89PNG")
