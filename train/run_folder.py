"""What a training run is made of in, the files that say so beside its checkpoint out."""

from __future__ import annotations

import csv
import dataclasses
import fcntl
import json
import os
import shlex
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import torch

from edge_asd.errors import EdgeAsdError, TemporaryError, UsageError
from train.checkpoint import CHECKPOINT_NAME
from train.curves import CURVES_NAME
from train.data import Recording, Split
from train.environment import environment, git_state


class RunSettings(Protocol):
    """Settings of a run of any kind."""

    @property
    def seed(self) -> int:
        """Of all chance."""
        ...

    @property
    def device(self) -> str:
        """That trains: cpu or cuda."""
        ...

    def as_plain(self) -> dict[str, Any]:
        """Every setting by its name, for files."""
        ...


_SETTINGS_NAME = "settings.json"
IDENTITY_NAME = "identity.json"
"""What a run depends on; a folder that holds it holds a run."""
METRICS_NAME = "metrics.json"
"""Written when a run ends."""


@contextmanager
def hold_run(run: Path) -> Iterator[None]:
    """Keep others from training into the folder of a run, which is made where it is not there.

    Raises:
        UsageError: it cannot be made.
        TemporaryError: another process trains into it.
    """
    try:
        run.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(run, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise _unwritable(run, error) from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)  # given back however the process ends
        except BlockingIOError as error:
            raise TemporaryError(
                f"{run}: another process trains into it; expected one at a time; wait for it or give another --out"
            ) from error
        yield
    finally:
        os.close(descriptor)


def _unwritable(run: Path, error: OSError) -> UsageError:
    return UsageError(f"{run}: cannot be written: {error.strerror}; expected a writable folder; give another --out")


def open_run(run: Path, *, over_unfinished: bool = False) -> None:
    """Make the folder of a run.

    over_unfinished: a checkpoint of a run that was cut off before it kept its state is no obstacle.

    Raises:
        UsageError: it holds a run already or something else, or cannot be written.
    """
    if ((run / CHECKPOINT_NAME).exists() or (run / METRICS_NAME).exists()) and not over_unfinished:
        raise UsageError(f"{run}: holds a run already; expected a new or empty folder; give another --out or remove it")
    try:
        run.mkdir(parents=True, exist_ok=True)
        found = {path.name for path in run.iterdir()}
        begun = found <= {CURVES_NAME} or IDENTITY_NAME in found  # the curves are written ahead of it
        if not begun:
            raise UsageError(
                f"{run}: holds {', '.join(sorted(found)[:5])}, and no run that was cut off; expected a new or empty "
                "folder; give another --out"
            )
        (run / CURVES_NAME).write_text("")  # a folder that cannot be written is told before the first step
    except OSError as error:
        raise _unwritable(run, error) from error


def write_start(
    run: Path,
    settings: RunSettings,
    classes: Sequence[str],
    split: Split,
    recordings: Sequence[Recording],
    *,
    folders: Mapping[str, Path],
    resumed_at: int | None,
) -> None:
    """Write what a run is made of before it trains, so that a run that never ends tells it too.

    Where it begins: settings.json, classes.json, command.txt and environment.json. Where it goes on, what may be other
    than it was: environment-step-N.json. Each time split.csv, as clips for the test alone may change.

    Args:
        run: folder of the run.
        settings: of the run.
        classes: that it tells apart.
        split: of the recordings.
        recordings: all of the data.
        folders: that it reads, by what they hold.
        resumed_at: step that it goes on from; None: it begins.

    Raises:
        EdgeAsdError: a file cannot be written.
        OSError: split.csv cannot.
    """
    command = shlex.join(sys.orig_argv)
    if resumed_at is None:
        write_json(run / _SETTINGS_NAME, settings.as_plain())
        write_json(run / "classes.json", list(classes))
        write_text(run / "command.txt", command + "\n")
    name = "environment.json" if resumed_at is None else f"environment-step-{resumed_at}.json"
    read = {what: str(folder.resolve()) for what, folder in folders.items()}
    write_json(run / name, {"command": command, "folders": read, **_environment(settings)})
    by_file = {recording.file: recording for recording in recordings}
    with (run / "split.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["file", "class", "side", "group"])
        for side, files in dataclasses.asdict(split).items():
            for name in files:
                writer.writerow([name, by_file[name].class_name, side, by_file[name].group])


def read_settings(run: Path) -> dict[str, Any]:
    """The settings that a run began with.

    Raises:
        UsageError: they cannot be read.
    """
    path = run / _SETTINGS_NAME
    try:
        settings: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: cannot be read ({error}); expected the settings of the run; remove {run}") from error
    return settings


@contextmanager
def telling_of_a_full_disk(run: Path) -> Iterator[None]:
    """Say of a failure to write, wherever it comes from, which run it ended and what to do.

    Raises:
        EdgeAsdError: in place of the OSError.
    """
    try:
        yield
    except OSError as error:
        raise EdgeAsdError(
            f"{run}: the run cannot be written: {error}; what it saved last is whole; free the disk and give --resume"
        ) from error


def write_json(path: Path, content: Any) -> None:
    """Write a file of JSON.

    Raises:
        EdgeAsdError: it cannot be written.
    """
    write_text(path, json.dumps(content, indent=2) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a file of text.

    Raises:
        EdgeAsdError: it cannot be written.
    """
    try:
        path.write_text(text, encoding="utf-8", errors="surrogateescape")  # a path in it need not be UTF-8
    except OSError as error:
        raise EdgeAsdError(
            f"{path}: cannot be written: {error.strerror}; free the disk or give another --out"
        ) from error


def _environment(settings: RunSettings) -> dict[str, Any]:
    """What a run depends on beside its settings and data."""
    return {
        "git": git_state(),
        **environment(),
        "device": torch.cuda.get_device_name() if settings.device == "cuda" else "cpu",
        "torch_threads": torch.get_num_threads(),
        "seeds": {"split": settings.seed, "weights": settings.seed, "windows": settings.seed, "mixup": settings.seed},
    }
