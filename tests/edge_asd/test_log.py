"""What is logged, and what is held back."""

import io
import json
import logging
import os
import subprocess
import sys

import pytest

from edge_asd.log import HOLD_S, JsonFormatter, LogHandler, configure_log, repeats_held


class Log:
    """A logger of its own that writes JSON lines to memory, with a clock that is set by hand."""

    def __init__(self):
        self.now_s = 1_000.0
        self._stream = io.StringIO()
        self.handler = LogHandler(self._stream, monotonic_s=lambda: self.now_s)
        self.handler.setFormatter(JsonFormatter(priority_prefix=False))
        self.logger = logging.Logger("edge_asd.test")  # noqa: LOG001  # shared with no other test
        self.logger.addHandler(self.handler)

    def lines(self):
        return [json.loads(line) for line in self._stream.getvalue().splitlines()]

    def messages(self):
        return [(line["message"], line.get("repeated", 0)) for line in self.lines()]


@pytest.fixture
def log():
    return Log()


def test_a_record_is_one_json_object(log):
    """Time, level, logger, thread and message are fields; a message of several lines stays one line."""
    log.logger.warning("%s: no sound:\nunplugged", "motor-1")
    (line,) = log.lines()
    assert line["message"] == "motor-1: no sound:\nunplugged"
    assert (line["level"], line["logger"], line["thread"]) == ("warning", "edge_asd.test", "MainThread")
    assert line["time_utc"].endswith("Z")


def test_an_exception_comes_with_its_traceback(log):
    """Where it was raised is in the same object."""
    try:
        1 / 0  # noqa: B018  # it is to fail
    except ZeroDivisionError:
        log.logger.exception("it failed")
    assert "ZeroDivisionError: division by zero" in log.lines()[0]["traceback"]


def test_repeats_of_one_error_are_held_and_counted(log):
    """Of an error that comes each second, one line in 5 minutes is written, and then how many there were."""
    for _ in range(700):
        log.logger.error("disk is full (%s)", OSError(28, "No space left"))
        log.now_s += 1.0
    text = "disk is full ([Errno 28] No space left)"
    assert log.messages() == [(text, 0), (text, 299), (text, 0), (text, 299), (text, 0)]
    assert log.handler.held == 697
    log.handler.close()
    assert log.messages()[-1] == (text, 99)


def test_numbers_in_an_error_do_not_make_it_another(log):
    """An error whose figures differ each time is the same error."""
    for percent in range(20):
        log.logger.warning("disk %s is %d %% full: %s", "sda", percent, OSError(f"{percent} bytes left"))
    assert len(log.lines()) == 1


def test_the_same_error_of_another_machine_is_another(log):
    """What befalls one machine hides nothing of the next."""
    for machine in ("motor-1", "motor-2", "motor-1"):
        log.logger.warning("%s: no sound", machine)
    assert [message for message, _ in log.messages()] == ["motor-1: no sound", "motor-2: no sound"]


def test_information_is_never_held(log):
    """Only warnings and errors repeat in a way that fills a disk."""
    for _ in range(5):
        log.logger.info("connected")
    assert len(log.lines()) == 5


def test_what_was_held_is_told_although_the_error_has_ended(log):
    """The first record after 5 minutes brings the count of what was held, whatever it is."""
    for _ in range(3):
        log.logger.error("broken")
    log.now_s += HOLD_S
    log.logger.info("well again")
    assert log.messages() == [("broken", 0), ("broken", 2), ("well again", 0)]


def test_memory_of_errors_is_bounded(log):
    """A thousand kinds of error are all written, and no more than 256 are remembered."""
    for number in range(1_000):
        log.logger.error("kind %s", f"k{number}")
    assert len(log.lines()) == 1_000
    assert len(log.handler._seen) <= 256


@pytest.fixture
def root():
    """The root logger, as it was at the end."""
    root = logging.getLogger()
    before, level = root.handlers[:], root.level
    yield root
    root.handlers[:] = before
    root.setLevel(level)


@pytest.mark.usefixtures("root")
def test_a_log_that_is_configured_anew_forgets_no_count(monkeypatch):
    """A reload may change level and format; what was held back stays held and counted."""
    monkeypatch.setattr("sys.excepthook", None)
    monkeypatch.setattr("threading.excepthook", None)
    stream = io.StringIO()
    configure_log(level="info", log_format="timed", stream=stream)
    for _ in range(3):
        logging.getLogger("edge_asd.x").error("broken")
    configure_log(level="error", log_format="json", stream=stream)
    logging.captureWarnings(False)
    logging.getLogger("edge_asd.x").error("broken")
    logging.getLogger("edge_asd.x").warning("not told any more")
    assert repeats_held() == 3
    assert len(stream.getvalue().splitlines()) == 1


PROGRAM = """
import logging, threading
from edge_asd.log import configure_log
configure_log(level="info", log_format="{log_format}")
logging.getLogger("edge_asd.x").error("broken")
thread = threading.Thread(target=lambda: 1 / 0)
thread.start()
thread.join()
1 / 0
"""


def run_program(log_format, **environment):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM.format(log_format=log_format)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    return done.stderr.splitlines()


def test_for_people_lines_are_timed():
    """Outside of systemd, `auto` is for people, uncaught exceptions too."""
    lines = run_program("auto", JOURNAL_STREAM="8:1")
    assert lines[0].endswith("ERROR edge_asd.x: broken")
    assert sum("CRITICAL edge_asd: this is a bug" in line for line in lines) == 2


def test_for_the_journal_lines_are_json_with_their_priority(tmp_path):
    """Where stderr is the journal, each line is JSON behind the priority that journald reads, exceptions too."""
    journal = tmp_path / "journal"
    with journal.open("w") as stderr:
        status = os.fstat(stderr.fileno())
        environment = {**os.environ, "JOURNAL_STREAM": f"{status.st_dev}:{status.st_ino}"}
        program = PROGRAM.format(log_format="auto")
        subprocess.run([sys.executable, "-c", program], env=environment, stderr=stderr, check=False)
    lines = journal.read_text().splitlines()
    assert [line[:3] for line in lines] == ["<3>", "<2>", "<2>"]
    broken, *uncaught = (json.loads(line[3:]) for line in lines)
    assert broken["message"] == "broken"
    assert all("ZeroDivisionError" in entry["traceback"] for entry in uncaught)
