"""Each layout's own names say machine, label and split, whatever else the path holds."""

import csv
from pathlib import PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_asd.errors import UsageError
from train.data import left_out, list_folder, load_recordings, split_recordings
from train.data.names import recording_from_path


def touch(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def only(folder):
    (recording,) = list_folder(folder).recordings
    return recording


def test_dcase_2020_names(tmp_path):
    """Development data: type from the folder, ID and label from the name, split from the folder."""
    touch(tmp_path, "fan/test/anomaly_id_04_00000315.wav")
    recording = only(tmp_path)
    assert recording.class_name == "fan/id_04"
    assert (recording.machine_type, recording.machine_id) == ("fan", "id_04")
    assert (recording.label, recording.stated_split, recording.domain) == ("anomaly", "test", "none")


def test_id_is_a_field_of_the_name_and_not_a_substring_of_the_path(tmp_path):
    """Folders that hold other IDs, labels and types change nothing."""
    folder = tmp_path / "anomaly_id_00_valve" / "id_06"
    touch(folder, "slider/train/normal_id_02_00000006.wav")
    recording = only(folder)
    assert (recording.class_name, recording.label) == ("slider/id_02", "normal")


@pytest.mark.parametrize("name", ["normal_id_1x_00000000.wav", "xnormal_id_01_00000000.wav", "normal_id_01_0_b.wav"])
def test_name_that_only_resembles_one_is_not_taken(tmp_path, name):
    """It is listed as ignored."""
    touch(tmp_path, f"fan/train/{name}", "fan/train/normal_id_00_00000000.wav")
    listing = list_folder(tmp_path)
    assert [recording.class_name for recording in listing.recordings] == ["fan/id_00"]
    assert listing.ignored == (f"fan/train/{name}",)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (
            "fan/train/section_01_source_train_normal_0003.wav",
            ("fan/section_01", "normal", "train", "source", ""),
        ),
        (
            "valve/target_test/section_00_target_test_anomaly_0099.wav",
            ("valve/section_00", "anomaly", "test", "target", ""),
        ),
        (
            "ToyCar/test/section_02_source_test_normal_0000_car_A1_spd_28V_mic_1.wav",
            ("ToyCar/section_02", "normal", "test", "source", "car_A1_spd_28V_mic_1"),
        ),
        (
            "AutoTrash/train/section_00_target_train_normal_0001_noAttribute.wav",
            ("AutoTrash/section_00", "normal", "train", "target", "noAttribute"),
        ),
        (
            "ToyCar/train/section_00_source_train_normal_0000_.wav",
            ("ToyCar/section_00", "normal", "train", "source", ""),
        ),
        ("fan/test/section_03_test_0000.wav", ("fan/section_03", "none", "test", "none", "")),
        ("bandsaw/test/section_00_0005.wav", ("bandsaw/section_00", "none", "test", "none", "")),
        ("fan/source_test/section_03_source_test_0007.wav", ("fan/section_03", "none", "test", "source", "")),
    ],
)
def test_dcase_2021_to_2025_names(tmp_path, path, expected):
    """Section, domain, label and attributes, each from its field."""
    touch(tmp_path, path)
    recording = only(tmp_path)
    found = (recording.class_name, recording.label, recording.stated_split, recording.domain, recording.attributes)
    assert found == expected


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("fan/test/section_00_source_train_normal_0000_a.wav", "its folder says test and its name train"),
        ("fan/train/section_00_source_test_normal_0000_a.wav", "its folder says train and its name test"),
        ("fan/train/section_03_test_0000.wav", "its folder says train and its name test"),
    ],
)
def test_clip_whose_folder_and_name_contradict_is_left_out_and_told(tmp_path, path, why):
    """It may have been trained on."""
    touch(
        tmp_path, path, *(f"fan/train/section_0{i}_source_train_normal_{n:04}_a.wav" for i in (0, 1) for n in range(3))
    )
    listing = list_folder(tmp_path)
    assert listing.ignored == (path,)
    classes, _ = split_recordings(listing.labelled, seed=0, validation_share=0.1, held_out_share=0.1)
    assert f"{path} is left out: {why}; move or rename it" in left_out(listing, classes)


def test_mimii_folders(tmp_path):
    """With the folder of the signal-to-noise ratio above, whose copies of a clip stay together."""
    touch(tmp_path, "-6_dB/fan/id_02/abnormal/00000007.wav", "0_dB/fan/id_02/abnormal/00000007.wav")
    first, second = list_folder(tmp_path).recordings
    assert first.class_name == second.class_name == "fan/id_02"
    assert (first.label, first.stated_split) == ("anomaly", "none")
    assert first.group == second.group


@pytest.mark.parametrize("below", ["test/anomaly_id_00_00000001.wav", "id_00/abnormal/00000001.wav"])
def test_folder_of_one_machine_type(tmp_path, below):
    """Its own name is the type."""
    touch(tmp_path / "pump", below)
    assert only(tmp_path / "pump").class_name == "pump/id_00"


def test_evaluation_labels_of_2020(tmp_path):
    """A list of names and 0 or 1, by machine type."""
    touch(tmp_path, "fan/test/id_01_00000000.wav", "fan/test/id_01_00000001.wav", "pump/test/id_01_00000000.flac")
    (tmp_path / "eval_data_list.csv").write_text(
        "fan\nid_01_00000000.wav,x.wav,1\nid_01_00000001.wav,y.wav,0\n\npump\nid_01_00000000.wav,z.wav,0\n"
    )
    labels = {recording.file: recording.label for recording in load_recordings(tmp_path)}
    assert labels == {
        "fan/test/id_01_00000000.wav": "anomaly",
        "fan/test/id_01_00000001.wav": "normal",
        "pump/test/id_01_00000000.flac": "normal",
    }


def test_evaluation_labels_of_later_years(tmp_path):
    """A list of names and labelled names, which tell domain and attributes too."""
    touch(tmp_path, "bandsaw/test/section_00_0005.wav")
    (tmp_path / "eval_data_list_2023.csv").write_text(
        "bandsaw\nsection_00_0005.wav,section_00_source_test_anomaly_0005_vel_15.wav\n"
    )
    recording = only(tmp_path)
    assert (recording.file, recording.label) == ("bandsaw/test/section_00_0005.wav", "anomaly")
    assert (recording.domain, recording.attributes) == ("source", "vel_15")


def test_damaged_list_of_labels_is_refused(tmp_path):
    """With its line."""
    touch(tmp_path, "fan/test/id_01_00000000.wav")
    (tmp_path / "eval_data_list.csv").write_text("fan\nid_01_00000000.wav,maybe\n")
    with pytest.raises(UsageError, match=r"eval_data_list\.csv: cannot be read \(line 2 is"):
        list_folder(tmp_path)


def test_unlabelled_clips_are_listed_but_not_loaded(tmp_path):
    """Training and figures want labels."""
    touch(tmp_path, "fan/test/id_01_00000000.wav")
    assert only(tmp_path).label == "none"
    with pytest.raises(UsageError, match="no clip labelled normal or anomaly"):
        load_recordings(tmp_path)


def test_folder_in_no_known_layout_is_refused(tmp_path):
    """With one of its clips, and what is expected."""
    touch(tmp_path, "sounds/a.wav")
    with pytest.raises(UsageError, match=r"no clip in a known layout, but 1 clips as sounds/a\.wav; expected metadata"):
        load_recordings(tmp_path)
    with pytest.raises(UsageError, match="no such folder"):
        load_recordings(tmp_path / "absent")


@pytest.mark.parametrize("name", ["dcase2020", "dcase2023", "mimii_raw"])
def test_real_names_say_what_the_table_beside_them_says(tmp_path, shared_data, name):
    """The same clips once by metadata.csv and once by their names alone."""
    real = shared_data(name)
    for entry in real.iterdir():
        if entry.is_dir():
            (tmp_path / entry.name).symlink_to(entry, target_is_directory=True)
    by_name = {recording.file: recording for recording in list_folder(tmp_path).recordings}
    with (real / "metadata.csv").open(newline="") as file:
        rows = {row["file"]: row for row in csv.DictReader(file)}
    assert len(by_name) >= {"dcase2020": 128, "dcase2023": 26, "mimii_raw": 25}[name]
    for file, recording in by_name.items():
        row = rows[file]
        assert recording.class_name == f"{row['machine_type']}/{row['machine_id']}"
        assert (recording.label, recording.stated_split) == (row["label"], row["split"])
        if recording.domain != "none":
            assert f"domain={recording.domain}" in row["attributes"]


def test_circle_of_links_ends(tmp_path):
    """A link to the folder above is not followed for ever."""
    touch(tmp_path, "fan/train/normal_id_00_00000000.wav")
    (tmp_path / "fan" / "again").symlink_to(tmp_path, target_is_directory=True)
    assert only(tmp_path).class_name == "fan/id_00"


def test_stated_validation_validates(tmp_path):
    """And nothing else of its class does."""
    lines = [
        "file,machine_type,machine_id,label,split,group",
        *(
            f"{machine}{i}.wav,t,{machine},normal,{split},"
            for machine in "ab"
            for i, split in enumerate(["train", "train", "train", "validation", "test"])
        ),
    ]
    (tmp_path / "metadata.csv").write_text("\n".join(lines))
    touch(tmp_path, *(f"{machine}{i}.wav" for machine in "ab" for i in range(5)))
    _, split = split_recordings(load_recordings(tmp_path), seed=0, validation_share=0.4, held_out_share=0.4)
    assert split.validation == ("a3.wav", "b3.wav")
    assert split.train == ("a0.wav", "a1.wav", "a2.wav", "b0.wav", "b1.wav", "b2.wav")
    assert split.held_out == ("a4.wav", "b4.wav")


def test_what_serves_nothing_is_said(tmp_path):
    """Classes without healthy training clips, clips without labels, clips in no layout."""
    touch(tmp_path, *(f"fan/train/normal_id_{i:02}_{n:08}.wav" for i in (0, 1) for n in range(3)))
    touch(tmp_path, "pump/test/normal_id_00_00000000.wav", "fan/test/id_01_00000000.wav", "cow.wav")
    listing = list_folder(tmp_path)
    classes, _ = split_recordings(listing.labelled, seed=0, validation_share=0.1, held_out_share=0.1)
    assert left_out(listing, classes) == (
        "no healthy clips to train on, so left out: pump/id_00",
        "1 clips without a label are left out",
        "1 clips in no known layout are left out, as cow.wav",
    )


def test_slash_in_the_machine_id_is_refused(tmp_path):
    """It would become part of the type."""
    (tmp_path / "metadata.csv").write_text(
        "file,machine_type,machine_id,label,split,group\na.wav,pump,line1/u1,normal,none,\n"
    )
    touch(tmp_path, "a.wav")
    with pytest.raises(UsageError, match=r"line 2: machine_id is 'line1/u1'; expected no slash"):
        list_folder(tmp_path)


WORDS = st.sampled_from(["fan", "id_03", "normal", "anomaly", "section_01", "target", "train", "abnormal", "x"])


@given(above=st.lists(WORDS, max_size=4), number=st.integers(0, 99), label=st.sampled_from(["normal", "anomaly"]))
def test_nothing_above_the_layout_is_read(above, number, label):
    """Whatever the folders above are called, type, ID, label and split come from their own places."""
    split = "test" if label == "anomaly" else "train"
    for path, machine_id in (
        (f"{split}/{label}_id_{number:02}_00000001.wav", f"id_{number:02}"),
        (f"{split}/section_{number:02}_source_{split}_{label}_0001_id_07.wav", f"section_{number:02}"),
        (f"id_{number:02}/{label.replace('anomaly', 'abnormal')}/00000001.wav", f"id_{number:02}"),
    ):
        recording = recording_from_path(PurePosixPath(*above, "valve", path), "slider", {})
        assert recording.class_name == f"valve/{machine_id}"
        assert recording.label == label
        assert recording.stated_split == ("none" if "id_" in path.split("/")[0] else split)


def test_nothing_stated_for_training_is_held_out(tmp_path):
    """As in the additional training data of DCASE 2020, whose IDs have no labelled test; test-only IDs are left out."""
    touch(tmp_path, *(f"fan/train/normal_id_{i:02}_{n:08}.wav" for i in (0, 1) for n in range(20)))
    touch(tmp_path, "fan/test/normal_id_00_00000000.wav", "fan/test/anomaly_id_00_00000000.wav")
    touch(tmp_path, "pump/test/normal_id_00_00000000.wav", "pump/test/anomaly_id_00_00000000.wav")
    classes, split = split_recordings(load_recordings(tmp_path), seed=0, validation_share=0.05, held_out_share=0.1)
    assert classes == ("fan/id_00", "fan/id_01")
    assert split.held_out == ("fan/test/normal_id_00_00000000.wav",)
    assert split.anomaly == ("fan/test/anomaly_id_00_00000000.wav",)
    assert (len(split.validation), len(split.train)) == (2, 38)
