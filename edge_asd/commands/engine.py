"""edge-asd engine: a device's configuration in, its TensorRT engines built, listed, verified or removed."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rich import box
from rich.console import Console
from rich.table import Table

from edge_asd.artifacts import Artifact, Artifacts, DamagedError, read_artifact
from edge_asd.commands.device_option import add_device_option
from edge_asd.config import load_config
from edge_asd.daemon.models import artifacts_from_config, pipeline_from_config, verified_bundle
from edge_asd.engine.tensorrt import device_keys_here
from edge_asd.errors import EdgeAsdError

_DAMAGED_EXIT_CODE = 65  # EX_DATAERR


@dataclass(frozen=True, slots=True, kw_only=True)
class _File:
    """One file of the store, and what is wrong with it: an empty text where nothing is."""

    path: Path
    artifact: Artifact | None
    fault: str


def add_parser(subparsers: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command and its four actions."""
    parser = subparsers.add_parser(
        "engine",
        help="build, list, verify or remove TensorRT engines",
        description="A TensorRT engine fits one GPU, TensorRT, power mode and model. The daemon builds it where it is "
        "missing or does not fit, which takes minutes; `build` does so ahead of the first start. Engines lie in "
        "state_dir of the configuration.",
    )
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True, dest="action")
    for name, run, summary in (
        ("build", _build, "build the engine of the configured model, unless it is there, and run the self-test"),
        ("list", _list, "list what is kept"),
        ("verify", _verify, "verify every byte of what is kept; exit 65 where a file is damaged"),
        (
            "clean",
            _clean,
            "remove what is damaged or of another GPU, TensorRT or power mode; exit 65 where it cannot be removed",
        ),
    ):
        action = actions.add_parser(name, help=summary, description=summary[0].upper() + summary[1:] + ".")
        add_device_option(action)
        action.set_defaults(run=run)
        if name == "clean":
            action.add_argument("--all", action="store_true", help="remove everything; it is built again when needed")


def _build(arguments: argparse.Namespace) -> int:
    config = load_config(arguments.config)
    logging.basicConfig(level=logging.INFO, format="%(message)s")  # how far the build is, on stderr
    bundle = verified_bundle(config)
    with pipeline_from_config(config, bundle, prefer=("tensorrt",)) as pipeline:
        print(f"{bundle.path}: runs on {pipeline.engine}, the self-test passes; kept in {_store(arguments).folder}")
    return 0


def _list(arguments: argparse.Namespace) -> int:
    table = Table("kind", "model", "precision", "TensorRT", "GPU", box=box.SIMPLE)
    for heading in ("built", "MB", "sha256"):
        table.add_column(heading, justify="right" if heading == "MB" else "left")
    files = _files(_store(arguments))
    for file in files:
        if file.artifact is None:
            table.add_row(file.path.name, f"[red]{file.fault}")
            continue
        key, artifact = file.artifact.key, file.artifact
        table.add_row(
            artifact.kind,
            key.get("model", ""),
            key.get("precision", ""),
            key.get("tensorrt", ""),
            key.get("gpu", key.get("architecture", "")),
            artifact.created_utc,
            f"{len(artifact.content) / 1e6:.1f}",
            artifact.sha256[:16],
        )
    Console().print(table if files else "nothing is kept")
    return 0


def _verify(arguments: argparse.Namespace) -> int:
    files = _files(_store(arguments))
    is_foreign = _foreign()
    for file in files:
        foreign = file.artifact is not None and is_foreign(file.artifact)
        verdict = file.fault or ("sound, but of another GPU, TensorRT or power mode" if foreign else "sound")
        digest = f", sha256 {file.artifact.sha256}" if file.artifact else ""
        print(f"{file.path}: {verdict}{digest}")
    if not files:
        print("nothing is kept")
    return _DAMAGED_EXIT_CODE if any(file.fault for file in files) else 0


def _clean(arguments: argparse.Namespace) -> int:
    store = _store(arguments)
    if not store.folder.is_dir():
        print("nothing is kept")
        return 0
    is_foreign = _foreign()
    exit_code = 0
    with store.locked():  # not while one is being built; sweeps what ended builds left
        for file in _files(store):
            if arguments.all or file.artifact is None or is_foreign(file.artifact):
                try:
                    file.path.unlink(missing_ok=True)
                except OSError as error:
                    print(f"{file.path}: cannot be removed ({error.strerror}); expected a file; remove it by hand")
                    exit_code = _DAMAGED_EXIT_CODE
                else:
                    print(f"{file.path}: removed")
    return exit_code


def _store(arguments: argparse.Namespace) -> Artifacts:
    return artifacts_from_config(load_config(arguments.config))


def _files(store: Artifacts) -> list[_File]:
    files = []
    for path in store.paths():
        try:
            files.append(_File(path=path, artifact=read_artifact(path), fault=""))
        except DamagedError as error:
            files.append(_File(path=path, artifact=None, fault=f"damaged: {error}"))
        except OSError as error:
            files.append(_File(path=path, artifact=None, fault=f"cannot be read: {error.strerror}"))
    return files


def _foreign() -> Callable[[Artifact], bool]:
    """Whether a file is for another device than this; on a machine without a GPU nobody can say, so none is."""
    try:
        here = device_keys_here()
    except EdgeAsdError:
        return lambda _: False
    return lambda artifact: not here[artifact.kind].items() <= artifact.key.items()
