"""The command writes a data folder in the layout of DCASE 2020: the same bytes each time, labelled, at sound levels."""

import csv
import hashlib
import json

import numpy as np
import pytest
import soundfile

from edge_asd.capture.clips import read_clip
from edge_asd.errors import ClipError, UsageError
from train.data import list_folder
from train.synth import check
from train.synth.__main__ import main
from train.synth.background import GeneratedBackground, RecordedBackground
from train.synth.check import check_folder, clip_features, nearest_distances
from train.synth.clip_sound import make_clip
from train.synth.machine import Damage
from train.synth.plan import Clip, plan_clips
from train.synth.types import MACHINES

TYPES = list(MACHINES)


def generate(out, *more, types=("fan", "valve"), threads=1):
    counts = ["--ids", "2", "--train", "2", "--test", "1", "--seed", "7"]
    return main([str(out), "--types", *types, *counts, "--threads", str(threads), *more])


def digests(folder):
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def table(folder):
    with (folder / "metadata.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def features(clip, seed=0):
    samples, _ = make_clip(seed, clip, GeneratedBackground(), 6.0)
    return clip_features(samples.astype(np.float32) / 32_768)


def clip_of(machine_type, *, machine_id="id_00", number=0, fault="none", severity=0.0):
    return Clip(
        machine_type=machine_type,
        machine_id=machine_id,
        split="test",
        label="normal" if fault == "none" else "anomaly",
        number=number,
        damage=Damage(fault=fault, severity=severity),
        speed_ratio=1.0,
        load=0.6,
    )


@pytest.fixture(scope="module")
def generated(tmp_path_factory):
    """Two units of two types."""
    folder = tmp_path_factory.mktemp("synth") / "generated"
    assert generate(folder) == 0
    return folder


def test_the_bytes_are_the_same_whatever_the_number_of_threads(generated, tmp_path):
    """Sound, table and card."""
    assert generate(tmp_path / "again", threads=4) == 0
    assert digests(tmp_path / "again") == digests(generated)


def test_a_clip_does_not_depend_on_what_else_is_generated(generated, tmp_path):
    """More types, units or clips leave those that were there as they were; another seed does not."""
    assert (
        main([str(tmp_path / "one"), "--types", "valve", "--ids", "1", "--train", "1", "--test", "1", "--seed", "7"])
        == 0
    )
    some = {file: digest for file, digest in digests(tmp_path / "one").items() if file.endswith(".wav")}
    assert some.items() <= digests(generated).items()
    assert (
        main([str(tmp_path / "two"), "--types", "valve", "--ids", "1", "--train", "1", "--test", "1", "--seed", "8"])
        == 0
    )
    other = {file: digest for file, digest in digests(tmp_path / "two").items() if file.endswith(".wav")}
    assert other.keys() == some.keys()
    assert not set(other.values()) & set(some.values())


def test_names_and_table_tell_the_same(generated, tmp_path):
    """The layout is that of DCASE 2020, read alike by the names alone and by metadata.csv."""
    by_table = list_folder(generated).recordings
    plain = tmp_path / "plain"
    plain.mkdir()
    for name in ("fan", "valve"):
        (plain / name).symlink_to(generated / name)
    assert list_folder(plain).recordings == by_table
    assert len(by_table) == 2 * 2 * 4
    assert "fan/test/anomaly_id_01_00000000.wav" in {recording.file for recording in by_table}


def test_everything_says_that_it_is_generated(generated):
    """Every file, every line and the card."""
    for row in table(generated):
        assert row["source"] == "generated"
        with soundfile.SoundFile(generated / row["file"]) as file:
            assert "generated" in file.comment
    assert "Nothing here was recorded" in (generated / "DATA_CARD.md").read_text()


def test_the_table_holds_fault_severity_speed_and_load(generated):
    """Damaged clips alone have a fault; speed and load differ from clip to clip."""
    rows = table(generated)
    for row in rows:
        assert (row["fault"] != "none") == (row["label"] == "anomaly") == (float(row["severity"]) > 0.0)
        assert 0.2 <= float(row["load"]) <= 1.0
    assert len({row["speed_hz"] for row in rows}) == len({row["load"] for row in rows}) == len(rows)


@pytest.mark.parametrize("machine_type", TYPES)
def test_levels_are_those_of_a_recording(machine_type):
    """No clip reaches full scale, is silent or has an offset, be the damage ever so severe."""
    for fault in ("none", *MACHINES[machine_type].FAULTS):
        severity = 0.0 if fault == "none" else 2.0
        clip = clip_of(machine_type, fault=fault, severity=severity)
        samples, _ = make_clip(3, clip, GeneratedBackground(), 6.0)
        wave = samples / 32_768
        assert wave.shape == (160_000,)
        assert np.abs(wave).max() < 0.98
        assert -50.0 < 20.0 * np.log10(np.std(wave)) < -15.0
        assert abs(wave.mean()) < 1e-3


@pytest.mark.parametrize("machine_type", TYPES)
def test_more_severe_is_further_from_healthy(machine_type):
    """Of the same unit in the same take; and the worst is further than any healthy clip is from another."""
    memory = np.array([features(clip_of(machine_type, number=number)) for number in range(1, 4)])
    same = features(clip_of(machine_type))
    for fault in MACHINES[machine_type].FAULTS:
        worse = []
        for severity in (0.4, 0.8, 2.0):
            # label and number of the healthy clip, so that its take is the same
            clip = Clip(
                machine_type=machine_type,
                machine_id="id_00",
                split="test",
                label="normal",
                number=0,
                damage=Damage(fault=fault, severity=severity),
                speed_ratio=1.0,
                load=0.6,
            )
            worse.append(features(clip))
        distances = np.linalg.norm(np.array(worse) - same, axis=1)
        assert (np.diff(distances) > 0.0).all(), (fault, distances)
        assert nearest_distances(memory, worse[-1][None])[0] > nearest_distances(memory, same[None])[0], fault


@pytest.mark.parametrize("machine_type", TYPES)
def test_units_are_told_apart(machine_type):
    """The nearest other clip is of the same unit."""
    ids = [f"id_{number:02}" for number in range(3) for _ in range(2)]
    rows = np.array([features(clip_of(machine_type, machine_id=name, number=k % 2)) for k, name in enumerate(ids)])
    distances = np.linalg.norm(rows[:, None] - rows[None], axis=2) + 1e9 * np.eye(len(rows))
    assert [ids[nearest] for nearest in distances.argmin(axis=1)] == ids


def test_each_fault_has_its_turn_and_severity_is_spread_about_its_mean():
    """A plan holds all faults of a type; severities from half to one and a half of the mean."""
    clips = plan_clips(TYPES, ids=2, train=1, test=12, seed=0, severity=0.4)
    for machine_type in TYPES:
        damages = [clip.damage for clip in clips if clip.machine_type == machine_type and clip.label == "anomaly"]
        assert {damage.fault for damage in damages} == set(MACHINES[machine_type].FAULTS)
        assert all(0.2 <= damage.severity <= 0.6 for damage in damages)


@pytest.fixture
def noise_folder(tmp_path):
    """Five tones of one second each as noise, each of its own pitch, one of them in a folder below."""
    folder = tmp_path / "hall"
    (folder / "below").mkdir(parents=True)
    for number, name in enumerate(("a", "b", "c", "d", "below/e")):
        tone = np.sin(2.0 * np.pi * 500.0 * (number + 1) * np.arange(16_000) / 16_000)
        soundfile.write(folder / f"{name}.wav", 0.1 * tone, 16_000)
    return folder


def test_recorded_noise_is_mixed_in_and_never_shared_by_training_and_test(noise_folder, tmp_path):
    """It is louder than the machine at -20 dB, and named in the table."""
    out = tmp_path / "noisy"
    assert generate(out, "--noise", str(noise_folder), "--snr-db", "-20", types=("fan",)) == 0
    rows = table(out)
    used = {split: {row["noise"] for row in rows if row["split"] == split} for split in ("train", "test")}
    assert not used["train"] & used["test"]
    pitches_hz = {"a.wav": 500, "b.wav": 1_000, "c.wav": 1_500, "d.wav": 2_000, "below/e.wav": 2_500}
    for row in rows:
        spectrum = np.abs(np.fft.rfft(read_clip(out / row["file"])))
        assert np.argmax(spectrum) / 10.0 == pytest.approx(pitches_hz[row["noise"]], abs=1.0)


def test_a_silent_noise_clip_is_passed_over_and_none_but_silent_ones_refused(tmp_path):
    """The error names the folder."""
    for number in range(3):
        soundfile.write(tmp_path / f"{number}.wav", np.zeros(16_000), 16_000)
    background = RecordedBackground(tmp_path)
    with pytest.raises(ClipError, match="silent"):
        background.draw(np.random.default_rng(0), 16_000, "train")


def test_noise_clips_of_one_recording_stay_together(noise_folder):
    """As metadata.csv has them in groups."""
    lines = ["file,machine_type,machine_id,label,split,group"]
    groups = {"a.wav": "one", "b.wav": "one", "c.wav": "two", "d.wav": "two", "below/e.wav": "two"}
    lines += [f"{file},hall,0,none,none,{group}" for file, group in groups.items()]
    (noise_folder / "metadata.csv").write_text("\n".join(lines) + "\n")
    background = RecordedBackground(noise_folder)
    rng = np.random.default_rng(0)
    used = {split: {groups[background.draw(rng, 16_000, split)[1]] for _ in range(20)} for split in ("train", "test")}
    assert sorted(map(sorted, used.values())) == [["one"], ["two"]]


def test_a_table_of_noise_needs_no_more_than_its_files(noise_folder):
    """As tables of noise with tags have it, which know no machines."""
    lines = ["file,tag", *(f"{path.relative_to(noise_folder)},hum" for path in noise_folder.rglob("*.wav"))]
    (noise_folder / "metadata.csv").write_text("\n".join(lines) + "\n")
    _, name = RecordedBackground(noise_folder).draw(np.random.default_rng(0), 16_000, "train")
    assert (noise_folder / name).is_file()
    (noise_folder / "metadata.csv").write_text("name\na.wav\n")
    with pytest.raises(UsageError, match="column file is missing"):
        RecordedBackground(noise_folder)


def test_a_type_that_is_named_twice_is_refused(tmp_path, capsys):
    """Its clips would be listed twice."""
    assert generate(tmp_path / "out", types=("fan", "fan")) == 2
    assert "--types is fan fan" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("column", "gone"), [("split", "train"), ("label", "anomaly"), ("fault", "none")])
def test_the_check_refuses_a_folder_without_training_damaged_or_healthy_clips(
    generated, tmp_path, capsys, column, gone
):
    """There is nothing to compare then."""
    for name in ("fan", "valve"):
        (tmp_path / name).symlink_to(generated / name)
    rows = table(generated)
    with (tmp_path / "metadata.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(row for row in rows if row[column] != gone or (row["split"] == "train" and gone == "none"))
    assert check.main([str(tmp_path)]) == 2
    assert "expected some of each; generate it again" in capsys.readouterr().err


def test_one_noise_clip_is_not_enough(tmp_path):
    """As it would be in training and test."""
    soundfile.write(tmp_path / "one.wav", np.ones(16_000) * 0.1, 16_000)
    with pytest.raises(UsageError, match="expected two or more"):
        RecordedBackground(tmp_path)


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--severity", "0"], "--severity is 0.0; expected"),
        (["--severity", "nan"], "--severity is nan; expected"),
        (["--snr-db", "inf"], "--snr-db is inf; expected"),
        (["--ids", "0"], "--ids is 0; expected"),
        (["--threads", "0"], "--threads is 0; expected"),
        (["--seed", "-1"], "--seed is -1; expected"),
    ],
)
def test_numbers_out_of_range_are_refused(more, said, tmp_path, capsys):
    """Before anything is written."""
    assert main([str(tmp_path / "out"), *more]) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_folder_with_something_in_it_is_refused(tmp_path, capsys):
    """Old clips would mix with new ones."""
    (tmp_path / "old.wav").write_bytes(b"")
    assert generate(tmp_path) == 2
    assert "not empty" in capsys.readouterr().err


def test_a_folder_that_cannot_be_written_is_said(tmp_path, capsys):
    """Here it is a file."""
    (tmp_path / "file").write_bytes(b"")
    assert generate(tmp_path / "file" / "out") == 70
    assert "cannot be written" in capsys.readouterr().err


def test_the_check_refuses_a_folder_that_was_not_generated(noise_folder, capsys):
    """It has no table of faults."""
    train = noise_folder / "fan" / "train"
    train.mkdir(parents=True)
    (noise_folder / "a.wav").rename(train / "normal_id_00_00000000.wav")
    assert check.main([str(noise_folder)]) == 2
    assert "no faults there" in capsys.readouterr().err


def test_the_check_writes_the_figures_that_it_prints(generated, tmp_path, capsys):
    """With the sound that they are of; a file that cannot be written is told."""
    assert check.main([str(generated), "--json", str(tmp_path / "check.json")]) == 0
    figures = json.loads((tmp_path / "check.json").read_text())
    areas = check_folder(generated)
    assert figures["sound"] == "generated"
    assert figures["average_auc"] == areas.average
    assert {name: of["auc"] for name, of in figures["by_type"].items()} == areas.by_type
    assert {key: value for of in figures["by_type"].values() for key, value in of["by_id"].items()} == areas.by_id
    faults = {
        (name, fault): value for name, of in figures["by_type"].items() for fault, value in of["by_fault"].items()
    }
    assert faults == areas.by_fault
    assert f"{figures['average_auc']:.3f}" in capsys.readouterr().out
    assert check.main([str(generated), "--json", str(generated)]) == 70
    assert "cannot be written: Is a directory" in " ".join(capsys.readouterr().err.split())


def test_the_check_finds_severe_damage(tmp_path):
    """A nearest neighbour on log-mel tells nearly all of it."""
    out = tmp_path / "severe"
    arguments = ["--types", "slider", "--ids", "1", "--train", "6", "--test", "6", "--severity", "2", "--threads", "1"]
    assert main([str(out), *arguments]) == 0
    areas = check_folder(out)
    assert areas.average == areas.by_type["slider"] == areas.by_id["slider/id_00"] > 0.9
