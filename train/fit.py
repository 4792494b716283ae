"""A data folder and settings in, a run folder with the checkpoint and all that led to it out."""

from __future__ import annotations

import argparse
import dataclasses
import logging
import sys
import warnings
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

from rich.console import Console

from edge_asd.errors import EdgeAsdError
from train.batch_norm import measure_batch_norm
from train.beginning import Beginning, begin
from train.checkpoint import CHECKPOINT_NAME, Checkpoint, load_checkpoint, save_checkpoint
from train.data.generated import GENERATED, SOUND
from train.evaluation.streams import metrics_of, print_scores, score_streams, write_scores
from train.keep_state import SAVE_EVERY_S, STATE_NAME
from train.network import Network
from train.plan import print_plan
from train.processes import Processes
from train.rehearsal import plan_run
from train.resume import has_ended, identity_of, open_or_resume, what_is_left
from train.run_folder import METRICS_NAME, hold_run, telling_of_a_full_disk, write_json, write_start
from train.settings import TrainingSettings
from train.settings_options import add_settings, settings_from
from train.stopping import Stopped, stoppable
from train.trainer import train_network


def fit(
    folder: Path,
    run: Path,
    settings: TrainingSettings,
    console: Console,
    *,
    resume: bool = False,
    save_every_s: float = SAVE_EVERY_S,
) -> Checkpoint:
    """Train on a data folder; what the run leaves lies in `run`: settings, split, metrics, scores, checkpoint.

    Started by torchrun, its processes train together; the first one alone writes, and scores at the end.

    Args:
        folder: data folder.
        run: folder of the run.
        settings: of the run.
        console: notes, progress and scores go there.
        resume: go on with the run in `run` where it was cut off; begin it where there is none, leave it where it ended.
        save_every_s: time between two savings of the state that a run goes on from.

    Raises:
        UsageError: the data or settings cannot be trained on, or `run` holds another run.
        ClipError: a clip cannot be used.
        UnavailableError: the device is not there.
        TemporaryError: another process trains into `run`.
        EdgeAsdError: the run folder cannot be written, or the loss is not finite.
    """
    beginning = begin(folder, settings, console)
    with hold_run(run) if beginning.processes.rank == 0 else nullcontext():
        return _fit_held(folder, run, beginning, console, resume=resume, save_every_s=save_every_s)


def _fit_held(
    folder: Path, run: Path, beginning: Beginning, console: Console, *, resume: bool, save_every_s: float
) -> Checkpoint:
    settings = beginning.module.settings
    identity = identity_of(folder, beginning)
    state = open_or_resume(run, identity, beginning.processes, resume=resume)
    if resume and has_ended(run):
        return load_checkpoint(run)
    is_first = beginning.processes.rank == 0
    with telling_of_a_full_disk(run):
        if is_first:
            write_start(
                run,
                settings,
                beginning.classes,
                beginning.split,
                beginning.recordings,
                folders={"data": folder},
                resumed_at=state.n_steps if state is not None else None,
            )
        train_network(run, beginning, identity, state, console, save_every_s=save_every_s)
        # A run that goes on may have begun with other clips to test on; those that are there now are scored.
        checkpoint = dataclasses.replace(load_checkpoint(run), split=beginning.split)
        sound = {SOUND: GENERATED} if beginning.generated else {}
        checkpoint = dataclasses.replace(checkpoint, training={**checkpoint.training, **sound})
        if not is_first:
            return checkpoint
        if isinstance(checkpoint.network, Network) and settings.batch_norm == "measured":
            n_windows = len(beginning.draws) * settings.all_epochs
            measure_batch_norm(checkpoint.network, beginning.windows, n_windows=n_windows, device=settings.device)
            save_checkpoint(run / CHECKPOINT_NAME, checkpoint)
        streams = score_streams(checkpoint, folder, device=settings.device)
        write_scores(run / "scores.csv", streams)
        checkpoint = dataclasses.replace(checkpoint, metrics={**checkpoint.metrics, **metrics_of(streams)})
        save_checkpoint(run / CHECKPOINT_NAME, checkpoint)
        write_json(run / METRICS_NAME, {**sound, **checkpoint.metrics})
        (run / STATE_NAME).unlink(missing_ok=True)
    print_scores(streams, console)
    return checkpoint


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="python -m train.fit",
        description="Train a network on healthy recordings; damaged ones serve for the test alone.",
        epilog="Example: python -m train.fit data/bldc_motor --preset tfstgram-os-scl --out runs/bldc. A quick try: "
        "--epochs 1 --limit 64. Several GPUs: torchrun --standalone --nproc-per-node 4 -m train.fit ... --device cuda",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("data", type=Path, help="data folder: DCASE, MIMII, with a metadata.csv, or prepared")
    parser.add_argument(
        "--out", type=Path, help="run folder: everything that the run leaves lies there; needed but for --dry-run"
    )
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="print clips, classes, steps, memory and estimated time by a few steps, and write nothing",
    )
    parser.add_argument(
        "--resume",
        action="store_true",
        help="go on with the run in --out where it was cut off; begin it where there is none, leave it where it ended",
    )
    add_settings(parser)
    options = parser.parse_args(arguments)
    if options.out is None and not options.dry_run:
        parser.error("the following arguments are required: --out, or --dry-run")
    is_first = Processes.from_environment().rank == 0
    console = Console(stderr=True, quiet=not is_first)
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    warnings.filterwarnings("ignore", module="lightning.*")  # advice on worker counts, not faults
    try:
        with stoppable():
            return _run(options, console)
    except Stopped as stopped:
        console.print(what_is_left(options.out), style="yellow", highlight=False, markup=False, soft_wrap=True)
        return stopped.exit_code
    except EdgeAsdError as error:
        Console(stderr=True).print(f"error: {error}", style="red", highlight=False, markup=False, soft_wrap=True)
        return error.exit_code


def _run(options: argparse.Namespace, console: Console) -> int:
    settings = settings_from(options)
    if options.dry_run:
        plan = plan_run(options.data, settings, console)
        print_plan(plan, Console(quiet=console.quiet))
        return 0
    checkpoint = fit(options.data, options.out, settings, console, resume=options.resume)
    if console.quiet:
        return 0
    for name, value in checkpoint.metrics.items():
        console.print(f"{name}: {value:.4g}", highlight=False, markup=False)
    print(options.out / CHECKPOINT_NAME)
    return 0


if __name__ == "__main__":
    sys.exit(main())
