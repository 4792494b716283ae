"""Faults against the real daemon and a real broker: `python -m benchmarks.faults [--quick] [--only NAME ...]`.

Each fault has a folder, a broker, an `edge-asd audit` and a subscriber of its own, and ends with what the audit found.
The results of each are written as it ends; those of the others in that file stay, so that faults can be tried one at a
time. Exit code 1 where a promise of docs/reliability.md was not kept.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

from rich.console import Console

from benchmarks.faults import daemon_faults, delivery_faults, flips, sound_faults
from benchmarks.faults.rig import Outcome, Rig
from benchmarks.report import report_path, write_report
from train.environment import git_state

Try: TypeAlias = Callable[[Path, random.Random], Outcome]

_MAX_TOLD = 50  # failures of one fault


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
    "altered-states": Fault(long=_on_a_rig(partial(flips.altered_states, cases=1_000, processes=40))),
    "lost-microphone": Fault(long=_on_a_rig(partial(sound_faults.lost_microphone, rounds=5))),
    "latency": Fault(long=_on_a_rig(partial(daemon_faults.latency, seconds=120.0))),
    "volume": Fault(long=_on_a_rig(partial(delivery_faults.volume, messages=1_000_000, kills=20))),
    "soak": Fault(long=_on_a_rig(partial(daemon_faults.soak, warm_up_s=600.0, seconds=600.0))),
}


def main() -> int:
    """Try the faults, say what became of each, write the JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.faults", description=(__doc__ or "").split(":", 1)[0])
    parser.add_argument("--quick", action="store_true", help="a short form of some; ends within a minute or two")
    parser.add_argument("--only", nargs="+", choices=FAULTS, metavar="NAME", help=f"some of: {', '.join(FAULTS)}")
    parser.add_argument("--seed", type=int, default=0, help="of all chance (default: %(default)s)")
    parser.add_argument("--json", type=Path, help="where to write the results")
    options = parser.parse_args()
    path = options.json or report_path("faults")
    failed = False
    for name, fault in FAULTS.items():
        if name in options.only if options.only else not options.quick or fault.quick:
            tried = _tried(name, fault.quick if options.quick and fault.quick else fault.long, options.seed)
            failed |= bool(tried["failures"])
            _write(name, tried, path)
    return 1 if failed else 0


def _tried(name: str, fault: Try, seed: int) -> dict[str, Any]:
    """Try a fault: what became of it, and of which state of the code, when, under which load."""
    console = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
    console.print(f"{name} ...")
    began_s, began_utc = time.monotonic(), datetime.now(timezone.utc).isoformat(timespec="seconds")
    with tempfile.TemporaryDirectory(prefix=f"edge-asd-{name}-") as folder:
        outcome = fault(Path(folder), random.Random(f"{seed} {name}"))  # noqa: S311 - chance that can be repeated is the point
    figures = ", ".join(f"{metric} {value:.4g}" for metric, value in outcome.figures.items())
    console.print(f"{name}: {figures}; {len(outcome.failures)} promises not kept")
    for failure in outcome.failures[:_MAX_TOLD]:
        console.print(failure)
    return {
        "git": git_state(),
        "began_utc": began_utc,
        "took_s": round(time.monotonic() - began_s, 1),
        "load_average": [round(load, 2) for load in os.getloadavg()],
        "seed": seed,
        "figures": outcome.figures,
        "failures": outcome.failures[:_MAX_TOLD],
    }


def _write(name: str, tried: Mapping[str, Any], path: Path) -> None:
    """Write what became of one fault beside what became of the others, whoever wrote that."""
    before = json.loads(path.read_text(encoding="utf-8"))["tries"] if path.exists() else {}
    tries = {**before, name: tried}
    tries = {each: tries[each] for each in FAULTS if each in tries}
    figures = {name: each["figures"] for name, each in tries.items()}
    totals = {
        "messages": sum(each.get("messages", 0.0) for each in figures.values()),
        "not_kept": float(sum(len(each["failures"]) for each in tries.values())),
    }
    write_report("faults", figures, totals, path=path, details={"tries": tries})


if __name__ == "__main__":
    sys.exit(main())
