"""Command line in, exit code out: results on stdout, everything else on stderr."""

from __future__ import annotations

import argparse
import sys
import traceback
from collections.abc import Sequence

from edge_asd import __version__
from edge_asd.commands import (
    alarm,
    audit,
    bundle,
    check_config,
    devices,
    doctor,
    engine,
    enroll,
    evidence,
    ha,
    run,
    score,
    status,
    watch,
)
from edge_asd.errors import EdgeAsdError

_DESCRIPTION = "Hear machines fail before they do: anomaly scores and alarms from the sound of machines."


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="edge-asd", description=_DESCRIPTION)
    parser.add_argument("--version", action="version", version=f"edge-asd {__version__}")
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for command in (
        run,
        status,
        doctor,
        watch,
        alarm,
        evidence,
        audit,
        score,
        check_config,
        devices,
        bundle,
        enroll,
        engine,
        ha,
    ):
        command.add_parser(subparsers)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; errors that the user can act on become one message and their exit code."""
    arguments = _parser().parse_args(argv)
    try:
        return int(arguments.run(arguments))
    except EdgeAsdError as error:
        print(f"edge-asd: {error}", file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:  # the reader of stdout has gone (as with `| head`): nothing left to say
        sys.stderr.close()
        return 0
    except Exception:  # noqa: BLE001 - its exit code tells service managers and scripts a bug from a fault
        traceback.print_exc()
        return EdgeAsdError.exit_code


if __name__ == "__main__":
    sys.exit(main())
