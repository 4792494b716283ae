"""Command line in, a folder of generated machine sound out."""

from __future__ import annotations

import argparse
import math
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from edge_asd.errors import EdgeAsdError, UsageError
from train.synth.background import GeneratedBackground, RecordedBackground
from train.synth.data_set import Settings, write_data_set
from train.synth.plan import DEFAULT_SEVERITY, DEFAULT_SNR_DB, plan_clips
from train.synth.types import MACHINES

_MAX_THREADS = 32
_MAX_COUNT = 10_000


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    options = _parser().parse_args(arguments)
    console = Console(stderr=True)
    try:
        _check(options)
        clips = plan_clips(
            options.types,
            ids=options.ids,
            train=options.train,
            test=options.test,
            seed=options.seed,
            severity=options.severity,
        )
        settings = Settings(
            seed=options.seed,
            severity=options.severity,
            snr_db=options.snr_db,
            noise=options.noise.resolve().name if options.noise else "",
        )
        background = RecordedBackground(options.noise) if options.noise else GeneratedBackground()
        columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
        with Progress(TextColumn("generating"), *columns, console=console) as bar:
            task = bar.add_task("", total=len(clips))
            write_data_set(
                options.out,
                clips,
                settings,
                background,
                threads=options.threads,
                progress=lambda done, of: bar.update(task, completed=done, total=of),
            )
    except EdgeAsdError as error:
        console.print(f"error: {error}", style="red", highlight=False, markup=False, soft_wrap=True)
        return error.exit_code
    print(options.out)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m train.synth",
        description="Generate machine sound from formulas of machine acoustics, healthy and damaged, in the layout of "
        "DCASE 2020: for tests, throughput, and users without data yet. The same options give the same bytes.",
        epilog="Example: python -m train.synth data/generated --ids 4 --train 50 --test 20; "
        "python -m train.fit data/generated --out runs/generated",
    )
    parser.add_argument("out", type=Path, metavar="OUT", help="folder to write; absent or empty")
    parser.add_argument("--types", nargs="+", choices=list(MACHINES), default=list(MACHINES), help="default: all six")
    parser.add_argument("--ids", type=int, default=7, metavar="N", help="units of each type (default: %(default)s)")
    parser.add_argument(
        "--train", type=int, default=100, metavar="N", help="healthy training clips a unit (default: %(default)s)"
    )
    parser.add_argument(
        "--test",
        type=int,
        default=20,
        metavar="N",
        help="healthy test clips a unit, and as many damaged ones (default: %(default)s)",
    )
    parser.add_argument("--seed", type=int, default=0, help="of everything (default: %(default)s)")
    parser.add_argument(
        "--severity",
        type=float,
        default=DEFAULT_SEVERITY,
        help="mean of the damage, above 0 to 2; 1 is severe (default: %(default)s)",
    )
    parser.add_argument("--noise", type=Path, metavar="FOLDER", help="recorded background (default: it is generated)")
    parser.add_argument(
        "--snr-db", type=float, default=DEFAULT_SNR_DB, help="machine over background (default: %(default)s)"
    )
    parser.add_argument(
        "--threads", type=int, default=min(_MAX_THREADS, os.cpu_count() or 1), metavar="N", help="default: one a core"
    )
    return parser


def _check(options: argparse.Namespace) -> None:
    """Raise UsageError where a number is out of its range."""
    for name, low, high in (
        ("ids", 1, 100),
        ("train", 1, _MAX_COUNT),
        ("test", 1, _MAX_COUNT),
        ("threads", 1, _MAX_THREADS),
        ("seed", 0, 2**63),
    ):
        value = getattr(options, name)
        if not low <= value <= high:
            raise UsageError(f"--{name} is {value}; expected {low} to {high}")
    if len(set(options.types)) < len(options.types):
        raise UsageError(f"--types is {' '.join(options.types)}; expected each type once; name it once")
    if not 0.0 < options.severity <= 2.0:
        raise UsageError(f"--severity is {options.severity}; expected above 0 and up to 2")
    if not math.isfinite(options.snr_db) or abs(options.snr_db) > 60.0:
        raise UsageError(f"--snr-db is {options.snr_db}; expected -60 to 60")


if __name__ == "__main__":
    sys.exit(main())
