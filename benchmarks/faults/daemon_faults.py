"""Faults of the daemon and its device: each takes a rig and how much of it to do, and tells what became of it."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import paho.mqtt.client as paho
import psutil
from paho.mqtt.enums import CallbackAPIVersion
from scipy.stats import theilslopes

from benchmarks.faults.rig import Outcome, Rig, machine

_DISK_BYTES = 8 * 1024 * 1024
_HOP_S = 0.96
_SOAK_SPEED = 20.0
_MAX_ABOVE_ENGINE_MS = 250.0


def kills(rig: Rig, chance: random.Random, *, kills: int) -> Outcome:
    """The daemon is killed at any moment while healthy and damaged sound plays, and started again."""
    outcome = Outcome()
    for _ in range(kills):
        daemon = rig.daemon()
        if chance.random() < 0.9:
            outcome.expect(rig.next_message_s(30.0) < 30.0, "a daemon that was killed before said nothing for 30 s")
            time.sleep(chance.uniform(0.0, 6.0))
        else:  # while it starts
            time.sleep(chance.uniform(0.0, 1.5))
        outcome.expect(daemon.poll() is None, f"the daemon ended by itself with {daemon.returncode}")
        daemon.kill()
        daemon.wait(20)
    _end_cleanly(rig.daemon(), rig, outcome)
    rig.verdict(outcome)
    outcome.figures |= {"kills": float(kills), "alarms": float(len(rig.heard.alarms))}
    return outcome


def soak(rig: Rig, _chance: random.Random, *, warm_up_s: float, seconds: float) -> Outcome:
    """A machine at 20 times real time: memory and open files stay as they are after a warm-up.

    The growth is the median of the slopes (Theil-Sen) between the least memory of any two minutes: what waits in a
    queue for a moment makes no trend, what stays does.
    """
    outcome = Outcome()
    daemon = rig.daemon(machines=[machine("motor-1", "M1", speed=_SOAK_SPEED)])
    rig.next_message_s(30.0)
    time.sleep(warm_up_s)
    began_s, scores_before = time.monotonic(), rig.heard.scores
    rss_mb, files = [], []
    least_mb: dict[int, float] = {}  # by minute
    while time.monotonic() - began_s < seconds:
        minute = int((time.monotonic() - began_s) / 60.0)
        family = [daemon, *daemon.children(recursive=True)]
        rss_mb.append(sum(process.memory_info().rss for process in family) / 2**20)
        least_mb[minute] = min(rss_mb[-1], least_mb.get(minute, rss_mb[-1]))
        files.append(sum(process.num_fds() for process in family))
        time.sleep(0.2)
    speed = (rig.heard.scores - scores_before) * _HOP_S / (time.monotonic() - began_s)
    growth_mb_per_h = float(theilslopes(list(least_mb.values()), list(least_mb)).slope) * 60.0
    _end_cleanly(daemon, rig, outcome)
    rig.verdict(outcome)
    outcome.expect(growth_mb_per_h < 2.0, f"memory grows by {growth_mb_per_h:.1f} MB an hour")
    outcome.expect(speed > 0.95 * _SOAK_SPEED, f"there was room for no more than {speed:.1f} times real time")
    first, last = (max(part) for part in (files[: len(files) // 10], files[-(len(files) // 10) :]))
    outcome.expect(last <= first, f"open files went from {first} to {last}")
    outcome.figures |= {
        "seconds": seconds,
        "times_real_time": speed,
        "least_rss_first_minute_mb": least_mb[0],
        "least_rss_last_minute_mb": least_mb[max(least_mb)],
        "rss_max_mb": max(rss_mb),
        "rss_growth_mb_per_h": growth_mb_per_h,
        "open_files": float(last),
    }
    return outcome


def disk_full(rig: Rig, _chance: random.Random, *, rounds: int) -> Outcome:
    """The disk of spool and state fills up and is freed again: scoring goes on, and what was lost is announced."""
    outcome = Outcome()
    with _small_disk(rig.folder / "disk") as disk:
        daemon = rig.daemon(state_dir=str(disk / "state"))
        for _ in range(rounds):
            outcome.expect(rig.next_message_s(30.0) < 30.0, "no message with room on the disk")
            _fill(disk / "filler")
            time.sleep(3.0)
            outcome.expect(daemon.poll() is None, f"the daemon ended on a full disk with {daemon.returncode}")
            (disk / "filler").unlink()
        outcome.expect(rig.next_message_s(30.0) < 30.0, "no message after the disk was freed")
        _end_cleanly(daemon, rig, outcome)
    rig.verdict(outcome)
    outcome.figures["rounds"] = float(rounds)
    return outcome


def random_commands(rig: Rig, chance: random.Random, *, payloads: int) -> Outcome:
    """Nonsense on the daemon's command topics."""
    outcome = Outcome()
    daemon = rig.daemon(machines=[machine("motor-1", "M1", speed=20.0)])
    rig.next_message_s(30.0)
    client = paho.Client(CallbackAPIVersion.VERSION2, client_id="faults-commands")
    client.max_queued_messages_set(0)
    client.connect(rig.broker.host, rig.broker.port)
    client.loop_start()
    for _ in range(payloads):
        leaf = chance.choice(["motor-1/command", "motor-2/command", "command", "motor-1/mute"])
        client.publish(f"edge_asd/faults/device/{leaf}", _nonsense(chance), qos=1).wait_for_publish(10)
    client.disconnect()
    client.loop_stop()
    outcome.expect(rig.next_message_s(30.0) < 30.0, "no message after the commands")
    _end_cleanly(daemon, rig, outcome)
    rig.verdict(outcome)
    outcome.figures["payloads"] = float(payloads)
    return outcome


def latency(rig: Rig, _chance: random.Random, *, seconds: float) -> Outcome:
    """From the last sample of a window to its score at the subscriber, two machines at real time."""
    outcome = Outcome()
    daemon = rig.daemon(machines=[machine(f"motor-{number}", f"M{number}", speed=1.0) for number in (1, 2)])
    rig.next_message_s(60.0)
    time.sleep(seconds)
    _end_cleanly(daemon, rig, outcome)
    rig.verdict(outcome)
    for name, seconds_each in (("sound_to_subscriber", rig.heard.delays_s), ("above_engine", rig.heard.above_engine_s)):
        outcome.figures |= {f"{name}_p{p}_ms": float(np.percentile(1e3 * np.array(seconds_each), p)) for p in (50, 99)}
    late_ms = outcome.figures["above_engine_p99_ms"]
    outcome.expect(late_ms <= _MAX_ABOVE_ENGINE_MS, f"scores came {late_ms:.0f} ms after what the engine took (p99)")
    return outcome


def _end_cleanly(daemon: psutil.Popen, rig: Rig, outcome: Outcome) -> None:
    outcome.expect(rig.next_message_s(60.0) < 60.0, "the last daemon said nothing for 60 s")
    daemon.send_signal(signal.SIGTERM)
    try:
        outcome.expect(daemon.wait(60) == 0, f"SIGTERM ended the daemon with {daemon.returncode}")
    except psutil.TimeoutExpired:
        outcome.expect(False, "SIGTERM did not end the daemon within 60 s")


@contextmanager
def _small_disk(folder: Path) -> Iterator[Path]:
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={_DISK_BYTES}", "tmpfs", str(folder)]
    subprocess.run(mount, check=True)  # needs root
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)  # noqa: S607 - whichever umount the system has


def _fill(path: Path) -> None:
    with path.open("wb", buffering=0) as filler:
        try:
            while True:
                filler.write(os.urandom(4_096))
        except OSError:
            return


def _nonsense(chance: random.Random) -> bytes:
    kind = chance.randrange(4)
    if kind == 0:
        return chance.randbytes(chance.randrange(200))
    words = ["acknowledge", "mute", "unmute", "", "null", "alarm", "\u0000", "é" * 40]
    value: object = chance.choice([None, True, -1, 1e308, "x" * chance.randrange(300), [], {}, [[[]]], 10**30])
    body = {chance.choice(["command", "schema", "alarm_id", "for_s", "id", "time_utc"]): value for _ in range(3)}
    body |= {"command": chance.choice(words)} if kind == 1 else {}
    body |= {"schema": 1, "command": chance.choice(words[:3]), "for_s": value} if kind == 2 else {}
    return repr(body).encode() if chance.random() < 0.2 else json.dumps(body).encode()
