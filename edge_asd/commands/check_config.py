"""`edge-asd check-config`: a device's configuration in, all its faults or a summary out."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from edge_asd.bundle import Bundle
from edge_asd.config import ClipsSource, DeviceConfig, MachineConfig, load_config
from edge_asd.daemon.enrolment_folder import EnrolmentFolder
from edge_asd.daemon.models import encoder_of, verified_bundle
from edge_asd.errors import UnavailableError
from edge_asd.types import FeatureSpec


def add_parser(subparsers: Any) -> None:
    """Add the command to the parser of `edge-asd`."""
    parser = subparsers.add_parser(
        "check-config",
        help="check a device's configuration and the bundle that it names",
        description="Check a device's configuration: every fault is told at once with its line. Then the model bundle "
        "that it names is verified, and that it was trained on the classes listened to. Sound cards and broker are not "
        "asked.",
    )
    parser.add_argument("config", type=Path, metavar="DEVICE.yaml", help="the device's configuration")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Check the configuration and its bundle; 0 when both are good.

    Raises:
        ConfigError: the configuration has faults, or listens to a class that the bundle lacks.
        BundleError: the bundle cannot be trusted.
    """
    config = load_config(arguments.config)
    bundle = verified_bundle(config)
    model = f"{bundle.manifest.name} {bundle.manifest.version}"
    table = Table(box=None)
    for heading in ("machine", "listens to", "source", "hop", "threshold"):
        table.add_column(heading, overflow="fold")
    for machine in config.machines:
        hop_s = machine.hop_samples / FeatureSpec().sample_rate_hz
        heard_as, threshold = _enrolled(config, machine, bundle) if machine.is_enrolled else _trained(machine, bundle)
        table.add_row(machine.name, heard_as, _source(machine), f"{hop_s:g} s", threshold)
    console = Console(highlight=False)
    console.print(f"{arguments.config} is good: {_reports_to(config)}, model {model}", markup=False, soft_wrap=True)
    console.print(table)
    return 0


def _trained(machine: MachineConfig, bundle: Bundle) -> tuple[str, str]:
    """What a machine that the bundle was trained on listens to, and its threshold."""
    threshold = machine.threshold
    if threshold is None:
        threshold = bundle.manifest.threshold(machine.listens_to, machine.scorer).threshold
    scorer = machine.scorer or bundle.manifest.scorer_of(machine.listens_to)
    return machine.listens_to if scorer == "margin" else f"{machine.listens_to} by {scorer}", f"{threshold:.2f}"


def _enrolled(config: DeviceConfig, machine: MachineConfig, bundle: Bundle) -> tuple[str, str]:
    """The same of one that this device learns; what was learned is none of the configuration, and may be unreadable."""
    configured = None if machine.threshold is None else f"{machine.threshold:.2f}"
    try:
        live = EnrolmentFolder(config.state_dir, machine.name, encoder_of(bundle, config.engine.precision)).live()
    except UnavailableError as error:
        print(f"{machine.name}: this user cannot tell whether it is enrolled: {error}", file=sys.stderr)
        return "this user cannot tell whether it is enrolled", configured or "not known"
    if live is None or live.facts.calibration is None:
        return f"not enrolled with this model: edge-asd enroll {machine.name}", "none yet"
    calibrated = f"{live.facts.calibration.threshold.threshold:.2f}"
    return f"{len(live.memory)} windows that were enrolled here", configured or calibrated


def _source(machine: MachineConfig) -> str:
    source = machine.source
    if isinstance(source, ClipsSource):
        clips = ", ".join(clip.name for clip in source.clips)
        return f"{clips} at {source.speed:g} times real time{', repeated' if source.repeat else ''}"
    return f"{source.device or 'default sound card'}, channel {source.channel}"


def _reports_to(config: DeviceConfig) -> str:
    return f"{config.site}/{config.device} reports to {config.mqtt.host}:{config.mqtt.port}"
