"""python -m export.tensorrt: what it leaves on the disk, on a CUDA device and a TensorRT that are none."""

from types import SimpleNamespace

import pytest

pytest.importorskip("torch", reason="the program is the workstation's")

from export import tensorrt as program


@pytest.fixture
def build(make_hand_bundle, monkeypatch, tmp_path):
    """A function that runs the program into a folder, without clips, and gives its exit code."""
    bundle = make_hand_bundle()
    for name in ("load_checkpoint", "check_same_model", "network_for_device", "find_calibration_clips"):
        monkeypatch.setattr(program, name, lambda *_: SimpleNamespace(classes=(), feature_spec=None))
    monkeypatch.setattr(program, "labelled_trial", lambda *_: None)
    monkeypatch.setattr(program, "half_from_fp32", lambda model: model)

    def run(out):
        return program.main([str(tmp_path), str(bundle.path), "--clips", str(tmp_path), "--out", str(out)])

    return run


@pytest.mark.parametrize("taken", ["engines", "engines/tensorrt.json", "engines/hand-1.0.0.tensorrt-int8.engine"])
def test_out_that_cannot_be_written_is_told_before_anything_is_built(build, tensorrt, tmp_path, capsys, taken):
    """A file where the folder should be, or a folder where a file should be: exit code 2, and no minutes are lost."""
    path = tmp_path / taken
    if taken == "engines":
        path.write_text("a file")
    else:
        path.mkdir(parents=True)
    assert build(tmp_path / "engines") == 2
    said = capsys.readouterr().err
    assert f"--out {tmp_path / 'engines'}: cannot be written (" in said
    assert "expected a folder to write into" in said
    assert tensorrt.builds == []


@pytest.mark.parametrize("failure", [KeyboardInterrupt(), None])
def test_engine_is_on_the_disk_as_soon_as_it_is_built(build, tensorrt, monkeypatch, tmp_path, failure):
    """Ctrl-C in the second build, or TensorRT's refusal, costs the second engine alone."""
    whole, asked = tensorrt.Builder.build_serialized_network, []

    def build_first_alone(builder, network, config):
        asked.append(1)
        if len(asked) == 1:
            return whole(builder, network, config)
        if failure:
            raise failure
        return None

    monkeypatch.setattr(tensorrt.Builder, "build_serialized_network", build_first_alone)
    if failure:
        with pytest.raises(KeyboardInterrupt):
            build(tmp_path / "engines")
    else:
        assert build(tmp_path / "engines") == 69
    (kept,) = (tmp_path / "engines").iterdir()
    assert kept.name == "hand-1.0.0.tensorrt-fp32.engine"
    assert kept.read_bytes().startswith(b"FAKEPLAN")
    assert len(asked) == 2
