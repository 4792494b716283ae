"""`edge-asd score` as a process, on the example's clips and on clips that cannot be used."""

import csv
import json

import numpy as np
import pytest
import soundfile


def test_json_is_all_that_stands_on_stdout(edge_asd, example_bundle, example_clips):
    """Damaged clips score above healthy ones, and stdout is one JSON document."""
    clips = [*example_clips("M1", "healthy"), *example_clips("M1", "propeller")]
    code, out, said = edge_asd("score", example_bundle, *clips, "--machine", "bldc/M1", "--json")
    assert code == 0, said
    scores = json.loads(out)
    healthy = [score["score"] for score in scores if "healthy" in score["clip"]]
    damaged = [score["score"] for score in scores if "propeller" in score["clip"]]
    assert len(healthy) + len(damaged) == len(clips)
    assert max(healthy) < min(damaged)


def test_csv_has_a_row_a_clip(edge_asd, example_bundle, example_clips, tmp_path):
    """`--csv` writes one row a clip, and prints no table."""
    clips = example_clips("M2", "propeller")
    code, out, said = edge_asd(
        "score", example_bundle, *clips, "--machine", "bldc/M2", "--csv", tmp_path / "scores.csv"
    )
    assert code == 0, said
    assert out == ""
    rows = list(csv.DictReader((tmp_path / "scores.csv").open()))
    assert [row["clip"] for row in rows] == clips
    assert {row["machine"] for row in rows} == {"bldc/M2"}


def test_csv_on_stdout(edge_asd, example_bundle, example_clips):
    """A dash is stdout, as for other commands of a pipe."""
    clips = example_clips("M2", "propeller")[:1]
    _, out, _ = edge_asd("score", example_bundle, *clips, "--machine", "bldc/M2", "--csv", "-")
    assert [row["clip"] for row in csv.DictReader(out.splitlines())] == clips


def _noise(seconds, rate_hz=16_000, channels=1):
    noise = np.random.default_rng(0).normal(0, 0.05, (round(seconds * rate_hz), channels))
    return noise.astype(np.float32), rate_hz


BAD_CLIPS = {
    "empty": (lambda path: path.write_bytes(b""), "empty"),
    "no-samples": (lambda path: soundfile.write(path, *_noise(0)), "sample"),
    "nan": (
        lambda path: soundfile.write(path, np.full(170_000, np.nan, np.float32), 16_000, subtype="FLOAT"),
        "is nan",
    ),
    "stereo": (lambda path: soundfile.write(path, *_noise(11, channels=2)), "channel"),
    "8-khz": (lambda path: soundfile.write(path, *_noise(11, rate_hz=8_000)), "8000 Hz"),
    "short": (lambda path: soundfile.write(path, *_noise(9.5)), "9.50 s"),
    "not-audio": (lambda path: path.write_text("hello"), "not"),
}


def test_bad_clips_are_told_and_the_others_are_scored(edge_asd, example_bundle, example_clips, tmp_path):
    """Clips that cannot be used cost exit code 65 and a message each that names it; the others have their scores."""
    bad = {tmp_path / f"{kind}.wav": case for kind, case in BAD_CLIPS.items()}
    for path, (write, _) in bad.items():
        write(path)
    good = example_clips("M1", "healthy")[0]
    code, out, said = edge_asd("score", example_bundle, *bad, good, "--machine", "bldc/M1", "--json")
    assert code == 65, said
    assert [score["clip"] for score in json.loads(out)] == [good]
    for path, (_, expected) in bad.items():
        _, _, after = said.partition(str(path))
        assert expected in after.partition(str(tmp_path))[0]  # up to the next clip's message


def test_any_usual_format_is_scored(edge_asd, example_bundle, tmp_path):
    """8 and 24 bits, float and 44.1 kHz are read as they are."""
    clips = []
    for subtype, rate_hz in (("PCM_U8", 16_000), ("PCM_24", 16_000), ("FLOAT", 16_000), ("PCM_16", 44_100)):
        clips.append(str(tmp_path / f"{subtype}.wav"))
        soundfile.write(clips[-1], *_noise(10.5, rate_hz=rate_hz), subtype=subtype)
    code, out, said = edge_asd("score", example_bundle, *clips, "--machine", "bldc/M1", "--json")
    assert code == 0, said
    assert [score["clip"] for score in json.loads(out)] == clips


def test_an_unknown_class_is_named(edge_asd, example_bundle, example_clips):
    """A class that the bundle lacks is exit code 78 with the nearest one."""
    code, _, said = edge_asd("score", example_bundle, example_clips("M1", "healthy")[0], "--machine", "bldc/M11")
    assert code == 78
    assert "bldc/M1" in said


@pytest.mark.parametrize("command", ["", "run", "watch", "score", "check-config", "devices", "bundle"])
def test_every_command_has_help(command, edge_asd):
    """`--help` of each command explains it, on stdout."""
    code, out, said = edge_asd(*command.split(), "--help")
    assert code == 0, said
    assert "usage: edge-asd" in out
