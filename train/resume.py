"""A run folder and what its run depends on in, the state that it goes on from, or that it begins, out."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edge_asd.errors import EdgeAsdError, UsageError
from train.beginning import Beginning
from train.data.folder import stat_of
from train.data.prepared import is_prepared, read_index
from train.keep_state import STATE_NAME, State, read_state
from train.processes import Processes
from train.run_folder import IDENTITY_NAME, METRICS_NAME, open_run, read_settings, write_json


def identity_of(folder: Path, beginning: Beginning) -> dict[str, Any]:
    """By name, all that a run must not be resumed without: settings, what it learns from, its sound, processes."""
    split = {"train": beginning.split.train, "validation": beginning.split.validation}
    files = sorted({*beginning.split.train, *beginning.split.validation})
    return {
        "settings": beginning.module.settings.as_plain(),
        "classes": list(beginning.classes),
        "split": digest_of(split),
        "sound": digest_of(sound_of(folder, files)),
        "processes": beginning.processes.count,
    }


def sound_of(folder: Path, files: Sequence[str]) -> list[Any]:
    """What changes when one of the clips does."""
    if is_prepared(folder):
        clips = read_index(folder).clips
        return [
            (file, clips[file].digest) if clips[file].digest else (file, clips[file].start, clips[file].n_samples)
            for file in files
        ]
    # Without the time of change of the inode: data that was copied with its times lets a run go on elsewhere.
    return [(file, *stat_of(folder / file)[:2]) for file in files]


def digest_of(content: Any) -> str:
    """A few bytes in hex that stand for plain content."""
    return hashlib.blake2b(repr(content).encode(), digest_size=16).hexdigest()


def has_ended(run: Path) -> bool:
    """Whether the run in this folder came to its end."""
    return (run / METRICS_NAME).is_file() and not (run / STATE_NAME).exists()


def what_is_left(run: Path | None) -> str:
    """What a run that was stopped left to go on from, in words; None: it had no folder."""
    try:
        state = read_state(run) if run is not None else None
    except EdgeAsdError as error:
        return f"stopped; {error}"
    if state is not None:
        return f"stopped; the state of step {state.n_steps} is kept: --resume goes on from there"
    return "stopped before a state was kept" + (": --resume begins anew" if run is not None else "")


def open_or_resume(run: Path, identity: Mapping[str, Any], processes: Processes, *, resume: bool) -> State | None:
    """Open the folder of a run; returns the state to go on from, None where there is none.

    Raises:
        UsageError: the folder holds a run and resume is not wanted, or another run than this, or cannot be written.
    """
    state = read_state(run)
    if not resume:
        if state is not None:
            raise UsageError(
                f"{run}: holds a run that was cut off after step {state.n_steps}; expected a new or empty folder; give "
                "--resume to go on with it, another --out, or remove it"
            )
        if processes.rank == 0:
            open_run(run)
            write_json(run / IDENTITY_NAME, identity)
        return None
    if has_ended(run):
        _check_same(run, _read_identity(run), identity)
        return state
    if state is not None:
        _check_same(run, state.identity, identity)
    elif processes.rank == 0:
        open_run(run, over_unfinished=True)
    if processes.rank == 0:
        write_json(run / IDENTITY_NAME, identity)
    return state


def _read_identity(run: Path) -> dict[str, Any]:
    """What a run depended on; of one that ended under an earlier version its settings alone."""
    path = run / IDENTITY_NAME
    if not path.exists():
        return {"settings": read_settings(run)}
    try:
        identity: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: cannot be read ({error}); expected what the run depends on; remove {run}") from error
    return identity


def _check_same(run: Path, earlier: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    changed = [name for name in earlier if earlier[name] != now.get(name)]
    if changed:
        told = "; ".join(_difference(name, earlier[name], now.get(name)) for name in changed)
        raise UsageError(
            f"{run}: holds a run of another configuration: {told}; expected the same data and options to go on with; "
            "give another --out to begin anew"
        )


def _difference(name: str, earlier: Any, now: Any) -> str:
    if name in ("split", "sound"):
        return "the clips that it learns from changed" if name == "sound" else "its recordings or their split changed"
    if name != "settings":
        return f"{name} {earlier}, now {now}"
    names = [key for key in sorted({*earlier, *now}) if earlier.get(key) != now.get(key)]
    return ", ".join(f"{key} was {earlier.get(key)}, now {now.get(key)}" for key in names)
