"""A quantized network and real windows in, its INT8 model with as many layers in float as a budget needs out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_asd.errors import EdgeAsdError
from edge_asd.score import MarginScorer
from edge_asd.types import FloatArray
from export.parity import Evaluated, evaluate
from export.quantize import QuantizedNetwork
from export.runners import runner_from_onnx
from export.trial import Budget, Fit, Trial, embedding_loss, fit_of, windows_at
from export.windows import Windows

# Each layer is measured on as many windows, those that INT8 changes most: the budget must hold on these too.
N_WORST_WINDOWS = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerCost:
    """What quantizing one layer alone changes, on each of the windows that INT8 of all layers changes most.

    node, name: in the network, for people. embedding_loss: 1 - cosine. score_shift: of z, without its sign.
    """

    node: str
    name: str
    embedding_loss: tuple[float, ...]
    score_shift: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A try: one more layer in float than in the try before, and how near that came."""

    layer: str | None
    fit: Fit


@dataclass(frozen=True, slots=True, kw_only=True)
class FittedModel:
    """model: serialized INT8 ONNX that keeps to the budget.

    costs: of all layers, costliest first. in_float: those that are float, in the order in which they became so. steps:
    the tries, the first without any of them. n_pairs: healthy and damaged clips that the AUC compares.
    worst_loss: what all layers cost together on the windows of `costs`.
    """

    model: bytes
    budget: Budget
    costs: tuple[LayerCost, ...]
    in_float: tuple[LayerCost, ...]
    steps: tuple[Step, ...]
    n_pairs: int
    worst_loss: tuple[float, ...]

    @property
    def fit(self) -> Fit:
        """Of the model, on all windows."""
        return self.steps[-1].fit

    @property
    def float_layers(self) -> tuple[str, ...]:
        """Names of what is float."""
        return tuple(cost.name for cost in self.in_float)


def fit_int8(
    network: QuantizedNetwork,
    onnx_fp32: bytes,
    trial: Trial,
    scorer: MarginScorer,
    *,
    budget: Budget,
    say: Callable[[str], None],
) -> FittedModel:
    """Measure what each layer costs alone, and put the costliest into float, one after the other, until it is enough.

    All layers together cost more than the sum of each alone, so every try is measured anew; which layer is next is a
    guess by its own cost: the one without which the window that is worst by now would be best.

    Args:
        network: with all layers in INT8.
        onnx_fp32: what it was made of.
        trial: the windows.
        scorer: of the bundle.
        budget: that the model has to keep to.
        say: is told what takes long.

    Raises:
        EdgeAsdError: not even with all layers but one in float is it enough.
    """
    reference = _answers(onnx_fp32, trial.windows, scorer)
    model = network.model(in_float=())
    everything = _answers(model, trial.windows, scorer)
    loss = embedding_loss(reference, everything)
    rows = np.argsort(loss)[::-1][:N_WORST_WINDOWS]
    worst, worst_reference, worst_loss = windows_at(trial.windows(), rows), _at(reference, rows), loss[rows]
    steps = [Step(layer=None, fit=fit_of(reference, everything, trial))]
    say(f"INT8 of all {len(network.layers)} layers: {told(steps[0].fit)}; measuring each layer alone")
    costs = layer_costs(network, worst, worst_reference, scorer)
    in_float: list[LayerCost] = []
    while not budget.holds(steps[-1].fit):
        rest = [cost for cost in costs if cost not in in_float]
        if len(rest) == 1:
            raise EdgeAsdError(
                f"INT8 with all layers but {rest[0].name} in float: {told(steps[-1].fit)}; expected {budget}; "
                "give more varied calibration clips"
            )
        in_float.append(min(rest, key=lambda cost: (worst_loss - np.array(cost.embedding_loss)).max()))
        model = network.model(in_float=[cost.node for cost in in_float])
        found = _answers(model, lambda: iter([worst]), scorer)
        fit, worst_loss = fit_of(worst_reference, found, None), embedding_loss(worst_reference, found)
        if budget.holds(fit):  # only then is it worth the time to try it on everything
            fit = fit_of(reference, _answers(model, trial.windows, scorer), trial)
        steps.append(Step(layer=in_float[-1].name, fit=fit))
        say(f"with {in_float[-1].name} in float, {len(in_float)} of {len(costs)}: {told(fit)}")
    return FittedModel(
        model=model,
        budget=budget,
        costs=costs,
        in_float=tuple(in_float),
        steps=tuple(steps),
        n_pairs=trial.n_pairs(),
        worst_loss=tuple(loss[rows].tolist()),
    )


def layer_costs(
    network: QuantizedNetwork, windows: Windows, reference: Evaluated, scorer: MarginScorer
) -> tuple[LayerCost, ...]:
    """What quantizing each layer alone changes of the float32 answers to these windows, costliest first."""
    costs = []
    for node, name in network.layers.items():
        alone = network.draft(in_float=[other for other in network.layers if other != node])
        found = _answers(alone, lambda: iter([windows]), scorer)
        shift: FloatArray = np.abs(reference.score - found.score)
        costs.append(
            LayerCost(
                node=node,
                name=name,
                embedding_loss=tuple(embedding_loss(reference, found).tolist()),
                score_shift=tuple(shift.tolist()),
            )
        )
    return tuple(sorted(costs, key=lambda cost: max(cost.embedding_loss), reverse=True))


def told(fit: Fit) -> str:
    """A fit, for people."""
    drop = "" if fit.auc_drop is None else f", AUC drop {100 * fit.auc_drop:.2f} points"
    return (
        f"lowest embedding cosine {fit.parity.embedding_cosine_min:.5f} on {fit.parity.n_windows} windows, largest "
        f"score shift {fit.parity.score_difference_max:.3f}{drop}"
    )


def _answers(model: bytes, windows: Callable[[], Iterator[Windows]], scorer: MarginScorer) -> Evaluated:
    return evaluate({"": runner_from_onnx(model, "int8")}, windows(), scorer)[""]


def _at(evaluated: Evaluated, rows: NDArray[np.intp]) -> Evaluated:
    return Evaluated(embedding=evaluated.embedding[rows], score=evaluated.score[rows])
