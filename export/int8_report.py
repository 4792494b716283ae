"""An INT8 model that was fitted to its budget in, Markdown, JSON and a picture of what each layer costs out."""

from __future__ import annotations

import dataclasses
import io
import json
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

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
    for figure in (*figures["steps"],):
        figure["fit"]["parity"] = figure["fit"]["parity"].model_dump()
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
    n_float = len(fitted.in_float)
    kept = ", ".join(fitted.float_layers) or "nothing"
    summed = sum(cost.embedding_loss_mean for cost in fitted.costs)
    budget = (
        f"The INT8 model keeps in float: {kept}. Budget: {fitted.budget}, against the float32 model on ONNX Runtime, "
        f"over healthy clips as they are and up to 30 dB louder, and over the labelled clips. Reached: "
        f"{told(fitted.fit)}. With all layers in INT8: {told(fitted.steps[0].fit)}."
    )
    costs = (
        f"Cost of a layer: it alone in INT8, over the {fitted.n_worst} windows that INT8 of all layers changes most. "
        f"Together the layers lose {fitted.worst_loss_mean:.4f} of embedding cosine there in the mean, the sum of each "
        f"alone is {summed:.4f}. The {min(_TABLE_ROWS, len(fitted.costs))} costliest of {len(fitted.costs)}:"
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
                        "float" if place < n_float else "INT8",
                        f"{cost.embedding_loss_max:.5f}",
                        f"{cost.embedding_loss_mean:.5f}",
                        f"{cost.score_shift_max:.3f}",
                        f"{cost.score_shift_mean:.3f}",
                    )
                    for place, cost in enumerate(fitted.costs[: max(_TABLE_ROWS, n_float)])
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
    colors = [_FLOAT if place < len(fitted.in_float) else _INT8 for place in range(n_layers)]
    _draw_costs(losses, names, [cost.embedding_loss_max for cost in fitted.costs], colors)
    losses.set_xscale("log")
    losses.set_title("embedding cosine lost, largest of a window", fontsize=9, loc="left")
    _draw_costs(shifts, [""] * n_layers, [cost.score_shift_max for cost in fitted.costs], colors)
    shifts.set_title("score shift, largest of a window", fontsize=9, loc="left")
    for color, label in ((_FLOAT, "stays in float"), (_INT8, "INT8")):
        shifts.barh([0], [0], color=color, label=label)
    shifts.legend(fontsize=8, loc="lower right", frameon=False)
    _draw_tries(tries, [(step.n_float, step.fit) for step in fitted.steps], fitted.budget.min_embedding_cosine)
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


def _draw_tries(axis: Axes, tries: list[tuple[int, Fit]], least: float) -> None:
    places = [n_float for n_float, _ in tries]
    axis.plot(places, [fit.parity.embedding_cosine_min for _, fit in tries], "o-", color=_INT8, lw=1.2, ms=4)
    axis.axhline(least, color="black", ls="--", lw=1, label=f"budget {least:g}")
    axis.set_xticks(places)
    axis.set_xlabel("costliest layers in float", fontsize=8)
    axis.set_title("lowest embedding cosine of the tries", fontsize=9, loc="left")
    axis.tick_params(labelsize=7)
    axis.grid(axis="y", color="#dddddd", lw=0.6)
    axis.legend(fontsize=8, loc="lower right", frameon=False)
