"""Counts of the sensor benchmark: no clip of a machine is a fault of the ear, and what is made one is found."""

import csv
import json
from pathlib import Path

import pytest

from benchmarks import sensor

ROOT = Path(__file__).resolve().parents[2]
CLIPS = ROOT / "examples" / "bldc_motor" / "clips"
DATA = ROOT.parent / "shared" / "data"


def test_the_examples_clips_are_counted(tmp_path):
    """Every clip of the example is heard twice, none is a fault, and what is muffled or turned down is found."""
    folder = tmp_path / "example"
    folder.mkdir()
    clips = sorted(CLIPS.rglob("*.flac"))
    with (folder / "metadata.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file", "machine_type", "machine_id", "label", "attributes"])
        for clip in clips:
            label = "normal" if clip.name.startswith("healthy") else "anomaly"
            writer.writerow([clip, "bldc", clip.parent.name, label, ""])
    assert sensor.main([str(tmp_path), "--json", str(tmp_path / "sensor.json")]) == 0
    report = json.loads((tmp_path / "sensor.json").read_text())
    figures = report["contestants"]["example"]
    assert (figures["clips"], figures["changes_heard_clips"]) == (len(clips), len(clips))
    assert (figures["clips_with_fault"], figures["changes_told_clips"]) == (0, 0)
    assert (figures["muffled_found_share"], figures["quieter_found_share"]) == (1.0, 1.0)
    assert report["ratios"]["false_faults_of_machine_clips"] == 0.0


def test_a_folder_without_clips_is_told(tmp_path, capsys):
    """A folder that holds no collections is a wrong path."""
    with pytest.raises(SystemExit) as caught:
        sensor.main([str(tmp_path)])
    assert caught.value.code == 2
    assert "check the path" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.timeout(1_200)
@pytest.mark.skipif(not DATA.exists(), reason="the collections of clips are not beside this checkout")
def test_no_clip_of_any_collection_is_a_fault(tmp_path):
    """Not one fault in all clips of machines, with an ear that finds most of what is muffled or turned down."""
    assert sensor.main([str(DATA), "--json", str(tmp_path / "sensor.json")]) == 0
    contestants = json.loads((tmp_path / "sensor.json").read_text())["contestants"]
    machines = [figures for figures in contestants.values() if "changes_heard_clips" in figures]
    assert sum(figures["clips"] for figures in machines) >= 400
    for share in ("muffled_found_share", "quieter_found_share"):
        assert sum(figures[share] for figures in machines) / len(machines) > 0.6
