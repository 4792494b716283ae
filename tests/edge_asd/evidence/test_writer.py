"""The thread that writes evidence: killed, slow, refused by the disk, or with a bug in it."""

import signal
import subprocess
import sys
import threading
import time

import numpy as np
import png
import soundfile

from edge_asd.evidence import EvidenceFolder
from tests.edge_asd.evidence.kit import RATE_HZ, event, log_mel, make_writer, take_of

_WRITE_FOR_EVER = """
import sys
from pathlib import Path
from edge_asd.evidence import Budget
from tests.edge_asd.evidence.kit import make_writer, take_of
writer = make_writer(Path(sys.argv[1]), Budget(max_bytes=400_000, max_age_s=1e9, min_free_bytes=0))
writer.start()
takes = [take_of(number, length_s=20.0) for number in range(1, 30)]
print("ready", flush=True)
while True:
    for take in takes:
        writer._takes.put(take)
"""


def test_kills_leave_whole_evidence_or_none(tmp_path):
    """A process that writes without a pause is killed 4 times: whatever has a description is whole and readable."""
    folder = EvidenceFolder(tmp_path / "evidence")
    random = np.random.default_rng(4)
    for _ in range(4):
        process = subprocess.Popen([sys.executable, "-c", _WRITE_FOR_EVER, str(folder.path)], stdout=subprocess.PIPE)
        process.stdout.readline()
        _wait_until(folder.kept)  # a slow machine needs longer for the first
        time.sleep(float(random.uniform(0.05, 0.3)))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        folder.clean()
        names = [path.name for path in folder.path.iterdir()]
        for kept in folder.kept():
            samples, _ = soundfile.read(folder.path / f"{kept.id}.flac")
            assert len(samples) == round(kept.length_s * RATE_HZ)
            png.Reader(bytes=(folder.path / f"{kept.id}.png").read_bytes()).read()
        assert folder.kept()
        assert len(names) == 3 * len(folder.kept())


def _wait_until(holds):
    deadline_s = time.monotonic() + 60.0
    while not holds():
        assert time.monotonic() < deadline_s, "nothing was written in a minute"
        time.sleep(0.01)


def test_the_writer_keeps_nobody_waiting(tmp_path, caplog):
    """While the disk hangs, takes wait up to a bound, then the newest are dropped, counted and told once."""
    hang = threading.Event()

    def slow(samples):
        assert hang.wait(30)
        return log_mel(samples)

    writer = make_writer(tmp_path / "evidence", log_mel=slow)
    writer.start()
    began_s = time.monotonic()
    for number in range(1, 21):
        writer.put(take_of(number))
    assert time.monotonic() - began_s < 5.0
    assert writer.dropped >= 20 - 1 - 8
    hang.set()
    writer.close()
    assert writer.written + writer.dropped == 20
    assert len(EvidenceFolder(tmp_path / "evidence").kept()) == writer.written
    assert caplog.text.count("is not kept") == 1


def test_a_folder_that_cannot_be_written_stops_nothing(tmp_path, caplog):
    """Evidence that the disk refuses is counted and told once; once it can be written again, it is."""
    (tmp_path / "evidence").write_text("a file where the folder should be")
    writer = make_writer(tmp_path / "evidence")
    writer.start()
    for number in (1, 2, 3):
        writer.put(take_of(number))
    give_up_s = time.monotonic() + 30
    while writer.dropped < 3 and time.monotonic() < give_up_s:
        time.sleep(0.01)
    assert (writer.written, writer.dropped) == (0, 3)
    assert caplog.text.count("alarms are told all the same") == 1
    (tmp_path / "evidence").unlink()
    (tmp_path / "evidence").mkdir()
    writer.put(take_of(4))
    writer.close()
    assert [kept.id for kept in EvidenceFolder(tmp_path / "evidence").kept()] == [event(4).alarm_id]


def test_a_bug_in_one_take_does_not_end_the_writer(tmp_path, caplog):
    """What cannot be drawn is logged with its traceback and counted; the next is written."""

    def fails_once(samples):
        if not caplog.records:
            raise ZeroDivisionError
        return log_mel(samples)

    writer = make_writer(tmp_path, log_mel=fails_once)
    writer.start()
    writer.put(take_of(1))
    writer.put(take_of(2))
    writer.close()
    assert (writer.written, writer.dropped) == (1, 1)
    assert "ZeroDivisionError" in caplog.text
