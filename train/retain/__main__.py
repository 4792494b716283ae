"""Command line in, an encoder that keeps both sounds of a mixture out."""

from __future__ import annotations

import argparse
import importlib
import logging
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from edge_asd.errors import EdgeAsdError, UsageError
from train.resume import what_is_left
from train.retain.encoders import told
from train.retain.options import add_settings, settings_from
from train.retain.run import Retained, retain
from train.stopping import Stopped, stoppable


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m train.retain",
        description="Train an encoder on mixtures of healthy machine clips and noise so that its embedding keeps both, "
        "for scoring by nearest neighbours in noise that it never heard.",
        epilog="Example: python -m train.retain data/dcase2020 --noise data/esc50 --start-from runs/seed-0 "
        "--out runs/retained-0. A quick try: --steps 20 --warm-up-steps 2 --batch-size 4",
    )
    parser.add_argument("data", type=Path, help="data folder of the machines: DCASE, MIMII, metadata.csv, or prepared")
    parser.add_argument(
        "--noise",
        type=Path,
        required=True,
        metavar="FOLDER",
        help="noise clips; their tags are in its metadata.csv (file, tag, group), or the names of their folders",
    )
    parser.add_argument(
        "--test-noise",
        type=Path,
        action="append",
        default=[],
        metavar="FOLDER",
        help="noise that will be tested with: refused where a clip of it is in --noise too; may be given again",
    )
    parser.add_argument("--out", type=Path, required=True, help="run folder: everything that the run leaves lies there")
    parser.add_argument(
        "--import",
        dest="plugins",
        action="append",
        default=[],
        metavar="MODULE",
        help="Python module that registers encoders (train.retain.encoders.register_encoder); may be given again",
    )
    parser.add_argument(
        "--resume",
        action="store_true",
        help="go on with the run in --out where it was cut off; begin it where there is none, leave it where it ended",
    )
    add_settings(parser)
    options = parser.parse_args(arguments)
    console = Console(stderr=True)
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", module="lightning.*")  # advice on worker counts, not faults
    try:
        with stoppable():
            retained = _run(options, console)
    except Stopped as stopped:
        console.print(what_is_left(options.out), style="yellow", highlight=False, markup=False, soft_wrap=True)
        return stopped.exit_code
    except EdgeAsdError as error:
        console.print(f"error: {error}", style="red", highlight=False, markup=False, soft_wrap=True)
        return error.exit_code
    for name, value in retained.metrics.items():
        console.print(f"{name}: {value:.4g}", highlight=False, markup=False)
    print(retained.file)
    return 0


def _run(options: argparse.Namespace, console: Console) -> Retained:
    for name in options.plugins:
        _import(name)
    return retain(
        options.data,
        options.noise,
        options.out,
        settings_from(options),
        console,
        test_noise=options.test_noise,
        resume=options.resume,
    )


def _import(name: str) -> None:
    expected = "a Python module that can be imported from here and calls train.retain.encoders.register_encoder"
    try:
        importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise UsageError(f"--import {name}: {error}; expected {expected}") from error
    except Exception as error:  # a user's code may raise whatever it likes
        raise UsageError(f"--import {name}: {told(error)}; expected {expected}") from error


if __name__ == "__main__":
    sys.exit(main())
