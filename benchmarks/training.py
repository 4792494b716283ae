"""Windows a second that `train.fit` trains on, against a plain loop as public code of the recipe has it.

`python -m benchmarks.training [--quick] [--json FILE] [--device cuda]`. Both train TFSTgram OS-SCL on the same
generated clips of 41 machines, each in a process of its own, and take turns of a few steps. The plain loop's first
batch is loaded before its clock starts. Compiling is not in the rate; it is told on its own.
"""

from __future__ import annotations

import argparse
import csv
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import torch
from rich.progress import track

from benchmarks.report import print_table, write_report
from benchmarks.turns import contestant
from edge_asd.errors import UnavailableError
from train.prepare import prepare

PLAIN, PRODUCT = "plain", "product"
RECIPE_CLIPS = 20_000
RECIPE_EPOCHS = 300
"""Of DCASE 2020 Task 2, development and additional training data, as published."""
_N_CLASSES = 41
_CLIPS_PER_CLASS = 3  # the fewest that split into training, validation and test
_PAUSE_S = 0.2  # until the threads of the other one sleep


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the table, write the JSON."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.training", description=(__doc__ or "").split("\n", 1)[0]
    )
    parser.add_argument("--quick", action="store_true", help="small batches, few of them: a try, no figure")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="where both train")
    parser.add_argument(
        "--json", type=Path, help="where to write the results (default: benchmarks/results; with --quick nowhere)"
    )
    options = parser.parse_args(arguments)
    if options.device == "cuda" and not torch.cuda.is_available():
        print("error: --device is cuda and torch finds no CUDA device; expected one; use --device cpu", file=sys.stderr)
        return UnavailableError.exit_code
    batch_size, rounds, n_steps = (4, 2, 2) if options.quick else (64, 3, 2)
    if options.device == "cuda":
        rounds, n_steps = (2, 5) if options.quick else (10, 50)
    with tempfile.TemporaryDirectory() as folder:
        clips, prepared = Path(folder, "clips"), Path(folder, "prepared")
        _write_clips(clips)
        prepare(clips, prepared)
        contestants, about = measure(
            {PLAIN: clips, PRODUCT: prepared},
            batch_size=batch_size,
            rounds=rounds,
            n_steps=n_steps,
            device=options.device,
        )
    ratios = {"product over plain": contestants[PRODUCT]["windows_per_s"] / contestants[PLAIN]["windows_per_s"]}
    print_table("training", contestants, ratios)
    hours = {name: recipe_hours(figures["windows_per_s"]) for name, figures in contestants.items()}
    for name, value in hours.items():
        print(
            f"{name}: {RECIPE_CLIPS} clips, {RECIPE_EPOCHS} epochs would take {value:.1f} h at this rate "
            "(extrapolated from the steps measured, without validation)"
        )
    details: dict[str, Any] = {
        "recipe": {"preset": "tfstgram-os-scl", "batch_size": batch_size, "classes": _N_CLASSES},
        "device": _device_name(options.device),
        "about": about,
        "extrapolated_hours": {"clips": RECIPE_CLIPS, "epochs": RECIPE_EPOCHS, **hours},
    }
    name = "training-gpu" if options.device == "cuda" else "training"
    if options.json is None and options.quick:
        return 0  # a try is no figure to replace one by
    write_report(name, contestants, ratios, path=options.json, details=details)
    return 0


def recipe_hours(windows_per_s: float) -> float:
    """How long the published training would take at this rate, validation left out."""
    return RECIPE_CLIPS * RECIPE_EPOCHS / windows_per_s / 3_600


def measure(
    folders: dict[str, Path], *, batch_size: int, rounds: int, n_steps: int, device: str
) -> tuple[dict[str, dict[str, float]], dict[str, Any]]:
    """Let both take turns; returns their figures, and what each says of itself.

    Args:
        folders: data of each contestant.
        batch_size: windows a step.
        rounds: turns of each that count; two more come ahead of them.
        n_steps: of a turn.
        device: cpu or cuda.
    """
    steps_s: dict[str, list[float]] = {name: [] for name in folders}
    with ExitStack() as stack:
        runners = {
            name: stack.enter_context(
                contestant("benchmarks.training_contestant", [name, str(folder), str(batch_size), device])
            )
            for name, folder in folders.items()
        }
        warm_up_s = {name: sum(runner.ask("1")["seconds"] for _ in range(2)) for name, runner in runners.items()}
        for number in track(range(rounds), "measuring", transient=True, disable=not sys.stderr.isatty()):
            for name in list(runners)[:: 1 if number % 2 else -1]:
                time.sleep(_PAUSE_S)
                turn = runners[name].ask(str(n_steps))
                steps_s[name].append(turn["seconds"] / n_steps)
        about = {name: runner.ready for name, runner in runners.items()}
    figures = {
        name: {
            "windows_per_s": batch_size / float(np.median(times_s)),
            "step_p50_s": float(np.median(times_s)),
            "step_max_s": float(np.max(times_s)),
            "steps": float(rounds * n_steps),
            "first_two_steps_s": warm_up_s[name],
        }
        for name, times_s in steps_s.items()
    }
    return figures, about


def _write_clips(folder: Path) -> None:
    """A tone in noise for each machine: what is in a clip changes no time."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    seconds = np.arange(160_000) / 16_000
    with (folder / "metadata.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["file", "machine_type", "machine_id", "label", "split", "group"])
        for machine in range(_N_CLASSES):
            for number in range(_CLIPS_PER_CLASS):
                name = f"{machine:02}_{number}.wav"
                wave = 0.1 * np.sin(2.0 * np.pi * (100.0 + 50.0 * machine) * seconds)
                soundfile.write(folder / name, wave + 0.02 * rng.standard_normal(len(wave)), 16_000)
                writer.writerow([name, "tone", f"id_{machine:02}", "normal", "none", name])


def _device_name(device: str) -> str:
    return torch.cuda.get_device_name() if device == "cuda" else "cpu"


if __name__ == "__main__":
    sys.exit(main())
