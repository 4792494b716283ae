"""Evidence of alarms: the sound around them, on a disk that is slow, full, killed or foreign."""

import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from pathlib import Path

import numpy as np
import png
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_asd.evidence import Budget, EvidenceFolder, EvidenceWriter, Recorder
from edge_asd.evidence.kept import describe, files_of, parse_kept
from edge_asd.types import AlarmEvent, Block

RATE_HZ = 1_000
MODEL = {"name": "bldc", "version": "1.0.0", "sha256": "0" * 64}
ROOMY = Budget(max_bytes=10**9, max_age_s=1e9, min_free_bytes=0)


def log_mel(samples):
    """A picture of the right shape; the real front end is another module's."""
    return np.tile(np.abs(samples[::100]), (8, 1)).astype(np.float32)


def event(number=1, **changes):
    fields = {
        "kind": "new",
        "alarm_id": str(uuid.UUID(int=number)),
        "began_utc_s": 1_800_000_000.0 + number,
        "duration_s": 5.0,
        "score": 2.0,
        "peak_score": 2.5,
        "threshold": 1.0,
    }
    return AlarmEvent(**(fields | changes))


def ramp(begin, end):
    """Samples that say where they are."""
    return (np.arange(begin, end) / 1e6).astype(np.float32)


def block(begin, end, lost_samples=0):
    return Block(
        samples=ramp(begin, end),
        end_monotonic_s=end / RATE_HZ,
        end_utc_s=1e9 + end / RATE_HZ,
        lost_samples=lost_samples,
    )


def take_of(number=1, length_s=3.0):
    """A whole take of an alarm."""
    recorder = Recorder("motor-1", sample_rate_hz=RATE_HZ, before_s=length_s - 1.0, after_s=1.0)
    n_samples = round(length_s * RATE_HZ)
    recorder.hear(block(0, n_samples - RATE_HZ))
    recorder.note(0.5, length_s - 2.0)
    recorder.note(2.0, length_s - 1.0)
    recorder.begin(event(number), length_s - 1.0)
    (take,) = recorder.hear(block(n_samples - RATE_HZ, n_samples))
    return take


def put(folder, take, budget=ROOMY, utc_s=None):
    kept = describe(take, model=MODEL)
    return folder.put(kept.id, files_of(take, kept, log_mel), budget, utc_s=utc_s)


def make_writer(folder, budget=ROOMY, **changes):
    return EvidenceWriter(folder, budget, **({"model": MODEL, "log_mel": log_mel, "utc_now": lambda: None} | changes))


@given(
    sizes=st.lists(st.integers(1, 700), min_size=1, max_size=40),
    raise_at=st.integers(1, 12_000),
    late=st.integers(0, 2_000),
    before_s=st.sampled_from([1.0, 3.0]),
    after_s=st.sampled_from([0.0, 2.0]),
)
@settings(max_examples=60)
def test_a_take_is_the_sound_around_the_alarm_whatever_the_blocks(sizes, raise_at, late, before_s, after_s):
    """Sample by sample: so much before and after the moment, as far as it was heard, in blocks of any sizes."""
    recorder = Recorder("motor-1", sample_rate_hz=RATE_HZ, before_s=before_s, after_s=after_s)
    position, takes, raised = 0, [], None
    for size in sizes * 8:
        takes += recorder.hear(block(position, position + size))
        position += size
        if raised is None and position >= raise_at:
            raised = max(1, position - late)
            takes += recorder.begin(event(), raised / RATE_HZ)
    if raised is None:
        return
    takes += recorder.end()
    first, last = takes[0], takes[-1]
    assert len(takes) == 2
    assert not first.whole
    assert last.whole == (position >= raised + round(after_s * RATE_HZ))
    begin, end = max(0, raised - round(before_s * RATE_HZ)), min(position, raised + round(after_s * RATE_HZ))
    assert np.array_equal(last.samples, ramp(begin, end))
    assert last.begin_utc_s == pytest.approx(1e9 + begin / RATE_HZ)
    assert last.alarm_at_s == pytest.approx((raised - begin) / RATE_HZ)


def test_what_was_lost_is_silence_with_its_place():
    """A gap before the alarm and one after it are zeros of their length, and the times of all else stay true."""
    recorder = Recorder("motor-1", sample_rate_hz=RATE_HZ, before_s=4.0, after_s=3.0)
    recorder.hear(block(0, 2_000))
    recorder.hear(block(2_500, 4_000, lost_samples=500))
    recorder.note(1.5, 3.0)
    recorder.begin(event(), 4.0)
    (take,) = recorder.hear(block(5_000, 9_000, lost_samples=1_000))
    expected = ramp(0, 7_000)
    expected[2_000:2_500] = expected[4_000:5_000] = 0.0
    assert np.array_equal(take.samples, expected)
    assert take.gaps == ((2.0, 0.5), (4.0, 1.0))
    assert take.scores == ((3.0, 1.5),)
    assert take.begin_utc_s == 1e9


def test_alarms_close_together_have_evidence_each():
    """Two within the same sound are two takes; of more than four at once the oldest is finished as it is."""
    recorder = Recorder("motor-1", sample_rate_hz=RATE_HZ, before_s=1.0, after_s=1.0)
    recorder.hear(block(0, 2_000))
    so_far = [take for number in range(6) for take in recorder.begin(event(number), 2.0)]
    assert [take.event.alarm_id for take in so_far].count(event(0).alarm_id) == 2
    whole = recorder.hear(block(2_000, 3_000))
    assert [take.event.alarm_id for take in whole] == [event(number).alarm_id for number in range(2, 6)]
    assert all(take.whole for take in whole)
    assert recorder.end() == []


def test_memory_is_one_ring():
    """Sound of any length, and gaps without end, take no more memory than the ring."""
    recorder = Recorder("motor-1", sample_rate_hz=RATE_HZ, before_s=2.0, after_s=1.0)
    for second in range(0, 5_000, 2):
        recorder.hear(block(second * RATE_HZ, (second + 1) * RATE_HZ, lost_samples=RATE_HZ))
    assert len(recorder._ring) == 14 * RATE_HZ
    assert len(recorder._gaps) <= 8
    recorder.hear(block(0, 10_000_000))
    assert len(recorder._ring) == 14 * RATE_HZ


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


_WRITE_FOR_EVER = """
import sys
sys.path[:0] = {path!r}
import test_evidence as t
from pathlib import Path
writer = t.make_writer(Path(sys.argv[1]), t.Budget(max_bytes=400_000, max_age_s=1e9, min_free_bytes=0))
writer.start()
takes = [t.take_of(number, length_s=20.0) for number in range(1, 30)]
print("ready", flush=True)
while True:
    for take in takes:
        writer._takes.put(take)
"""


def test_kills_leave_whole_evidence_or_none(tmp_path):
    """A process that writes without a pause is killed 4 times: whatever has a description is whole and readable."""
    folder = EvidenceFolder(tmp_path / "evidence")
    program = _WRITE_FOR_EVER.format(path=[str(Path(__file__).parent), str(Path.cwd())])
    random = np.random.default_rng(4)
    for _ in range(4):
        process = subprocess.Popen([sys.executable, "-c", program, str(folder.path)], stdout=subprocess.PIPE)
        process.stdout.readline()
        time.sleep(float(random.uniform(0.05, 0.3)))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        folder.clean()
        names = [path.name for path in folder.path.iterdir()]
        for kept in folder.kept():
            samples, _ = soundfile.read(folder.path / f"{kept.id}.flac")
            assert len(samples) == round(kept.length_s * RATE_HZ)
            png.Reader(bytes=(folder.path / f"{kept.id}.png").read_bytes()).read()
        assert len(names) == 3 * len(folder.kept())
    assert folder.kept()


_FILL_THE_DISK = """
import json, os, sys
sys.path[:0] = {path!r}
import test_evidence as t
from pathlib import Path
disk = Path(sys.argv[1])
folder = t.EvidenceFolder(disk / "evidence")
folder.clean()
budget = t.Budget(max_bytes=10**9, max_age_s=1e9, min_free_bytes=400_000)

def state():
    free = os.statvfs(disk)
    return free.f_bavail * free.f_frsize, len(folder.kept()), len(list(folder.path.iterdir()))

for number in range(1, 60):
    t.put(folder, t.take_of(number, length_s=20.0), budget)
alone = state()
(disk / "spool").write_bytes(b"." * 300_000)
t.put(folder, t.take_of(60, length_s=20.0), budget)
print(json.dumps([alone, state()]))
"""


def test_on_a_real_disk_the_reserve_stays_free(tmp_path):
    """On a file system of 1 MB, evidence without end leaves 0.4 MB to others, and as much again when they take it."""
    if subprocess.run(["unshare", "-rm", "true"], check=False).returncode != 0:
        pytest.skip("a file system of its own cannot be mounted here (unshare -rm)")
    program = _FILL_THE_DISK.format(path=[str(Path(__file__).parent), str(Path.cwd())])
    script = f'mount -t tmpfs -o size=1m tmpfs "{tmp_path}" && exec "{sys.executable}" -c "$1" "{tmp_path}"'
    done = subprocess.run(["unshare", "-rm", "sh", "-c", script, "sh", program], check=True, capture_output=True)
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
