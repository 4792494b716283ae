"""The benchmark of enrolment, with one machine."""

import json

import pytest

from benchmarks.enrolment import main


@pytest.mark.slow
def test_one_unit_is_learned_and_judged(tmp_path):
    """Healthy windows and those of each fault, labelled generated, and the time to learn one."""
    out = tmp_path / "enrolment.json"
    assert main(["--units", "1", "--json", str(out)]) == 0
    report = json.loads(out.read_text())
    assert "not a recording" in report["sound"]
    kinds = {name: figures["windows"] for name, figures in report["contestants"].items() if "windows" in figures}
    assert kinds == {"fan healthy": 3, "fan imbalance": 3, "fan bearing": 3, "fan looseness": 3}
    bearing = report["contestants"]["fan bearing"]
    assert (bearing["margin_min"] >= 0.0) == (bearing["above_threshold"] == 3)
    assert (bearing["margin_max"] >= 0.0) == (bearing["units_with_any_above"] == 1)
    assert report["contestants"]["learning a window"]["p50_ms"] > 0.0


def test_file_that_is_no_bundle_is_refused(tmp_path, capsys):
    """With the exit code of a bundle that cannot be used."""
    path = tmp_path / "none.asd"
    path.write_bytes(b"no bundle")
    with pytest.raises(SystemExit) as ended:
        main([str(path), "--units", "1"])
    assert ended.value.code == 78
    assert "none.asd" in capsys.readouterr().err
