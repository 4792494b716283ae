"""Command line in, exit code out: results on stdout, everything else on stderr."""

from __future__ import annotations

import argparse
import importlib
import signal
import sys
import traceback
from collections.abc import Sequence

from edge_asd import __version__
from edge_asd.errors import EdgeAsdError

_DESCRIPTION = "Hear machines fail before they do: anomaly scores and alarms from the sound of machines."

_INTERRUPTED = 128 + signal.SIGINT

# In the order of the help: each is a module of edge_asd.commands.
_COMMANDS = (
    "run",
    "status",
    "doctor",
    "watch",
    "alarm",
    "evidence",
    "audit",
    "score",
    "check-config",
    "devices",
    "bundle",
    "enroll",
    "engine",
    "ha",
)


def _parser(commands: Sequence[str]) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="edge-asd", description=_DESCRIPTION)
    parser.add_argument("--version", action="version", version=f"edge-asd {__version__}")
    subparsers = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for name in commands:
        importlib.import_module(f"edge_asd.commands.{name.replace('-', '_')}").add_parser(subparsers)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; errors that the user can act on become one message and their exit code."""
    words = sys.argv[1:] if argv is None else argv
    try:
        # What another command imports takes half a second and some MB of a service that runs for years.
        arguments = _parser(words[:1] if words and words[0] in _COMMANDS else _COMMANDS).parse_args(words)
        return int(arguments.run(arguments))
    except EdgeAsdError as error:
        print(f"edge-asd: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("edge-asd: interrupted", file=sys.stderr)
        return _INTERRUPTED
    except BrokenPipeError:  # the reader of stdout has gone (as with `| head`): nothing left to say
        sys.stderr.close()
        return 0
    except Exception:  # noqa: BLE001 - its exit code tells service managers and scripts a bug from a fault
        traceback.print_exc()
        return EdgeAsdError.exit_code


if __name__ == "__main__":
    sys.exit(main())
