"""A network that claims what no engine should be handed is refused before an engine sees it."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_asd.bundle import TensorSpec, tensor_specs
from edge_asd.bundle.onnx_check import MAX_FIELDS, MAX_NODES, check_onnx
from edge_asd.errors import BundleError
from edge_asd.types import FeatureSpec

SPEC = FeatureSpec(window_samples=2_048, n_fft=256, hop_samples=256, n_mels=8)
INPUTS, OUTPUTS = tensor_specs(SPEC, 3)
NODE, INITIALIZER, SPARSE, VALUE = 1, 5, 15, 13
RAW_DATA = 9


def check(network: bytes) -> None:
    """As a device would."""
    check_onnx(network, inputs=INPUTS, outputs=OUTPUTS, where="x.asd: model.onnx")


def test_network_of_its_manifest_is_taken(bare_onnx):
    """With weights, nodes and attributes; the real ones are tested with the example and the hand network."""
    field = bare_onnx.field
    weights = field(1, 2) + field(1, 3) + field(2, 1) + field(RAW_DATA, bytes(24))
    node = field(4, b"Constant") + field(5, field(1, b"value") + field(5, weights))
    check(bare_onnx(SPEC, 3, graph=field(INITIALIZER, weights) + field(NODE, node)))


def test_real_network_is_taken(make_hand_bundle):
    """What the package onnx writes."""
    bundle = make_hand_bundle()
    manifest = bundle.manifest
    check_onnx(bundle.onnx_model("fp32"), inputs=manifest.inputs, outputs=manifest.outputs, where="x")


def test_weights_outside_the_network_are_refused(bare_onnx):
    """ONNX may name any file of the device as the place of weights: neither the name nor the mark is taken."""
    field = bare_onnx.field
    place = field(13, field(1, b"location") + field(2, b"../../etc/shadow"))
    for tensor in (field(1, 4) + place, field(1, 4) + field(14, 1)):
        with pytest.raises(BundleError, match="in a file outside"):
            check(bare_onnx(SPEC, 3, graph=field(INITIALIZER, tensor)))
        node = field(NODE, field(5, field(5, tensor)))
        with pytest.raises(BundleError, match="in a file outside"):
            check(bare_onnx(SPEC, 3, graph=node))


@pytest.mark.parametrize("shape", [[10**12], [2**40, 2**40], [2**63], [2**64 - 1], [1] * 500, [7, 7, 7]])
def test_weights_that_claim_more_than_they_hold_are_refused(bare_onnx, shape):
    """One dimension, their product, a negative one, or too many of them; the packed form too."""
    field = bare_onnx.field
    data = field(2, 1) + field(RAW_DATA, bytes(24))
    single = b"".join(field(1, size) for size in shape) + data
    packed = field(1, b"".join(field(0, size)[1:] for size in shape)) + data
    for tensor in (single, packed):
        with pytest.raises(BundleError, match="claims"):
            check(bare_onnx(SPEC, 3, graph=field(INITIALIZER, tensor)))


def test_absurd_shape_between_nodes_is_refused(bare_onnx):
    """A tensor that no device could hold."""
    field = bare_onnx.field
    size = field(1, field(1, 2**20))
    value = field(1, b"x") + field(2, field(1, field(1, 1) + field(2, size * 2)))
    with pytest.raises(BundleError, match="has the shape"):
        check(bare_onnx(SPEC, 3, graph=field(VALUE, value)))


def test_other_inputs_or_outputs_than_the_manifests_are_refused(bare_onnx):
    """Both are named."""
    with pytest.raises(BundleError, match=r"outputs are .*cosine \(batch, 4\).*manifest's .*cosine \(batch, 3\)"):
        check(bare_onnx(SPEC, 4))
    extra = (*INPUTS, TensorSpec(name="door", shape=("batch", 1)))
    with pytest.raises(BundleError, match="door"):
        check_onnx(bare_onnx(SPEC, 3), inputs=extra, outputs=OUTPUTS, where="x")


@pytest.mark.parametrize(
    ("number", "said"), [(6, "a graph"), (11, "graphs"), (22, "a sparse tensor"), (23, "sparse tensors")]
)
def test_graphs_within_nodes_are_refused(bare_onnx, number, said):
    """Loops and branches have no use here, and nest."""
    field = bare_onnx.field
    with pytest.raises(BundleError, match=said):
        check(bare_onnx(SPEC, 3, graph=field(NODE, field(5, field(number, b"")))))


def test_functions_training_foreign_operators_and_sparse_weights_are_refused(bare_onnx):
    """Whatever an engine might be extended by."""
    field = bare_onnx.field
    for network in (
        bare_onnx(SPEC, 3, model=field(25, b"")),
        bare_onnx(SPEC, 3, model=field(20, b"")),
        bare_onnx(SPEC, 3, graph=field(SPARSE, b"")),
        bare_onnx(SPEC, 3, graph=field(NODE, field(7, b"com.evil"))),
    ):
        with pytest.raises(BundleError, match="expected the network that the exporter wrote"):
            check(network)


def test_number_of_nodes_and_fields_is_bounded(bare_onnx):
    """Checking takes no longer for it."""
    field = bare_onnx.field
    with pytest.raises(BundleError, match="nodes"):
        check(bare_onnx(SPEC, 3, graph=field(NODE, b"") * (MAX_NODES + 1)))
    with pytest.raises(BundleError, match="fields"):
        check(bare_onnx(SPEC, 3, graph=field(99, b"") * (MAX_FIELDS + 1)))


def test_two_graphs_or_none_are_refused(bare_onnx):
    """Protobuf would join them."""
    for network in (b"", bare_onnx(SPEC, 3) * 2):
        with pytest.raises(BundleError, match="graphs"):
            check(network)


@given(data=st.binary(max_size=300))
def test_any_bytes_end_in_a_bundle_error(data):
    """Nothing that is no network gets through, or ends in another exception."""
    with pytest.raises(BundleError):
        check(data)


@given(position=st.integers(0), flip=st.integers(1, 255), cut=st.integers(0, 40))
def test_any_damage_is_refused_or_harmless(bare_onnx, position, flip, cut):
    """A byte changed and an end cut off: a bundle error, or a network with the same inputs and outputs."""
    field = bare_onnx.field
    weights = field(1, 2) + field(1, 3) + field(2, 1) + field(RAW_DATA, bytes(24))
    graph = field(INITIALIZER, weights) + field(NODE, field(5, field(5, weights)))
    network = bytearray(bare_onnx(SPEC, 3, graph=graph))
    network[position % len(network)] ^= flip
    with suppress(BundleError):
        check(bytes(network[: len(network) - cut]))
