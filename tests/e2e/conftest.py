"""The example's bundle and clips, configurations made of them, and the daemon as a process."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "examples" / "bldc_motor"
BUNDLE = next(EXAMPLE.glob("*.asd"), None)


class Device:
    """A device's configuration in a folder of its own, and the processes that run it."""

    def __init__(self, folder: Path, **changes):
        self.config = {
            "schema": 1,
            "site": "hall",
            "device": "device",
            "bundle": str(BUNDLE),
            "trust": {"require_signature": False},  # the example ships unsigned
            "state_dir": str(folder / "state"),
            "engine": {"prefer": ["openvino", "onnxruntime"]},
            "machines": [
                {
                    "name": "motor-1",
                    "listens_to": "bldc/M1",
                    "source": {"clips": clips("M1", "healthy") + clips("M1", "propeller"), "speed": 30.0},
                    "alarm": {"on_delay_s": 2.0},
                }
            ],
            **changes,
        }
        self.path = folder / "device.yaml"
        self.processes: list[subprocess.Popen] = []

    @property
    def machine(self):
        """The first machine, to be changed ahead of the start."""
        return self.config["machines"][0]

    def write(self, broker_url: str) -> None:
        """Write the configuration, for commands ahead of the start."""
        self.config["mqtt"] = {**self.config.get("mqtt", {}), "url": broker_url}
        self.path.write_text(yaml.safe_dump(self.config))

    def start(self, broker_url: str) -> subprocess.Popen:
        """Begin to run the daemon."""
        self.write(broker_url)
        command = [sys.executable, "-m", "edge_asd.cli", "run", "--config", str(self.path)]
        process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.processes.append(process)
        return process

    def run(self, broker_url: str, timeout_s: float = 60.0) -> tuple[int, str]:
        """Run the daemon to its end; exit code and what it said on stderr."""
        process = self.start(broker_url)
        _, said = process.communicate(timeout=timeout_s)
        return process.returncode, said

    def end(self):
        """Make sure that nothing is left running."""
        for process in self.processes:
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)
            process.communicate()


def clips(machine: str, kind: str) -> list[str]:
    """The example's clips of a machine, `healthy` or `propeller`, in order."""
    return [
        str(path) for path in sorted((EXAMPLE / "clips").rglob("*.flac")) if machine in str(path) and kind in path.name
    ]


@pytest.fixture
def example_bundle():
    """Path of the example's bundle."""
    return BUNDLE


@pytest.fixture
def example_clips():
    """A function: the example's clips of a machine and kind."""
    return clips


@pytest.fixture
def make_device(tmp_path):
    """A function that makes devices; its keywords replace keys of the configuration."""
    made = []

    def make(**changes):
        folder = tmp_path / f"device-{len(made)}"
        folder.mkdir()
        made.append(Device(folder, **changes))
        return made[-1]

    yield make
    for device in made:
        device.end()


@pytest.fixture
def edge_asd(tmp_path):
    """A function that runs a command of edge-asd to its end: exit code, stdout, stderr."""

    def run(*arguments, timeout_s=60.0):
        command = [sys.executable, "-m", "edge_asd.cli", *map(str, arguments)]
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=timeout_s, cwd=tmp_path)
        return done.returncode, done.stdout, done.stderr

    return run
