"""Faults against the real daemon and a real broker: `python -m benchmarks.faults [--quick] [--only NAME ...]`.

Each fault has a folder, a broker, an `edge-asd audit` and a subscriber of its own, and ends with what the audit found.
Exit code 1 where a promise of docs/reliability.md was not kept.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeAlias

from rich.console import Console
from rich.table import Table

from benchmarks.faults import daemon_faults, delivery_faults, flips, sound_faults
from benchmarks.faults.rig import Outcome, Rig
from benchmarks.report import write_report

Try: TypeAlias = Callable[[Path, random.Random], Outcome]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """A fault with its long and its quick form; both are given an empty folder."""

    long: Try
    quick: Try | None = None


def _on_a_rig(fault: Callable[[Rig, random.Random], Outcome]) -> Try:
    def tried(folder: Path, chance: random.Random) -> Outcome:
        with Rig(folder) as rig:
            return fault(rig, chance)

    return tried


FAULTS = {
    "kills": Fault(
        long=_on_a_rig(partial(daemon_faults.kills, kills=200)), quick=_on_a_rig(partial(daemon_faults.kills, kills=2))
    ),
    "broker-restarts": Fault(
        long=_on_a_rig(partial(delivery_faults.broker_restarts, restarts=50)),
        quick=_on_a_rig(partial(delivery_faults.broker_restarts, restarts=1)),
    ),
    "day-away": Fault(long=_on_a_rig(partial(delivery_faults.day_away, messages=90_000))),
    "full-spool": Fault(long=_on_a_rig(partial(delivery_faults.full_spool, messages=90_000))),
    "cut-connections": Fault(long=_on_a_rig(partial(delivery_faults.cut_connections, cuts=100))),
    "slow-link": Fault(long=_on_a_rig(partial(delivery_faults.slow_link, seconds=60.0))),
    "disk-full": Fault(long=_on_a_rig(partial(daemon_faults.disk_full, rounds=5))),
    "random-commands": Fault(long=_on_a_rig(partial(daemon_faults.random_commands, payloads=10_000))),
    "altered-bundles": Fault(
        long=partial(flips.altered_bundles, cases=1_000), quick=partial(flips.altered_bundles, cases=20)
    ),
    "altered-configs": Fault(
        long=partial(flips.altered_configs, cases=1_000), quick=partial(flips.altered_configs, cases=50)
    ),
    "altered-spools": Fault(
        long=partial(flips.altered_spools, cases=1_000), quick=partial(flips.altered_spools, cases=20)
    ),
    "altered-states": Fault(long=_on_a_rig(partial(flips.altered_states, cases=300))),
    "lost-microphone": Fault(long=_on_a_rig(partial(sound_faults.lost_microphone, rounds=5))),
    "latency": Fault(long=_on_a_rig(partial(daemon_faults.latency, seconds=120.0))),
    "volume": Fault(long=_on_a_rig(partial(delivery_faults.volume, messages=1_000_000, kills=20))),
    "soak": Fault(long=_on_a_rig(partial(daemon_faults.soak, seconds=600.0))),
}


def main() -> int:
    """Try the faults, print what became of them, write the JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.faults", description=(__doc__ or "").split(":", 1)[0])
    parser.add_argument("--quick", action="store_true", help="a short form of some; ends within a minute or two")
    parser.add_argument("--only", nargs="+", choices=FAULTS, metavar="NAME", help=f"some of: {', '.join(FAULTS)}")
    parser.add_argument("--seed", type=int, default=0, help="of all chance (default: %(default)s)")
    parser.add_argument("--json", type=Path, help="where to write the results")
    options = parser.parse_args()
    outcomes = {
        name: _try(name, fault.quick if options.quick and fault.quick else fault.long, options.seed)
        for name, fault in FAULTS.items()
        if (name in options.only if options.only else not options.quick or fault.quick)
    }
    figures = {name: outcome.figures for name, outcome in outcomes.items()}
    failures = [f"{name}: {failure}" for name, outcome in outcomes.items() for failure in outcome.failures]
    messages = sum(outcome.figures.get("messages", 0.0) for outcome in outcomes.values())
    _print_table(outcomes)
    print(f"{messages:.0f} messages, {len(failures)} promises not kept")
    write_report("faults", figures, {"messages": messages}, path=options.json, details={"failures": failures})
    for failure in failures[:50]:
        print(failure, file=sys.stderr)
    return 1 if failures else 0


def _print_table(outcomes: Mapping[str, Outcome]) -> None:
    table = Table("fault", "figures", "not kept")
    for name, outcome in outcomes.items():
        figures = ", ".join(f"{metric} {value:.4g}" for metric, value in outcome.figures.items())
        table.add_row(name, figures, str(len(outcome.failures)))
    Console(width=None if sys.stdout.isatty() else 150).print(table)


def _try(name: str, fault: Try, seed: int) -> Outcome:
    Console(stderr=True).print(f"{name} ...", highlight=False)
    with tempfile.TemporaryDirectory(prefix=f"edge-asd-{name}-") as folder:
        return fault(Path(folder), random.Random(f"{seed} {name}"))  # noqa: S311 - chance that can be repeated is the point


if __name__ == "__main__":
    sys.exit(main())
