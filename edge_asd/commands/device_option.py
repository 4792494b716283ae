"""The option of all commands that are for one device: its configuration."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_device_option(parser: argparse.ArgumentParser) -> None:
    """Add --config, which must be given."""
    parser.add_argument("--config", type=Path, required=True, metavar="DEVICE.yaml", help="the device's configuration")
