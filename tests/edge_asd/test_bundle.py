"""A bundle that is whole opens as it was written; one that is not says what is wrong with it."""

from __future__ import annotations

import hashlib
import io
import json
import struct
import zipfile
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edge_asd.bundle import (
    Golden,
    GoldenTolerance,
    ModelDescription,
    ScorerSpec,
    Threshold,
    Tolerance,
    open_bundle,
    sign_bundle,
    tensor_specs,
    write_bundle,
)
from edge_asd.bundle.archive import MAX_BUNDLE_BYTES, MAX_ENTRIES, sealed_zip
from edge_asd.errors import BundleError
from edge_asd.types import FeatureSpec

SPEC = FeatureSpec(window_samples=2_048, n_fft=256, hop_samples=256, n_mels=8)
CLASSES = ("bldc/M1", "bldc/M2", "fan/id_00")
CARD = "# Model card\n\nMade for a test.\n"
Rewrite = Callable[[dict[str, bytes]], dict[str, bytes]]


def _threshold(**changes) -> Threshold:
    values = {
        "threshold": 1.5,
        "target_false_alarms_per_day": 1.0,
        "alpha": 1 / 8_640,
        "method": "student_t",
        "n_clips": 4,
        "n_clips_pooled": 4,
        "extrapolated": True,
        "precision": "int8",
    }
    return Threshold(**{**values, **changes})


def _description(**changes) -> ModelDescription:
    inputs, outputs = tensor_specs(SPEC, len(CLASSES))
    values = {
        "name": "test-model",
        "version": "1.2.3",
        "created_utc": datetime(2026, 1, 2, 3, 4, 5, tzinfo=timezone.utc),
        "feature_spec": SPEC,
        "inputs": inputs,
        "outputs": outputs,
        "classes": CLASSES,
        "scorer": ScorerSpec(scale=30.0, margin=0.4),
        "thresholds": {"bldc/M1": _threshold(), "bldc/M2": _threshold(threshold=-2.0)},
        "golden_tolerance": GoldenTolerance(
            max_log_mel_difference_db=1e-3,
            fp32=Tolerance(min_embedding_cosine=0.9999, max_score_difference=0.01),
            int8=Tolerance(min_embedding_cosine=0.98, max_score_difference=1.0),
        ),
    }
    return ModelDescription(**{**values, **changes})


def _golden() -> Golden:
    random = np.random.default_rng(1)

    def draw(*shape: int) -> np.ndarray:
        return random.standard_normal(shape).astype(np.float32)

    return Golden(
        wave=draw(2, SPEC.window_samples),
        log_mel=draw(2, SPEC.n_mels, SPEC.n_frames),
        embedding=draw(2, 128),
        cosine=draw(2, len(CLASSES)),
        label=np.array([0, 2], dtype=np.int64),
        score=draw(2),
    )


@pytest.fixture(scope="module")
def models(bare_onnx) -> dict[str, bytes]:
    """Networks by their precision, which no engine would run."""
    doc = bare_onnx.field
    return {name: bare_onnx(SPEC, len(CLASSES), model=doc(6, name.encode() * 30)) for name in ("fp32", "int8")}


@pytest.fixture(scope="module")
def write(models):
    """A function that writes a bundle of these networks."""

    def write(path: Path, description: ModelDescription | None = None, golden: Golden | None = None):
        return write_bundle(
            path,
            description or _description(),
            onnx_fp32=models["fp32"],
            onnx_int8=models["int8"],
            golden=golden or _golden(),
            model_card=CARD,
        )

    return write


def test_half_precision_network_is_optional(tmp_path, models, bare_onnx, write) -> None:
    """A bundle with one gives it, signed or not; one without names those that it has."""
    half = bare_onnx(SPEC, len(CLASSES), model=bare_onnx.field(6, b"half" * 30))
    path = tmp_path / "half-1.0.0.asd"
    write_bundle(
        path,
        _description(),
        onnx_fp32=models["fp32"],
        onnx_fp16=half,
        onnx_int8=models["int8"],
        golden=_golden(),
        model_card=CARD,
    )
    assert open_bundle(path).onnx_model("fp16") == half
    signed = sign_bundle(path, Ed25519PrivateKey.generate(), tmp_path / "signed-1.0.0.asd")
    assert signed.onnx_model("fp16") == half
    with pytest.raises(BundleError, match=r"has no fp16 network; expected model\.fp16\.onnx; choose one of fp32, int8"):
        write(tmp_path / "plain-1.0.0.asd").onnx_model("fp16")


@pytest.mark.parametrize("held_by", ["the archive", "manifest.json"])
def test_half_precision_network_that_only_one_side_names_is_refused(tmp_path, models, held_by) -> None:
    """Archive and manifest name the same files, or the bundle is not believed."""
    path = tmp_path / "half-1.0.0.asd"
    write_bundle(
        path,
        _description(),
        onnx_fp32=models["fp32"],
        onnx_fp16=models["fp32"],
        onnx_int8=models["int8"],
        golden=_golden(),
        model_card=CARD,
    )
    with zipfile.ZipFile(path) as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
    if held_by == "the archive":
        del contents["model.fp16.onnx"]
    else:
        contents = _with_manifest(lambda manifest: manifest["files"].pop("model.fp16.onnx"))(contents)
    path.write_bytes(sealed_zip(contents))
    with pytest.raises(BundleError, match=rf"{held_by} lacks model\.fp16\.onnx"):
        open_bundle(path)


@pytest.fixture(scope="module")
def sound(tmp_path_factory, write) -> bytes:
    """The bytes of a sound bundle."""
    path = tmp_path_factory.mktemp("bundle") / "test-model-1.2.3.asd"
    write(path)
    return path.read_bytes()


@pytest.fixture
def rewritten(tmp_path, sound) -> Callable[[Rewrite], Path]:
    """Bundles with other contents but a fitting seal, as someone who knows the format could make them."""

    def rewrite(change: Rewrite) -> Path:
        with zipfile.ZipFile(io.BytesIO(sound)) as archive:
            contents = {name: archive.read(name) for name in archive.namelist()}
        path = tmp_path / "rewritten.asd"
        path.write_bytes(sealed_zip(change(contents)))
        return path

    return rewrite


def _with_manifest(change: Callable[[dict], None]) -> Rewrite:
    def rewrite(contents: dict[str, bytes]) -> dict[str, bytes]:
        manifest = json.loads(contents["manifest.json"])
        change(manifest)
        return {**contents, "manifest.json": json.dumps(manifest).encode()}

    return rewrite


def _with_content(name: str, content: bytes) -> Rewrite:
    """Replace a file and what the manifest says of it."""

    def rewrite(contents: dict[str, bytes]) -> dict[str, bytes]:
        entry = {"sha256": hashlib.sha256(content).hexdigest(), "size_bytes": len(content)}
        fitting = _with_manifest(lambda manifest: manifest["files"].update({name: entry}))(contents)
        return {**fitting, name: content}

    return rewrite


def test_bundle_reads_back_as_it_was_written(tmp_path, write, models):
    """Description, models, golden values and card survive; the digest is that of the file."""
    path = tmp_path / "test-model-1.2.3.asd"
    written = write(path)
    read = open_bundle(path)
    assert read.manifest == written.manifest
    assert read.manifest.model_dump(exclude={"files"}) == _description().model_dump()
    assert {precision: read.onnx_model(precision) for precision in ("fp32", "int8")} == models
    assert read.model_card == CARD
    assert read.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    for name in ("wave", "log_mel", "embedding", "cosine", "label", "score"):
        np.testing.assert_array_equal(getattr(read.golden, name), getattr(_golden(), name))
        assert not getattr(read.golden, name).flags.writeable


def test_same_inputs_give_the_same_bytes(tmp_path, write):
    """Nothing of the time or place of writing gets into the file."""
    write(tmp_path / "first.asd")
    write(tmp_path / "second.asd")
    assert (tmp_path / "first.asd").read_bytes() == (tmp_path / "second.asd").read_bytes()


def test_comment_seals_all_bytes_ahead_of_it(sound):
    """Any program that knows SHA-256 can check a bundle."""
    assert sound[-71:] == b"sha256:" + hashlib.sha256(sound[:-71]).hexdigest().encode()
    assert zipfile.ZipFile(io.BytesIO(sound)).comment == sound[-71:]


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(position=st.integers(min_value=0), flip=st.integers(min_value=1, max_value=255))
def test_any_altered_byte_is_found(tmp_path, sound, position, flip):
    """Wherever it is and whatever it becomes, seal and comment included."""
    altered = bytearray(sound)
    altered[position % len(sound)] ^= flip
    path = tmp_path / "altered.asd"
    path.write_bytes(altered)
    with pytest.raises(BundleError, match=r"altered\.asd"):
        open_bundle(path)


@pytest.mark.parametrize("distance", range(1, 100))
def test_altered_byte_near_the_end_is_found(tmp_path, sound, distance):
    """Case of the seal's digits, its prefix, and the end record ahead of it."""
    altered = bytearray(sound)
    altered[-distance] ^= 0x20
    path = tmp_path / "altered.asd"
    path.write_bytes(altered)
    with pytest.raises(BundleError):
        open_bundle(path)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(length=st.integers(min_value=0))
def test_truncated_bundle_is_found(tmp_path, sound, length):
    """A copy that broke off, at any length."""
    path = tmp_path / "truncated.asd"
    path.write_bytes(sound[: length % len(sound)])
    with pytest.raises(BundleError, match="copy it again"):
        open_bundle(path)


def test_appended_bytes_are_found(tmp_path, sound):
    """Nothing may follow the seal."""
    path = tmp_path / "longer.asd"
    path.write_bytes(sound + b"\0")
    with pytest.raises(BundleError, match="seal"):
        open_bundle(path)


def test_newer_schema_says_to_update(rewritten):
    """Even when the newer manifest has keys and files that this version does not know."""

    def newer(contents):
        changed = _with_manifest(lambda manifest: manifest.update(schema_version=3, colours="red"))(contents)
        return {**changed, "colours.npz": b"new"}

    with pytest.raises(BundleError, match=r"schema version 3; this edge-asd reads versions 1 to 2; update edge-asd"):
        open_bundle(rewritten(newer))


@pytest.mark.parametrize("name", ["../../etc/cron.d/job", "/etc/passwd", "model.onnx\0.sh", "run.py", "sub/golden.npz"])
def test_unknown_file_is_refused(rewritten, name):
    """Slips, absolute paths, hidden endings and strangers alike: nothing but the known names."""
    if "\0" in name:  # zipfile cuts names at a null byte when it writes, so write another byte and patch it
        with pytest.raises(BundleError, match="no bundle has"):
            open_bundle(_patched_name(rewritten, name))
        return
    with pytest.raises(BundleError, match="no bundle has"):
        open_bundle(rewritten(lambda contents: {**contents, name: b"x"}))


def _patched_name(rewritten, name: str) -> Path:
    visible = name.replace("\0", "~")
    path = rewritten(lambda contents: {**contents, visible: b"x"})
    body = path.read_bytes()[:-71].replace(visible.encode(), name.encode())
    path.write_bytes(body + b"sha256:" + hashlib.sha256(body).hexdigest().encode())
    return path


def test_file_that_unpacks_beyond_its_bound_is_refused_unread(rewritten):
    """A zip bomb is refused by its stated size."""
    bomb = bytes(MAX_BUNDLE_BYTES + 1)
    with pytest.raises(BundleError, match=r"model\.onnx unpacks to 67108865 bytes; expected at most 67108864"):
        open_bundle(rewritten(_with_content("model.onnx", bomb)))


def test_file_that_unpacks_to_more_than_it_states_is_refused(rewritten):
    """A zip bomb that lies about its size is read no further than the lie."""
    size = 5_000_000
    path = rewritten(_with_content("model.onnx", bytes(size)))
    body = path.read_bytes()[:-71].replace(struct.pack("<L", size), struct.pack("<L", 18))
    path.write_bytes(body + b"sha256:" + hashlib.sha256(body).hexdigest().encode())
    with pytest.raises(BundleError, match=r"model\.onnx has 18 bytes"):
        open_bundle(path)


def test_too_many_files_are_refused_before_they_are_listed(rewritten):
    """The directory is bounded by its end record."""
    with pytest.raises(BundleError, match=f"lists {MAX_ENTRIES + 6} files"):
        open_bundle(rewritten(lambda contents: {**contents, **{f"stranger{n}": b"" for n in range(MAX_ENTRIES + 1)}}))


def test_too_large_file_is_refused(tmp_path):
    """A path that is no bundle at all costs bounded memory."""
    path = tmp_path / "disk.img"
    with path.open("wb") as stream:
        stream.truncate(MAX_BUNDLE_BYTES + 1)
    with pytest.raises(BundleError, match="larger than"):
        open_bundle(path)


@pytest.mark.parametrize("name", ["model.onnx", "model.int8.onnx", "golden.npz", "MODEL_CARD.md"])
def test_exchanged_file_is_found(rewritten, name):
    """A file of the same size whose hash the manifest does not know."""
    with pytest.raises(BundleError, match=f"{name} has SHA-256"):
        open_bundle(rewritten(lambda contents: {**contents, name: bytes(len(contents[name]))}))


@pytest.mark.parametrize("name", ["manifest.json", "model.onnx", "golden.npz"])
def test_missing_file_is_found(rewritten, name):
    """The message says which."""

    def without(contents):
        return {held: content for held, content in contents.items() if held != name}

    with pytest.raises(BundleError, match=name):
        open_bundle(rewritten(without))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda manifest: manifest.update(colour="red"), "colour"),
        (lambda manifest: manifest.update(name="../x"), "name"),
        (lambda manifest: manifest.update(created_utc="yesterday"), "created_utc"),
        (lambda manifest: manifest["scorer"].update(scale="30"), "scorer.scale"),
        (lambda manifest: manifest["scorer"].update(scale=float("nan")), "scorer.scale"),
        (lambda manifest: manifest["feature_spec"].update(window_samples=10**12), "window_samples"),
        (lambda manifest: manifest["feature_spec"].update(hop_samples=0), "hop_samples"),
        (lambda manifest: manifest["feature_spec"].update(colour=1), "colour"),
        (lambda manifest: manifest["inputs"][0].update(shape=["batch", 10**12]), "inputs"),
        (lambda manifest: manifest["outputs"][1].update(shape=["batch", 7]), "cosine"),
        (lambda manifest: manifest.update(classes=["bldc/M1"] * 3), "classes"),
        (lambda manifest: manifest["thresholds"].update({"pump/P9": manifest["thresholds"]["bldc/M1"]}), "pump/P9"),
        (lambda manifest: manifest["thresholds"]["bldc/M1"].update(threshold="low"), "threshold"),
        (lambda manifest: manifest.update(schema_version="one"), "schema_version"),
    ],
)
def test_impossible_manifest_names_the_key(rewritten, change, said):
    """Unknown keys, wrong types, absurd shapes and what does not agree."""
    with pytest.raises(BundleError, match=said):
        open_bundle(rewritten(_with_manifest(change)))


def test_manifest_that_is_not_json_is_refused(rewritten):
    """Deeply nested JSON included."""
    for text in (b"", b"\xff\xfe", b"[" * 100_000):
        with pytest.raises(BundleError, match=r"manifest\.json"):
            open_bundle(rewritten(lambda contents, text=text: {**contents, "manifest.json": text}))


def _npz(**arrays) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def _golden_arrays() -> dict[str, np.ndarray]:
    return {name: getattr(_golden(), name) for name in ("wave", "log_mel", "embedding", "cosine", "label", "score")}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"wave": np.zeros((2, 7), np.float32)}, "wave"),
        ({"wave": np.zeros((2, 2_048), np.float64)}, "wave"),
        ({"score": np.array([np.nan, 0.0], np.float32)}, "not finite"),
        ({"label": np.array([0, 3])}, "labels"),
        ({"label": np.array([{}, {}], dtype=object)}, "label"),
        ({"stranger": np.zeros(3)}, "stranger"),
    ],
)
def test_golden_values_that_do_not_fit_are_refused(rewritten, changes, said):
    """Shape, type, finiteness and labels; objects are never unpickled."""
    with pytest.raises(BundleError, match=said):
        open_bundle(rewritten(_with_content("golden.npz", _npz(**{**_golden_arrays(), **changes}))))


def test_golden_array_that_claims_absurd_memory_is_refused(rewritten):
    """The header is compared with the manifest before an array is made."""
    data = _npz(**_golden_arrays()).replace(b"(2, 2048)", b"(9**9999)"[:9])
    with pytest.raises(BundleError, match=r"golden\.npz"):
        open_bundle(rewritten(_with_content("golden.npz", data)))


def test_compressed_golden_values_are_refused(rewritten):
    """A zip within the zip may not expand."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **_golden_arrays())
    with pytest.raises(BundleError, match="compressed"):
        open_bundle(rewritten(_with_content("golden.npz", buffer.getvalue())))


@pytest.mark.parametrize("kind", ["absent", "folder", "text", "empty", "zip"])
def test_what_is_no_bundle_is_named(tmp_path, kind):
    """The path is in the message, with what was expected."""
    path = tmp_path / "thing.asd"
    if kind == "folder":
        path.mkdir()
    elif kind == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("manifest.json", "{}")
    elif kind != "absent":
        path.write_text("hello" if kind == "text" else "")
    with pytest.raises(BundleError, match=r"thing\.asd.*expected"):
        open_bundle(path)


def test_class_that_is_not_there_suggests_the_nearest():
    """A slip of the pen in a config is answered with what was meant and what there is."""
    assert _description().class_index("bldc/M2") == 1
    with pytest.raises(
        BundleError, match=r"no class 'bldc/M3' \(did you mean 'bldc/M.'\?\).*bldc/M1, bldc/M2, fan/id_00"
    ):
        _description().class_index("bldc/M3")


def test_class_without_a_fitted_threshold_is_told():
    """A class that had no calibration clips is known but has no threshold."""
    assert _description().threshold("bldc/M2").threshold == -2.0
    with pytest.raises(BundleError, match="no threshold for fan/id_00"):
        _description().threshold("fan/id_00")


def test_failed_write_leaves_the_old_bundle_alone(tmp_path, write):
    """Values that no device would take replace nothing."""
    path = tmp_path / "test-model-1.2.3.asd"
    write(path)
    before = path.read_bytes()
    with pytest.raises(BundleError, match="wave"):
        write(path, golden=replace(_golden(), wave=np.zeros((2, 5), np.float32)))
    assert path.read_bytes() == before
    assert [path] == list(tmp_path.iterdir())
