"""From checkpoint and clips to a bundle that opens, with everything that a device asks of it."""

from __future__ import annotations

import csv
import dataclasses
import json
import shutil

import numpy as np
import pytest

from edge_asd.bundle import open_bundle
from edge_asd.errors import UsageError
from edge_asd.features import log_mel_db
from edge_asd.score import ClassScorers, MarginScorer
from export.bundle import main
from export.compare import NAMES
from export.compare import main as compare
from export.runners import runner_from_onnx
from export.tensorrt import main as build_engines
from export.windows import find_calibration_clips
from train.checkpoint import Split, save_checkpoint

pytestmark = pytest.mark.timeout(600)  # one export for all of them: it measures each layer


@pytest.fixture(scope="module")
def made(tmp_path_factory, clip_folder, small_checkpoint):
    """The bundle that the command makes."""
    folder = tmp_path_factory.mktemp("made")
    save_checkpoint(folder / "checkpoint.pt", small_checkpoint)
    about = folder / "about.md"
    about.write_text("Data: tones in noise, made for a test. Licence: CC0.")
    out = folder / "test-tones-1.0.0.asd"
    arguments = [str(folder), "--calibration", str(clip_folder), "--out", str(out), "--about", str(about)]
    arguments += ["--scorer", "knn", "--scorer", "fan/A=fusion"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("export.fall_back.N_WORST_WINDOWS", 2)  # each layer is measured on so many
        assert main([*arguments, "--false-alarms-per-day", "800", "--report", str(folder / "report")]) == 0
    return open_bundle(out)


def test_bundle_describes_the_network(made, checkpoint):
    """Name and version from the file, the rest from the checkpoint."""
    manifest = made.manifest
    assert (manifest.name, manifest.version) == ("test-tones", "1.0.0")
    assert manifest.classes == checkpoint.classes
    assert manifest.feature_spec == checkpoint.feature_spec
    assert (manifest.scorer.scale, manifest.scorer.margin) == (checkpoint.spec.scale, checkpoint.spec.margin)


def test_every_class_has_a_threshold_from_its_own_kind_of_clips(made):
    """Healthy clips that were neither trained on nor held out; on INT8 scores; extrapolated, as so few must be."""
    counts = {name: threshold.n_clips for name, threshold in made.manifest.thresholds.items()}
    assert counts == {"fan/A": 3, "fan/B": 1, "pump/C": 1}
    for threshold in made.manifest.thresholds.values():
        assert threshold.extrapolated
        assert threshold.precision == "int8"
        assert threshold.target_false_alarms_per_day == 800.0


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_golden_values_hold_for_the_models_in_the_bundle(made, precision):
    """All models stay within the tolerance that the bundle itself states."""
    golden, manifest = made.golden, made.manifest
    tolerance = getattr(manifest.golden_tolerance, precision)
    np.testing.assert_allclose(
        log_mel_db(golden.wave, manifest.feature_spec),
        golden.log_mel,
        atol=manifest.golden_tolerance.max_log_mel_difference_db,
    )
    outputs = runner_from_onnx(made.onnx_model(precision), precision)(golden.wave, golden.log_mel)
    assert (outputs.embedding * golden.embedding).sum(axis=1).min() >= tolerance.min_embedding_cosine
    scorer = MarginScorer(manifest.scorer.scale, manifest.scorer.margin, n_classes=len(manifest.classes))
    difference = np.abs(scorer.score(outputs.cosine, golden.label) - golden.score)
    assert difference.max() <= tolerance.max_score_difference


def test_figures_count_only_held_out_and_damaged_clips(made):
    """For all models, each class that has test clips."""
    counts = {
        (figures.class_name, figures.precision): (figures.n_normal, figures.n_anomaly)
        for figures in made.manifest.metrics.test
        if figures.scorer == "margin"
    }
    assert counts == {
        ("fan/A", "fp32"): (1, 2),
        ("fan/B", "fp32"): (1, 1),
        ("fan/A", "fp16"): (1, 2),
        ("fan/B", "fp16"): (1, 1),
        ("fan/A", "int8"): (1, 2),
        ("fan/B", "int8"): (1, 1),
    }


def test_class_with_clips_enough_has_a_memory(made):
    """Of the three that it was trained on; the others are scored by margin, for want of clips."""
    manifest = made.manifest
    assert list(manifest.knn.memories) == list(made.memories) == ["fan/A"]
    assert [manifest.scorer_of(name) for name in manifest.classes] == ["fusion", "margin", "margin"]
    assert made.memories["fan/A"].vectors.shape == (3, manifest.feature_map_size) == (3, 1024)
    assert made.memories["fan/A"].encoder.sha256 == manifest.files["model.int8.onnx"].sha256
    for scorer in ("margin", "knn", "fusion"):
        assert manifest.threshold("fan/A", scorer).n_clips == 3
        assert {(each.n_normal, each.n_anomaly) for each in manifest.metrics.test
                if each.scorer == scorer and each.class_name == "fan/A"} == {(1, 2)}  # fmt: skip


@pytest.mark.parametrize("scorer", ["margin", "knn", "fusion"])
def test_bundle_scores_by_each_scorer(made, scorer):
    """A device may choose another than the bundle's."""
    assert ClassScorers(made).of("fan/A", scorer).name == scorer


def test_parity_is_measured_on_all_clips(made):
    """Float32 is torch but for rounding; half precision and INT8 are near."""
    figures = {(found.precision, found.engine): found for found in made.manifest.metrics.parity}
    assert set(figures) == {
        (precision, engine) for precision in ("fp32", "fp16", "int8") for engine in ("onnxruntime", "openvino")
    }
    assert {found.n_windows for found in figures.values()} == {17}
    assert all(found.embedding_cosine_min >= 0.99 for found in figures.values())
    assert figures["int8", "onnxruntime"].embedding_cosine_min >= 0.995  # the budget
    for engine in ("onnxruntime", "openvino"):
        assert figures["fp32", engine].embedding_cosine_min > 0.9999
        assert figures["fp16", engine].embedding_cosine_min > 0.999
        assert figures["fp32", engine].score_difference_max < figures["int8", engine].score_difference_max


def test_card_says_what_was_stated_and_what_was_counted(made):
    """Licence first, counts of clips, which of them repeat to a window, method of each threshold, limits."""
    repeated = "1 of the 5 clips are shorter than a window and were repeated to one"
    for text in ("Licence: CC0", "| fan/A | 3 | 3 | 1 | 2 |", repeated, "extrapolated", "limits"):
        assert text in made.model_card


def test_card_and_report_tell_what_int8_costs(made):
    """Which layers are float, as in the manifest, the budget, and the AUC's pairs: 4 x 2 of A, 2 x 1 of B."""
    report = (made.path.parent / "report" / "int8.md").read_text()
    for text in (made.model_card, report):
        kept = ", ".join(made.manifest.metrics.float_layers) or "nothing"
        assert (
            f"The INT8 model keeps in float: {kept}. Budget: embedding cosine at least 0.995, AUC drop at most 0.002"
            in text
        )
        assert "that of 10 pairs" in text


@pytest.mark.parametrize("out", ["model.asd", "model-1.0.0.zip", "-1.0.asd", "no/such/folder/model-1.0.0.asd"])
def test_path_that_is_no_bundle_name_is_refused(tmp_path, clip_folder, checkpoint, out, capsys):
    """Before anything is computed."""
    save_checkpoint(tmp_path / "checkpoint.pt", checkpoint)
    assert main([str(tmp_path), "--calibration", str(clip_folder), "--out", str(tmp_path / out)]) == 2
    assert "expected" in capsys.readouterr().err


def test_folder_without_fresh_healthy_clips_is_refused(clip_folder, checkpoint):
    """Clips that were trained on score too low to fit a threshold on."""
    files = tuple(file.name for file in clip_folder.glob("*_normal_*.flac"))
    all_trained = dataclasses.replace(checkpoint, split=Split(train=files))
    with pytest.raises(UsageError, match="no healthy clip left"):
        find_calibration_clips(clip_folder, all_trained)


def test_imported_network_takes_the_roles_of_metadata(tmp_path, clip_folder, checkpoint):
    """Without a split, `test` in metadata.csv holds a clip out and all other healthy clips fit thresholds."""
    shutil.copytree(clip_folder, tmp_path / "clips")
    table = tmp_path / "clips" / "metadata.csv"
    rows = list(csv.DictReader(table.open()))
    with table.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, rows[0].keys())
        writer.writeheader()
        writer.writerows({**row, "split": "test" if row["file"] == "A_normal_0.flac" else "none"} for row in rows)
    clips = find_calibration_clips(tmp_path / "clips", dataclasses.replace(checkpoint, split=Split()))
    assert [recording.file for recording in clips.test_normal] == ["A_normal_0.flac"]
    assert (len(clips.trained), len(clips.calibration), len(clips.test_anomaly)) == (0, 13, 3)


def test_engines_are_compared_with_torch_on_clips_that_were_not_learnt(
    made, clip_folder, tmp_path, capsys, monkeypatch
):
    """A table, and JSON with figures of each engine that is here; for those that are not, why."""
    monkeypatch.setattr("export.comparison._MIN_TIMED_WINDOWS", 1)  # the clips alone, each once
    figures = tmp_path / "compare.json"
    run, clips = str(made.path.parent), str(clip_folder)
    assert compare([run, str(made.path), "--clips", clips, "--json", str(figures)]) == 0
    assert "torch-eager" in capsys.readouterr().out
    found = json.loads(figures.read_text())
    cpu = {f"{engine}-{precision}" for engine in ("onnxruntime", "openvino") for precision in ("fp32", "fp16", "int8")}
    assert {"torch-eager", *cpu} <= set(found["contestants"])
    assert set(found["contestants"]) | set(found["absent"]) == {*NAMES, "torch-eager"}
    exact, int8 = found["contestants"]["onnxruntime-fp32"], found["contestants"]["onnxruntime-int8"]
    assert exact["n_windows"] == 10
    # INT8 of this network costs 5e-6 or 2e-5, as one or two threads have rounded its weights; float32 1e-7
    assert exact["embedding_cosine_min"] > 0.999999 > int8["embedding_cosine_min"] >= 0.995
    assert exact["p50_ms"] > 0.0
    assert exact["auc_mean"] == pytest.approx(found["contestants"]["torch-eager"]["auc_mean"])
    assert found["auc_pairs"] == 10
    assert found["command"].startswith("python -m export.compare")


def test_engine_that_is_asked_for_by_name_must_be_there(made, clip_folder, capsys, monkeypatch):
    """Exit code 69 with the reason, and nothing is measured."""
    monkeypatch.setattr("edge_asd.cuda.driver.LIBRARY", "libcuda-absent.so.1")
    arguments = [str(made.path.parent), str(made.path), "--clips", str(clip_folder)]
    assert compare([*arguments, "--only", "tensorrt-int8"]) == 69
    assert "no CUDA driver" in capsys.readouterr().err


def test_tensorrt_engines_need_a_gpu(made, clip_folder, tmp_path, capsys, monkeypatch):
    """Exit code 69, what was expected, and no folder is made."""
    monkeypatch.setattr("edge_asd.cuda.driver.LIBRARY", "libcuda-absent.so.1")
    arguments = [str(made.path.parent), str(made.path), "--clips", str(clip_folder), "--out", str(tmp_path / "engines")]
    assert build_engines(arguments) == 69
    assert "no CUDA driver" in capsys.readouterr().err
    assert not (tmp_path / "engines").exists()


def test_bundle_of_another_network_is_not_compared(made, clip_folder, tmp_path, checkpoint, capsys):
    """Its classes and the checkpoint's are named; exit code 78."""
    save_checkpoint(tmp_path / "checkpoint.pt", dataclasses.replace(checkpoint, classes=("fan/A", "fan/B", "pump/Z")))
    assert compare([str(tmp_path), str(made.path), "--clips", str(clip_folder)]) == 78
    assert "pump/Z" in capsys.readouterr().err
