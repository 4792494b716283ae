"""A machine that no bundle knows: learned beside the running daemon, through kills, and live without a restart."""

import re
import signal
import subprocess
import sys

import pytest

pytestmark = pytest.mark.timeout(400)  # processes that import everything, on a machine that may be busy


@pytest.fixture
def device(make_device, example_clips):
    """A trained motor and one that is to be enrolled, both heard far faster than real time and without end."""
    device = make_device(engine={"prefer": ["onnxruntime", "openvino"], "threads": 1})
    loop = example_clips("M2", "healthy") + example_clips("M1", "healthy")
    # Few recordings of two motors are no machine: for one false alarm a week no threshold could be reached.
    device.config["enroll"] = {"false_alarms_per_week": 500.0}
    device.config["machines"] = [
        {
            "name": "motor-1",
            "listens_to": "bldc/M1",
            "source": {"clips": example_clips("M1", "healthy"), "speed": 4.0, "repeat": True},
            "hop_samples": 81_920,
            "threshold": 1000.0,
        },
        {
            "name": "press-7",
            "listens_to": "enrolled",
            "source": {"clips": loop, "speed": 60.0, "repeat": True},
            "hop_samples": 158_720,  # 9.92 s: every window is kept
        },
    ]
    return device


def states(heard, machine="press-7"):
    """States that were told of a machine, in order."""
    return [
        message.payload["state"] for message in heard if message.leaf == "state" and f"/{machine}/" in message.topic
    ]


def scores(heard, machine="press-7"):
    """Scores of a machine, in order."""
    return [message.payload for message in heard if message.leaf == "score" and f"/{machine}/" in message.topic]


def enroll(device, *arguments):
    """`edge-asd enroll press-7` as a process."""
    command = [sys.executable, "-m", "edge_asd.cli", "enroll", "press-7", "--config", str(device.path), *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    device.processes.append(process)
    return process


def collected(device):
    """Whether something was collected."""
    folder = device.path.parent / "state" / "enrolled" / "press-7"
    return any(folder.glob("collected-*.learned"))


def test_machine_is_learned_through_kills_and_goes_live(device, mosquitto, subscribe, wait_until) -> None:
    """Command and daemon are killed while it is learned: both go on, and scores begin without another restart."""
    subscriber = subscribe(mosquitto)
    daemon = device.start(mosquitto.url)
    subscriber.wait_for(lambda heard: states(heard) == ["learning"], 120)
    command = enroll(device, "--minutes", "5")
    wait_until(lambda: collected(device), 120)
    command.kill()
    daemon.send_signal(signal.SIGKILL)
    daemon.wait()
    assert not scores(subscriber.heard)
    daemon = device.start(mosquitto.url)
    command = enroll(device, "--minutes", "5")
    out, err = command.communicate(timeout=240)
    assert command.returncode == 0, err
    assert "press-7 is enrolled and live" in out
    assert re.search(r"learning press-7: [0-9.]+ of 5 min", err)
    assert "extrapolated" in out
    heard = subscriber.wait_for(lambda heard: len(scores(heard)) > 3, 60)
    assert daemon.poll() is None
    assert "normal" in states(heard)
    assert scores(heard, "motor-1")  # was scored all the while
    assert not collected(device)
