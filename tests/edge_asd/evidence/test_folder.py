"""Evidence on disk: whole files within a budget, on a disk that is full, killed or foreign."""

import io
import json
import os
import subprocess
import sys
import time
import tracemalloc

import numpy as np
import png
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_asd.evidence import Budget, EvidenceFolder
from edge_asd.evidence.kept import describe, files_of, parse_kept
from tests.edge_asd.evidence.kit import MODEL, RATE_HZ, event, log_mel, put, ramp, take_of


def test_files_are_what_they_are_called(tmp_path):
    """A FLAC with every bit of the sound, a PNG that a reader takes, and JSON with scores and threshold."""
    folder = EvidenceFolder(tmp_path)
    folder.clean()
    put(folder, take_of())
    evidence_id = event().alarm_id
    samples, rate_hz = soundfile.read(tmp_path / f"{evidence_id}.flac", dtype="float32")
    assert rate_hz == RATE_HZ
    assert np.allclose(samples, ramp(0, 3_000), atol=2**-23)
    width, height, _, info = png.Reader(bytes=(tmp_path / f"{evidence_id}.png").read_bytes()).read()
    assert (width, height) == (30, 120 + 8 * 4)
    assert "palette" in info
    described = json.loads((tmp_path / f"{evidence_id}.json").read_bytes())
    assert (described["id"], described["machine"], described["whole"]) == (evidence_id, "motor-1", True)
    assert described["scores"] == [{"at_s": 1.0, "score": 0.5}, {"at_s": 2.0, "score": 2.0}]
    assert (described["threshold"], described["peak_score"], described["alarm_at_s"]) == (1.0, 2.5, 2.0)
    assert folder.kept() == [describe(take_of(), model=MODEL)]


def test_sound_of_16_bits_takes_no_more_than_16_bits():
    """Evidence is kept with 24 bits, which costs nothing where a card has 16."""
    noise = np.random.default_rng(1).integers(-3_000, 3_000, 16_000) / 2**15
    sizes = []
    for subtype in ("PCM_16", "PCM_24"):
        written = io.BytesIO()
        soundfile.write(written, noise, 16_000, format="FLAC", subtype=subtype)
        sizes.append(len(written.getvalue()))
    assert sizes[1] < 1.01 * sizes[0]


def test_the_oldest_makes_room_in_bytes(tmp_path):
    """The folder never takes more than its budget, and what was written last is always there."""
    folder = EvidenceFolder(tmp_path)
    folder.clean()
    put(folder, take_of(1))
    budget = Budget(max_bytes=round(3.5 * folder.n_bytes), max_age_s=1e9, min_free_bytes=0)
    for number in range(2, 10):
        put(folder, take_of(number), budget)
        time.sleep(0.002)  # for file systems whose times are coarse
        assert folder.n_bytes <= budget.max_bytes
    assert [kept.id for kept in folder.kept()] == [event(number).alarm_id for number in (7, 8, 9)]


def test_a_look_at_thousands_of_files_takes_little_memory(tmp_path):
    """It is taken with each alarm; what it takes at once, the daemon keeps."""
    n = 500
    for number in range(n):
        for suffix in (".flac", ".png", ".json"):
            (tmp_path / f"00000000-0000-4000-8000-{number:012}{suffix}").touch()
    tracemalloc.start()
    try:
        EvidenceFolder(tmp_path).make_room(Budget(max_bytes=10**9, max_age_s=1e9, min_free_bytes=0), utc_s=2e9)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < 600 * n


def test_old_evidence_goes_by_a_clock_that_can_be_trusted(tmp_path):
    """After its age it is removed; not while the clock is unsure, and not what a wrong clock wrote."""
    folder = EvidenceFolder(tmp_path)
    folder.clean()
    now_s = 1_900_000_000.0
    for number, written_s in ((1, now_s - 100 * 86_400), (2, now_s - 80 * 86_400), (3, 1_000.0)):
        put(folder, take_of(number))
        for path in tmp_path.glob(f"{event(number).alarm_id}.*"):
            os.utime(path, (written_s, written_s))
    budget = Budget(max_bytes=10**9, max_age_s=90 * 86_400.0, min_free_bytes=0)
    assert folder.make_room(budget, utc_s=None) == []
    assert folder.make_room(budget, utc_s=now_s) == [event(1).alarm_id]
    assert {kept.id for kept in folder.kept()} == {event(2).alarm_id, event(3).alarm_id}


def test_free_space_is_left_to_scoring_and_spool(tmp_path):
    """Where the disk has less free than the reserve, evidence goes, and none is written."""
    folder = EvidenceFolder(tmp_path)
    folder.clean()
    put(folder, take_of(1))
    full = Budget(max_bytes=10**9, max_age_s=1e9, min_free_bytes=2**62)
    with pytest.raises(OSError, match="kept for all else"):
        put(folder, take_of(2), full)
    assert list(tmp_path.iterdir()) == []


def test_more_sound_replaces_the_same_alarms(tmp_path):
    """What is written when an alarm is raised gives way to the whole; a disk that refuses that leaves the first."""
    folder = EvidenceFolder(tmp_path)
    folder.clean()
    put(folder, take_of(1, length_s=2.0))
    with pytest.raises(OSError, match="the budget is 10 bytes"):
        put(folder, take_of(1), Budget(max_bytes=10, max_age_s=1e9, min_free_bytes=0))
    assert [kept.length_s for kept in folder.kept()] == [2.0]
    put(folder, take_of(1))
    assert [kept.length_s for kept in folder.kept()] == [3.0]
    assert len(list(tmp_path.iterdir())) == 3


def test_what_a_kill_leaves_half_written_is_removed_at_the_start(tmp_path):
    """Temporary files, and files without their description, go; evidence and foreign files stay."""
    folder = EvidenceFolder(tmp_path)
    folder.clean()
    put(folder, take_of(1))
    (tmp_path / ".abc.flac.x1y2").write_bytes(b"half")
    (tmp_path / f"{event(2).alarm_id}.flac").write_bytes(b"without description")
    (tmp_path / f"{event(2).alarm_id}.png").write_bytes(b"without description")
    (tmp_path / "notes.txt").write_text("an engineer's")
    folder.clean()
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {f"{event(1).alarm_id}{suffix}" for suffix in (".flac", ".png", ".json")} | {"notes.txt"}


_FILL_THE_DISK = """
import json, os, sys
from pathlib import Path
from edge_asd.evidence import Budget, EvidenceFolder
from tests.edge_asd.evidence.kit import put, take_of
disk = Path(sys.argv[1])
folder = EvidenceFolder(disk / "evidence")
folder.clean()
budget = Budget(max_bytes=10**9, max_age_s=1e9, min_free_bytes=400_000)

def state():
    free = os.statvfs(disk)
    return free.f_bavail * free.f_frsize, len(folder.kept()), len(list(folder.path.iterdir()))

for number in range(1, 60):
    put(folder, take_of(number, length_s=20.0), budget)
alone = state()
(disk / "spool").write_bytes(b"." * 300_000)
put(folder, take_of(60, length_s=20.0), budget)
print(json.dumps([alone, state()]))
"""


def test_on_a_real_disk_the_reserve_stays_free(tmp_path):
    """On a file system of 1 MB, evidence without end leaves 0.4 MB to others, and as much again when they take it."""
    if subprocess.run(["unshare", "-rm", "true"], check=False).returncode != 0:
        pytest.skip("a file system of its own cannot be mounted here (unshare -rm)")
    script = f'mount -t tmpfs -o size=1m tmpfs "{tmp_path}" && exec "{sys.executable}" -c "$1" "{tmp_path}"'
    done = subprocess.run(["unshare", "-rm", "sh", "-c", script, "sh", _FILL_THE_DISK], check=True, capture_output=True)
    (free, kept, files), (free_later, kept_later, files_later) = json.loads(done.stdout)
    assert min(free, free_later) >= 400_000
    assert 0 < kept_later < kept < 59
    assert (files, files_later) == (3 * kept, 3 * kept_later)


@given(data=st.binary(max_size=300), cut=st.integers(0, 600), at_byte=st.integers(0, 10_000), bit=st.integers(0, 7))
@settings(max_examples=100)
def test_a_damaged_description_is_an_error_that_says_so(data, cut, at_byte, bit):
    """Any bytes are a description or a ValueError with what is wrong."""
    take = take_of()
    whole = bytearray(files_of(take, describe(take, model=MODEL), log_mel)[".json"])
    whole[at_byte % len(whole)] ^= 1 << bit
    for damaged in (data, bytes(whole), bytes(whole[:cut])):
        try:
            kept = parse_kept(damaged)
        except ValueError as caught:
            error = str(caught)
        else:
            error = None
        assert error or kept.schema_version == 1


def test_damaged_evidence_hides_no_other(tmp_path, caplog):
    """One description that cannot be read is told and left out."""
    folder = EvidenceFolder(tmp_path)
    folder.clean()
    put(folder, take_of(1))
    put(folder, take_of(2))
    (tmp_path / f"{event(1).alarm_id}.json").write_bytes(b"{")
    assert [kept.id for kept in folder.kept()] == [event(2).alarm_id]
    assert event(1).alarm_id in caplog.text
