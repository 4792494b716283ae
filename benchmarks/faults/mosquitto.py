"""A folder in, a Mosquitto process of its own out, that can be stopped, killed and started again."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path
from types import TracebackType

_CLIENT = re.compile(r"New client connected from \S+ as (\S+) \(")


class Mosquitto:
    """A broker that keeps its sessions over a restart, so that what a subscriber has not got yet waits for it.

    Nothing is bounded in it: what is lost between device and subscriber is then the device's loss.

    Raises:
        FileNotFoundError: Mosquitto is not installed.
    """

    host = "127.0.0.1"

    def __init__(self, folder: Path) -> None:
        program = shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")
        if program is None:
            raise FileNotFoundError("the program mosquitto is not installed; apt install mosquitto")
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._log = folder / "mosquitto.log"
        self._log_start = 0
        config = folder / "mosquitto.conf"
        lines = [
            f"listener {self.port} {self.host}",
            "allow_anonymous true",
            "persistence true",
            f"persistence_location {folder}/",
            "autosave_interval 1",
            "max_queued_messages 0",
            "max_inflight_messages 0",
            *(["user root"] if os.geteuid() == 0 else []),  # else it becomes a user who cannot read the folder
        ]
        config.write_text("\n".join(lines) + "\n", encoding="utf-8")
        self._command = [program, "-c", str(config)]

    @property
    def url(self) -> str:
        """Its address for a command line or a configuration."""
        return f"mqtt://{self.host}:{self.port}"

    def start(self) -> None:
        """Start it and wait until it listens.

        Raises:
            RuntimeError: it does not.
        """
        with self._log.open("ab") as log:
            self._log_start = log.tell()
            self._process = subprocess.Popen(self._command, stdout=log, stderr=log)
        give_up_s = time.monotonic() + 20.0
        while time.monotonic() < give_up_s and self._process.poll() is None:
            with socket.socket() as probe:
                if probe.connect_ex((self.host, self.port)) == 0:
                    return
            time.sleep(0.01)
        raise RuntimeError(f"mosquitto does not listen on port {self.port}:\n{self._log.read_text(encoding='utf-8')}")

    @property
    def clients(self) -> set[str]:
        """Who has connected since it was started."""
        with self._log.open(encoding="utf-8") as log:
            log.seek(self._log_start)
            return set(_CLIENT.findall(log.read()))

    def stop(self) -> None:
        """End it as a service manager would."""
        self._end(subprocess.Popen.terminate)

    def kill(self) -> None:
        """End it as a power cut would."""
        self._end(subprocess.Popen.kill)

    def freeze(self) -> None:
        """Let it hang."""
        if self._process is not None:
            self._process.send_signal(signal.SIGSTOP)

    def _end(self, how: object) -> None:
        if self._process is not None and callable(how):
            how(self._process)
            self._process.wait(20)
            self._process = None

    def __enter__(self) -> Mosquitto:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.kill()


def free_port() -> int:
    """Return a TCP port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
