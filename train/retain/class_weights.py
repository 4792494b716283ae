"""A trained network and mixtures in, the network with its mean embedding of each class as class weight out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - the name that torch's own documents use
from torch import Tensor

from edge_asd.types import FeatureSpec
from train.augment import alter_window
from train.front_end import FrontEnd
from train.network import EMBEDDING_SIZE, Network
from train.retain.mixtures import Mixtures
from train.windows import ALTERED_SUFFIX

_BATCH = 16


def classes_of_result(start: tuple[str, ...], machines: tuple[str, ...]) -> tuple[str, ...]:
    """The start's classes where these are its machines, altered twins included; else the machines."""
    same = {name for name in start if not name.endswith(ALTERED_SUFFIX)} == set(machines)
    return start if same else machines


@torch.inference_mode()
def with_mean_embeddings(
    network: Network,
    mixtures: Mixtures,
    *,
    names: tuple[str, ...],
    machines: tuple[str, ...],
    draws_each: int,
    feature_spec: FeatureSpec,
) -> Network:
    """Give a network class weights for the margin score, which no loss of retention trains.

    Args:
        network: as trained.
        mixtures: of the machines.
        names: classes of the result. An altered twin gets windows altered as `train.fit` does, in the same noise.
        machines: in the order of the labels.
        draws_each: mixtures of each machine.
        feature_spec: of the network.
    """
    network = network.eval().cpu()
    result = Network(replace(network.spec, n_classes=len(names)), feature_spec).eval()
    fresh, trained = result.state_dict(), network.state_dict()
    result.load_state_dict(
        {name: trained[name] if trained[name].shape == value.shape else value for name, value in fresh.items()}
    )
    front_end = FrontEnd(network.spec.branches, feature_spec)
    sums = torch.zeros(len(names), EMBEDDING_SIZE)

    def add(wave: Tensor, machine: Tensor, suffix: str) -> None:
        places = torch.tensor([names.index(machines[label] + suffix) for label in machine.tolist()])
        sums.index_add_(0, places, network(*front_end(wave))[0])

    n_draws = draws_each * len(machines)
    for first in range(0, n_draws, _BATCH):
        draws = range(first, min(first + _BATCH, n_draws))
        batch = mixtures.__getitems__(draws)
        add(batch.mixture, batch.machine, "")
        if len(names) > len(machines):
            altered = np.stack(
                [
                    alter_window(clean, np.random.default_rng(draw))
                    for draw, clean in zip(draws, batch.clean.numpy(), strict=True)
                ]
            )
            add(torch.from_numpy(altered) + batch.noise, batch.machine, ALTERED_SUFFIX)
    result.class_weight.copy_(F.normalize(sums))
    return result
