"""Faults between the spool and the broker: each takes a rig and how much of it to do, and tells what became of it."""

from __future__ import annotations

import json
import random
import signal
import time

from benchmarks.faults.proxy import Proxy
from benchmarks.faults.rig import Outcome, Rig

_DAY_OF_ONE_MACHINE = 90_000
_PAYLOAD_BYTES = 600  # about what a score takes in the spool
_READ_S = 1.0  # in which listeners read what a broker wrote


def broker_restarts(rig: Rig, chance: random.Random, *, restarts: int) -> Outcome:
    """The broker is killed and stopped in turn and is away for up to 3 s, while messages keep coming."""
    outcome = Outcome()
    feeder = rig.feed("--rate", "200")
    rig.next_message_s(30.0)
    recoveries_s = []
    for number in range(restarts):
        # A broker that is killed takes along what it has acknowledged and holds for those who are not back yet, and the
        # reset of their connections what they have not read: that is its loss, not the device's.
        outcome.expect(rig.all_listen(60.0), "the audit or the subscriber did not come back")
        time.sleep(chance.uniform(0.3, 1.0))
        if number % 2:
            rig.broker.freeze()
            time.sleep(_READ_S)
            rig.broker.kill()
        else:
            rig.broker.stop()
        away_s = chance.uniform(0.2, 3.0)
        time.sleep(away_s)
        rig.broker.start()
        recovery_s = rig.next_message_s(60.0)
        # A pause that had begun when the broker came back may be as long as all those before it.
        outcome.expect(recovery_s <= 5.0 + 2.0 * (away_s + 1.0), f"{recovery_s:.1f} s after {away_s:.1f} s of absence")
        recoveries_s.append(recovery_s)
    feeder.send_signal(signal.SIGTERM)
    _note_feeder(outcome, feeder.communicate(timeout=120)[0])
    outcome.figures |= {"restarts": float(restarts), "recovery_max_s": max(recoveries_s)}
    rig.verdict(outcome)
    return outcome


def day_away(rig: Rig, _chance: random.Random, *, messages: int) -> Outcome:
    """The broker is away while the messages of days gather; then the spool is drained."""
    outcome = Outcome()
    rig.broker.stop()
    bound = ["--max-bytes", str(max(2**20, messages * 2 * _PAYLOAD_BYTES))]
    gather = rig.feed("--messages", str(messages), "--batch", "100", "--drain-s", "0.1", *bound)
    gather.communicate(timeout=600)
    rig.broker.start()
    time.sleep(12.0)  # the subscriber and the audit are back
    drain = rig.feed("--messages", "1", "--drain-s", "600", *bound)
    began_s = time.monotonic()
    report = json.loads(drain.communicate(timeout=700)[0])
    drained_s = time.monotonic() - began_s
    outcome.expect(report["left"] == 0, f"{report['left']} messages were not drained")
    rig.verdict(outcome)
    outcome.expect(rig.heard.messages >= messages, f"{rig.heard.messages} of {messages} messages arrived")
    outcome.figures |= {"drained_per_s": messages / drained_s, "days_of_one_machine": messages / _DAY_OF_ONE_MACHINE}
    return outcome


def full_spool(rig: Rig, _chance: random.Random, *, messages: int) -> Outcome:
    """The broker is away for longer than the spool is large: what had to go is announced, nothing else is missing."""
    outcome = Outcome()
    rig.broker.stop()
    bound = ["--max-bytes", str(max(2**20, messages * _PAYLOAD_BYTES // 4))]
    rig.feed("--messages", str(messages), "--batch", "100", "--drain-s", "0.1", *bound).communicate(timeout=600)
    rig.broker.start()
    time.sleep(12.0)
    rig.feed("--messages", "1", "--drain-s", "600", *bound).communicate(timeout=700)
    rig.verdict(outcome)
    outcome.figures["dropped_and_announced"] = float(messages - rig.heard.messages)
    outcome.expect(rig.heard.messages < messages, "the spool held everything: this tried nothing")
    return outcome


def volume(rig: Rig, chance: random.Random, *, messages: int, kills: int) -> Outcome:
    """As many messages as are delivered, while the process that sends them is killed now and then."""
    outcome = Outcome()
    # The spool must not fill: that is another fault.
    pace = ["--batch", "20", "--max-waiting", "2000"]
    for _ in range(kills):
        feeder = rig.feed(*pace)
        rig.next_message_s(30.0)
        time.sleep(chance.uniform(0.1, 3.0))
        feeder.kill()
        feeder.wait(20)
    left = max(1_000, messages - rig.heard.messages)
    began_s = time.monotonic()
    last = rig.feed("--messages", str(left), *pace, "--drain-s", "300")
    _note_feeder(outcome, last.communicate(timeout=3_600)[0])
    outcome.figures |= {"kills": float(kills), "delivered_per_s": left / (time.monotonic() - began_s)}
    rig.verdict(outcome)
    outcome.expect(rig.heard.messages >= messages, f"{rig.heard.messages} of {messages} messages arrived")
    return outcome


def cut_connections(rig: Rig, chance: random.Random, *, cuts: int) -> Outcome:
    """Something between device and broker cuts the connection after any byte."""
    outcome = Outcome()
    with Proxy(rig.broker.port) as proxy:
        feeder = rig.feed("--rate", "500", url=proxy.url)
        rig.next_message_s(30.0)
        for _ in range(cuts):
            proxy.cut_within(100_000, chance)
            time.sleep(0.6)
            outcome.expect(rig.next_message_s(30.0) < 30.0, "no message for 30 s after a cut")
        feeder.send_signal(signal.SIGTERM)
        _note_feeder(outcome, feeder.communicate(timeout=120)[0])
    rig.verdict(outcome)
    outcome.figures["cuts"] = float(cuts)
    return outcome


def slow_link(rig: Rig, _chance: random.Random, *, seconds: float) -> Outcome:
    """64 KB a second between device and broker, and twice as much to say: the spool takes the rest, in order."""
    outcome = Outcome()
    with Proxy(rig.broker.port, bytes_per_s=64_000) as proxy:
        feeder = rig.feed("--rate", "200", url=proxy.url)
        time.sleep(seconds)
        feeder.send_signal(signal.SIGTERM)
        _note_feeder(outcome, feeder.communicate(timeout=120)[0], drained=False)
    rig.feed("--messages", "1", "--drain-s", "120").communicate(timeout=180)
    rig.verdict(outcome)
    return outcome


def _note_feeder(outcome: Outcome, said: bytes, *, drained: bool = True) -> None:
    report = json.loads(said)
    outcome.figures |= {"commit_p50_ms": report["commit_p50_ms"], "commit_p99_ms": report["commit_p99_ms"]}
    if drained:
        outcome.expect(report["left"] == 0, f"{report['left']} messages were left in the spool")
        outcome.expect(report["dropped"] == 0, f"{report['dropped']} messages were dropped")
