"""How well each method hears damage through noise: `python -m benchmarks.noise_robustness DATA [--quick]`.

Each method is trained once a seed on mixtures of 10 to -10 dB in stationary noise and tested at 10, 0, -5 and -10 dB in
stationary, non-stationary and mismatched noise. A row is written to the JSON as soon as it is done; a later start with
the same JSON does those that are absent. Docs: docs/noise-robustness.md.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

from rich.console import Console

from benchmarks.noise_robustness.figures import FIGURES, figures_of
from benchmarks.noise_robustness.methods import Compute, Method
from benchmarks.noise_robustness.picture import draw
from benchmarks.noise_robustness.results import ResultRow, Results
from benchmarks.noise_robustness.scorers import SCORERS
from benchmarks.noise_robustness.sound import Sound, open_sound
from benchmarks.noise_robustness.studies import STUDIES
from benchmarks.noise_robustness.table import markdown, print_tables
from benchmarks.noise_robustness.trial import CASES, Protocol, Trial, seed_folder
from edge_asd.errors import EdgeAsdError, UsageError
from train.settings import Device, Precision
from train.stopping import Stopped, stoppable

_RESULTS = Path(__file__).resolve().parent.parent / "results"


def main(arguments: Sequence[str] | None = None) -> int:
    """Do the rows that are absent, print the table; returns the exit code."""
    options = _parser().parse_args(arguments)
    console = Console(stderr=True)
    try:
        with stoppable(), tempfile.TemporaryDirectory() as quick_folder:
            results = measure(options, Path(quick_folder), console)
        if options.picture is not None:
            draw(results.rows, options.picture, scorer=options.picture_scorer, figure=options.figure)
    except Stopped as stopped:
        console.print("stopped; the same command goes on where it was", style="yellow", highlight=False)
        return stopped.exit_code
    except EdgeAsdError as error:
        console.print(f"error: {error}", style="red", highlight=False, markup=False, soft_wrap=True)
        return error.exit_code
    if options.markdown:
        for case in CASES:
            print(f"{case} noise:\n\n{markdown(results.rows, case=case, figure=options.figure)}")
    else:
        print_tables(results.rows, figure=options.figure, console=Console(width=None if sys.stdout.isatty() else 150))
    return 0


def measure(options: argparse.Namespace, quick_folder: Path, console: Console) -> Results:
    """Do the rows that are absent.

    quick_folder: where a quick run leaves everything.

    Raises:
        EdgeAsdError: the sound cannot be used, a training fails, or something cannot be written.
    """
    study = STUDIES[options.study]
    methods = options.methods or (study.quick_methods if options.quick else tuple(study.methods))
    unknown = sorted(set(methods) - set(study.methods))
    if unknown:
        raise UsageError(f"--methods {unknown[0]}: study {options.study} has {', '.join(study.methods)}")
    full = dataclasses.replace(study.protocol, windows=options.windows, learning_rate=options.learning_rate)
    protocol = study.quick if options.quick else full
    work = quick_folder if options.quick else options.work
    sound = open_sound(options.data, work, noise=options.noise)
    facts = sound.facts()
    path = options.json or (
        quick_folder / "quick.json" if options.quick else _RESULTS / f"{_name(sound)}{study.suffix}.json"
    )
    results = Results(path, facts, protocol)
    compute = Compute(device=options.device, precision=options.precision, compile=options.compile)
    for seed in options.seeds or ([0] if options.quick else [0, 1, 2]):
        absent = [method for method in methods if not results.has(method, seed)]
        if not absent:
            continue
        trial = study.open(sound, seed, protocol, seed_folder(work, sound, protocol, seed))
        for method in absent:
            row = measure_row(method, study.methods[method], trial, compute)
            results.add(row, tuple(study.methods))
            console.print(
                f"{method}, seed {seed}: trained {row.training_s:.0f} s, scored {row.scoring_s:.0f} s", highlight=False
            )
    return results


def measure_row(name: str, method: Method, trial: Trial, compute: Compute) -> ResultRow:
    """Train and test one method."""
    fitted = method(trial, compute)
    began_s = time.perf_counter()
    figures = figures_of(fitted, trial)
    return ResultRow(
        method=name,
        seed=trial.seed,
        figures=figures,
        training_s=fitted.cost.training_s,
        training_cpu_s=fitted.cost.training_cpu_s,
        scoring_s=time.perf_counter() - began_s,
        steps=fitted.cost.steps,
        parameters=fitted.cost.parameters,
        multiply_adds=fitted.cost.multiply_adds,
        settings=fitted.settings,
        compute=dataclasses.asdict(compute),
    )


def _name(sound: Sound) -> str:
    return f"noise_robustness-{'generated' if sound.generated else sound.name}"


def _parser() -> argparse.ArgumentParser:
    protocol = Protocol()
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.noise_robustness",
        description="Damage heard through noise: methods trained once a seed, tested in three kinds of noise.",
        epilog="Rows that the JSON holds are not done again: end it at any time and start it once more.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("data", type=Path, help="holds uav_propeller and esc50; or itself a data folder of machines")
    parser.add_argument(
        "--noise", type=Path, help="noise with a metadata.csv (file, tag, group); else esc50 or generated"
    )
    parser.add_argument("--quick", action="store_true", help="a minute, with next to no training: whether it runs")
    parser.add_argument("--study", choices=STUDIES, default="methods", help="rivals, or an encoder after train.retain")
    parser.add_argument("--methods", nargs="+", metavar="M", help="some of the study's; by default all")
    parser.add_argument("--seeds", nargs="+", type=int, metavar="N", help="by default 0 1 2")
    parser.add_argument("--windows", type=int, default=protocol.windows, help="that each training draws")
    parser.add_argument(
        "--learning-rate", type=float, default=protocol.learning_rate, help="of networks with margin, at the start"
    )
    parser.add_argument("--device", choices=get_args(Device), default="cpu", help="that trains and scores")
    parser.add_argument("--precision", choices=get_args(Precision), default="32-true", help="of training")
    parser.add_argument("--compile", action="store_true", help="compile the networks for training")
    parser.add_argument("--work", type=Path, default=Path("runs/noise_robustness"), help="mixtures and runs lie there")
    parser.add_argument("--json", type=Path, help="results, and what is done already (default: benchmarks/results)")
    parser.add_argument("--figure", choices=FIGURES, default="auc", help="that the tables show")
    parser.add_argument("--picture", type=Path, help="draw the figure over the SNR there: SVG, PNG or PDF")
    parser.add_argument("--picture-scorer", choices=SCORERS, default="k-NN", metavar="S", help="that the picture shows")
    parser.add_argument("--markdown", action="store_true", help="print the tables in Markdown")
    return parser


if __name__ == "__main__":
    sys.exit(main())
