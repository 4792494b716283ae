"""The shipped unit under a real systemd: its sandbox lets the daemon work, and it restarts what it should.

systemd runs as a user's instance in a mount namespace of its own, so that nothing of the machine's is touched. It
cannot change the user, hold devices back or hand over credentials there: those lines of the unit are left out.
"""

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

UNIT = Path(__file__).resolve().parents[2] / "firmware_configs" / "systemd" / "edge-asd.service"
INIT = """
set -e
mount -t tmpfs tmpfs /run
mkdir -p /run/systemd/system /run/systemd/inaccessible/dir
cd /run/systemd/inaccessible
touch reg
mkfifo fifo
mknod chr c 0 0
mknod blk b 0 0
"$PYTHON" -c 'import socket; socket.socket(socket.AF_UNIX).bind("sock")'
mkdir -m 700 /run/user-0
cd /
exec /lib/systemd/systemd --user
"""
DROP_IN = """
[Service]
User=
Group=
LoadCredential=
DevicePolicy=auto
DeviceAllow=
ProtectHome=no
PrivateTmp=no
ReadWritePaths={folder}
WorkingDirectory={folder}
ExecStart=
ExecStart={python} -m edge_asd.cli run --config {config}
WatchdogSec=15
RestartSec=1
StandardError=append:{folder}/said
"""


class Systemd:
    """A systemd of its own, whose only unit is ours."""

    def __init__(self, folder: Path):
        self._environment = {
            "PATH": os.environ["PATH"],
            "PYTHON": sys.executable,
            "HOME": str(folder),
            "XDG_RUNTIME_DIR": "/run/user-0",
            "XDG_CONFIG_HOME": str(folder / "units"),
        }
        self._process = subprocess.Popen(
            ["unshare", "--mount", "sh", "-c", INIT],
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def ask(self, *arguments):
        """What systemctl says, or the empty text where it fails."""
        inside = ["nsenter", "--mount", "--target", str(self._process.pid)]
        done = subprocess.run(
            [*inside, "systemctl", "--user", "--no-pager", *arguments],
            env=self._environment,
            capture_output=True,
            text=True,
            check=False,
        )
        return done.stdout.strip() if done.returncode == 0 else ""

    def show(self, name):
        """One property of the unit."""
        return self.ask("show", "--value", "-p", name, "edge-asd.service")

    def wait_for(self, condition, timeout_s=90.0):
        """Returns once the condition holds."""
        give_up_s = time.monotonic() + timeout_s
        while not condition():
            if time.monotonic() > give_up_s or self._process.poll() is not None:
                raise TimeoutError(f"not within {timeout_s} s; the unit is {self.ask('status', 'edge-asd.service')}")
            time.sleep(0.2)

    def end(self):
        self.ask("stop", "edge-asd.service")
        self._process.terminate()
        self._process.wait(30)


@pytest.fixture
def systemd(tmp_path):
    """A running systemd; skips where there is none or it cannot have namespaces of its own."""
    needed = ["unshare", "nsenter", "systemctl"]
    if missing := [name for name in needed if shutil.which(name) is None] or not Path("/lib/systemd/systemd").exists():
        pytest.skip(f"a systemd of the test's own takes {needed} and /lib/systemd/systemd ({missing})")
    if subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False).returncode:
        pytest.skip("this user may not make a mount namespace")
    units = tmp_path / "units" / "systemd" / "user"
    (units / "edge-asd.service.d").mkdir(parents=True)
    shutil.copy(UNIT, units)
    drop_in = DROP_IN.format(folder=tmp_path, python=sys.executable, config=tmp_path / "device-0" / "device.yaml")
    (units / "edge-asd.service.d" / "test.conf").write_text(drop_in)
    systemd = Systemd(tmp_path)
    try:
        systemd.wait_for(lambda: systemd.ask("is-system-running"), 20)
    except TimeoutError:
        systemd.end()
        pytest.skip("systemd does not start as a user's instance here")
    yield systemd
    systemd.end()


@pytest.mark.slow
def test_the_unit_works_restarts_and_gives_up_where_it_should(systemd, make_device, edge_asd, example_clips, tmp_path):
    """In its sandbox the daemon scores and asks for the clock; killed or hanging it is restarted, with 78 it is not."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    device = make_device(metrics={"port": port}, mqtt={"url": "mqtt://127.0.0.1:1"})
    device.machine["source"].update(clips=example_clips("M1", "healthy"), speed=10.0, repeat=True)
    device.path.write_text(json.dumps(device.config))

    def report():
        _, out, _ = edge_asd("status", "--config", device.path, "--json")
        return json.loads(out) if out else {}

    def is_scoring():
        return any(machine["score"] is not None for machine in report().get("machines", ()))

    def restarts():
        return int(systemd.show("NRestarts") or 0)

    systemd.ask("start", "edge-asd.service")
    assert systemd.show("ActiveState") == "active", (tmp_path / "said").read_text()
    systemd.wait_for(is_scoring)
    assert report()["clock"]["max_error_ms"] is not None, "the sandbox forbids to ask for the clock"
    systemd.wait_for(lambda: systemd.show("StatusText").startswith("1 machines; 0 in alarm"))

    assert systemd.ask("reload", "edge-asd.service") == ""
    systemd.wait_for(lambda: "reloaded" in (tmp_path / "said").read_text())
    assert restarts() == 0

    os.kill(int(systemd.show("MainPID")), signal.SIGKILL)
    systemd.wait_for(lambda: restarts() == 1 and is_scoring())

    os.kill(int(systemd.show("MainPID")), signal.SIGSTOP)
    systemd.wait_for(lambda: restarts() == 2 and is_scoring())

    device.machine["hop_samples"] = 16_000
    device.path.write_text(json.dumps(device.config))
    os.kill(int(systemd.show("MainPID")), signal.SIGKILL)
    systemd.wait_for(lambda: systemd.show("ActiveState") == "failed")
    time.sleep(3)
    assert systemd.show("ActiveState") == "failed"
    assert systemd.show("ExecMainStatus") == "78"
    assert re.search(r"hop_samples is 16000.*use 15360", (tmp_path / "said").read_text())
