"""The benchmark of nearest neighbours, at its quickest."""

import json

from benchmarks.knn import main


def test_quick_run_writes_figures_of_all_contestants(tmp_path):
    """Percentiles, and the ratio to scikit-learn in each case."""
    out = tmp_path / "knn.json"
    assert main(["--quick", "--json", str(out)]) == 0
    report = json.loads(out.read_text())
    assert report["benchmark"] == "knn"
    assert set(report["contestants"]["numpy-10000x128-k1"]) == {"p50_ms", "p99_ms", "max_ms", "n"}
    assert set(report["ratios"]) == {name for name in report["contestants"] if name.startswith("numpy")}
    assert len(report["contestants"]) == 2 * len(report["ratios"]) == 8
