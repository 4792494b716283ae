"""A device's YAML file in, its validated configuration out, or one error that holds every fault with its line."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from pydantic import ValidationError

from edge_asd.config.device import DeviceConfig
from edge_asd.config.faults import faults_of, shown
from edge_asd.config.yaml_lines import Document, Fault, key_text, parse_yaml
from edge_asd.errors import ConfigError

MAX_CONFIG_BYTES = 1_000_000


def load_config(path: Path, *, files_must_exist: bool = True) -> DeviceConfig:
    """Read and validate a device's configuration.

    files_must_exist: False accepts a bundle, clips and password file that are not there (yet).

    Raises:
        ConfigError: one line a fault, by line number: `FILE line N: KEY is VALUE; expected ...; what to do`.
    """
    document = parse_yaml(_read_text(path))
    if document.data is None and document.faults:
        raise _error(path, document.faults)
    if document.data is None:
        raise ConfigError(f"{path}: it is empty; expected a device's YAML configuration; see firmware_configs for one")
    faults = [*document.faults, *_faults_between_machines(document)]
    context = {"folder": path.resolve().parent, "files_must_exist": files_must_exist}
    try:
        # JSON is what the strict types are written for; a date that YAML saw in a name becomes text again.
        config = DeviceConfig.model_validate_json(json.dumps(document.data, default=str), context=context)
    except ValidationError as error:
        raise _error(path, [*faults, *faults_of(error.errors(), document)]) from None
    if faults:
        raise _error(path, faults)
    config.remember(path, document)
    return config


def check_classes(config: DeviceConfig, classes: Sequence[str], *, bundle: str) -> None:
    """Hold what the machines listen to against the classes of a bundle, named as messages shall call it.

    Raises:
        ConfigError: one line a machine whose class the bundle lacks.
    """
    faults = []
    for index, machine in enumerate(config.machines):
        if not machine.is_enrolled and machine.listens_to not in classes:
            faults.append(
                Fault(
                    line=config.line_of(("machines", index, "listens_to")),
                    text=f"machines[{index}].listens_to is {shown(machine.listens_to)}; expected a class of {bundle}: "
                    f"{', '.join(classes)}; choose one, or a bundle that was trained on it, or write enrolled and "
                    "have the device learn it: edge-asd enroll",
                )
            )
    if faults:
        raise _error(config.path, faults)


def _read_text(path: Path) -> str:
    try:
        if path.stat().st_size > MAX_CONFIG_BYTES:
            raise ConfigError(f"{path}: it is larger than 1 MB; expected a device's YAML configuration; check the path")
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(
            f"{path}: it cannot be read ({error.strerror}); expected a device's YAML configuration; check the path"
        ) from error
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{path}: it is not UTF-8 text ({error.reason} at byte {error.start}); expected a device's YAML "
            "configuration; save it as UTF-8"
        ) from error


def _faults_between_machines(document: Document) -> list[Fault]:
    """Names that two machines share; asked of the raw data, so that they show beside all other faults."""
    machines = document.data.get("machines") if isinstance(document.data, dict) else None
    faults: list[Fault] = []
    first: dict[str, int] = {}
    for index, machine in enumerate(machines if isinstance(machines, list) else []):
        name = machine.get("name") if isinstance(machine, dict) else None
        if not isinstance(name, str) or first.setdefault(name, index) == index:
            continue
        path = ("machines", index, "name")
        faults.append(
            Fault(
                line=document.line_of(path),
                text=f"{key_text(path)} is {shown(name)}, as is machines[{first[name]}].name in line "
                f"{document.line_of(('machines', first[name], 'name'))}; expected a name of its own; rename one",
            )
        )
    return faults


def _error(path: Path, faults: Sequence[Fault]) -> ConfigError:
    return ConfigError("\n".join(f"{path} line {fault.line}: {fault.text}" for fault in sorted(faults)))
