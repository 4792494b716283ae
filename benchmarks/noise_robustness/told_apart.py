"""Whether the machine IDs can be told apart by sound: `python -m benchmarks.noise_robustness.told_apart DATA`.

The networks that the table's trainings left are asked which of the tested IDs a healthy clip is of: of recordings that
they were trained on, in other noise, and of recordings that they never heard. Where the first is right and the second
is not, the network knows its recordings by heart, and the margin score, which sets the IDs against each other, says
little. Beside it stands the AUC of the margin score and that of the cosine to the own ID alone, in stationary noise.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from benchmarks.noise_robustness.figures import figures_of_scores
from benchmarks.noise_robustness.methods import METHODS
from benchmarks.noise_robustness.mixtures import MixtureSet
from benchmarks.noise_robustness.sound import open_sound
from benchmarks.noise_robustness.trial import Protocol, Trial, open_trial, seed_folder
from edge_asd.errors import EdgeAsdError, UsageError
from edge_asd.score import MarginScorer
from edge_asd.types import FloatArray
from train.checkpoint import Checkpoint, load_checkpoint
from train.environment import write_figures
from train.features import LogMel
from train.network import Network
from train.resume import has_ended

_RESULTS = Path(__file__).resolve().parent.parent / "results" / "noise_robustness-told-apart.json"
_BATCH = 32


def main(arguments: Sequence[str] | None = None) -> int:
    """Ask the networks that there are, print and write what they say; returns the exit code."""
    protocol = Protocol()
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.noise_robustness.told_apart", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("data", type=Path, help="as for benchmarks.noise_robustness")
    parser.add_argument("--noise", type=Path, help="as for benchmarks.noise_robustness")
    parser.add_argument("--work", type=Path, default=Path("runs/noise_robustness"), help="where it left its networks")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2], metavar="N")
    parser.add_argument("--json", type=Path, default=_RESULTS)
    options = parser.parse_args(arguments)
    console = Console(stderr=True)
    try:
        sound = open_sound(options.data, options.work, noise=options.noise)
        rows = []
        for seed in options.seeds:
            folder = seed_folder(options.work, sound, protocol, seed)
            runs = [name for name in METHODS if has_ended(folder / name)]
            if runs:
                rows += _rows(open_trial(sound, seed, protocol, folder), runs)
        if not rows:
            raise UsageError(
                f"{options.work}: holds no trained network; expected what python -m benchmarks.noise_robustness leaves"
            )
        _print(rows, protocol)
        figures = {"sound": sound.facts(), "rows": rows}
        write_figures(options.json, "benchmarks.noise_robustness.told_apart", figures)
    except EdgeAsdError as error:
        console.print(f"error: {error}", style="red", highlight=False, markup=False, soft_wrap=True)
        return error.exit_code
    return 0


def _rows(trial: Trial, methods: Sequence[str]) -> list[dict[str, Any]]:
    rows = []
    for method in methods:
        checkpoint = load_checkpoint(trial.work / method)
        if isinstance(checkpoint.network, Network):  # no baseline
            rows.append({"method": method, "seed": trial.seed, **_figures(checkpoint, checkpoint.network, trial)})
    return rows


def _figures(checkpoint: Checkpoint, network: Network, trial: Trial) -> dict[str, Any]:
    """Shares of healthy clips whose own ID is the nearest of those tested, and AUC; by SNR in dB."""
    places = {name: index for index, name in enumerate(checkpoint.classes)}
    tested = [places[name] for name in trial.sides.classes]
    scorer = MarginScorer(network.spec.scale, network.spec.margin, n_classes=network.spec.n_classes)
    log_mel = LogMel(checkpoint.feature_spec)

    def cosines(mixtures: MixtureSet) -> tuple[FloatArray, NDArray[np.intp]]:
        """(N, classes), and the own class (N,)."""
        waves = torch.from_numpy(np.stack(list(mixtures.waves())))
        batches = (waves[start : start + _BATCH] for start in range(0, len(waves), _BATCH))
        with torch.inference_mode():
            heard = [network(batch, log_mel(batch))[1].numpy() for batch in batches]
        return np.concatenate(heard), np.array([places[name] for name in mixtures.class_names])

    def share_right(cosine: FloatArray, own: NDArray[np.intp]) -> float:
        return float((np.array(tested)[cosine[:, tested].argmax(axis=1)] == own).mean())

    by_snr: dict[str, dict[str, float]] = {"unheard": {}, "auc_margin": {}, "auc_cosine": {}}
    for snr_db in trial.protocol.snrs_db:
        mixtures = trial.test["stationary", snr_db]
        cosine, own = cosines(mixtures)
        healthy = np.array([not mixture.machine.is_anomaly for mixture in mixtures.mixtures])
        margin = scorer.score(cosine, own).astype(np.float64)
        alone = -cosine[np.arange(len(own)), own].astype(np.float64)
        by_snr["unheard"][f"{snr_db:g}"] = share_right(cosine[healthy], own[healthy])
        by_snr["auc_margin"][f"{snr_db:g}"] = figures_of_scores(margin, mixtures)["auc"]
        by_snr["auc_cosine"][f"{snr_db:g}"] = figures_of_scores(alone, mixtures)["auc"]
    return {"trained_on": share_right(*cosines(trial.memory["stationary"])), **by_snr}


def _print(rows: Sequence[dict[str, Any]], protocol: Protocol) -> None:
    table = Table(title="healthy clips whose own ID is the nearest, and AUC in stationary noise, mean over seeds, %")
    for name in ("network", "seeds", "recordings trained on", "SNR", "recordings never heard", "margin", "cosine"):
        table.add_column(name, justify="left" if name == "network" else "right")
    columns = ("unheard", "auc_margin", "auc_cosine")
    for method in dict.fromkeys(row["method"] for row in rows):
        members = [row for row in rows if row["method"] == method]
        trained_on = _percent([row["trained_on"] for row in members])
        for snr in (f"{snr_db:g}" for snr_db in protocol.snrs_db):
            figures = (_percent([row[name][snr] for row in members]) for name in columns)
            table.add_row(method, str(len(members)), trained_on, f"{snr} dB", *figures)
    Console(width=None if sys.stdout.isatty() else 150).print(table)


def _percent(values: Sequence[float]) -> str:
    return f"{100.0 * np.mean(values):.1f}"


if __name__ == "__main__":
    sys.exit(main())
