"""A folder in, a PulseAudio of its own out, whose null sink's monitor is a sound card that can be killed and frozen."""

from __future__ import annotations

import ctypes.util
import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

_OPTIONS = "-n --daemonize=no --system=false --exit-idle-time=-1 --use-pid-file=no --log-target=stderr"
_MODULES = (
    "module-native-protocol-unix",
    "module-null-sink sink_name=plant rate=48000 channels=2 format=float32le",
)
_ALSA = """\
</usr/share/alsa/alsa.conf>
pcm."plant mic" { type pulse device "plant.monitor" }
pcm."silent mic" { type pulse device "nowhere.monitor" }
"""


def missing() -> list[str]:
    """Names of what a recording from a sound server needs and this machine lacks."""
    needed = {
        "PortAudio (libportaudio2)": ctypes.util.find_library("portaudio"),
        "pulseaudio": shutil.which("pulseaudio"),
        "paplay (pulseaudio-utils)": shutil.which("paplay"),
        "ALSA's pulse plugin (libasound2-plugins)": any(Path("/usr/lib").glob("*/alsa-lib/*pcm_pulse.so")),
    }
    return [name for name, is_there in needed.items() if not is_there]


class PulseAudio:
    """Two sound cards, `plant mic` in two channels and `silent mic`, which cannot be opened.

    environment: what leads a process to it.
    """

    def __init__(self, folder: Path) -> None:
        self._log = folder / "pulse.log"
        self._runtime = Path(tempfile.mkdtemp(prefix="edge-asd-pulse-"))  # a socket's path must be short
        self._process: subprocess.Popen[bytes] | None = None
        self._players: list[subprocess.Popen[bytes]] = []
        (folder / "alsa.conf").write_text(_ALSA, encoding="utf-8")
        self.environment = {
            "HOME": str(folder),
            "XDG_RUNTIME_DIR": str(self._runtime),
            "PULSE_RUNTIME_PATH": str(self._runtime / "pulse"),
            "ALSA_CONFIG_PATH": str(folder / "alsa.conf"),
        }

    def start(self) -> None:
        """Begin, or begin again; it answers when this returns.

        Raises:
            RuntimeError: it does not.
        """
        command = ["pulseaudio", *_OPTIONS.split(), *(f"--load={module}" for module in _MODULES)]
        environment = {**os.environ, **self.environment}
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(command, stderr=log, env=environment)
        for _ in range(200):
            asked = subprocess.run(["pactl", "info"], capture_output=True, check=False, env=environment)  # noqa: S607
            if asked.returncode == 0:
                return
            time.sleep(0.05)
        raise RuntimeError(f"PulseAudio does not answer:\n{self._log.read_text(encoding='utf-8')}")

    def play(self, clip: Path) -> None:
        """Play a clip into `plant mic`, once, until the server ends."""
        command = ["paplay", "--latency-msec=2000", "--device=plant", str(clip)]
        self._players.append(subprocess.Popen(command, env={**os.environ, **self.environment}))

    def stop(self) -> None:
        """End as a service manager would."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(10)

    def kill(self) -> None:
        """End at once."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)

    def freeze(self) -> None:
        """Hang."""
        if self._process is not None:
            self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Go on."""
        if self._process is not None:
            self._process.send_signal(signal.SIGCONT)

    def close(self) -> None:
        """End and remove what it left."""
        self.kill()
        for player in self._players:
            player.kill()
            player.wait(10)
        shutil.rmtree(self._runtime)
