"""A report of the daemon in, answers on a port of this machine alone out: /metrics for Prometheus, /status in JSON."""

from __future__ import annotations

import json
import logging
import sys
import threading
from collections.abc import Callable
from dataclasses import asdict
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, HTTPServer

from prometheus_client import CONTENT_TYPE_LATEST

from edge_asd.daemon.metrics import metrics_text
from edge_asd.daemon.report import Report

LOG = logging.getLogger(__name__)

LOOPBACK = "127.0.0.1"

_REQUEST_TIMEOUT_S = 5.0


class Endpoint:
    """Answers one request at a time, from a thread of its own.

    A port that is taken costs the answers, not the daemon: it is logged, and nothing listens.

    Args:
        port: TCP port on the loopback interface; None answers nobody.
        report: how the daemon stands now; called in the endpoint's thread.
    """

    def __init__(self, port: int | None, report: Callable[[], Report]) -> None:
        self._server: HTTPServer | None = None
        if port is None:
            return
        try:
            self._server = _Server(port, report)
        except OSError as error:
            LOG.error(  # noqa: TRY400 - the traceback says no more
                "metrics and status: port %s of %s cannot be listened on (%s); choose another metrics.port",
                str(port), LOOPBACK, error,
            )  # fmt: skip
            return
        self._thread = threading.Thread(target=self._server.serve_forever, name="endpoint", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Answer no more."""
        if self._server is not None:
            self._server.shutdown()
            self._thread.join()
            self._server.server_close()


class _Server(HTTPServer):
    """Knows what is asked for."""

    def __init__(self, port: int, report: Callable[[], Report]) -> None:
        super().__init__((LOOPBACK, port), _Request)
        self.report = report

    def handle_error(self, _request: object, _client: object) -> None:
        """A client that goes away or talks nonsense is not worth a line."""
        LOG.debug("a request for metrics or status failed: %r", sys.exc_info()[1])


class _Request(BaseHTTPRequestHandler):
    """One request."""

    timeout = _REQUEST_TIMEOUT_S
    server: _Server

    def do_GET(self) -> None:
        """Answer, or say what can be asked for."""
        try:
            match self.path.partition("?")[0]:
                case "/metrics":
                    self._answer(HTTPStatus.OK, CONTENT_TYPE_LATEST, metrics_text(self.server.report()))
                case "/status":
                    body = json.dumps(asdict(self.server.report()), ensure_ascii=False).encode()
                    self._answer(HTTPStatus.OK, "application/json", body)
                case _:
                    self._answer(HTTPStatus.NOT_FOUND, "text/plain", b"expected /metrics or /status\n")
        except ConnectionError:
            return  # who asked has gone
        except Exception:
            LOG.exception("how the daemon stands cannot be told")
            self._answer(HTTPStatus.INTERNAL_SERVER_ERROR, "text/plain", b"see the daemon's log\n")

    def log_message(self, *_: object) -> None:
        """No line for each request."""

    def _answer(self, status: HTTPStatus, content_type: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
