"""What every fault is tried on: a broker, `edge-asd audit` and a subscriber that listen all along, and processes."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
import time
from collections import Counter, defaultdict, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import psutil
import yaml

from benchmarks.faults.mosquitto import Mosquitto
from edge_asd.messages import address_of
from edge_asd.mqtt.broker import BrokerSettings
from edge_asd.mqtt.subscription import Subscription

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples" / "bldc_motor"
_SESSION_S = 3_600
_CLIENT_ID = "faults-subscriber"


@dataclass(slots=True)
class Outcome:
    """What a fault did: figures for the table, and every promise that was not kept."""

    figures: dict[str, float] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)

    def expect(self, kept: bool, promise: str) -> None:
        """Note a promise that was not kept."""
        if not kept:
            self.failures.append(promise)


@dataclass(slots=True)
class Heard:
    """What a subscriber got, over all devices.

    delays_s: from the end of a window to its score's arrival, of scores that did not wait in the spool; above_engine_s:
    the same less what scoring took.
    out_of_order: messages whose number is below one that came before, but is no repeat.
    """

    messages: int = 0
    scores: int = 0
    repeats: int = 0
    out_of_order: int = 0
    latest_s: float = 0.0  # monotonic
    arrivals: deque[tuple[float, float]] = field(default_factory=lambda: deque(maxlen=1_000))  # when, telling of when
    delays_s: list[float] = field(default_factory=list)
    above_engine_s: list[float] = field(default_factory=list)
    alarms: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    states: list[tuple[float, str, str]] = field(default_factory=list)  # arrival, machine, state
    _seqs: dict[tuple[str, str, str | None], int] = field(default_factory=dict)
    _seen: dict[tuple[str, str, str | None], set[int]] = field(default_factory=lambda: defaultdict(set))

    def take(self, topic: str, payload: bytes, now_s: float) -> None:
        """Take in one message."""
        address = address_of(topic)
        if address is None or address.leaf == "availability":
            return
        body = json.loads(payload)
        series = (address.site, address.device, address.machine)
        seq = body["seq"]
        if seq in self._seen[series]:
            self.repeats += 1
            return
        self._seen[series].add(seq)
        self.messages += 1
        self.latest_s = now_s
        self.arrivals.append((now_s, body["time_monotonic_s"]))
        if seq < self._seqs.get(series, 0):
            self.out_of_order += 1
        self._seqs[series] = max(seq, self._seqs.get(series, 0))
        if address.leaf == "alarm":
            self.alarms[body["id"]][body["event"]] += 1
        elif address.leaf == "state" and address.machine is not None:
            self.states.append((now_s, address.machine, body["state"]))
        elif address.leaf == "score":
            self.scores += 1
            if not body["historical"]:
                self.delays_s.append(now_s - body["time_monotonic_s"])
                self.above_engine_s.append(self.delays_s[-1] - body["latency_ms"] / 1e3)


class Rig:
    """A folder with a running broker, the audit and a subscriber; all of it ends with the context."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.broker = Mosquitto(folder)
        self.heard = Heard()
        self._processes: list[psutil.Popen] = []
        self._listening = threading.Event()
        self._closing = threading.Event()

    def __enter__(self) -> Rig:
        self.broker.start()
        said = self.folder / "audit.log"
        with said.open("wb") as log:
            self._audit = self.run("audit", "--url", self.broker.url, "--json", stdout=subprocess.PIPE, stderr=log)
        self._listener = threading.Thread(target=self._listen, name="subscriber")
        self._listener.start()
        while "listening to" not in said.read_text(encoding="utf-8") or not self._listening.is_set():
            if self._audit.poll() is not None:
                raise RuntimeError(f"edge-asd audit ended:\n{said.read_text(encoding='utf-8')}")
            time.sleep(0.05)
        time.sleep(2.0)  # the broker has by then saved both subscriptions, and keeps them over a kill
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._closing.set()
        for process in self._processes:
            if process.is_running():
                process.send_signal(signal.SIGCONT)
                process.kill()
            process.wait(20)
        self._listener.join(20)
        self.broker.kill()

    def run(self, *arguments: str, **options: Any) -> psutil.Popen:
        """Start a command of edge-asd."""
        return self._start("edge_asd.cli", *arguments, **options)

    def feed(self, *arguments: str, state: str = "feeder", url: str | None = None) -> psutil.Popen:
        """Start a feeder, which prints what it committed."""
        return self._start(
            "benchmarks.faults.feeder",
            "--state",
            str(self.folder / state),
            "--url",
            url or self.broker.url,
            *arguments,
            stdout=subprocess.PIPE,
        )

    def daemon(self, *, env: Mapping[str, str] | None = None, **changes: Any) -> psutil.Popen:
        """Start the daemon with these changes of its configuration."""
        path = self.folder / "device.yaml"
        path.write_text(yaml.safe_dump(device_config(self.folder, self.broker.url, **changes)), encoding="utf-8")
        return self.run("run", "--config", str(path), env=env)

    def all_listen(self, timeout_s: float) -> bool:
        """Wait until the audit and the subscriber are back at the broker, which holds messages for them until then."""
        give_up_s = time.monotonic() + timeout_s
        while time.monotonic() < give_up_s:
            clients = self.broker.clients
            if _CLIENT_ID in clients and any("audit" in client for client in clients):
                return True
            time.sleep(0.05)
        return False

    def quiet(self, for_s: float, timeout_s: float) -> bool:
        """Wait until nothing has come for so long; False where that does not happen in time."""
        give_up_s = time.monotonic() + timeout_s
        while time.monotonic() < give_up_s:
            if time.monotonic() - self.heard.latest_s > for_s:
                return True
            time.sleep(0.05)
        return False

    def next_message_s(self, timeout_s: float) -> float:
        """Seconds until a message arrives that tells of now, not of before; infinite where none does."""
        began_s = time.monotonic()
        while time.monotonic() - began_s < timeout_s:
            if any(arrived_s > began_s and of_s > began_s for arrived_s, of_s in tuple(self.heard.arrivals)):
                return time.monotonic() - began_s
            time.sleep(0.005)
        return float("inf")

    def verdict(self, outcome: Outcome) -> dict[str, Any]:
        """End the audit, note what it found, and what the subscriber saw of order and alarms."""
        outcome.expect(self.quiet(3.0, 120.0), "the subscriber never got to the end of the messages")
        self._audit.send_signal(signal.SIGINT)
        report, _ = self._audit.communicate(timeout=60)
        outcome.expect(
            self._audit.returncode == 0, f"edge-asd audit ended with {self._audit.returncode}: {report[-500:]!r}"
        )
        heard = self.heard
        outcome.expect(heard.out_of_order == 0, f"{heard.out_of_order} messages out of order")
        orphans = [alarm for alarm, events in heard.alarms.items() if events["new"] != 1]
        outcome.expect(not orphans, f"{len(orphans)} alarms without exactly one `new`")
        outcome.figures |= {"messages": float(heard.messages), "repeats": float(heard.repeats)}
        return dict(json.loads(report)) if report else {}

    def _start(self, module: str, *arguments: str, **options: Any) -> psutil.Popen:
        process = psutil.Popen([sys.executable, "-m", module, *arguments], cwd=ROOT, **options)
        self._processes.append(process)
        return process

    def _listen(self) -> None:
        settings = BrokerSettings(host=self.broker.host, port=self.broker.port, client_id=_CLIENT_ID, protocol="3.1.1")
        with Subscription(settings, ["edge_asd/#"], session_s=_SESSION_S) as subscription:
            self._listening.set()
            while not self._closing.is_set():
                received = subscription.get(0.2)
                if received is not None and not received.retained:
                    self.heard.take(received.topic, received.payload, time.monotonic())


def device_config(folder: Path, url: str, **changes: Any) -> dict[str, Any]:
    """Two motors that play healthy and damaged sound again and again; `changes` replace keys."""
    return {
        "schema": 1,
        "site": "faults",
        "device": "device",
        "bundle": str(next(EXAMPLE.glob("*.asd"))),
        "trust": {"require_signature": False},
        "state_dir": str(folder / "state"),
        "mqtt": {"url": url},
        "log": {"level": "error"},
        "machines": [machine(f"motor-{number}", f"M{number}", speed=20.0) for number in (1, 2)],
        **changes,
    }


def machine(name: str, motor: str, *, speed: float) -> dict[str, Any]:
    """A machine's configuration: it plays its motor's clips again and again, healthy ones first."""
    return {
        "name": name,
        "listens_to": f"bldc/{motor}",
        "source": {"clips": [str(EXAMPLE / "clips" / motor)], "speed": speed, "repeat": True},
        "alarm": {"on_delay_s": 2.0, "off_delay_s": 3.0},
    }
