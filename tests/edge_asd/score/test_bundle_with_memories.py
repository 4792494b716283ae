"""A bundle with memories, from its file to the scores of windows: pipeline, self-test, refusals, thresholds."""

import hashlib
import io
import json
import logging
import zipfile
from dataclasses import replace

import numpy as np
import pytest

from edge_asd.bundle import (
    ClassMemory,
    KnnSection,
    ModelDescription,
    Spread,
    Threshold,
    memory_from_vectors,
    open_bundle,
    tensor_specs,
    write_bundle,
)
from edge_asd.bundle.archive import sealed_zip
from edge_asd.bundle.memory import Encoder
from edge_asd.cli import main
from edge_asd.errors import BundleError
from edge_asd.features import log_mel_db
from edge_asd.pipeline import open_pipeline
from edge_asd.score import ClassScorers, KnnScorer, build_memory, layer_vectors
from edge_asd.types import EngineOutputs, Window

ENGINES = ["openvino", "onnxruntime"]
THRESHOLD = Threshold(
    threshold=4.0,
    target_false_alarms_per_day=1.0,
    alpha=1e-4,
    method="gamma",
    n_clips=9,
    n_clips_pooled=9,
    extrapolated=True,
    precision="int8",
)


def with_feature_map(model: bytes) -> bytes:
    """The hand network with its mean over frames as a third output."""
    onnx = pytest.importorskip("onnx", reason="onnx, which builds the test's network, is not installed")
    network = onnx.load_from_string(model)
    network.graph.node.append(onnx.helper.make_node("Identity", ["mean"], ["feature_map"]))
    shape = ("batch", 20)
    network.graph.output.append(onnx.helper.make_tensor_value_info("feature_map", onnx.TensorProto.FLOAT, shape))
    return network.SerializeToString()


def said_of(network, wave, log_mel) -> EngineOutputs:
    embedding, cosine = network.run(wave, log_mel)
    return EngineOutputs(embedding=embedding, cosine=cosine, feature_map=log_mel.mean(axis=2))


@pytest.fixture
def make_knn_bundle(make_hand_bundle, hand_network, tmp_path):
    """A function: the hand bundle with a memory of bldc/M1; keywords alter the parts of the manifest."""

    def make(*, layer="embedding", scorer="knn", knn=None, golden=None, distance=1e-3):
        plain = make_hand_bundle(threshold=1.0)
        manifest = plain.manifest
        spec = manifest.feature_spec
        model = plain.onnx_model("fp32")
        model = with_feature_map(model) if layer == "feature_map" else model
        random = np.random.default_rng(3)
        wave = (0.1 * random.standard_normal((12, spec.window_samples))).astype(np.float32)
        encoder = Encoder(sha256=hashlib.sha256(model).hexdigest(), precision="int8", layer=layer, feature_spec=spec)
        vectors = layer_vectors(said_of(hand_network, wave, log_mel_db(wave, spec)), layer)
        memory, fit = build_memory(memory_from_vectors(vectors, encoder))
        section = ClassMemory(
            fit=fit, margin=Spread(mean=-3.0, std=2.0, n=12), scorer=scorer, thresholds={"knn": THRESHOLD}
        )
        values = {name: getattr(manifest, name) for name in ModelDescription.model_fields}
        tolerance = manifest.golden_tolerance.fp32.model_copy(update={"max_vector_distance": distance})
        values["golden_tolerance"] = manifest.golden_tolerance.model_copy(update={"fp32": tolerance, "int8": tolerance})
        values["outputs"] = tensor_specs(spec, 3, feature_map_size=20 if layer == "feature_map" else None)[1]
        values["knn"] = KnnSection(
            encoder_sha256=encoder.sha256,
            precision="int8",
            layer=layer,
            vector_size=vectors.shape[1],
            memories={"bldc/M1": section},
        ).model_copy(update=knn or {})
        expected = KnnScorer(memory, fit).score(said_of(hand_network, plain.golden.wave, plain.golden.log_mel))
        golden_values = replace(plain.golden, knn_score=expected[:, np.newaxis] if golden is None else golden)
        return write_bundle(
            tmp_path / "knn-1.0.0.asd",
            ModelDescription(**values),
            onnx_fp32=model,
            onnx_int8=model,
            golden=golden_values,
            model_card="# A network for tests\n",
            memories={"bldc/M1": memory},
        )

    return make


def window(spec, seed=0):
    wave = (0.1 * np.random.default_rng(seed).standard_normal(spec.window_samples)).astype(np.float32)
    return Window(
        wave=wave,
        end_monotonic_s=1.0,
        end_utc_s=1.0,
        fresh_samples=wave.size,
        heard_samples=wave.size,
        lost_samples=0,
    )


@pytest.mark.parametrize("layer", ["embedding", "feature_map"])
@pytest.mark.parametrize("engine", ENGINES)
def test_window_is_scored_by_the_memory_of_its_machine(make_knn_bundle, hand_network, layer, engine):
    """As in numpy by hand, of either layer, and the machine without a memory by margin."""
    bundle = open_bundle(make_knn_bundle(layer=layer).path)
    heard = window(bundle.manifest.feature_spec, seed=9)
    outputs = said_of(
        hand_network, heard.wave[np.newaxis], log_mel_db(heard.wave[np.newaxis], bundle.manifest.feature_spec)
    )
    scorers = ClassScorers(bundle)
    with open_pipeline(bundle, prefer=[engine], precision="int8") as pipeline:
        for machine, scorer in (("bldc/M1", None), ("bldc/M1", "fusion"), ("bldc/M1", "margin"), ("bldc/M2", None)):
            expected = scorers.of(machine, scorer)
            assert expected.name == (scorer or {"bldc/M1": "knn", "bldc/M2": "margin"}[machine])
            found = pipeline.ear(machine, scorer).score(heard)
            assert found.score == pytest.approx(float(expected.score(outputs)[0]), rel=1e-3, abs=1e-2)


def test_fusion_is_the_mean_in_healthy_deviations(make_knn_bundle, hand_network):
    """By hand."""
    bundle = make_knn_bundle()
    outputs = said_of(hand_network, bundle.golden.wave, bundle.golden.log_mel)
    by = {name: ClassScorers(bundle).of("bldc/M1", name).score(outputs) for name in ("margin", "knn", "fusion")}
    np.testing.assert_allclose(by["fusion"], ((by["margin"] + 3.0) / 2.0 + by["knn"]) / 2.0, rtol=1e-5)


def test_self_test_covers_the_memory(make_knn_bundle):
    """A memory that answers otherwise than where it was made does not serve."""
    bundle = make_knn_bundle()
    wrong = bundle.golden.knn_score + np.float32(1.0)
    with pytest.raises(BundleError, match=r"distance to the memory of bldc/M1 differs by"):
        open_pipeline(make_knn_bundle(golden=wrong), prefer=ENGINES, precision="fp32")


def test_memory_of_another_network_is_refused(make_knn_bundle):
    """Even where all else fits."""
    with pytest.raises(BundleError, match=r"memory\.npz is of the int8 network with SHA-256 bbbb.*another network"):
        make_knn_bundle(knn={"encoder_sha256": "b" * 64})


@pytest.mark.parametrize(
    ("knn", "said"),
    [
        ({"vector_size": 64}, "knn.vector_size is 64; expected 128"),
        ({"layer": "feature_map"}, "expected None, that of the output feature_map"),
    ],
)
def test_impossible_description_of_memories_is_refused(make_knn_bundle, knn, said):
    """Before anything is written."""
    with pytest.raises((BundleError, ValueError), match=said):
        make_knn_bundle(knn=knn)


def altered(bundle, change):
    """The bundle with other contents, sealed anew."""
    with zipfile.ZipFile(io.BytesIO(bundle.path.read_bytes())) as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
    change(contents)
    bundle.path.write_bytes(sealed_zip(contents))
    return bundle.path


def test_altered_memory_is_refused(make_knn_bundle):
    """One bit of one vector, under a seal that fits."""

    def flip(contents):
        data = bytearray(contents["memory.npz"])
        data[len(data) // 2] ^= 1
        contents["memory.npz"] = bytes(data)

    with pytest.raises(BundleError, match=r"memory\.npz has SHA-256"):
        open_bundle(altered(make_knn_bundle(), flip))


def test_missing_memory_is_refused(make_knn_bundle):
    """The manifest speaks of one."""

    def drop(contents):
        del contents["memory.npz"]
        manifest = json.loads(contents["manifest.json"])
        del manifest["files"]["memory.npz"]
        contents["manifest.json"] = json.dumps(manifest).encode()

    with pytest.raises(BundleError, match=r"lacks memory\.npz"):
        open_bundle(altered(make_knn_bundle(), drop))


def test_memory_in_schema_version_1_is_refused(make_knn_bundle):
    """Which never had any."""

    def older(contents):
        contents["manifest.json"] = contents["manifest.json"].replace(b'"schema_version": 2', b'"schema_version": 1')

    with pytest.raises(BundleError, match="schema version 1 has neither knn"):
        open_bundle(altered(make_knn_bundle(), older))


def test_machine_without_a_memory_is_told_what_to_do(make_knn_bundle):
    """Which classes have one, and what else there is."""
    manifest = make_knn_bundle().manifest
    with pytest.raises(
        BundleError, match=r"cannot score bldc/M2 by knn: it has memories of bldc/M1; choose the scorer"
    ):
        manifest.check_scorer("bldc/M2", "knn")
    assert manifest.threshold("bldc/M1") == manifest.threshold("bldc/M1", "knn") == THRESHOLD
    assert manifest.threshold("bldc/M1", "margin").threshold == 1.0
    with pytest.raises(BundleError, match="no threshold for bldc/M1 by fusion"):
        manifest.threshold("bldc/M1", "fusion")


def test_another_precision_than_the_memories_is_told(make_knn_bundle, caplog):
    """Its vectors are a little off, and so are its distances."""
    with caplog.at_level(logging.WARNING):
        open_pipeline(make_knn_bundle(), prefer=ENGINES, precision="fp32").close()
    assert "memories of healthy sound are of the int8 network, and fp32 runs" in caplog.text


def test_show_names_scorers_and_memories(make_knn_bundle, capsys, monkeypatch):
    """Each class with its thresholds, which scorer is chosen, and what its memory holds."""
    monkeypatch.setenv("COLUMNS", "160")
    assert main(["bundle", "show", str(make_knn_bundle().path)]) == 0
    shown = capsys.readouterr().out
    for text in ("knn (chosen)", "4.000", "Memories of healthy sound", "embedding of the int8 network", "(12)"):
        assert text in shown
