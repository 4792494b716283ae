"""How soon, how large and how busy the daemon is: the real process with 1, 4 and 16 machines at real time.

`python -m benchmarks.daemon [--quick] [--json FILE] [--bundle FILE] [--clips FOLDER]`. Each count of machines is a
process of its own that plays recorded clips at real time and publishes to a broker of its own. The machine of `live-1`
listens to a sound card instead, the monitor of a PulseAudio of its own. CPU time and memory are the kernel's figures of
that process and its recording processes.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import paho.mqtt.client as mqtt
import psutil
import soundfile
import yaml
from paho.mqtt.enums import CallbackAPIVersion

from benchmarks.report import print_table, write_report
from benchmarks.sound_server import PulseAudio, missing
from edge_asd.capture.clips import find_clips, read_clip
from examples.broker import embedded_broker

_ROOT = Path(__file__).resolve().parent.parent
_BUNDLE = _ROOT / "examples" / "bldc_motor" / "bldc-motor-1.0.0.asd"
_CLIPS = _ROOT / "examples" / "bldc_motor" / "clips"
_WINDOW_S = 10.0


@dataclass(kw_only=True)
class _Scores:
    """Arrival of scores: seconds from the last sample of the window (its monotonic time) to here."""

    delays_s: list[float] = field(default_factory=list)
    above_engine_s: list[float] = field(default_factory=list)  # the same less what scoring took
    arrivals_s: list[float] = field(default_factory=list)  # monotonic

    def take(self, payload: bytes | bytearray) -> None:
        now_s = time.monotonic()
        self.arrivals_s.append(now_s)
        score = json.loads(payload)
        self.delays_s.append(now_s - score["time_monotonic_s"])
        self.above_engine_s.append(self.delays_s[-1] - score["latency_ms"] / 1e3)


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
        clips = {"clips": [str(arguments.clips.resolve())], "repeat": True}
        contestants[f"machines-{count}"] = _measure(count, seconds, arguments, source=clips, environment={})
    contestants["live-1"] = _measure_live(seconds, arguments)
    ratios = {
        f"cpu_share_a_machine_{name}": figures["cpu_share"] / figures["machines"]
        for name, figures in contestants.items()
    }
    print_table("daemon", contestants, ratios)
    write_report("daemon", contestants, ratios, path=arguments.json)
    return 0


def _measure_live(seconds: float, arguments: argparse.Namespace) -> dict[str, float]:
    if lacking := missing():
        raise FileNotFoundError(f"not installed: {', '.join(lacking)}; run `make test` once, or install them")
    with tempfile.TemporaryDirectory(prefix="edge-asd-bench-") as folder:
        server = PulseAudio(Path(folder))
        try:
            server.start()
            clips = [read_clip(clip) for clip in find_clips([arguments.clips])]
            sound = np.tile(np.concatenate(clips), 1 + int(200 * 16_000 / sum(map(len, clips))))
            soundfile.write(Path(folder) / "sound.wav", sound, 16_000)
            server.play(Path(folder) / "sound.wav")
            return _measure(1, seconds, arguments, source={"device": "plant mic"}, environment=server.environment)
        finally:
            server.close()


def _measure(
    count: int,
    seconds: float,
    arguments: argparse.Namespace,
    *,
    source: dict[str, Any],
    environment: Mapping[str, str],
) -> dict[str, float]:
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
                    "source": copy.deepcopy(source),  # YAML would write a second one as an alias
                }
                for index in range(count)
            ],
        }
        path = folder / "bench.yaml"
        path.write_text(yaml.safe_dump(config), encoding="utf-8")
        started_s = time.monotonic()
        process = psutil.Popen([sys.executable, "-m", "edge_asd.cli", "run", "--config", str(path)], cwd=_ROOT,
                               env={**os.environ, **environment})  # fmt: skip
        try:
            _wait_for_scores(process, scores, count)
            first_score_s = scores.arrivals_s[0] - started_s
            warm_up_s = 2.0
            time.sleep(warm_up_s)
            begun_s, cpu_before = time.monotonic(), _cpu_s(process)
            n_before = len(scores.delays_s)
            time.sleep(seconds)
            elapsed_s, cpu_s = time.monotonic() - begun_s, _cpu_s(process) - cpu_before
            peak_kb = sum(_peak_kb(each.pid) for each in _family(process))
        finally:
            process.terminate()
            process.wait(30)
    delays_ms = 1e3 * np.array(scores.delays_s[n_before:])
    above_engine_ms = 1e3 * np.array(scores.above_engine_s[n_before:])
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
        "above_engine_p50_ms": float(np.percentile(above_engine_ms, 50)),
        "above_engine_p99_ms": float(np.percentile(above_engine_ms, 99)),
        "scores": float(delays_ms.size),
        "scores_expected": count * elapsed_s / 0.96,
    }


def _family(process: psutil.Popen) -> list[psutil.Process]:
    """The daemon and its recording processes."""
    return [process, *process.children(recursive=True)]


def _cpu_s(process: psutil.Popen) -> float:
    return float(sum(times.user + times.system for each in _family(process) if (times := each.cpu_times())))


def _peak_kb(pid: int) -> int:
    """The most resident memory so far, pages shared with other processes included."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1])


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
