"""The daemon keeps its promises under faults from outside, in the benchmark's short form."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MOSQUITTO = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")


@pytest.mark.timeout(300)
@pytest.mark.skipif(MOSQUITTO is None, reason="the program mosquitto is not installed (apt install mosquitto)")
def test_kills_and_broker_restarts_lose_nothing(tmp_path):
    """`edge-asd audit` finds no unexplained gap after a few of each fault, and the figures are written."""
    results = tmp_path / "faults.json"
    command = [sys.executable, "-m", "benchmarks.faults", "--quick", "--json", str(results)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(results.read_text())
    assert [each["failures"] for each in report["tries"].values()] == [[]] * 5
    assert set(report["contestants"]) == {
        "kills",
        "broker-restarts",
        "altered-bundles",
        "altered-configs",
        "altered-spools",
    }
    assert report["contestants"]["kills"]["kills"] == 2
    assert report["contestants"]["broker-restarts"]["messages"] > 0
