"""edge-asd bundle shows what a bundle holds, verifies it, and fails with 78 where it is damaged."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import pytest

from edge_asd.bundle import (
    ClassFigures,
    Golden,
    GoldenTolerance,
    Metrics,
    ModelDescription,
    ParityFigures,
    ScorerSpec,
    Threshold,
    Tolerance,
    tensor_specs,
    write_bundle,
)
from edge_asd.cli import main
from edge_asd.types import FeatureSpec

SPEC = FeatureSpec(window_samples=2_048, n_fft=256, hop_samples=256, n_mels=8)
CLASSES = ("fan/A", "fan/B", "fan/A~altered")


@pytest.fixture
def path(tmp_path, bare_onnx) -> Path:
    """A bundle with a threshold for one of its two machines."""
    inputs, outputs = tensor_specs(SPEC, len(CLASSES))
    tolerance = Tolerance(min_embedding_cosine=0.99, max_score_difference=1.0)
    description = ModelDescription(
        name="fans",
        version="2.0.1",
        created_utc=datetime(2026, 1, 2, tzinfo=timezone.utc),
        feature_spec=SPEC,
        inputs=inputs,
        outputs=outputs,
        classes=CLASSES,
        scorer=ScorerSpec(scale=30.0, margin=0.4),
        thresholds={
            "fan/A": Threshold(
                threshold=-3.25,
                target_false_alarms_per_day=2.0,
                alpha=2 / 8_640,
                method="gamma",
                n_clips=40,
                n_clips_pooled=40,
                extrapolated=True,
                precision="int8",
            )
        },
        golden_tolerance=GoldenTolerance(max_log_mel_difference_db=0.01, fp32=tolerance, int8=tolerance),
        metrics=Metrics(
            float_layers=("stem.conv",),
            parity=(
                ParityFigures(
                    precision="int8",
                    engine="openvino",
                    n_windows=60,
                    embedding_cosine_min=0.9921,
                    embedding_cosine_mean=0.9987,
                    score_difference_max=0.25,
                    score_difference_mean=0.04,
                ),
            ),
            test=(
                ClassFigures(
                    class_name="fan/A",
                    precision="int8",
                    n_normal=12,
                    n_anomaly=9,
                    auc=0.875,
                    normal_above_threshold=1,
                    anomaly_above_threshold=7,
                ),
            ),
        ),
    )
    path = tmp_path / "fans-2.0.1.asd"
    golden = Golden(
        wave=np.zeros((2, SPEC.window_samples), np.float32),
        log_mel=np.zeros((2, SPEC.n_mels, SPEC.n_frames), np.float32),
        embedding=np.zeros((2, 128), np.float32),
        cosine=np.zeros((2, len(CLASSES)), np.float32),
        label=np.zeros(2, np.int64),
        score=np.zeros(2, np.float32),
    )
    network = bare_onnx(SPEC, len(CLASSES))
    write_bundle(path, description, onnx_fp32=network, onnx_int8=network, golden=golden, model_card="# The card\n")
    return path


def test_show_tells_machines_thresholds_and_figures(path, capsys, monkeypatch):
    """Classes that nothing listens as are left out."""
    monkeypatch.setenv("COLUMNS", "160")
    assert main(["bundle", "show", str(path)]) == 0
    said = capsys.readouterr().out
    for text in (
        "fans 2.0.1",
        "-3.250",
        "gamma, extrapolated",
        "fan/B",
        "none fitted",
        "0.99210",
        "stem.conv",
        "0.875",
    ):
        assert text in said
    assert "~altered" not in said


def test_show_json_is_the_manifest(path, capsys):
    """For scripts, on stdout alone."""
    assert main(["bundle", "show", str(path), "--json"]) == 0
    manifest = json.loads(capsys.readouterr().out)
    assert (manifest["name"], manifest["thresholds"]["fan/A"]["threshold"]) == ("fans", -3.25)


def test_show_card_prints_it(path, capsys):
    """As Markdown."""
    assert main(["bundle", "show", str(path), "--card"]) == 0
    assert "# The card" in capsys.readouterr().out


def test_verify_prints_the_hash_of_a_sound_bundle(path, capsys):
    """And 0."""
    assert main(["bundle", "verify", str(path)]) == 0
    assert "fans 2.0.1 is sound, not signed, sha256" in capsys.readouterr().out


@pytest.mark.parametrize("action", ["show", "verify"])
def test_damaged_bundle_exits_78_and_says_what_to_do(path, capsys, action):
    """On stderr, with the file."""
    altered = bytearray(path.read_bytes())
    altered[500] ^= 1
    path.write_bytes(altered)
    assert main(["bundle", action, str(path)]) == 78
    said = capsys.readouterr()
    assert said.out == ""
    assert "fans-2.0.1.asd" in said.err
    assert "copy it again" in said.err
