"""Two real processes train as one does with the same batch."""

import csv
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from train import fit
from train.checkpoint import load_checkpoint

ROOT = Path(__file__).resolve().parents[2]
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "train.fit"]


def in_two(arguments):
    return subprocess.run([*TORCHRUN, *arguments], cwd=ROOT, capture_output=True, text=True, check=False, timeout=900)


def curves(run):
    with (run / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    return {
        name: [float(row[name]) for row in rows if row[name]]
        for name in ("train_loss", "train_supcon", "train_noisy_arcmix", "validation_loss")
        if name in rows[0]
    }


def assert_alike(tones, tmp_path, options, rtol):
    options = [*options, "--precision", "32-true"]
    assert fit.main([str(tones), "--out", str(tmp_path / "one"), *options]) == 0
    ended = in_two([str(tones), "--out", str(tmp_path / "two"), *options])
    assert ended.returncode == 0, ended.stderr
    assert ended.stdout == f"{tmp_path / 'two' / 'checkpoint.pt'}\n"
    one, two = curves(tmp_path / "one"), curves(tmp_path / "two")
    assert len(one["train_loss"]) == len(two["train_loss"]) > 0
    for name, values in one.items():
        np.testing.assert_allclose(two[name], values, rtol=rtol, err_msg=name)
    first, second = (load_checkpoint(tmp_path / name).network.state_dict() for name in ("one", "two"))
    assert first.keys() == second.keys()
    for name in first:
        torch.testing.assert_close(second[name], first[name], rtol=0.0, atol=1e-3, msg=name)


def test_two_processes_have_the_losses_of_one(tones, tmp_path):
    """Mixup, SupCon and batch norm reach over both."""
    small = ["--preset", "logmel-os-scl", "--epochs", "2", "--batch-size", "4", "--windows-per-epoch", "8"]
    assert_alike(tones, tmp_path, small, rtol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        ["--epochs", "3", "--batch-size", "4"],
        ["--preset", "clp-scf", "--epochs", "2", "--contrastive-epochs", "2", "--batch-size", "4"],
        ["--preset", "logmel-os-scl", "--loss", "supcon", "--epochs", "2", "--batch-size", "4"],
        ["--preset", "logmel-os-scl", "--altered-share", "0.3", "--epochs", "2", "--batch-size", "4"],
    ],
)
def test_longer_curves_stay_together(tones, tmp_path, options):
    """Of the whole network, in two stages, without ArcFace, and with windows altered by chance."""
    assert_alike(tones, tmp_path, [*options, "--windows-per-epoch", "16"], rtol=1e-2)


@pytest.mark.parametrize("option", ["--batch-size 5", "--preset ae", "--compile"])
def test_what_cannot_be_shared_is_refused(tones, tmp_path, monkeypatch, capsys, option):
    """Before anything is written."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert fit.main([str(tones), "--out", str(tmp_path / "run"), *option.split()]) == 2
    told = " ".join(capsys.readouterr().err.split())
    assert option.replace("--preset", "preset").replace("size 5", "size is 5") in told
    assert "in 2 processes; expected" in told
    assert not (tmp_path / "run").exists()
