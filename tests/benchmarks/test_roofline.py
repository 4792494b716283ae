"""Operations and bytes that are counted, and the least time that follows."""

import pytest
from onnx import TensorProto, helper

from benchmarks import roofline
from benchmarks.roofline import Ceilings, Work
from edge_asd.types import FeatureSpec


def small_network() -> bytes:
    """From wave (B, 3, 8): Conv to (B, 4, 6), Relu, flatten, Gemm to (B, 5)."""
    nodes = [
        helper.make_node("Conv", ["wave", "kernel"], ["conv"], kernel_shape=[3]),
        helper.make_node("Relu", ["conv"], ["relu"]),
        helper.make_node("Flatten", ["relu"], ["flat"]),
        helper.make_node("Gemm", ["flat", "dense"], ["out"], transB=1),
    ]
    weights = [
        helper.make_tensor("kernel", TensorProto.FLOAT, [4, 3, 3], [0.0] * 36),
        helper.make_tensor("dense", TensorProto.FLOAT, [5, 24], [0.0] * 120),
    ]
    wave = helper.make_tensor_value_info("wave", TensorProto.FLOAT, ["B", 3, 8])
    out = helper.make_tensor_value_info("out", TensorProto.FLOAT, ["B", 5])
    model = helper.make_model(helper.make_graph(nodes, "small", [wave], [out], weights))
    model.opset_import[0].version = 17
    return model.SerializeToString()


def test_products_of_a_network_are_counted_by_hand() -> None:
    """A convolution has 4 * 6 sums of 9 terms, the product 5 of 24; each reads its input and weights and writes."""
    operations = 2 * (4 * 6 * 9 + 5 * 24)
    n_elements = (24 + 36 + 24) + (24 + 120 + 5)
    assert roofline.network_work(small_network(), "fp32") == Work(operations=operations, n_bytes=4 * n_elements)
    assert roofline.network_work(small_network(), "int8") == Work(operations=operations, n_bytes=n_elements)


def test_front_end_reads_each_sample_and_writes_each_result_once() -> None:
    """The published numbers: 160,000 samples, 128 bands, 313 frames of an FFT of 2,048 points."""
    work = roofline.front_end_work(FeatureSpec())
    assert work.n_bytes == 4 * (160_000 + 128 * 313)
    # The operations of a complex FFT of half the length are about 5 n log2 n; radix 4 saves some, the rest adds some.
    assert work.operations / 313 == pytest.approx(5 * 1024 * 10 + 15_000, rel=0.1)


def test_bound_is_the_longer_of_operations_and_bytes() -> None:
    """A precision whose rate is not known is bound by bytes alone."""
    ceilings = Ceilings(bytes_per_s=1e9, operations_per_s={"fp32": 1e9})
    assert Work(operations=5e6, n_bytes=1e6).bound_ms(ceilings) == 5.0
    assert Work(operations=5e5, n_bytes=1e6).bound_ms(ceilings) == 1.0
    assert Work(operations=5e6, n_bytes=1e6).bound_ms(ceilings, "int8") == 1.0


def test_projection_says_what_it_is_and_leaves_out_what_is_not_known(capsys) -> None:
    """Without a GPU the table has all four boards, and no bound for a rate that no data sheet gives."""
    assert roofline.main([]) == 0
    printed = capsys.readouterr().out
    assert "projection" in printed
    assert "measured on no board" in " ".join(printed.split())
    rows = roofline.projection(roofline.EXAMPLE)
    assert list(rows) == ["Orin Nano", "Orin NX", "AGX Orin", "Thor"]
    assert "int8_ms" not in rows["Thor"]
    assert rows["AGX Orin"]["int8_ms"] < rows["Orin Nano"]["int8_ms"] < rows["Orin Nano"]["fp32_ms"]


def test_missing_bundle_is_told(tmp_path, capsys) -> None:
    """A bundle that is not there gives its path and the exit code of a bad bundle."""
    with pytest.raises(SystemExit) as caught:
        roofline.main(["--bundle", str(tmp_path / "absent.asd")])
    assert caught.value.code == 78
    assert "absent.asd" in capsys.readouterr().err
