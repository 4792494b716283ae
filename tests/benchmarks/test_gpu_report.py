"""What `benchmarks.latency --gpu` reports, from made-up measurements: there is no GPU here."""

import json

import pytest

from benchmarks import gpu_report, latency
from benchmarks.gpu_report import Figure, figures_from, report_from_measured

CONTESTANTS = {
    "torch-eager": {"p50_ms": 10.0, "cpu_p50_ms": 9.0},
    "torch-compile": {"p50_ms": 2.0, "cpu_p50_ms": 1.0},
    "tensorrt-fp32": {"p50_ms": 1.5, "cpu_p50_ms": 0.1},
    "tensorrt-int8": {"p50_ms": 0.5, "cpu_p50_ms": 0.1},
    "tensorrt-int8-x16": {"p50_ms": 1.0, "cpu_p50_ms": 0.3},
}
MEASURED = {
    "ceilings": {"bytes_per_s": 1e12, "operations_per_s": {"fp32": 1e13, "int8": 1e14}},
    "contestants": {
        "log-mel": {"launch_us": 6.0, "bound_us": 2.0},
        "copy": {"launch_us": 3.0},
        "torch-stft-mel": {"launch_us": 60.0},
    },
    "gpu": {"binding": "ctypes", "memory_mb": 8000.0},
}


def test_figures_are_ratios_beside_what_they_may_be() -> None:
    """Each figure that the product is held to is there where its contestants were measured."""
    found = figures_from(CONTESTANTS, MEASURED["contestants"])
    assert found == [
        Figure(name="tensorrt-int8 / torch-compile", found=0.25, at_most=0.5),
        Figure(name="tensorrt-int8 / torch-eager", found=0.05, at_most=0.1),
        Figure(name="tensorrt-int8-x16 / tensorrt-int8", found=2.0, at_most=3.0),
        Figure(name="log-mel / copy", found=2.0, at_most=3.0),
        Figure(name="log-mel / torch-stft-mel", found=0.1, at_most=0.2),
        Figure(name="tensorrt-int8 cpu_p50_ms", found=0.1, at_most=0.2),
    ]


def test_boards_are_projected_at_the_share_of_the_bound_reached_here() -> None:
    """A GPU at a third of its bound projects three times the bound, and the table says that it is a projection."""
    report = report_from_measured(latency._BUNDLE, CONTESTANTS, MEASURED)
    bounds, same_share = report.projections.values()
    share = report.bounds_ms["int8_ms"] / 0.5
    assert same_share["Orin Nano"]["int8_ms"] == pytest.approx(bounds["Orin Nano"]["int8_ms"] / share)
    assert "fp16_ms" not in same_share["Orin Nano"]
    assert all("projection" in title for title in report.projections)


def test_one_command_reports_all(monkeypatch, tmp_path, capsys) -> None:
    """The JSON holds latencies, front end, ceilings, figures, bounds and projections; the tables are printed."""
    monkeypatch.setattr(latency, "gpu_here", lambda: {"gpu": "made up", "tensorrt": "10.3.0"})
    monkeypatch.setattr(latency, "torch_sees_gpu", lambda: False)
    asked = []

    def measure(names, *_, **__):
        asked.extend(names)
        return {name: dict(CONTESTANTS[name]) for name in names if name in CONTESTANTS}, {}

    monkeypatch.setattr(latency, "measure", measure)
    monkeypatch.setattr(latency, "report_gpu", lambda bundle, found: report_from_measured(bundle, found, MEASURED))
    path = tmp_path / "latency-gpu.json"
    assert latency.main(["--gpu", "--json", str(path)]) == 0
    assert asked == ["tensorrt-fp32", "tensorrt-fp16", "tensorrt-int8", "tensorrt-int8-x16"]
    report = json.loads(path.read_text())
    assert report["command"].startswith("python -m benchmarks.latency")
    assert report["contestants"]["log-mel"]["launch_us"] == 6.0
    assert report["gpu"]["binding"] == "ctypes"
    assert report["figures"]["tensorrt-int8-x16 / tensorrt-int8"] == {"found": 2.0, "at_most": 3.0}
    assert {"ceilings", "bounds_ms", "projections"} <= report.keys()
    captured = capsys.readouterr()
    assert "Figures to reach" in captured.out
    assert "torch is not here or has no CUDA" in captured.err


def test_without_tensorrt_the_front_end_is_measured(monkeypatch, tmp_path, capsys) -> None:
    """The kernels need the driver and NVRTC alone; what is not measured stands in the JSON with its reason."""
    monkeypatch.setattr(latency, "gpu_here", lambda: {"gpu": "made up", "no_tensorrt": "TensorRT is not installed"})
    monkeypatch.setattr(latency, "torch_sees_gpu", lambda: False)
    monkeypatch.setattr(latency, "report_gpu", lambda bundle, found: report_from_measured(bundle, found, MEASURED))
    path = tmp_path / "latency-gpu.json"
    assert latency.main(["--gpu", "--json", str(path)]) == 0
    report = json.loads(path.read_text())
    assert report["absent"]["tensorrt-int8-x16"] == "TensorRT is not installed"
    assert set(report["absent"]) == set(latency.GPU_CONTESTANTS)
    assert report["figures"]["log-mel / copy"] == {"found": 2.0, "at_most": 3.0}
    assert "tensorrt-fp16 is not measured: TensorRT is not installed" in capsys.readouterr().err


def test_no_contestant_left_is_an_error(monkeypatch, capsys) -> None:
    """Torch alone was asked for, and is not here."""
    monkeypatch.setattr(latency, "gpu_here", lambda: {"gpu": "made up"})
    monkeypatch.setattr(latency, "torch_sees_gpu", lambda: False)
    with pytest.raises(SystemExit) as caught:
        latency.main(["--gpu", "--only", "torch-eager"])
    assert caught.value.code == 69
    assert "no contestant is left" in capsys.readouterr().err


def test_front_end_that_cannot_be_measured_is_an_error(tmp_path) -> None:
    """Its process's exit code is told."""
    with pytest.raises(RuntimeError, match="the front end's benchmark ended with 78"):
        gpu_report.report_gpu(tmp_path / "absent.asd", {})
