"""edge-asd engine: built ahead of the first start, listed, verified, cleaned; with and without a GPU."""

import pytest

from edge_asd.artifacts import Artifacts
from edge_asd.cli import main
from edge_asd.cuda import driver


@pytest.fixture
def config(make_hand_bundle, tmp_path):
    """A device with the hand network."""
    bundle = make_hand_bundle()
    path = tmp_path / "device.yaml"
    path.write_text(
        f"""schema: 1
site: plant
device: line
bundle: {bundle.path}
state_dir: state
trust: {{require_signature: false}}
machines:
  - name: motor
    listens_to: bldc/M1
    source: {{device: null}}
    threshold: 1.0
"""
    )
    return path


def engine(action, config, *more):
    return main(["engine", action, "--config", str(config), *more])


def test_engine_is_built_listed_verified_and_removed(install_tensorrt, config, capsys) -> None:
    """Build says that the self-test passes; list and verify show what is kept; clean --all leaves nothing."""
    tensorrt = install_tensorrt()
    assert engine("build", config) == 0
    assert "runs on tensorrt-int8, the self-test passes" in capsys.readouterr().out
    assert engine("build", config) == 0
    assert len(tensorrt.builds) == 1
    capsys.readouterr()
    assert engine("list", config) == 0
    listed = capsys.readouterr().out
    assert all(word in listed for word in ("engine", "kernel", "timing", "int8", "10.3.0", "Fake"))
    assert engine("verify", config) == 0
    assert capsys.readouterr().out.count(": sound, sha256 ") == 3
    assert engine("clean", config) == 0
    assert capsys.readouterr().out == ""
    assert engine("clean", config, "--all") == 0
    assert capsys.readouterr().out.count("removed") == 3
    assert engine("list", config) == 0
    assert "nothing is kept" in capsys.readouterr().out


def test_damaged_and_foreign_files_are_told_and_removed(install_tensorrt, config, tmp_path, capsys) -> None:
    """Verify names what is damaged (exit 65) and what is of another TensorRT; clean removes both and nothing else."""
    install_tensorrt("10.3.0")
    assert engine("build", config) == 0
    install_tensorrt("10.13.3")
    assert engine("build", config) == 0
    store = Artifacts(tmp_path / "state" / "engines")
    (store.folder / ".engine-0.bin.half").write_bytes(b"left by a build that was ended")
    kernel = next(store.folder.glob("kernel-*"))
    kernel.write_bytes(kernel.read_bytes()[:-4])
    capsys.readouterr()
    assert engine("verify", config) == 65
    verified = capsys.readouterr().out.splitlines()
    assert sum("damaged: was altered or cut" in line for line in verified) == 1
    assert sum("sound, but of another GPU, TensorRT" in line for line in verified) == 2
    assert engine("clean", config) == 0
    assert capsys.readouterr().out.count("removed") == 3
    assert engine("verify", config) == 0
    assert len(store.paths()) == 2
    assert store.unfinished() == ()


def test_kernel_of_another_architecture_is_foreign(install_tensorrt, config, tmp_path, capsys) -> None:
    """A kernel is of no use on another architecture, whatever TensorRT: clean removes it and leaves the engine."""
    install_tensorrt()
    assert engine("build", config) == 0
    store = Artifacts(tmp_path / "state" / "engines")
    path = store.put("kernel", {"architecture": "sm_110", "nvrtc": "13.0"}, b"kernel of Thor")
    capsys.readouterr()
    assert engine("verify", config) == 0
    assert f"{path}: sound, but of another GPU" in capsys.readouterr().out
    assert engine("clean", config) == 0
    assert capsys.readouterr().out == f"{path}: removed\n"


def test_what_cannot_be_removed_is_told(install_tensorrt, config, tmp_path, capsys) -> None:
    """A folder in an engine's place is a line and exit 65, not a traceback; the rest is removed."""
    install_tensorrt()
    assert engine("build", config) == 0
    store = Artifacts(tmp_path / "state" / "engines")
    path = next(store.folder.glob("engine-*"))
    path.unlink()
    path.mkdir()
    capsys.readouterr()
    assert engine("clean", config, "--all") == 65
    cleaned = capsys.readouterr().out
    assert f"{path}: cannot be removed" in cleaned
    assert cleaned.count(": removed") == 2


def test_without_a_gpu_build_says_why_and_nothing_is_taken_for_foreign(
    install_tensorrt, config, monkeypatch, capsys
) -> None:
    """On a machine whose GPU is gone, what was built for it stays."""
    install_tensorrt()
    assert engine("build", config) == 0
    monkeypatch.setattr(driver, "LIBRARY", "libcuda-of-no-machine.so")
    capsys.readouterr()
    assert engine("build", config) == 69
    assert "no CUDA driver" in capsys.readouterr().err
    assert engine("clean", config) == 0
    assert capsys.readouterr().out == ""
