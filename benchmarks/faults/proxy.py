"""A TCP port in, another one out that leads to it: cut anywhere within a packet, or as slow as one likes."""

from __future__ import annotations

import contextlib
import random
import socket
import threading
import time
from types import TracebackType

from benchmarks.faults.mosquitto import free_port

_CHUNK_BYTES = 1_024


class Proxy:
    """Stands between a client and a server on this machine.

    bytes_per_s: how fast it passes on what the client sends; None is as fast as it comes.
    """

    host = "127.0.0.1"

    def __init__(self, server_port: int, *, bytes_per_s: float | None = None) -> None:
        self.port = free_port()
        self._server_port = server_port
        self._bytes_per_s = bytes_per_s
        self._cut_after: int | None = None
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._lock = threading.Lock()
        self._listener = socket.create_server((self.host, self.port))

    @property
    def url(self) -> str:
        """Its address for a command line or a configuration."""
        return f"mqtt://{self.host}:{self.port}"

    def cut_within(self, n_bytes: int, chance: random.Random) -> None:
        """Cut all connections after a random number of further bytes from the client, within a packet or not."""
        with self._lock:
            self._cut_after = chance.randrange(1, n_bytes)

    def __enter__(self) -> Proxy:
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._listener.close()
        self._cut()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection((self.host, self._server_port), timeout=5)
            except OSError:
                client.close()
                continue
            server.settimeout(None)
            with self._lock:
                self._pairs.append((client, server))
            threading.Thread(target=self._pass_on, args=(client, server, True), daemon=True).start()
            threading.Thread(target=self._pass_on, args=(server, client, False), daemon=True).start()

    def _pass_on(self, source: socket.socket, sink: socket.socket, from_client: bool) -> None:
        with contextlib.suppress(OSError):
            while chunk := source.recv(_CHUNK_BYTES):
                if from_client and self._bytes_per_s is not None:
                    time.sleep(len(chunk) / self._bytes_per_s)
                if from_client and (rest := self._due(len(chunk))) is not None:
                    sink.sendall(chunk[:rest])
                    self._cut()
                    return
                sink.sendall(chunk)
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_RDWR)

    def _due(self, n_bytes: int) -> int | None:
        """How much of this chunk still goes through where the cut falls into it."""
        with self._lock:
            if self._cut_after is None:
                return None
            if self._cut_after > n_bytes:
                self._cut_after -= n_bytes
                return None
            rest, self._cut_after = self._cut_after, None
            return rest

    def _cut(self) -> None:
        with self._lock:
            pairs, self._pairs = self._pairs, []
        for pair in pairs:
            for end in pair:
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
                end.close()
