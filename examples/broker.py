"""An embedded MQTT broker on a free port of the loopback interface, in a process of its own, while a context lasts."""

from __future__ import annotations

import asyncio
import select
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edge_asd.errors import UnavailableError

_START_LIMIT_S = 20.0


@contextmanager
def embedded_broker() -> Iterator[str]:
    """Yield its URL; anyone on this machine may use it, so it is for a demo, not for a site.

    Raises:
        UnavailableError: it did not start.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "examples.broker", str(port)]
    process = subprocess.Popen(command, cwd=Path(__file__).resolve().parent.parent, stdout=subprocess.PIPE)
    try:
        _wait_until_it_listens(process, port)
        yield f"mqtt://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.communicate(timeout=10)


def _wait_until_it_listens(process: subprocess.Popen[bytes], port: int) -> None:
    """Wait for the line that the broker prints when it listens, or for its end."""
    readable = process.stdout is not None and select.select([process.stdout], [], [], _START_LIMIT_S)[0]
    if process.stdout is None or not readable or not process.stdout.readline():
        raise UnavailableError(
            f"the embedded broker does not listen on 127.0.0.1:{port} (exit code {process.poll()}); expected it within "
            f"{_START_LIMIT_S:g} s; name another broker with MQTT_URL"
        )


async def serve(port: int) -> None:
    """Serve MQTT 3.1.1 on 127.0.0.1 until the program is ended."""
    from amqtt.broker import Broker  # noqa: PLC0415 (only the broker's own process pays for it)

    broker = Broker(
        {
            "listeners": {"default": {"type": "tcp", "bind": f"127.0.0.1:{port}"}},
            "plugins": {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}},
        }
    )
    await broker.start()
    print(f"listening on 127.0.0.1:{port}", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1])))
