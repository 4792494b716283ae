"""What the service manager is told, heard by a real datagram socket."""

import os
import re
import socket

import pytest

from edge_asd.systemd import ServiceManager


class FakeSystemd:
    """A socket as systemd's, and the address that it gives to services."""

    def __init__(self, address):
        self.address = address
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind("\0" + address[1:] if address.startswith("@") else address)
        self._socket.settimeout(5)

    def hear(self):
        return self._socket.recv(4096).decode()

    def close(self):
        self._socket.close()


@pytest.fixture(params=["path", "abstract"])
def systemd(request, tmp_path):
    fake = FakeSystemd(str(tmp_path / "notify") if request.param == "path" else f"@edge-asd-test-{os.getpid()}")
    yield fake
    fake.close()


def test_a_service_says_how_it_stands(systemd):
    """Start, watchdog, status, reload and stop arrive as datagrams of their own, in the form of sd_notify."""
    manager = ServiceManager({"NOTIFY_SOCKET": systemd.address})
    manager.ready()
    manager.alive()
    manager.status("two machines\nare heard")
    manager.reloading()
    manager.stopping()
    assert systemd.hear() == "READY=1"
    assert systemd.hear() == "WATCHDOG=1"
    assert systemd.hear() == "STATUS=two machines are heard"
    assert re.fullmatch(r"RELOADING=1\nMONOTONIC_USEC=\d+", systemd.hear())
    assert systemd.hear() == "STOPPING=1"
    manager.close()


def test_the_same_status_is_told_once(systemd):
    """Systemd is not told again what it knows."""
    manager = ServiceManager({"NOTIFY_SOCKET": systemd.address})
    for text in ("fine", "fine", "broken"):
        manager.status(text)
    assert [systemd.hear(), systemd.hear()] == ["STATUS=fine", "STATUS=broken"]


def test_children_do_not_speak_for_the_daemon(systemd):
    """The address is taken out of the environment that children inherit."""
    environment = {"NOTIFY_SOCKET": systemd.address, "PATH": "/bin"}
    ServiceManager(environment)
    assert environment == {"PATH": "/bin"}


def test_without_a_service_manager_nothing_happens():
    """Started from a shell, there is nobody to tell and no watchdog to feed."""
    manager = ServiceManager({})
    manager.ready()
    manager.alive()
    assert manager.watchdog_s is None


def test_a_service_manager_that_has_gone_is_told_about_once(tmp_path, caplog):
    """A socket that nobody reads costs one line in the log, not the daemon."""
    manager = ServiceManager({"NOTIFY_SOCKET": str(tmp_path / "gone")})
    manager.ready()
    manager.alive()
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert "No such file" in caplog.text


@pytest.mark.parametrize(
    ("environment", "expected_s"),
    [
        ({"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": str(os.getpid())}, 60.0),
        ({"WATCHDOG_USEC": "500000"}, 0.5),
        ({"WATCHDOG_USEC": "60000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
    ],
)
def test_the_watchdog_is_ours_or_none(environment, expected_s):
    """A watchdog that is off, or meant for another process, is not fed."""
    assert ServiceManager(environment).watchdog_s == expected_s
