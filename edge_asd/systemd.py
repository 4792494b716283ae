"""News of the daemon's life in, datagrams to the service manager out."""

from __future__ import annotations

import logging
import os
import socket
import time
from collections.abc import Mapping, MutableMapping

LOG = logging.getLogger(__name__)


class ServiceManager:
    """Says to systemd, where it started this process as Type=notify, how it stands; elsewhere says nothing.

    A message that cannot be sent is logged once: systemd then takes the service for hung, and starts it again.

    Args:
        environment: of the process. NOTIFY_SOCKET is taken out, so that no child speaks in the daemon's name.

    Source: man 3 sd_notify, man 3 sd_watchdog_enabled.
    """

    def __init__(self, environment: MutableMapping[str, str] = os.environ) -> None:
        self._socket: socket.socket | None = None
        self._silent = False
        self._status = ""
        self.watchdog_s = _watchdog_s(environment)
        address = environment.pop("NOTIFY_SOCKET", "")
        if address:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
            self._socket.setblocking(False)
            try:
                self._socket.connect("\0" + address[1:] if address.startswith("@") else address)
            except OSError as error:
                self._give_up(error)

    def ready(self) -> None:
        """The service has started, or a reload has ended."""
        self._send("READY=1")

    def reloading(self) -> None:
        """A reload begins; `ready` ends it."""
        self._send(f"RELOADING=1\nMONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1_000}")

    def stopping(self) -> None:
        """The service has begun to stop."""
        self._send("STOPPING=1")

    def alive(self) -> None:
        """Feed the watchdog; expected at least every `watchdog_s`."""
        self._send("WATCHDOG=1")

    def status(self, text: str) -> None:
        """What `systemctl status` shows, one line; sent when it changes."""
        if text != self._status:
            self._status = text
            self._send(f"STATUS={' '.join(text.splitlines())}")

    def close(self) -> None:
        """Release the socket."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _send(self, message: str) -> None:
        if self._socket is None:
            return
        try:
            self._socket.send(message.encode())
        except OSError as error:
            self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        """A full queue or a socket that has gone; the next message is tried all the same."""
        if not self._silent:
            LOG.error("the service manager cannot be told how the daemon stands (%s)", error)
            self._silent = True


def _watchdog_s(environment: Mapping[str, str]) -> float | None:
    """How often the service manager wants to hear that we live; None where it does not."""
    text = environment.get("WATCHDOG_USEC", "")
    meant_for = environment.get("WATCHDOG_PID", str(os.getpid()))
    if not text.isdecimal() or int(text) == 0 or meant_for != str(os.getpid()):
        return None
    return int(text) / 1e6
