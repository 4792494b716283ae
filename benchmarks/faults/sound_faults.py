"""A sound server that stops and comes back under a live capture: how soon that is told, and how soon it goes on."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeAlias

import numpy as np
import soundfile

from benchmarks.faults.rig import Outcome, Rig

_SERVER = (
    "pulseaudio",
    "-n",
    "--daemonize=no",
    "--system=false",
    "--exit-idle-time=-1",
    "--use-pid-file=no",
    "--log-target=stderr",
    "--load=module-native-protocol-unix",
)
_SINK = "--load=module-null-sink sink_name=plant rate=16000 channels=1 format=float32le"

_Start: TypeAlias = Callable[[], tuple[subprocess.Popen[bytes], subprocess.Popen[bytes]]]


def lost_microphone(rig: Rig, _chance: random.Random, *, rounds: int) -> Outcome:
    """PulseAudio is ended and started again while the daemon listens to its sound."""
    outcome = Outcome()
    if shutil.which("pulseaudio") is None:
        raise FileNotFoundError("the program pulseaudio is not installed; apt install pulseaudio pulseaudio-utils")
    lost_s, back_s = [], []
    with _pulse(rig.folder) as (environment, start):
        server, player = start()
        config = {"name": "motor-1", "listens_to": "bldc/M1", "source": {"device": "plant mic"}}
        daemon = rig.daemon(machines=[config], env=environment)
        outcome.expect(rig.next_message_s(60.0) < 60.0, "no score from the live sound")
        for _ in range(rounds):
            for process in (player, server):
                process.kill()
                process.wait(10)
            lost_s.append(_state_s(rig, {"sensor_fault"}, 30.0))
            server, player = start()
            back_s.append(_state_s(rig, {"learning", "normal", "warning", "alarm"}, 60.0))
            outcome.expect(rig.next_message_s(60.0) < 60.0, "no score after the sound came back")
        outcome.expect(daemon.poll() is None, f"the daemon ended with {daemon.returncode}")
        daemon.terminate()
        daemon.wait(60)
        for process in (player, server):
            process.kill()
            process.wait(10)
    rig.verdict(outcome)
    outcome.expect(max(lost_s) <= 5.0, f"the loss was told after {max(lost_s):.1f} s")
    outcome.expect(max(back_s) <= 10.0, f"the return was told after {max(back_s):.1f} s")
    outcome.figures |= {"rounds": float(rounds), "loss_told_max_s": max(lost_s), "return_told_max_s": max(back_s)}
    return outcome


def _state_s(rig: Rig, wanted: set[str], timeout_s: float) -> float:
    """Seconds until the machine's latest state is one of these; infinite where it does not come."""
    began_s = time.monotonic()
    while time.monotonic() - began_s < timeout_s:
        if rig.heard.states and rig.heard.states[-1][2] in wanted:
            return time.monotonic() - began_s
        time.sleep(0.02)
    return float("inf")


@contextmanager
def _pulse(folder: Path) -> Iterator[tuple[dict[str, str], _Start]]:
    """An environment in which ALSA's card `plant mic` is a sink of a PulseAudio of our own, and what starts that."""
    with tempfile.TemporaryDirectory(prefix="edge-asd-pulse-") as runtime:  # a socket's path must be short
        (folder / "alsa.conf").write_text(
            '</usr/share/alsa/alsa.conf>\npcm."plant mic" { type pulse device "plant.monitor" }\n', encoding="ascii"
        )
        noise = np.random.default_rng(0).standard_normal(16_000 * 600).astype(np.float32)
        soundfile.write(folder / "noise.wav", 0.01 * noise, 16_000, subtype="FLOAT")
        environment = {
            **os.environ,
            "HOME": str(folder),
            "XDG_RUNTIME_DIR": runtime,
            "PULSE_RUNTIME_PATH": f"{runtime}/pulse",
            "ALSA_CONFIG_PATH": str(folder / "alsa.conf"),
        }

        def start() -> tuple[subprocess.Popen[bytes], subprocess.Popen[bytes]]:
            with (folder / "pulse.log").open("ab") as log:
                server = subprocess.Popen([*_SERVER, _SINK], env=environment, stderr=log)
                ask = ["pactl", "info"]
                for _ in range(200):
                    if subprocess.run(ask, env=environment, capture_output=True, check=False).returncode == 0:
                        break
                    time.sleep(0.02)
                play = ["paplay", "--device=plant", str(folder / "noise.wav")]
                return server, subprocess.Popen(play, env=environment, stderr=log)

        yield environment, start
