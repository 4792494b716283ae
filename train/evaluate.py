"""A run and its data folder in, anomaly scores of every recording outside the training and of joined streams out."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from edge_asd.errors import EdgeAsdError
from train.checkpoint import load_checkpoint
from train.evaluation.streams import metrics_of, print_scores, score_streams, write_scores


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m train.evaluate",
        description="Score every recording that a run did not train on, alone and joined end to end by class.",
        epilog="Scores are z: higher is more anomalous. Example: python -m train.evaluate runs/bldc data/bldc_motor",
    )
    parser.add_argument("run", type=Path, help="run folder or checkpoint file of python -m train.fit")
    parser.add_argument("data", type=Path, help="the data folder that it was trained on")
    parser.add_argument("--csv", type=Path, help="write the score of every window to this file")
    options = parser.parse_args(arguments)
    try:
        streams = score_streams(load_checkpoint(options.run), options.data)
        if options.csv is not None:
            write_scores(options.csv, streams)
    except EdgeAsdError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    console = Console()
    print_scores(streams, console)
    for name, value in metrics_of(streams).items():
        console.print(f"{name}: {value:.4g}", highlight=False)
    return 0


if __name__ == "__main__":
    sys.exit(main())
