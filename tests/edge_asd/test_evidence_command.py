"""`edge-asd evidence`: what an engineer at the device reads and takes away."""

import json
import uuid

import numpy as np
import pytest

from edge_asd.cli import main
from edge_asd.evidence import Budget, EvidenceFolder, Recorder
from edge_asd.evidence.kept import describe, files_of
from edge_asd.types import AlarmEvent, Block

IDS = [str(uuid.UUID(int=number << 96 | number)) for number in (0xAB12, 0xAB13)]


@pytest.fixture
def config(tmp_path):
    """A configuration whose state folder holds evidence of two alarms."""
    folder = EvidenceFolder(tmp_path / "state" / "evidence")
    folder.clean()
    for number, alarm_id in enumerate(IDS):
        recorder = Recorder("fan <3>", sample_rate_hz=16_000, before_s=2.0, after_s=1.0)
        samples = np.random.default_rng(number).uniform(-0.1, 0.1, 40_000).astype(np.float32)
        recorder.hear(Block(samples=samples, end_monotonic_s=2.5, end_utc_s=1_800_000_002.5, lost_samples=0))
        recorder.note(4.5, 2.0)
        event = AlarmEvent(
            kind="new",
            alarm_id=alarm_id,
            began_utc_s=1_800_000_000.0 + number,
            duration_s=1.0,
            score=4.0,
            peak_score=4.25,
            threshold=3.5,
        )
        (take,) = recorder.begin(event, 2.0)
        kept = describe(take, model={"name": "fans", "version": "1.0.0", "sha256": "5e" * 32})
        files = files_of(take, kept, lambda wave: np.outer(np.arange(128), wave[::512]).astype(np.float32))
        folder.put(kept.id, files, Budget(max_bytes=10**9, max_age_s=1e9, min_free_bytes=0), utc_s=None)
    path = tmp_path / "device.yaml"
    path.write_text(
        "schema: 1\nsite: hall\ndevice: one\nstate_dir: state\nmachines: [{name: fan, listens_to: fan/id_00}]\n"
    )
    return str(path)


def test_list_tells_what_is_there(config, capsys):
    """One line an alarm, oldest first, with its machine, time and scores; and what all of it takes."""
    assert main(["evidence", "list", "--config", config]) == 0
    out = capsys.readouterr().out
    assert out.index(IDS[0][:8]) < out.index(IDS[1][:8])
    assert "2 alarms" in out
    assert main(["evidence", "list", "--config", config, "--json"]) == 0
    assert [kept["id"] for kept in json.loads(capsys.readouterr().out)] == IDS


def test_show_takes_the_first_characters_of_an_id(config, capsys, tmp_path):
    """Scores, times and the paths of the files, of the one alarm that is meant."""
    assert main(["evidence", "show", IDS[1][:8], "--config", config]) == 0
    out = capsys.readouterr().out
    assert "fan <3>" in out
    assert "4.50" in out
    assert str(tmp_path / "state" / "evidence" / f"{IDS[1]}.flac") in out


@pytest.mark.parametrize(("wanted", "found"), [("0000ab1", 2), ("ffff", 0)])
def test_an_id_that_means_several_or_none_is_refused(wanted, found, config, capsys):
    """The message says how many there are and how to find out."""
    assert main(["evidence", "show", wanted, "--config", config]) == 2
    assert f"evidence of {found} alarms" in capsys.readouterr().err


def test_export_is_a_page_that_needs_nothing_else(config, capsys, tmp_path):
    """Files and page lie in the folder; the page holds sound and picture itself and shows names as they are."""
    assert main(["evidence", "export", IDS[0], "--config", config, "--to", str(tmp_path / "a" / "b")]) == 0
    page = capsys.readouterr().out.strip()
    assert page.endswith(f"{IDS[0]}.html")
    assert {path.suffix for path in (tmp_path / "a" / "b").iterdir()} == {".flac", ".png", ".json", ".html"}
    text = (tmp_path / "a" / "b" / f"{IDS[0]}.html").read_text()
    assert "fan &lt;3&gt;" in text
    assert 'src="http' not in text
    assert "4 kHz" in text


def test_export_to_a_place_that_cannot_be_is_told(config, capsys, tmp_path):
    """A file where the folder should be is exit code 69 with the alarm and the reason."""
    (tmp_path / "taken").write_text("")
    assert main(["evidence", "export", IDS[0], "--config", config, "--to", str(tmp_path / "taken")]) == 69
    assert IDS[0] in capsys.readouterr().err
