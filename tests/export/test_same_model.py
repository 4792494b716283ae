"""A checkpoint and the bundle that is said to be of it."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from edge_asd.errors import BundleError
from edge_asd.features import log_mel_db
from export.compare import check_same_model
from export.runners import runner_from_network
from train.checkpoint import network_for_device


@pytest.fixture(scope="module")
def bundle_of(small_checkpoint):
    """A function that gives what a bundle of the checkpoint says of it."""
    spec = small_checkpoint.feature_spec
    wave = (0.1 * np.random.default_rng(0).standard_normal((2, spec.window_samples))).astype(np.float32)
    log_mel = log_mel_db(wave, spec)
    outputs = runner_from_network(network_for_device(small_checkpoint))(wave, log_mel)
    golden = SimpleNamespace(wave=wave, log_mel=log_mel, embedding=outputs.embedding)

    def of(classes):
        manifest = SimpleNamespace(classes=classes, feature_spec=spec)
        return SimpleNamespace(path=Path("tones.asd"), manifest=manifest, golden=golden)

    return of


def test_its_own_checkpoint_passes(small_checkpoint, bundle_of) -> None:
    """Golden values are those of the float32 network."""
    check_same_model(small_checkpoint, bundle_of(small_checkpoint.classes))


def test_other_classes_are_refused(small_checkpoint, bundle_of) -> None:
    """By name."""
    with pytest.raises(BundleError, match=r"tones.asd has classes fan/Z"):
        check_same_model(small_checkpoint, bundle_of(("fan/Z",)))


def test_other_weights_are_refused(small_checkpoint, bundle_of) -> None:
    """Another training on the same classes: a comparison would be of two models."""
    other = dataclasses.replace(small_checkpoint, network=type(small_checkpoint.network)(small_checkpoint.spec))
    torch.manual_seed(4)
    for parameter in other.network.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    with pytest.raises(BundleError, match=r"tones.asd: on its golden windows .* was made of another training"):
        check_same_model(other, bundle_of(small_checkpoint.classes))
