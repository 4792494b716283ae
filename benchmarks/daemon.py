"""How soon, how large and how busy the daemon is: the real process with 1, 4 and 16 machines at real time.

`python -m benchmarks.daemon [--quick] [--json FILE] [--bundle FILE] [--clips FOLDER]`. Each count of machines is a
process of its own that plays recorded clips at real time and publishes to a broker of its own; CPU time and memory are
the kernel's figures of that process.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import paho.mqtt.client as mqtt
import psutil
import yaml
from paho.mqtt.enums import CallbackAPIVersion

from benchmarks.report import print_table, write_report
from examples.broker import embedded_broker

_ROOT = Path(__file__).resolve().parent.parent
_BUNDLE = _ROOT / "examples" / "bldc_motor" / "bldc-motor-1.0.0.asd"
_CLIPS = _ROOT / "examples" / "bldc_motor" / "clips"
_WINDOW_S = 10.0


@dataclass(kw_only=True)
class _Scores:
    """Arrival of scores: seconds from the last sample of the window (its monotonic time) to here."""

    delays_s: list[float] = field(default_factory=list)
    arrivals_s: list[float] = field(default_factory=list)  # monotonic

    def take(self, payload: bytes | bytearray) -> None:
        now_s = time.monotonic()
        self.arrivals_s.append(now_s)
        self.delays_s.append(now_s - json.loads(payload)["time_monotonic_s"])


def main() -> int:
    """Measure, print the table, write the JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.daemon", description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--quick", action="store_true", help="two machines for a few seconds; ends within a minute")
    parser.add_argument("--json", type=Path, help="where to write the results")
    parser.add_argument("--bundle", type=Path, default=_BUNDLE, help="%(default)s")
    parser.add_argument("--listens-to", default="bldc/M1", help="class of the bundle (%(default)s)")
    parser.add_argument("--clips", type=Path, default=_CLIPS, help="what the machines play, again and again")
    arguments = parser.parse_args()
    counts, seconds = ((2,), 8.0) if arguments.quick else ((1, 4, 16), 60.0)
    contestants = {}
    for count in counts:
        contestants[f"machines-{count}"] = _measure(count, seconds, arguments)
    ratios = {
        f"cpu_share_a_machine_{name}": figures["cpu_share"] / figures["machines"]
        for name, figures in contestants.items()
    }
    print_table("daemon", contestants, ratios)
    write_report("daemon", contestants, ratios, path=arguments.json)
    return 0


def _measure(count: int, seconds: float, arguments: argparse.Namespace) -> dict[str, float]:
    with (
        tempfile.TemporaryDirectory(prefix="edge-asd-bench-") as name,
        embedded_broker() as url,
        _subscribed(url) as scores,
    ):
        folder = Path(name)
        config = {
            "schema": 1,
            "site": "bench",
            "device": "bench",
            "bundle": str(arguments.bundle.resolve()),
            "trust": {"require_signature": False},
            "state_dir": str(folder),
            "mqtt": {"url": url, "protocol": "3.1.1"},
            "log": {"level": "error"},
            "machines": [
                {
                    "name": f"machine-{index}",
                    "listens_to": arguments.listens_to,
                    "source": {"clips": [str(arguments.clips.resolve())], "repeat": True},
                }
                for index in range(count)
            ],
        }
        path = folder / "bench.yaml"
        path.write_text(yaml.safe_dump(config), encoding="utf-8")
        started_s = time.monotonic()
        process = psutil.Popen([sys.executable, "-m", "edge_asd.cli", "run", "--config", str(path)], cwd=_ROOT)
        try:
            _wait_for_scores(process, scores, count)
            first_score_s = scores.arrivals_s[0] - started_s
            warm_up_s = 2.0
            time.sleep(warm_up_s)
            begun_s, cpu_before = time.monotonic(), process.cpu_times()
            n_before = len(scores.delays_s)
            time.sleep(seconds)
            elapsed_s, cpu_after = time.monotonic() - begun_s, process.cpu_times()
            status = Path(f"/proc/{process.pid}/status").read_text(encoding="ascii")
        finally:
            process.terminate()
            process.wait(30)
    peak_kb = int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1])
    delays_ms = 1e3 * np.array(scores.delays_s[n_before:])
    cpu_s = cpu_after.user + cpu_after.system - cpu_before.user - cpu_before.system
    return {
        "machines": float(count),
        "first_score_s": first_score_s,
        "first_score_after_first_window_s": scores.delays_s[0],
        "start_up_s": first_score_s - _WINDOW_S - scores.delays_s[0],
        "cpu_share": cpu_s / elapsed_s,
        "peak_rss_mb": peak_kb / 1024,
        "sound_to_subscriber_p50_ms": float(np.percentile(delays_ms, 50)),
        "sound_to_subscriber_p99_ms": float(np.percentile(delays_ms, 99)),
        "sound_to_subscriber_max_ms": float(delays_ms.max()),
        "scores": float(delays_ms.size),
        "scores_expected": count * elapsed_s / 0.96,
    }


def _wait_for_scores(process: psutil.Popen, scores: _Scores, count: int) -> None:
    deadline_s = time.monotonic() + 60
    while len(scores.delays_s) < count:
        if process.poll() is not None or time.monotonic() > deadline_s:
            raise RuntimeError(f"{len(scores.delays_s)} of {count} machines scored; exit code {process.poll()}")
        time.sleep(0.05)


@contextmanager
def _subscribed(url: str) -> Iterator[_Scores]:
    scores = _Scores()

    def on_message(_client: mqtt.Client, _data: Any, message: mqtt.MQTTMessage) -> None:
        scores.take(message.payload)

    client = mqtt.Client(CallbackAPIVersion.VERSION2)
    client.on_message = on_message
    client.connect("127.0.0.1", int(url.rsplit(":", 1)[1]))
    client.subscribe("edge_asd/+/+/+/score", qos=1)
    client.loop_start()
    try:
        yield scores
    finally:
        client.disconnect()
        client.loop_stop()


if __name__ == "__main__":
    sys.exit(main())
