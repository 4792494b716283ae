"""An INT8 model that was fitted to its budget in, Markdown, JSON and a picture of what each layer costs out."""

from __future__ import annotations

import dataclasses
import io
import json
from pathlib import Path
from statistics import fmean

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from edge_asd.errors import UsageError
from export.fall_back import FittedModel, told
from export.markdown import table
from export.trial import Fit

mpl.use("Agg")

_INT8, _FLOAT = "#1f4e79", "#c0392b"
_TABLE_ROWS = 10
_NAME = "int8"


def write_report(folder: Path, fitted: FittedModel, *, title: str) -> None:
    """Write int8.md, int8.png and int8.json into a folder, which is made where it is missing.

    title: name and version of the model.

    Raises:
        UsageError: the folder cannot be written.
    """
    figures = {name: value for name, value in dataclasses.asdict(fitted).items() if name != "model"}
    for step in figures["steps"]:
        step["fit"]["parity"] = step["fit"]["parity"].model_dump()
    text = f"# INT8 of {title}\n\n{int8_text(fitted)}\n\n![cost of each layer, and of the tries]({_NAME}.png)\n"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{_NAME}.md").write_text(text, encoding="utf-8")
        (folder / f"{_NAME}.png").write_bytes(int8_picture(fitted))
        (folder / f"{_NAME}.json").write_text(json.dumps(figures, indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise UsageError(f"--report {folder}: cannot be written ({error}); expected a folder to write into") from error


def int8_text(fitted: FittedModel) -> str:
    """Budget, what was reached, and the costliest layers, as Markdown."""
    kept = ", ".join(fitted.float_layers) or "nothing"
    summed = sum(fmean(cost.embedding_loss) for cost in fitted.costs)
    shown = [cost for place, cost in enumerate(fitted.costs) if place < _TABLE_ROWS or cost in fitted.in_float]
    budget = (
        f"The INT8 model keeps in float: {kept}. Budget: {fitted.budget}, against the float32 model on ONNX Runtime, "
        f"over healthy clips as they are and up to 30 dB louder, and over the labelled clips. Reached: "
        f"{told(fitted.fit)}. With all layers in INT8: {told(fitted.steps[0].fit)}."
    )
    costs = (
        f"Cost of a layer: it alone in INT8, over the {len(fitted.worst_loss)} windows that INT8 of all layers changes "
        f"most. Together the layers lose {fmean(fitted.worst_loss):.4f} of embedding cosine there in the mean, the sum "
        f"of each alone is {summed:.4f}. {len(shown)} of {len(fitted.costs)} layers, costliest first:"
    )
    return "\n\n".join(
        [
            budget,
            _auc_note(fitted),
            costs,
            table(
                ("layer", "in", "embedding cosine lost, largest", "mean", "score shift, largest", "mean"),
                [
                    (
                        cost.name,
                        "float" if cost in fitted.in_float else "INT8",
                        f"{max(cost.embedding_loss):.5f}",
                        f"{fmean(cost.embedding_loss):.5f}",
                        f"{max(cost.score_shift):.3f}",
                        f"{fmean(cost.score_shift):.3f}",
                    )
                    for cost in shown
                ],
            ),
        ]
    )


def _auc_note(fitted: FittedModel) -> str:
    if not fitted.n_pairs:
        return (
            "No class had damaged clips and healthy ones that were not trained on: the budget of the AUC says nothing."
        )
    return (
        f"The AUC is that of {fitted.n_pairs} pairs of a healthy and a damaged clip. The labelled clips decided which "
        "layers are float, by how far INT8 is from float32 on them, never by which is better."
    )


def int8_picture(fitted: FittedModel) -> bytes:
    """A PNG: each layer's loss of embedding cosine and shift of the score, and how near each try came to the budget."""
    n_layers = len(fitted.costs)
    figure = Figure(figsize=(12.4, 1.6 + 0.19 * n_layers), layout="constrained")
    losses, shifts, tries = figure.subplots(1, 3, width_ratios=(2, 2, 1.6))
    names = [cost.name for cost in fitted.costs]
    colors = [_FLOAT if cost in fitted.in_float else _INT8 for cost in fitted.costs]
    _draw_costs(losses, names, [max(cost.embedding_loss) for cost in fitted.costs], colors)
    losses.set_xscale("log")
    losses.set_title("embedding cosine lost, largest of a window", fontsize=9, loc="left")
    _draw_costs(shifts, [""] * n_layers, [max(cost.score_shift) for cost in fitted.costs], colors)
    shifts.set_yticks([])
    shifts.set_title("score shift, largest of a window", fontsize=9, loc="left")
    for color, label in ((_FLOAT, "stays in float"), (_INT8, "INT8")):
        shifts.barh([0], [0], color=color, label=label)
    shifts.legend(fontsize=8, loc="lower right", frameon=False)
    _draw_tries(tries, [step.fit for step in fitted.steps], fitted.budget.min_embedding_cosine)
    figure.suptitle("One layer alone in INT8, all others in float32", fontsize=10, x=0.01, ha="left")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=100)
    return buffer.getvalue()


def _draw_costs(axis: Axes, names: list[str], values: list[float], colors: list[str]) -> None:
    axis.barh(range(len(values)), values, color=colors)
    axis.set_yticks(range(len(values)), names, fontsize=7)
    axis.set_ylim(len(values) - 0.4, -0.6)  # the costliest at the top
    axis.tick_params(labelsize=7)
    axis.grid(axis="x", color="#dddddd", lw=0.6)
    axis.set_axisbelow(True)


def _draw_tries(axis: Axes, tries: list[Fit], least: float) -> None:
    places = range(len(tries))
    axis.plot(places, [fit.parity.embedding_cosine_min for fit in tries], "o-", color=_INT8, lw=1.2, ms=4)
    axis.axhline(least, color="black", ls="--", lw=1, label=f"budget {least:g}")
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.set_xlabel("layers in float", fontsize=8)
    axis.set_title("lowest embedding cosine of the tries", fontsize=9, loc="left")
    axis.tick_params(labelsize=7)
    axis.grid(axis="y", color="#dddddd", lw=0.6)
    axis.legend(fontsize=8, loc="lower right", frameon=False)
