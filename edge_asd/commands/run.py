"""`edge-asd run`: a device's configuration in, the daemon until it is stopped."""

from __future__ import annotations

import argparse
import faulthandler
import logging
import signal
from contextlib import closing
from types import FrameType
from typing import Any

from edge_asd.commands.device_option import add_device_option
from edge_asd.config import DeviceConfig, load_config
from edge_asd.daemon import Daemon
from edge_asd.daemon.stopped import Stopped
from edge_asd.errors import EdgeAsdError
from edge_asd.heap import keep_small
from edge_asd.log import configure_log
from edge_asd.systemd import ServiceManager

LOG = logging.getLogger(__name__)


def add_parser(subparsers: Any) -> None:
    """Add the command to the parser of `edge-asd`."""
    parser = subparsers.add_parser(
        "run",
        help="listen, score and publish until stopped",
        description="Listen to the machines of a device, publish scores and alarms over MQTT until SIGTERM or SIGINT; "
        "with recorded clips alone, until they end. SIGHUP takes over the configuration as it is by then, if it is "
        "good.",
    )
    add_device_option(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Run the daemon; 0 after a clean stop, else the exit code of what ended it, which the log says."""
    config = load_config(arguments.config)
    keep_small()
    configure_log(level=config.log.level, log_format=config.log.format)
    faulthandler.enable()  # a watchdog that is not fed ends in SIGABRT: the log then shows where every thread stood
    try:
        _serve(config)
    except EdgeAsdError as error:
        LOG.critical("%s", error)
        return error.exit_code
    except Exception:
        LOG.critical("this is a bug, please report it", exc_info=True)
        return EdgeAsdError.exit_code
    return 0


def _serve(config: DeviceConfig) -> None:
    service = ServiceManager()
    daemon = Daemon(config, service=service)

    def stop(_signal: int, _frame: FrameType | None) -> None:
        daemon.request_stop()

    def reload(_signal: int, _frame: FrameType | None) -> None:
        daemon.request_reload()

    signal.signal(signal.SIGTERM, stop)  # ahead of opening a model, which may take minutes
    signal.signal(signal.SIGINT, stop)
    signal.signal(signal.SIGHUP, reload)
    try:
        with closing(service), daemon:
            daemon.run()
    except Stopped:
        LOG.info("stopped while an engine was built; the next start builds it")
