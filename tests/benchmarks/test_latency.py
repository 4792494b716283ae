"""Latency benchmark: real contestants in processes of their own, and the ratios."""

import json
from typing import ClassVar

import pytest

from benchmarks import latency
from edge_asd.cuda import driver


def test_ratios_compare_medians_with_torch_eager() -> None:
    """A ratio is the median over that of torch eager; whole windows count on their own."""
    contestants = {
        "torch-eager": {"p50_ms": 40.0},
        "openvino-int8": {"p50_ms": 10.0, "whole_window_p50_ms": 12.0},
    }
    assert latency.ratios_to_reference(contestants) == {"openvino-int8": 0.25, "openvino-int8-whole-window": 0.3}
    assert latency.ratios_to_reference({"openvino-int8": {"p50_ms": 10.0}}) == {}


@pytest.mark.timeout(110)
def test_quick_run_measures_real_contestants(tmp_path) -> None:
    """Torch eager and the product's default give latencies, memory and their ratio in one run."""
    pytest.importorskip("torch", reason="torch, the reference contestant, is not installed")
    pytest.importorskip("openvino", reason="the package openvino is not installed")
    path = tmp_path / "latency.json"
    assert latency.main(["--quick", "--only", "torch-eager", "openvino-int8", "--json", str(path)]) == 0
    report = json.loads(path.read_text())
    product, reference = report["contestants"]["openvino-int8"], report["contestants"]["torch-eager"]
    for figures in (product, reference):
        assert 0.0 < figures["p50_ms"] <= figures["p90_ms"] <= figures["p99_ms"] <= figures["max_ms"]
        assert 0.0 < figures["features_p50_ms"] < figures["p50_ms"]
        assert figures["n"] == 15
        assert figures["cpu_p50_ms"] > 0.0
        assert figures["peak_rss_mb"] > 50
    assert report["ratios"]["openvino-int8"] == product["p50_ms"] / reference["p50_ms"]
    assert product["peak_rss_mb"] < reference["peak_rss_mb"]


def test_contestant_that_cannot_be_measured_is_told_and_the_others_go_on(monkeypatch, tmp_path, capsys) -> None:
    """Its reason stands in the JSON and on stderr; it is no gap in the table that nobody sees."""
    pytest.importorskip("onnxruntime", reason="the package onnxruntime is not installed")
    monkeypatch.setattr(latency, "_PAUSE_S", 0.0)
    path = tmp_path / "latency.json"
    assert latency.main(["--quick", "--only", "tensorrt-int8", "onnxruntime-int8", "--json", str(path)]) == 0
    report = json.loads(path.read_text())
    assert set(report["contestants"]) == {"onnxruntime-int8"}
    assert "tensorrt" in report["absent"]["tensorrt-int8"]
    assert "tensorrt-int8 is not measured: " in capsys.readouterr().err


def test_contestant_that_dies_is_told_with_its_exit_code(tmp_path) -> None:
    """Whatever ended it: its message stands above."""
    found, absent = latency.measure(["openvino-int8"], tmp_path / "absent.asd", rounds=1, n_windows=1)
    assert not found
    assert "exit code 1" in absent["openvino-int8"]


def test_contestant_that_dies_in_its_turn_leaves_the_others_theirs() -> None:
    """Its figures are not those of a whole run, so that none is told."""

    class Dying:
        ready: ClassVar = {"ready": "torch-eager"}

        def ask(self, line):
            raise RuntimeError(f"a contestant ended (exit code -9) at {line}")

    runner = latency._Runner(contestant=Dying())
    runner.take_turn(3)
    runner.take_turn(3)
    assert runner.absent == "a contestant ended (exit code -9) at 3"
    assert runner.hop_ms == []


def test_without_a_gpu_its_benchmark_says_why(monkeypatch, capsys) -> None:
    """There is no figure of a GPU without one."""
    monkeypatch.setattr(driver, "LIBRARY", "libcuda-of-no-machine.so")
    with pytest.raises(SystemExit) as caught:
        latency.main(["--gpu"])
    assert caught.value.code == 69
    assert "no CUDA driver" in capsys.readouterr().err


def test_missing_bundle_is_told(tmp_path, capsys) -> None:
    """A bundle that is not there gives its path and the exit code of a bad bundle."""
    with pytest.raises(SystemExit) as caught:
        latency.main(["--bundle", str(tmp_path / "absent.asd")])
    assert caught.value.code == 78
    assert "absent.asd" in capsys.readouterr().err
