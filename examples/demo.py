"""Two recorded motors and an enrolled machine, healthy and then damaged, in; MQTT alarms, a live table, a report out.

`python -m examples.demo` ends with 0 only if every damaged stretch raised its alarm and no healthy one did. It starts
an embedded broker unless MQTT_URL names one.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import paho.mqtt.client as mqtt
import yaml
from paho.mqtt.enums import CallbackAPIVersion

from edge_asd.capture.clips import read_clip
from edge_asd.errors import EdgeAsdError, TemporaryError, UnavailableError
from edge_asd.types import FeatureSpec
from examples.broker import embedded_broker
from examples.newcomer import enroll, generate, machine_from_sound
from examples.report import HeardAlarm, MotorStory, Stretch, write_report

_ROOT = Path(__file__).resolve().parent.parent
_CONFIG = _ROOT / "firmware_configs" / "demo.yaml"
_TIME_LIMIT_S = 90.0
_RATE_HZ = FeatureSpec().sample_rate_hz


def main() -> int:
    """Play, listen, judge, report."""
    parser = argparse.ArgumentParser(prog="python -m examples.demo", description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("--out", type=Path, default=_ROOT / "demo-report", help="folder of the report (%(default)s)")
    arguments = parser.parse_args()
    try:
        good, page = _demo(arguments.out)
    except EdgeAsdError as error:
        print(f"demo: {error}", file=sys.stderr)
        return error.exit_code
    print(f"\nreport: {page}")
    if not good:
        print("demo: not every stretch ended as it must; the report shows which", file=sys.stderr)
    return 0 if good else 1


def _demo(out: Path) -> tuple[bool, Path]:
    started_s = time.monotonic()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="edge-asd-demo-")))
        generated = stack.enter_context(ThreadPoolExecutor(1)).submit(generate, folder / "generated")
        url = os.environ.get("MQTT_URL") or stack.enter_context(embedded_broker())
        config = _config(url, folder)
        sound = generated.result()
        config["machines"].append(machine_from_sound(sound, speed=config["machines"][0]["source"]["speed"]))
        path = folder / "demo.yaml"
        path.write_text(yaml.safe_dump(config), encoding="utf-8")
        enrolment = enroll(path, sound.enrolled)
        print(f"{enrolment.said}\n{enrolment.summary}\n", flush=True)
        subscriber = stack.enter_context(_subscriber(url, config))
        watch = stack.enter_context(_process("edge-asd watch", "watch", "--config", str(path)))
        with _process("edge-asd run", "run", "--config", str(path)) as daemon:
            code = daemon.wait(_TIME_LIMIT_S)
        if code != 0:
            raise EdgeAsdError(f"the daemon ended with {code}; expected 0; its message stands above")
        subscriber.wait_for_stop()
        watch.terminate()
        watch.wait(10)
        stories = [_story(machine, subscriber) for machine in config["machines"]]
        facts = (
            ("model", "{name} {version}, sha256 {sha256}".format(**subscriber.health["model"])),
            ("engine", str(subscriber.health["engine"])),
            ("broker", url if os.environ.get("MQTT_URL") else "embedded (amqtt)"),
            ("messages", f"{subscriber.n_messages} received, {sum(len(s.scores) for s in stories)} scores"),
            ("played", f"{config['machines'][0]['source']['speed']:g} times real time"),
            ("machine", f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}"),
            ("enrolled", enrolment.summary),
            ("took", f"{time.monotonic() - started_s:.1f} s"),
        )
        page = write_report(out, stories, facts, enrolled=enrolment.said)
    for story in stories:
        for stretch in story.stretches:
            good, words = story.verdict(stretch)
            kind = "damaged" if stretch.damaged else "healthy"
            print(
                f"{'ok  ' if good else 'FAIL'} {story.name} {kind}, "
                f"{stretch.start_s:.1f} to {stretch.end_s:.1f} s: {words}"
            )
    return all(story.verdict(stretch)[0] for story in stories for stretch in story.stretches), page


def _config(url: str, folder: Path) -> dict[str, Any]:
    """The shipped demo.yaml with this run's broker and state folder, and paths that hold from anywhere."""
    config: dict[str, Any] = yaml.safe_load(_CONFIG.read_text(encoding="utf-8"))
    config["mqtt"]["url"] = url
    config["state_dir"] = str(folder)
    config["bundle"] = str((_CONFIG.parent / config["bundle"]).resolve())
    for machine in config["machines"]:
        source = machine["source"]
        source["clips"] = [str((_CONFIG.parent / clip).resolve()) for clip in source["clips"]]
    return config


@contextmanager
def _process(name: str, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """A command of edge-asd as a process of its own, ended with this context."""
    process = subprocess.Popen([sys.executable, "-m", "edge_asd.cli", *arguments], cwd=_ROOT)
    try:
        yield process
    except subprocess.TimeoutExpired as error:
        raise TemporaryError(
            f"{name} still ran after {error.timeout:g} s; expected it to end; is the machine busy?"
        ) from error
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait(10)


@dataclass(kw_only=True)
class _Subscriber:
    """All that the daemon published, by machine and leaf, repeats dropped by seq."""

    messages: dict[tuple[str, str], dict[int, dict[str, Any]]] = field(default_factory=dict)
    health: dict[str, Any] = field(default_factory=dict)
    n_messages: int = 0
    stopped: threading.Event = field(default_factory=threading.Event)

    def take(self, topic: str, payload: bytes | bytearray) -> None:
        parts = topic.split("/")[3:]
        self.n_messages += 1
        if parts == ["availability"]:
            if bytes(payload) == b"stopped":
                self.stopped.set()
            return
        message = json.loads(payload)
        if parts == ["health"]:
            self.health = message
            return
        self.messages.setdefault((parts[0], parts[1]), {})[message["seq"]] = message

    def of(self, machine: str, leaf: str) -> list[dict[str, Any]]:
        return [message for _, message in sorted(self.messages.get((machine, leaf), {}).items())]

    def wait_for_stop(self) -> None:
        if not self.stopped.wait(10):
            raise EdgeAsdError(
                "the daemon ended, but its availability is not `stopped` after 10 s; expected the message"
            )


@contextmanager
def _subscriber(url: str, config: dict[str, Any]) -> Iterator[_Subscriber]:
    heard = _Subscriber()
    subscribed = threading.Event()
    parts = urlsplit(url)
    client = mqtt.Client(CallbackAPIVersion.VERSION2)
    if parts.username:
        client.username_pw_set(parts.username, parts.password)

    def on_connect(client: mqtt.Client, *_: Any) -> None:
        client.subscribe(f"edge_asd/{config['site']}/{config['device']}/#", qos=1)

    def on_message(_client: mqtt.Client, _data: Any, message: mqtt.MQTTMessage) -> None:
        if not message.retain:  # what an earlier run left at the broker
            heard.take(message.topic, message.payload)

    client.on_connect = on_connect
    client.on_subscribe = lambda *_: subscribed.set()
    client.on_message = on_message
    try:
        client.connect(parts.hostname or "127.0.0.1", parts.port or 1883)
    except OSError as error:
        raise UnavailableError(
            f"broker {url}: {error}; expected one that accepts connections; check MQTT_URL"
        ) from error
    client.loop_start()
    if not subscribed.wait(10):
        raise UnavailableError(f"broker {url} did not accept the subscription within 10 s; check MQTT_URL and its log")
    try:
        yield heard
    finally:
        client.disconnect()
        client.loop_stop()


def _story(machine: dict[str, Any], heard: _Subscriber) -> MotorStory:
    waves = [(clip, read_clip(Path(clip))) for clip in machine["source"]["clips"]]
    stretches: list[Stretch] = []
    end = 0
    for clip, wave in waves:
        damaged = not Path(clip).name.startswith(("healthy", "normal"))
        start_s, end_s = end / _RATE_HZ, (end + wave.size) / _RATE_HZ
        if stretches and stretches[-1].damaged == damaged:
            stretches[-1] = Stretch(damaged=damaged, start_s=stretches[-1].start_s, end_s=end_s)
        else:
            stretches.append(Stretch(damaged=damaged, start_s=start_s, end_s=end_s))
        end += wave.size
    scores = heard.of(machine["name"], "score")
    if not scores:
        raise EdgeAsdError(f"no score of {machine['name']} arrived; expected one per window of {end / _RATE_HZ:.0f} s")
    # The first window ends where its length of sound has played.
    play_began_s = scores[0]["time_monotonic_s"] - FeatureSpec().window_samples / _RATE_HZ
    alarms: dict[str, HeardAlarm] = {}
    for event in heard.of(machine["name"], "alarm"):
        position_s = event["time_monotonic_s"] - play_began_s
        earlier = alarms.get(event["id"])
        alarms[event["id"]] = HeardAlarm(
            alarm_id=event["id"],
            announced_s=earlier.announced_s if earlier else position_s,
            end_s=position_s if event["event"] == "end" else None,
            peak_score=event["peak_score"],
        )
    return MotorStory(
        name=machine["name"],
        listens_to=machine["listens_to"],
        sound="generated" if machine["listens_to"] == "enrolled" else "recorded",
        wave=np.concatenate([wave for _, wave in waves]),
        stretches=tuple(stretches),
        threshold=scores[0]["threshold"],
        scores=tuple((score["time_monotonic_s"] - play_began_s, score["score"]) for score in scores),
        alarms=tuple(alarms.values()),
    )


if __name__ == "__main__":
    sys.exit(main())
