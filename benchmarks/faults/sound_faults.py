"""A sound server or a recording process that fails under a live capture: how soon that is told, how soon it goes on."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import psutil
import soundfile

from benchmarks.faults.rig import Outcome, Rig
from benchmarks.sound_server import PulseAudio, missing

_KINDS = ("server-killed", "server-frozen", "recorder-killed", "recorder-frozen")
_SOUND_S = 1_200


def lost_microphone(rig: Rig, chance: random.Random, *, rounds: int) -> Outcome:
    """The sound of a listening daemon is taken away in each of four ways, and given back, in random order."""
    outcome = Outcome()
    lost_s: dict[str, list[float]] = {kind: [] for kind in _KINDS}
    back_s: dict[str, list[float]] = {kind: [] for kind in _KINDS}
    with _sounding(rig.folder) as server:
        config = {"name": "motor-1", "listens_to": "bldc/M1", "source": {"device": "plant mic"}}
        daemon = rig.daemon(machines=[config], env={**os.environ, **server.environment})
        outcome.expect(_score_s(rig, 60.0) < 60.0, "no score from the live sound")
        for kind in chance.sample(_KINDS * rounds, len(_KINDS) * rounds):
            _take_away(kind, server, daemon)
            lost_s[kind].append(_state_s(rig, {"sensor_fault"}, 30.0))
            _give_back(kind, server)
            back_s[kind].append(_state_s(rig, {"learning", "normal", "warning", "alarm"}, 60.0))
            outcome.expect(_score_s(rig, 60.0) < 60.0, f"no score after {kind}")
        outcome.expect(daemon.poll() is None, f"the daemon ended with {daemon.returncode}")
        daemon.terminate()
        daemon.wait(60)
    rig.verdict(outcome)
    for kind in _KINDS:
        told, back = max(lost_s[kind]), max(back_s[kind])
        outcome.expect(told <= 5.0, f"{kind}: the loss was told after {told:.1f} s")
        outcome.expect(back <= 10.0, f"{kind}: the return was told after {back:.1f} s")
        outcome.figures |= {f"{kind}_told_max_s": told, f"{kind}_back_max_s": back}
    outcome.figures["faults"] = float(len(_KINDS) * rounds)
    return outcome


def _take_away(kind: str, server: PulseAudio, daemon: psutil.Popen) -> None:
    if kind == "server-killed":
        server.kill()
    elif kind == "server-frozen":
        server.freeze()
    else:
        (recorder,) = daemon.children()
        recorder.send_signal(signal.SIGKILL if kind == "recorder-killed" else signal.SIGSTOP)


def _give_back(kind: str, server: PulseAudio) -> None:
    """What the daemon cannot do itself: a recording process is its own to replace."""
    if kind == "server-killed":
        server.start()
        _play(server)
    elif kind == "server-frozen":
        server.thaw()


def _state_s(rig: Rig, wanted: set[str], timeout_s: float) -> float:
    """Seconds until the machine's latest state is one of these; infinite where it does not come."""
    began_s = time.monotonic()
    while time.monotonic() - began_s < timeout_s:
        if rig.heard.states and rig.heard.states[-1][2] in wanted:
            return time.monotonic() - began_s
        time.sleep(0.02)
    return float("inf")


def _score_s(rig: Rig, timeout_s: float) -> float:
    """Seconds until a further score arrives; infinite where none does."""
    began_s, before = time.monotonic(), len(rig.heard.delays_s)
    while time.monotonic() - began_s < timeout_s:
        if len(rig.heard.delays_s) > before:
            return time.monotonic() - began_s
        time.sleep(0.02)
    return float("inf")


@contextmanager
def _sounding(folder: Path) -> Iterator[PulseAudio]:
    """A PulseAudio whose card `plant mic` hears noise."""
    if lacking := missing():
        raise FileNotFoundError(f"not installed: {', '.join(lacking)}; run `make test` once, or install them")
    noise = 0.01 * np.random.default_rng(0).standard_normal(16_000 * _SOUND_S)
    soundfile.write(folder / "noise.wav", noise, 16_000, subtype="PCM_16")
    server = PulseAudio(folder)
    try:
        server.start()
        _play(server)
        yield server
    finally:
        server.close()


def _play(server: PulseAudio) -> None:
    server.play(Path(server.environment["HOME"]) / "noise.wav")
