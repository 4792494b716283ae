"""A process that commits scores to a spool and delivers them as the daemon does, without sound and engine.

`python -m benchmarks.faults.feeder --state FOLDER --url URL ...`; ends after its messages or by SIGTERM and prints what
it committed and how long each commit took.
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
import threading
import time
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np

from edge_asd.health import boot_id
from edge_asd.messages import Messages, ModelIdentity, Moment, Topics
from edge_asd.mqtt.broker import BrokerSettings
from edge_asd.mqtt.publisher import Publisher
from edge_asd.outbox import Outbox
from edge_asd.types import OutgoingMessage

SITE, DEVICE = "faults", "feeder"


def main() -> int:
    """Feed until done or stopped."""
    options = _options()
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    parts = urlsplit(options.url)
    outbox = Outbox(options.state / "spool.sqlite", max_bytes=options.max_bytes)
    broker = BrokerSettings(host=parts.hostname or "", port=parts.port or 1883, client_id=f"{SITE}-{DEVICE}")
    publisher = Publisher(broker, topics=Topics(site=SITE, device=DEVICE), spool=outbox)
    messages = Messages(model=ModelIdentity(name="none", version="0", sha256="0" * 64), boot_id=boot_id())
    publisher.start()
    commits_s: list[float] = []
    began_s = time.monotonic()
    committed = 0
    while not stop.is_set() and (options.messages == 0 or committed < options.messages):
        batch = [
            _score(messages, f"machine-{(committed + index) % options.machines}", committed + index)
            for index in range(options.batch)
        ]
        if committed // options.batch % 50 == 0:
            batch.append(_health(messages, outbox))
        before_s = time.perf_counter()
        outbox.put_many(batch)
        commits_s.append(time.perf_counter() - before_s)
        publisher.notify()
        committed += options.batch
        while options.max_waiting and outbox.status().messages > options.max_waiting and not stop.is_set():
            stop.wait(0.005)
        if options.rate:
            stop.wait(max(0.0, began_s + committed / options.rate - time.monotonic()))
    fed_s = time.monotonic() - began_s
    # What the spool dropped last is told by the last message of all.
    outbox.put_many([_health(messages, outbox)])
    publisher.stop(options.drain_s)
    drained_s = time.monotonic() - began_s - fed_s
    status = outbox.status()
    outbox.close()
    commits_ms = 1e3 * np.array(commits_s)
    json.dump(
        {
            "committed": committed,
            "left": status.messages,
            "dropped": status.dropped,
            "fed_s": fed_s,
            "drained_s": drained_s,
            "commit_p50_ms": float(np.percentile(commits_ms, 50)),
            "commit_p99_ms": float(np.percentile(commits_ms, 99)),
            "commit_max_ms": float(commits_ms.max()),
        },
        sys.stdout,
    )
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.faults.feeder", description=(__doc__ or "").split(",")[0]
    )
    parser.add_argument("--state", type=Path, required=True, help="folder of the spool")
    parser.add_argument("--url", required=True, help="the broker")
    parser.add_argument("--machines", type=int, default=4)
    parser.add_argument("--messages", type=int, default=0, help="how many; 0 goes on until stopped")
    parser.add_argument("--batch", type=int, default=1, help="messages a commit")
    parser.add_argument("--rate", type=float, default=0.0, help="messages a second; 0 is as many as can be")
    parser.add_argument("--max-waiting", type=int, default=0, help="wait while more are in the spool; 0 never waits")
    parser.add_argument("--max-bytes", type=int, default=64 * 1024 * 1024, help="bound of the spool")
    parser.add_argument("--drain-s", type=float, default=30.0, help="how long it may deliver at the end")
    return parser.parse_args()


def _now() -> Moment:
    return Moment(utc_s=time.time(), monotonic_s=time.monotonic(), clock_synced=False)


def _score(messages: Messages, machine: str, number: int) -> OutgoingMessage:
    return messages.score(
        machine,
        _now(),
        score=float(number),
        threshold=1e9,
        coverage=1.0,
        latency_ms=0.0,
        engine="none",
    )


def _health(messages: Messages, outbox: Outbox) -> OutgoingMessage:
    status = outbox.status()
    return messages.health(
        _now(),
        versions={},
        engine="none",
        engine_trouble=None,
        uptime_s=time.monotonic(),
        clock_max_error_ms=None,
        counters={},
        machine_counters={},
        spool={"messages": status.messages, "spool_bytes": status.spool_bytes, "dropped": status.dropped},
    )


if __name__ == "__main__":
    sys.exit(main())
