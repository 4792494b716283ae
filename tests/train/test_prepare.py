"""A prepared folder holds the same sound, goes on after any cut, tells what it left out, and notices changed data."""

import csv
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_asd.capture.clips import read_clip
from edge_asd.errors import EdgeAsdError, TemporaryError, UsageError
from train import fit, prepare
from train.data import left_out, list_folder, load_recordings, open_waves
from train.data.decode import Decoded
from train.data.folder import stat_of
from train.data.store import open_store

N_SAMPLES = 160_000


def noise(seed, n_samples=N_SAMPLES):
    return (0.1 * np.random.default_rng(seed).standard_normal(n_samples)).astype(np.float32)


@pytest.fixture
def clips(tmp_path):
    """A data folder in the layout of DCASE 2020: two machines of four clips each."""
    folder = tmp_path / "clips"
    for machine in (0, 1):
        for number in range(4):
            path = folder / "fan" / "train" / f"normal_id_0{machine}_{number:08}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            soundfile.write(path, noise(10 * machine + number), 16_000)
    return folder


def run(source, out, *more):
    return prepare.main([str(source), "--out", str(out), *more])


def findings(out):
    with (out / "report.csv").open(newline="") as file:
        return {row["file"]: (row["finding"], row["left_out"]) for row in csv.DictReader(file)}


def assert_same_sound(source, out):
    files = [recording.file for recording in list_folder(out).recordings]
    assert files
    for file, wave in zip(files, open_waves(out, files), strict=True):
        assert np.array_equal(wave, read_clip(source / file))


def test_prepared_clips_are_bit_for_bit_those_of_16_bit_files(clips, tmp_path, capsys):
    """And the same recordings, so that a prepared folder serves wherever its source does."""
    out = tmp_path / "prepared"
    assert run(clips, out) == 0
    assert capsys.readouterr().out == f"{out}\n"
    assert load_recordings(out) == load_recordings(clips)
    assert_same_sound(clips, out)
    assert findings(out) == {}


def test_unusable_clips_are_left_out_and_named(clips, tmp_path):
    """Each with what is wrong with it; the others are ready."""
    train = clips / "fan" / "train"
    (train / "normal_id_00_00000010.wav").write_text("no sound")
    soundfile.write(train / "normal_id_00_00000011.wav", np.full(N_SAMPLES, np.nan, np.float32), 16_000, "FLOAT")
    soundfile.write(train / "normal_id_00_00000012.flac", noise(12), 16_000)
    os.truncate(train / "normal_id_00_00000012.flac", 50_000)
    soundfile.write(train / "normal_id_00_00000013.wav", noise(13, 15_999), 16_000)
    soundfile.write(train / "normal_id_00_00000014.wav", np.full(N_SAMPLES, 0.2), 16_000)
    soundfile.write(train / "normal_id_00_00000015.wav", np.stack([noise(1), noise(2)], axis=1), 16_000)
    soundfile.write(train / "normal_id_00_00000016.wav", noise(16, 80_000), 8_000)
    same, _ = soundfile.read(train / "normal_id_00_00000002.wav", dtype="int16")
    soundfile.write(train / "normal_id_00_00000017.flac", same, 16_000)
    soundfile.write(train / "normal_id_00_00000018.wav", 20 * noise(18), 16_000, "FLOAT")
    soundfile.write(train / "cow.wav", noise(19), 16_000)
    out = tmp_path / "prepared"
    assert run(clips, out) == 0
    name = "fan/train/normal_id_00_000000"
    assert findings(out) == {
        f"{name}10.wav": ("broken", "yes"),
        f"{name}11.wav": ("broken", "yes"),
        f"{name}12.flac": ("broken", "yes"),
        f"{name}13.wav": ("short", "yes"),
        f"{name}14.wav": ("silent", "yes"),
        f"{name}15.wav": ("broken", "yes"),
        f"{name}16.wav": ("broken", "yes"),
        f"{name}17.flac": ("duplicate", "yes"),
        f"{name}18.wav": ("clipped", "no"),
        "fan/train/cow.wav": ("unknown name", "yes"),
    }
    assert len(list_folder(out).recordings) == 9
    with pytest.raises(UsageError, match=r"1 clips are not in it: .*report\.csv there says which"):
        open_waves(out, [f"{name}13.wav"])


def test_clips_shorter_than_a_window_are_kept(clips, tmp_path):
    """As those of 6 s of DCASE's later years; a window of one holds it again and again, and the report says so."""
    file = "fan/train/normal_id_02_00000000.wav"
    soundfile.write(clips / file, noise(20, 96_000), 16_000)
    out = tmp_path / "prepared"
    assert run(clips, out) == 0
    assert findings(out) == {file: ("repeated", "no")}
    assert "6.00 s; repeated to the 10 s of a window" in (out / "report.csv").read_text()
    assert_same_sound(clips, out)
    (window,) = open_waves(out, [file]).cut(np.array([0]), np.array([0]), N_SAMPLES)
    assert np.array_equal(window, np.resize(read_clip(clips / file), N_SAMPLES))


def test_what_an_earlier_version_found_short_is_read_again(clips, tmp_path):
    """It left out all that a window is longer than, and its journal says no more than that."""
    file = "fan/train/normal_id_02_00000000.wav"
    soundfile.write(clips / file, noise(20, 96_000), 16_000)
    out = tmp_path / "prepared"
    with open_store(out, channel=None) as store:
        stat = stat_of(clips / file)
        store.add(Decoded(file=file, stat=stat, samples=bytearray(), fault="short", detail="96000 samples at 16 kHz"))
    journal = out / "journal.jsonl"
    _, *lines = journal.read_text().splitlines()
    journal.write_text("\n".join(['{"schema": 2, "channel": null}', *lines, ""]))
    prepare.prepare(clips, out)
    assert_same_sound(clips, out)
    assert file in {recording.file for recording in list_folder(out).recordings}


def test_clip_that_is_too_short_is_read_once(clips, tmp_path):
    """A later run knows it."""
    soundfile.write(clips / "fan/train/normal_id_02_00000000.wav", noise(20, 100), 16_000)
    prepare.prepare(clips, tmp_path / "prepared")
    assert prepare.prepare(clips, tmp_path / "prepared").n_decoded == 0


def test_class_that_lost_every_clip_is_named(clips, tmp_path, capsys):
    """Whoever trains on the folder afterwards reads of it; a class that lost some is none of them."""
    train = clips / "fan" / "train"
    for name in ("normal_id_00_00000000.wav", "normal_id_02_00000000.wav", "normal_id_02_00000001.wav"):
        (train / name).write_text("no sound")
    assert run(clips, tmp_path / "prepared") == 0
    assert "no clip left of fan/id_02\n" in capsys.readouterr().err
    assert left_out(list_folder(tmp_path / "prepared"), ["fan/id_00", "fan/id_01"]) == (
        "no clip left by train.prepare (its report.csv says why): fan/id_02",
    )


def test_same_sound_with_two_meanings_is_left_out_altogether(clips, tmp_path):
    """One of them is wrong, and nothing says which; of a clip in training and test, the test keeps it."""
    copies = {"test/anomaly_id_00_00000000.wav": 0, "test/normal_id_01_00000000.wav": 10}
    for name, seed in copies.items():
        path = clips / "fan" / name
        path.parent.mkdir(exist_ok=True)
        soundfile.write(path, noise(seed), 16_000)
    assert run(clips, tmp_path / "prepared") == 0
    assert findings(tmp_path / "prepared") == {
        "fan/train/normal_id_00_00000000.wav": ("contradiction", "yes"),
        "fan/test/anomaly_id_00_00000000.wav": ("contradiction", "yes"),
        "fan/train/normal_id_01_00000000.wav": ("duplicate", "yes"),
    }


def test_channel_is_chosen(tmp_path):
    """As MIMII's eight need it; another channel later needs another folder."""
    path = tmp_path / "mimii" / "fan" / "id_00" / "normal" / "00000000.wav"
    path.parent.mkdir(parents=True)
    soundfile.write(path, np.stack([noise(channel) for channel in range(8)], axis=1), 16_000)
    out = tmp_path / "prepared"
    assert run(tmp_path / "mimii", out, "--channel", "3") == 0
    assert np.array_equal(open_waves(out, ["fan/id_00/normal/00000000.wav"])[0], read_clip(path, channel=3))
    assert run(tmp_path / "mimii", out, "--channel", "4") == 2


def test_other_rates_are_resampled(tmp_path):
    """Mixed rates in one folder end at 16 kHz, within half a step of what the clip reader gives."""
    folder = tmp_path / "fan" / "train"
    folder.mkdir(parents=True)
    for number, rate_hz in enumerate((16_000, 44_100, 48_000)):
        soundfile.write(folder / f"normal_id_00_{number:08}.wav", noise(number, 10 * rate_hz), rate_hz)
    assert run(tmp_path / "fan", tmp_path / "prepared") == 0
    for recording in list_folder(tmp_path / "prepared").recordings:
        (wave,) = open_waves(tmp_path / "prepared", [recording.file])
        np.testing.assert_allclose(wave, read_clip(tmp_path / "fan" / recording.file), atol=0.5001 / 32_768)


def test_changed_data_is_noticed(clips, tmp_path):
    """Altered, new and gone clips; preparing again reads only those."""
    out = tmp_path / "prepared"
    prepare.prepare(clips, out)
    train = clips / "fan" / "train"
    soundfile.write(train / "normal_id_00_00000000.wav", noise(77), 16_000)
    soundfile.write(train / "normal_id_00_00000009.wav", noise(78), 16_000)
    (train / "normal_id_01_00000001.wav").unlink()
    with pytest.raises(UsageError) as caught:
        load_recordings(out)
    said = str(caught.value)
    assert "1 altered (fan/train/normal_id_00_00000000.wav)" in said
    assert "1 new (fan/train/normal_id_00_00000009.wav)" in said
    assert "1 gone (fan/train/normal_id_01_00000001.wav)" in said
    assert prepare.prepare(clips, out).n_decoded == 2
    assert_same_sound(clips, out)
    assert prepare.prepare(clips, out).n_decoded == 0


def labelled_by_table(folder, label="normal"):
    lines = [f"fan/train/normal_id_0{m}_{n:08}.wav,fan,id_0{m},normal,train," for m in (0, 1) for n in range(4)]
    lines[0] = lines[0].replace(",normal,train,", f",{label},test,")
    head = "file,machine_type,machine_id,label,split,group"
    (folder / "metadata.csv").write_text("\n".join([head, *lines]))


def test_changed_labels_are_noticed(clips, tmp_path):
    """Those of a table, though no clip changed; preparing again decodes nothing."""
    out = tmp_path / "prepared"
    labelled_by_table(clips)
    prepare.prepare(clips, out)
    labelled_by_table(clips, label="anomaly")
    with pytest.raises(UsageError, match=r"1 of another class, label, split or group \(fan/train/normal_id_00_0000"):
        load_recordings(out)
    assert prepare.prepare(clips, out).n_decoded == 0
    assert load_recordings(out) == load_recordings(clips)


def test_labels_that_come_later_are_noticed(clips, tmp_path):
    """The organisers' list of the evaluation clips."""
    (clips / "fan" / "test").mkdir()
    soundfile.write(clips / "fan" / "test" / "id_00_00000000.wav", noise(50), 16_000)
    prepare.prepare(clips, tmp_path / "prepared")
    (clips / "eval_data_list.csv").write_text("fan\nid_00_00000000.wav,x.wav,1\n")
    with pytest.raises(UsageError, match="1 of another class, label"):
        load_recordings(tmp_path / "prepared")


def test_changed_sound_is_noticed_whatever_its_time_says(clips, tmp_path):
    """Another content of the same size, with the time of change set back."""
    prepare.prepare(clips, tmp_path / "prepared")
    path = clips / "fan" / "train" / "normal_id_00_00000000.wav"
    before = path.stat()
    soundfile.write(path, noise(99), 16_000)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(UsageError, match="1 altered"):
        load_recordings(tmp_path / "prepared")


def as_earlier_version(out):
    head = json.loads((out / "prepared.json").read_text())
    with (out / "index.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    with (out / "index.csv").open("w", newline="") as file:
        names = [name for name in rows[0] if name not in ("digest", "ctime_ns")]
        writer = csv.DictWriter(file, names, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    (out / "prepared.json").write_text(json.dumps({**head, "schema": 1}))
    lines = (out / "journal.jsonl").read_text().splitlines()[1:]
    (out / "journal.jsonl").write_text("\n".join(['{"schema": 1, "channel": null}', *lines, ""]))


def test_folder_of_an_earlier_version_serves_without_its_source(clips, tmp_path):
    """With it, what changed cannot be told: it is prepared again."""
    out = tmp_path / "prepared"
    prepare.prepare(clips, out)
    expected = load_recordings(clips)
    as_earlier_version(out)
    with pytest.raises(UsageError, match=r"run python -m train\.prepare"):
        load_recordings(out)
    clips.rename(tmp_path / "elsewhere")
    assert load_recordings(out) == expected
    (tmp_path / "elsewhere").rename(clips)
    assert prepare.prepare(clips, out).n_decoded == 8
    assert_same_sound(clips, out)


def test_data_folder_is_not_prepared_into_itself(clips, capsys):
    """Nothing is written there."""
    assert run(clips, clips / "fan" / "..") == 2
    assert "--out is the data folder itself" in " ".join(capsys.readouterr().err.split())
    assert not (clips / "samples.i16").exists()


def test_folder_prepared_from_itself_is_refused(clips, tmp_path):
    """By an earlier version; it is not looked into for ever."""
    out = tmp_path / "prepared"
    prepare.prepare(clips, out)
    head = json.loads((out / "prepared.json").read_text())
    (out / "prepared.json").write_text(json.dumps({**head, "source": str(out)}))
    with pytest.raises(UsageError, match="which is a prepared folder itself"):
        load_recordings(out)


def test_dangling_link_is_left_out(clips, tmp_path):
    """And the prepared folder serves."""
    (clips / "fan" / "train" / "normal_id_00_00000077.wav").symlink_to(tmp_path / "absent.wav")
    assert run(clips, tmp_path / "prepared") == 0
    assert findings(tmp_path / "prepared") == {"fan/train/normal_id_00_00000077.wav": ("broken", "yes")}
    assert len(load_recordings(tmp_path / "prepared")) == 8


def test_name_that_is_not_utf_8_is_left_out(clips, tmp_path):
    """And told with its bytes."""
    copy = clips / os.fsdecode(b"caf\xe9") / "train" / "normal_id_00_00000000.wav"
    copy.parent.mkdir(parents=True)
    copy.write_bytes((clips / "fan" / "train" / "normal_id_00_00000000.wav").read_bytes())
    assert run(clips, tmp_path / "prepared") == 0
    assert findings(tmp_path / "prepared") == {"caf\\xe9/train/normal_id_00_00000000.wav": ("unknown name", "yes")}
    assert len(load_recordings(tmp_path / "prepared")) == 8


def test_folder_that_cannot_be_listed_is_told(clips, monkeypatch):
    """Its clips would be missed in silence."""
    scandir = os.scandir

    def refusing(path):
        if str(path).endswith("train"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    with pytest.raises(UsageError, match=r"fan/train: cannot be listed \(Permission denied\)"):
        list_folder(clips)


@pytest.mark.parametrize("name", ["index.csv", "report.csv", "prepared.json"])
def test_failure_to_write_any_file_is_told_and_leaves_the_one_before(clips, tmp_path, capsys, name):
    """Here the temporary file's place is taken by a folder; without it the next run goes on."""
    out = tmp_path / "prepared"
    (out / f".{name}.tmp").mkdir(parents=True)
    assert run(clips, out) == EdgeAsdError.exit_code
    assert "samples cannot be written: Is a directory; what was written stays" in " ".join(
        capsys.readouterr().err.split()
    )
    (out / f".{name}.tmp").rmdir()
    assert prepare.prepare(clips, out).n_decoded == 0
    assert_same_sound(clips, out)


def test_folder_that_moved_without_its_source_still_serves(clips, tmp_path):
    """As on a machine that only trains."""
    prepare.prepare(clips, tmp_path / "prepared")
    expected = load_recordings(clips)
    clips.rename(tmp_path / "elsewhere")
    assert load_recordings(tmp_path / "prepared") == expected


def test_nothing_usable_is_refused(tmp_path, capsys):
    """And the report says why; so is a prepared folder as the source."""
    folder = tmp_path / "fan" / "train"
    folder.mkdir(parents=True)
    (folder / "normal_id_00_00000000.wav").write_text("no sound")
    assert run(tmp_path / "fan", tmp_path / "prepared") == 2
    assert "none of its 1 clips can be used" in " ".join(capsys.readouterr().err.split())
    assert findings(tmp_path / "prepared")
    with pytest.raises(UsageError, match="preparing it was not finished"):
        load_recordings(tmp_path / "prepared")


def test_unwritable_folder_is_refused(clips, tmp_path, capsys):
    """Here a file stands in the way."""
    (tmp_path / "file").write_text("")
    assert run(clips, tmp_path / "file" / "prepared") == EdgeAsdError.exit_code
    assert "cannot be written: Not a directory; give another --out" in " ".join(capsys.readouterr().err.split())


def test_prepared_folder_is_not_prepared_again(clips, tmp_path):
    """Its samples would be copied for nothing."""
    prepare.prepare(clips, tmp_path / "prepared")
    with pytest.raises(UsageError, match="it is a prepared folder itself"):
        prepare.prepare(tmp_path / "prepared", tmp_path / "again")


def test_damaged_samples_are_refused(clips, tmp_path):
    """A file that lost its end is never read as if it were whole."""
    out = tmp_path / "prepared"
    prepare.prepare(clips, out)
    os.truncate(out / "samples.i16", 1000)
    with pytest.raises(UsageError, match="1000 bytes; expected"):
        load_recordings(out)


@pytest.mark.parametrize("renamed", [False, True])
def test_samples_that_differ_from_their_digest_are_read_again(clips, tmp_path, capsys, renamed):
    """A quarter of them zeroed: those clips alone, under another name too, and said; after that they are found."""
    out = tmp_path / "prepared"
    prepare.prepare(clips, out)
    with (out / "samples.i16").open("r+b") as samples:
        samples.seek(3 * 2 * N_SAMPLES)
        samples.write(bytes(2 * 2 * N_SAMPLES))
    if renamed:
        for path in sorted((clips / "fan" / "train").iterdir()):
            path.rename(path.with_name(path.name.replace("_0000", "_1000")))
    assert run(clips, out) == 0
    said = " ".join(capsys.readouterr().err.split())
    assert ("2 clips had been prepared, but their samples were damaged since: read again" in said) != renamed
    assert_same_sound(clips, out)
    assert (out / "samples.i16").stat().st_size == (8 + 2) * 2 * N_SAMPLES
    again = prepare.prepare(clips, out)
    assert (again.n_decoded, again.n_damaged) == (0, 0)


def test_two_writers_at_once_are_refused(clips, tmp_path):
    """The second one is told to wait."""
    with (
        open_store(tmp_path / "prepared", channel=None),
        pytest.raises(TemporaryError, match="is writing to it"),
    ):
        prepare.prepare(clips, tmp_path / "prepared")


@given(journal_share=st.floats(0.0, 1.0), samples_share=st.floats(0.0, 1.0))
@settings(max_examples=25, deadline=None)
def test_any_cut_of_the_files_is_mended(clips_once, journal_share, samples_share):
    """Whatever a power cut left of journal and samples, the next run ends with the same sound."""
    source, out = clips_once
    (out / "prepared.json").unlink(missing_ok=True)
    for name, share in (("journal.jsonl", journal_share), ("samples.i16", samples_share)):
        if (out / name).exists():
            os.truncate(out / name, int(share * (out / name).stat().st_size))
    prepare.prepare(source, out)
    assert_same_sound(source, out)


@pytest.fixture(scope="module")
def clips_once(tmp_path_factory):
    """A data folder of five clips and a folder to prepare it in."""
    source = tmp_path_factory.mktemp("source")
    (source / "fan" / "train").mkdir(parents=True)
    for number in range(5):
        soundfile.write(source / "fan" / "train" / f"normal_id_00_{number:08}.wav", noise(number), 16_000)
    return source, tmp_path_factory.mktemp("out") / "prepared"


def test_killed_run_goes_on(tmp_path):
    """SIGKILL in the middle of a real run: what was journaled is not decoded again."""
    folder = tmp_path / "clips" / "fan" / "train"
    folder.mkdir(parents=True)
    for number in range(200):
        soundfile.write(folder / f"normal_id_00_{number:08}.wav", noise(number), 16_000)
    out = tmp_path / "prepared"
    child = subprocess.Popen(
        [sys.executable, "-m", "train.prepare", tmp_path / "clips", "--out", out, "--threads", "1"],
        stderr=subprocess.DEVNULL,
    )
    give_up_s = time.monotonic() + 60
    while not (out / "journal.jsonl").exists() or (out / "journal.jsonl").stat().st_size < 1000:
        assert time.monotonic() < give_up_s
        assert child.poll() is None
        time.sleep(0.002)
    child.send_signal(signal.SIGKILL)
    child.wait(10)
    with pytest.raises(UsageError, match="preparing it was not finished"):
        load_recordings(out)
    prepared = prepare.prepare(tmp_path / "clips", out)
    assert prepared.n_decoded < 200
    assert_same_sound(tmp_path / "clips", out)


def test_full_disk_ends_with_an_error_and_what_was_written_stays(clips, tmp_path):
    """Here no file may grow beyond 1.5 MB; without that limit the next run goes on."""
    out = tmp_path / "prepared"
    limited = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (1_500_000, 1_500_000)); "
        "from train.prepare import main; sys.exit(main(sys.argv[1:]))"
    )
    child = subprocess.run(
        [sys.executable, "-c", limited, clips, "--out", out], capture_output=True, text=True, timeout=60, check=False
    )
    assert child.returncode == EdgeAsdError.exit_code
    assert "samples cannot be written: File too large; what was written stays" in " ".join(child.stderr.split())
    assert 0 < prepare.prepare(clips, out).n_decoded < 8
    assert_same_sound(clips, out)


@pytest.mark.slow
def test_memory_stays_small_whatever_the_lengths(tmp_path):
    """Half-hour clips in each of eight threads: below 1 GB."""
    folder = tmp_path / "clips" / "fan" / "train"
    folder.mkdir(parents=True)
    for number in range(10):
        soundfile.write(folder / f"normal_id_00_{number:08}.wav", noise(number, 1_799 * 16_000), 16_000)
    script = (
        "import sys; from pathlib import Path; from train.prepare import main; main(sys.argv[1:]); "
        "print(Path('/proc/self/status').read_text())"
    )
    command = [sys.executable, "-c", script, tmp_path / "clips", "--out", tmp_path / "prepared", "--threads", "8"]
    child = subprocess.run(command, capture_output=True, text=True, timeout=600, check=True)
    peak = next(line for line in child.stdout.splitlines() if line.startswith("VmHWM"))
    assert int(peak.split()[1]) < 1_000_000  # KiB


def test_training_reads_a_prepared_folder(clips, tmp_path):
    """With the same split, and the folder it was made from serves for the scores."""
    prepare.prepare(clips, tmp_path / "prepared")
    arguments = ["--epochs", "1", "--batch-size", "2", "--windows-per-epoch", "2", "--preset", "logmel-os-scl"]
    assert fit.main([str(tmp_path / "prepared"), "--out", str(tmp_path / "run"), *arguments]) == 0
    assert json.loads((tmp_path / "run" / "classes.json").read_text()) == ["fan/id_00", "fan/id_01"]
