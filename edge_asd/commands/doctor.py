"""`edge-asd doctor`: a device's configuration in, what is not well on the device and what to do out."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict
from typing import Any

from rich.console import Console

from edge_asd.commands.device_option import add_device_option
from edge_asd.commands.status import ask_daemon
from edge_asd.config import DeviceConfig, load_config
from edge_asd.daemon.checkup import Finding, check_device
from edge_asd.errors import ConfigError, UnavailableError

_STYLES = {"good": "green", "poor": "yellow", "bad": "bold red"}


def add_parser(subparsers: Any) -> None:
    """Add the command to the parser of `edge-asd`."""
    parser = subparsers.add_parser(
        "doctor",
        help="look for what keeps this device from working",
        description="Look at all that the daemon needs on this device: configuration, state folder, disk, secrets, "
        "clock, sound cards, GPU, the model's self-test, broker and login. Run it as the daemon's user. Each finding "
        "that is not good says what to do. Exits 0 when nothing is bad, 1 when something is, 78 when the configuration "
        "cannot be read.",
    )
    add_device_option(parser)
    parser.add_argument("--json", action="store_true", help="print JSON on stdout")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Look and tell; 1 when something is bad.

    Raises:
        ConfigError: the configuration has faults.
    """
    config = load_config(arguments.config)
    console = Console(highlight=False, markup=False, soft_wrap=True)
    findings: list[Finding] = []
    for finding in check_device(config, heard=_heard(config)):
        findings.append(finding)
        if not arguments.json:
            console.print(f"{finding.verdict}  ", style=_STYLES[finding.verdict], end="")
            console.print(f"{finding.subject}: {finding.text}")
    if arguments.json:
        print(json.dumps([asdict(finding) for finding in findings], indent=1, ensure_ascii=False))
    return 1 if any(finding.verdict == "bad" for finding in findings) else 0


def _heard(config: DeviceConfig) -> frozenset[str]:
    """The machines that a running daemon hears."""
    try:
        _, report = ask_daemon(config)
    except (UnavailableError, ConfigError):
        return frozenset()
    return frozenset(machine.name for machine in report.machines if machine.state not in {None, "sensor_fault"})
