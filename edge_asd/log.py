"""Log records in, lines on stderr out: for people, or JSON for the journal; repeats of one error are held back."""

from __future__ import annotations

import json
import logging
import os
import re
import sys
import threading
import time
import types
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TextIO, TypeAlias

from edge_asd.utc import iso_utc

HOLD_S = 300.0
"""How long repeats of one warning or error are held back."""

LogFormat: TypeAlias = Literal["auto", "timed", "json"]

_TIMED = "%(asctime)s %(levelname)s %(name)s: %(message)s"
_MAX_REMEMBERED = 256
_NUMBER = re.compile(r"[0-9]+")
# Source: syslog(3); systemd takes them from <N> ahead of a line, as in man 3 sd-daemon.
_PRIORITIES = {logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3, logging.CRITICAL: 2}


def configure_log(*, level: str, log_format: LogFormat, stream: TextIO | None = None) -> LogHandler:
    """Send all records of the process from that level on to `stream` (stderr), exceptions that nobody caught included.

    `auto` is JSON where the stream is systemd's journal, else timed.
    """
    stream = stream or sys.stderr
    journal = _is_journal(stream)
    formatter: logging.Formatter = logging.Formatter(_TIMED)
    if log_format == "json" or (log_format == "auto" and journal):
        formatter = JsonFormatter(priority_prefix=journal)
    root = logging.getLogger()
    handler = next((old for old in _ours(root) if old.stream is stream), None) or LogHandler(stream)
    handler.setFormatter(formatter)
    root.removeHandler(handler)
    for old in root.handlers[:]:
        root.removeHandler(old)
        old.close()
    root.addHandler(handler)
    root.setLevel(level.upper())
    logging.captureWarnings(True)
    sys.excepthook = _log_uncaught
    threading.excepthook = _log_uncaught_in_thread
    return handler


def repeats_held() -> int:
    """How many lines were held back since the log was configured."""
    return sum(handler.held for handler in _ours(logging.getLogger()))


def _ours(root: logging.Logger) -> list[LogHandler]:
    return [handler for handler in root.handlers if isinstance(handler, LogHandler)]


class LogHandler(logging.StreamHandler):  # type: ignore[type-arg]  # takes its type only from Python 3.11 on
    """Writes records, but of warnings and errors that repeat only one in 5 minutes, with the count of those between.

    Two records are the same where logger, level, text and names in it are, whatever the numbers.

    Args:
        stream: where lines go.
        monotonic_s: the clock.
    """

    def __init__(self, stream: TextIO, *, monotonic_s: Callable[[], float] = time.monotonic) -> None:
        super().__init__(stream)
        self.held = 0
        self._monotonic_s = monotonic_s
        self._seen: OrderedDict[tuple[object, ...], _Repeated] = OrderedDict()  # oldest first

    def emit(self, record: logging.LogRecord) -> None:
        """Write the record, unless it repeats one of the past 5 minutes; called with the handler's lock held."""
        now_s = self._monotonic_s()
        key = _key(record)
        before = self._seen.get(key)
        if record.levelno >= logging.WARNING and before is not None and now_s - before.since_s < HOLD_S:
            before.count += 1
            before.latest = record
            self.held += 1
            return
        for old, repeated in list(self._seen.items()):
            if old == key or now_s - repeated.since_s >= HOLD_S or len(self._seen) >= _MAX_REMEMBERED:
                del self._seen[old]
                self._tell(repeated)
        if record.levelno >= logging.WARNING:
            self._seen[key] = _Repeated(since_s=now_s)
        super().emit(record)

    def close(self) -> None:
        """Tell what was held back, and end."""
        self.acquire()
        try:
            for repeated in self._seen.values():
                self._tell(repeated)
            self._seen.clear()
        finally:
            self.release()
        super().close()

    def _tell(self, repeated: _Repeated) -> None:
        """The latest of those held back stands for all."""
        if repeated.latest is not None:
            repeated.latest.repeated = repeated.count
            super().emit(repeated.latest)

    def format(self, record: logging.LogRecord) -> str:
        """As a line, with what was held back."""
        line = super().format(record)
        repeated = getattr(record, "repeated", 0)
        if repeated and not isinstance(self.formatter, JsonFormatter):
            line += f" (the latest of {repeated} more in {HOLD_S / 60:.0f} minutes)"
        return line


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time_utc, level, logger, thread, message; traceback and repeated where there are.

    priority_prefix: begin with syslog's priority in angle brackets, which journald takes off again.
    """

    def __init__(self, *, priority_prefix: bool) -> None:
        super().__init__()
        self._priority_prefix = priority_prefix

    def format(self, record: logging.LogRecord) -> str:
        """The line."""
        entry: dict[str, object] = {
            "time_utc": iso_utc(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            "thread": record.threadName,
            "message": record.getMessage(),
        }
        if record.exc_info:
            entry["traceback"] = self.formatException(record.exc_info)
        if repeated := getattr(record, "repeated", 0):
            entry["repeated"] = repeated
        line = json.dumps(entry, ensure_ascii=False)
        return f"<{_PRIORITIES.get(record.levelno, 5)}>{line}" if self._priority_prefix else line


@dataclass(slots=True, kw_only=True)
class _Repeated:
    """What was held back since a record was written."""

    since_s: float
    count: int = 0
    latest: logging.LogRecord | None = None


def _key(record: logging.LogRecord) -> tuple[object, ...]:
    """What two records have in common that say the same."""
    arguments = record.args if isinstance(record.args, tuple) else ()
    names = [_NUMBER.sub("#", str(part)) if isinstance(part, Exception) else part for part in arguments]
    kind = record.exc_info[0] if record.exc_info else None
    return record.name, record.levelno, str(record.msg), kind, *(str(part) for part in names if not _is_number(part))


def _is_number(part: object) -> bool:
    return isinstance(part, int | float)


def _is_journal(stream: TextIO) -> bool:
    """Whether systemd connected this very stream to its journal. Source: man 5 systemd.exec, $JOURNAL_STREAM."""
    try:
        status = os.fstat(stream.fileno())
    except (OSError, ValueError):  # a stream without a file
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"


def _log_uncaught(kind: type[BaseException], error: BaseException, traceback: types.TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        return
    logging.getLogger("edge_asd").critical("this is a bug, please report it", exc_info=(kind, error, traceback))


def _log_uncaught_in_thread(arguments: threading.ExceptHookArgs) -> None:
    if arguments.exc_value is not None:
        _log_uncaught(arguments.exc_type, arguments.exc_value, arguments.exc_traceback)
