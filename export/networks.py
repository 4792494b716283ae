"""A trained network and clips in, the ONNX networks of a bundle, one a precision, out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np

from edge_asd.bundle import Precision
from edge_asd.score import MarginScorer
from edge_asd.types import FeatureSpec
from export.fall_back import FittedModel, fit_int8
from export.half import half_from_fp32
from export.onnx_model import onnx_from_network
from export.quantize import quantize
from export.trial import Budget, Trial
from export.windows import Clips, Reader, with_louder
from train.data import Recording
from train.network import Network

# INT8 ranges settle on far fewer clips than a data set may hold.
_MAX_RANGE_CLIPS = 100
# Of each kind: thousands of pairs of a healthy and a damaged clip tell a drop of the AUC as well as all would.
_MAX_LABELLED_CLIPS = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Networks:
    """What a bundle runs.

    models: serialized ONNX by precision, in the order of tables. int8: how the INT8 one was fitted to its budget.
    """

    models: Mapping[Precision, bytes]
    int8: FittedModel


def export_networks(
    network: Network,
    spec: FeatureSpec,
    clips: Clips,
    read: Reader,
    *,
    half: bool,
    say: Callable[[str], None],
) -> Networks:
    """Export, quantize and keep to the budget.

    Args:
        network: in evaluation mode.
        spec: of its front end.
        clips: the data folder's.
        read: makes windows of clips.
        half: whether there shall be one in half precision.
        say: is told what happens.

    Raises:
        ClipError: a clip cannot be used.
        EdgeAsdError: the network does not export or quantize.
    """
    say("exporting to ONNX")
    onnx_fp32 = onnx_from_network(network, spec)
    ranges = _spread(clips.for_ranges, _MAX_RANGE_CLIPS)
    say(f"quantizing to INT8 with ranges of {len(ranges)} healthy clips, as they are and louder")
    int8 = fit_int8(
        quantize(onnx_fp32, with_louder(read(ranges), spec)),
        onnx_fp32,
        _trial(clips, ranges, read, spec),
        MarginScorer(network.spec.scale, network.spec.margin, n_classes=network.spec.n_classes),
        budget=Budget(),
        say=say,
    )
    halves: dict[Precision, bytes] = {"fp16": half_from_fp32(onnx_fp32)} if half else {}
    return Networks(models={"fp32": onnx_fp32, **halves, "int8": int8.model}, int8=int8)


def _trial(clips: Clips, ranges: Sequence[Recording], read: Reader, spec: FeatureSpec) -> Trial:
    """The clips of the ranges as they are and louder, and the labelled ones that were not trained on."""
    healthy = _spread(clips.calibration + clips.test_normal, _MAX_LABELLED_CLIPS)
    damaged = _spread(clips.test_anomaly, _MAX_LABELLED_CLIPS)
    labelled = (*healthy, *damaged)
    return Trial(
        windows=lambda: chain(with_louder(read(ranges), spec), read(labelled)),
        class_names=tuple(recording.class_name for recording in labelled),
        is_anomaly=np.arange(len(labelled)) >= len(healthy),
    )


def _spread(recordings: Sequence[Recording], n_most: int) -> tuple[Recording, ...]:
    """At most so many, spread evenly over all."""
    places = np.unique(np.linspace(0, len(recordings) - 1, min(n_most, len(recordings))).round().astype(int))
    return tuple(recordings[place] for place in places)
