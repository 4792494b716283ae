"""`edge-asd status`: a device's configuration in, how its running daemon stands out."""

from __future__ import annotations

import argparse
import http.client
from typing import Any

from pydantic import TypeAdapter, ValidationError
from rich.console import Console
from rich.table import Table

from edge_asd.commands.device_option import add_device_option
from edge_asd.config import DeviceConfig, load_config
from edge_asd.counters import COUNTERS
from edge_asd.daemon.endpoint import LOOPBACK
from edge_asd.daemon.report import MachineReport, Report
from edge_asd.errors import ConfigError, UnavailableError

_TIMEOUT_S = 5.0
_NEEDS_ATTENTION = 1


def add_parser(subparsers: Any) -> None:
    """Add the command to the parser of `edge-asd`."""
    parser = subparsers.add_parser(
        "status",
        help="ask the running daemon how it stands",
        description="Ask the daemon that runs with this configuration how it stands: machines, broker, spool, clock, "
        "counters. Exits 0 when all is well, 1 when the device needs attention (a machine in alarm, a microphone "
        "silent, the broker away, messages lost), 69 when no daemon answers.",
    )
    add_device_option(parser)
    parser.add_argument("--json", action="store_true", help="print JSON on stdout")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Ask and show; 1 when something needs attention.

    Raises:
        ConfigError: the configuration has faults, or no port to ask on.
        UnavailableError: no daemon answers, or it is not ours.
    """
    body, report = ask_daemon(load_config(arguments.config, files_must_exist=False))
    if arguments.json:
        print(body.decode())
    else:
        _show(report)
    in_alarm = any(machine.alarm_id is not None for machine in report.machines)
    return _NEEDS_ATTENTION if report.troubles or in_alarm else 0


def ask_daemon(config: DeviceConfig) -> tuple[bytes, Report]:
    """What the daemon of this configuration says of itself, as it came and read.

    Raises:
        ConfigError: there is no port to ask on.
        UnavailableError: no daemon answers, or it is not ours.
    """
    body = _ask(config)
    try:
        return body, TypeAdapter(Report).validate_json(body)
    except ValidationError as error:
        raise UnavailableError(
            f"port {config.metrics.port}: the answer is not that of this edge-asd; expected its daemon there, of the "
            "same version; restart it, or look which program has the port"
        ) from error


def _ask(config: DeviceConfig) -> bytes:
    port = config.metrics.port
    if port is None:
        raise ConfigError(
            f"{config.path} line {config.line_of(('metrics', 'port'))}: metrics.port is null; expected a port that the "
            "daemon can be asked on; set one, as 9464, and restart the daemon"
        )
    connection = http.client.HTTPConnection(LOOPBACK, port, timeout=_TIMEOUT_S)
    try:
        connection.request("GET", "/status")
        answer = connection.getresponse()
        body = answer.read()
    except (OSError, http.client.HTTPException) as error:
        raise UnavailableError(
            f"port {port}: no daemon answers ({error}); expected the one of {config.path}; see whether it runs: "
            "systemctl status edge-asd"
        ) from error
    finally:
        connection.close()
    if answer.status != http.HTTPStatus.OK:
        raise UnavailableError(
            f"port {port}: answered {answer.status} {answer.reason}; expected the daemon's report; see its log: "
            "journalctl -u edge-asd"
        )
    return body


def _show(report: Report) -> None:
    console = Console(highlight=False, markup=False, soft_wrap=True)
    model = f"{report.model.name} {report.model.version}"
    console.print(f"{report.site}/{report.device}: edge-asd {report.version} for {_duration(report.uptime_s)}, model "
                  f"{model}, engine {report.engine}")  # fmt: skip
    for trouble in report.troubles:
        console.print(f"trouble: {trouble}", style="red")
    table = Table("machine", "state", "score", "threshold", "scored", "why", box=None)
    for machine in report.machines:
        table.add_row(*_row(machine, report.monotonic_s))
    console.print(table)
    broker = "connected" if report.broker.connected else f"away ({report.broker.trouble or 'not connected yet'})"
    console.print(f"broker {broker}; {report.spool.messages} messages wait in the spool")
    error = "" if report.clock.max_error_ms is None else f", within {report.clock.max_error_ms:.0f} ms"
    console.print(f"clock {'synchronised' + error if report.clock.synced else 'not synchronised'}")
    totals: dict[str, int] = dict.fromkeys(COUNTERS, 0)
    for count in report.counts:
        totals[count.name] += count.value
    console.print(", ".join(f"{name} {value}" for name, value in totals.items() if value))


def _row(machine: MachineReport, now_s: float) -> tuple[str, ...]:
    scored = "" if machine.scored_monotonic_s is None else f"{now_s - machine.scored_monotonic_s:.1f} s ago"
    return (
        machine.name,
        machine.state or "no window yet",
        "" if machine.score is None else f"{machine.score:.2f}",
        "" if machine.threshold is None else f"{machine.threshold:.2f}",
        scored,
        machine.reason or "",
    )


def _duration(seconds: float) -> str:
    hours, minutes = divmod(int(seconds) // 60, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {int(seconds) % 60} s"
