"""A run that is stopped says so; what a stop or a cut may leave behind is gone on with or refused."""

import csv
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from edge_asd.errors import UsageError
from train.checkpoint import load_checkpoint
from train.keep_state import STATE_NAME, read_state

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_stopped_run_says_so_and_ends_with_the_code_of_its_signal(tones, tmp_path, number, code):
    """Whatever is chained to its success does not go on with half a training."""
    run = tmp_path / "run"
    options = ["--preset", "logmel-os-scl", "--epochs", "5000", "--batch-size", "2", "--windows-per-epoch", "2"]
    command = [sys.executable, "-m", "train.fit", str(tones), "--out", str(run), *options, "--no-compile"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        while not (run / "checkpoint.pt").exists():
            assert process.poll() is None
            time.sleep(0.05)
        process.send_signal(number)
        _, said = process.communicate(timeout=120)
    assert process.returncode == code
    assert "stopped before a state was kept: --resume begins anew" in " ".join(said.split())
    assert "Traceback" not in said
    assert not (run / "metrics.json").exists()


def test_stopped_run_names_the_step_that_it_goes_on_from(tones, tmp_path):
    """The state kept last. In a process of its own, which the signal may end."""
    torch.save({"run": {"identity": {}}, "global_step": 5}, tmp_path / STATE_NAME)
    script = (
        "import signal, sys; from train import fit; fit.fit = lambda *_, **__: signal.raise_signal(signal.SIGTERM); "
        "sys.exit(fit.main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", script, str(tones), "--out", str(tmp_path), "--resume"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=100)
    assert done.returncode == 143, done.stderr
    assert "stopped; the state of step 5 is kept: --resume goes on from there" in " ".join(done.stderr.split())


# As train.fit, its state saved at each step.
SAVING_EACH_STEP = """
import sys
from train import fit
fit.fit.__kwdefaults__["save_every_s"] = 0.0
sys.exit(fit.main(sys.argv[1:]))
"""


def start_two(arguments):
    """Start two processes as torchrun does, which would kill them where they take more than 30 s to end."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        meeting = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(probe.getsockname()[1])}
    places = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "GROUP_RANK": "0", "TORCHELASTIC_RUN_ID": "test"}
    return [
        subprocess.Popen(
            [sys.executable, "-c", SAVING_EACH_STEP, *arguments],
            cwd=ROOT,
            env=os.environ | meeting | places | {"RANK": rank, "LOCAL_RANK": rank, "OMP_NUM_THREADS": "1"},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in ("0", "1")
    ]


def ends(processes, timeout_s):
    """Exit codes of processes, and what they said; whatever is left then is killed."""
    try:
        said = [process.communicate(timeout=timeout_s)[1] for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [process.returncode for process in processes], " ".join("".join(said).split())


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_two_processes_that_were_stopped_go_on(tones, tmp_path):
    """Both are sent SIGTERM, as by torchrun, while one may be waiting for the other; neither hangs."""
    run = tmp_path / "run"
    options = ["--preset", "logmel-os-scl", "--epochs", "1", "--batch-size", "2", "--windows-per-epoch", "30"]
    arguments = [str(tones), "--out", str(run), *options, "--resume"]
    processes = start_two(arguments)
    while not (run / STATE_NAME).exists():
        assert [process.poll() for process in processes] == [None, None]
        time.sleep(0.05)
    for process in processes:
        process.send_signal(signal.SIGTERM)
    codes, said = ends(processes, timeout_s=300)
    kept = read_state(run)
    assert 0 < kept.n_steps < 15
    assert f"stopped; the state of step {kept.n_steps} is kept: --resume goes on from there" in said
    assert "Traceback" not in said
    assert codes == [143, 143]
    assert not (run / "metrics.json").exists()
    codes, said = ends(start_two(arguments), timeout_s=1200)
    assert codes == [0, 0], said
    with (run / "metrics.csv").open(newline="") as file:
        assert {row["step"] for row in csv.DictReader(file)} == {"14"}
    assert load_checkpoint(run).metrics["epoch"] == 0
    assert not (run / STATE_NAME).exists()


def test_foreign_state_is_refused(tmp_path):
    """By its name."""
    for content in (b"", b"some text", b"RIFF\x24\x00\x00\x00WAVEfmt "):
        (tmp_path / STATE_NAME).write_bytes(content)
        with pytest.raises(UsageError, match=r"state\.pt: not a readable state"):
            read_state(tmp_path)
    for plain in ([1], {"run": [], "global_step": 1}, {"run": {"identity": 3}, "global_step": 1}):
        torch.save(plain, tmp_path / STATE_NAME)
        with pytest.raises(UsageError, match=r"state\.pt: not a readable state"):
            read_state(tmp_path)
