"""Two real processes train as one does with the same batch."""

import csv
import os
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
    # At the rates of the recipe rounding grows step by step: AdamW makes a step of the sign of a gradient near 0.
    rates = ["--learning-rate", "1e-6", "--final-learning-rate", "1e-6", "--contrastive-learning-rate", "1e-6"]
    options = [*options, *rates, "--precision", "32-true"]
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
        torch.testing.assert_close(second[name], first[name], rtol=0.1, atol=2e-3, msg=name)


# One step of one of the processes, or of one alone; its loss, gradients and statistics of batch norm go to a file.
# Arguments: rendezvous file, output file. Rank and count stand in the environment, as torchrun has them.
STEP = """
import sys
import torch
import torch.distributed as dist
from train.models import spec_for
from train.module import TrainingModule
from train.presets import preset_settings
from train.processes import Processes
from train.shared_batch_norm import share_batch_norm
torch.set_num_threads(1)
processes = Processes.from_environment()
settings = preset_settings("logmel-os-scl")
torch.manual_seed(0)
module = TrainingModule(spec_for(settings, ["a", "b", "c"]), settings, processes).train()
wave = 0.1 * torch.randn(8, 160_000)
label = torch.tensor([0, 1, 2, 0, 1, 2, 0, 1])
if processes.count > 1:
    dist.init_process_group(
        "gloo", init_method=f"file://{sys.argv[1]}", rank=processes.rank, world_size=processes.count
    )
    share_batch_norm(module.network)
rows = processes.rows(8)
loss = module.training_step((wave[rows], label[rows]), 0)
loss.backward()
found = {"loss": loss.detach()}
for name, parameter in module.network.named_parameters():
    if parameter.grad is not None:
        gradient = parameter.grad
        if processes.count > 1:  # what DistributedDataParallel does
            dist.all_reduce(gradient)
            gradient = gradient / processes.count
        found["gradient " + name] = gradient
found.update((name, entry) for name, entry in module.network.named_buffers() if "running" in name)
torch.save(found, sys.argv[2])
"""


def test_two_processes_have_the_loss_and_gradient_of_one(tmp_path):
    """Mixup, SupCon and batch norm reach over both."""
    started = []
    for count, rank in ((1, 0), (2, 0), (2, 1)):
        place = os.environ | {"RANK": str(rank), "WORLD_SIZE": str(count)}
        arguments = [str(tmp_path / "meeting"), str(tmp_path / f"{rank}_of_{count}.pt")]
        started.append(subprocess.Popen([sys.executable, "-c", STEP, *arguments], cwd=ROOT, env=place))
    assert [process.wait(600) for process in started] == [0, 0, 0]
    one, first, second = (torch.load(tmp_path / f"{name}.pt") for name in ("0_of_1", "0_of_2", "1_of_2"))
    assert one.keys() == first.keys() == second.keys()
    torch.testing.assert_close(first["loss"], one["loss"], rtol=1e-5, atol=0.0)
    largest = max(float(expected.norm()) for expected in one.values())
    for name, expected in one.items():
        assert torch.equal(first[name], second[name]), name
        # Rounding tips a few activations over the kink of PReLU, and leaves noise where the gradient is zero.
        assert float((first[name] - expected).norm()) <= 5e-3 * float(expected.norm()) + 1e-6 * largest, name


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        ["--preset", "logmel-os-scl", "--epochs", "2", "--batch-size", "4"],
        ["--epochs", "3", "--batch-size", "4"],
        ["--preset", "clp-scf", "--epochs", "2", "--contrastive-epochs", "2", "--batch-size", "4"],
        ["--preset", "logmel-os-scl", "--loss", "supcon", "--epochs", "2", "--batch-size", "4"],
        ["--preset", "logmel-os-scl", "--altered-share", "0.3", "--epochs", "2", "--batch-size", "4"],
    ],
)
def test_curves_stay_together(tones, tmp_path, options):
    """By torchrun, of the whole network too, in two stages, without ArcFace, and with windows altered by chance."""
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
