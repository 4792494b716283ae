"""Benchmark reports: what the JSON holds and what the table shows."""

import json
import sys

from benchmarks.report import print_table, write_report
from train.environment import environment

CONTESTANTS = {"one": {"p50_ms": 10.0, "n": 400.0}, "two": {"p50_ms": 2.5, "n": 400.0, "peak_rss_mb": 123.4}}


def test_report_holds_figures_and_environment(tmp_path, monkeypatch) -> None:
    """The JSON has the agreed keys, the command without this machine's folders, and what else was given."""
    monkeypatch.setattr(sys, "argv", ["latency.py", "--quick", "--bundle", "/somewhere/of/mine/model-1.asd"])
    path = write_report(
        "latency", CONTESTANTS, {"two": 0.25}, path=tmp_path / "new" / "latency.json", details={"model": {"name": "m"}}
    )
    report = json.loads(path.read_text())
    assert report["benchmark"] == "latency"
    assert report["command"] == "python -m benchmarks.latency --quick --bundle model-1.asd"
    assert report["contestants"] == CONTESTANTS
    assert report["ratios"] == {"two": 0.25}
    assert report["model"] == {"name": "m"}
    assert set(report) == {
        "benchmark", "command", "git", "environment", "model", "contestants", "ratios"
    }  # fmt: skip


def test_environment_says_what_figures_depend_on() -> None:
    """Processor, cores, memory, system and versions are told, and are serializable."""
    found = json.loads(json.dumps(environment()))
    assert found["cores"] >= 1
    assert found["memory_mb"] > 100
    assert found["cpu"]
    assert "numpy" in found["packages"]


def test_table_shows_every_contestant_and_ratio(capsys) -> None:
    """One row a contestant; a metric that one of them lacks is left empty; ratios stand below."""
    print_table("latency", CONTESTANTS, {"two": 0.25})
    shown = capsys.readouterr().out
    assert all(text in shown for text in ("one", "two", "p50_ms", "2.5", "123.4", "400", "two: 0.250"))
