"""The split keeps groups together, is the same for the same seed, and bad folders are refused with their fault."""

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_asd.errors import ClipError, UsageError
from train.data import Recording, load_recordings, open_waves, split_recordings


def recording(name, *, machine="m", label="normal", split="none", group=None):
    return Recording(
        file=name, class_name=f"t/{machine}", label=label, stated_split=split, group=name if group is None else group
    )


def two_machines(n=6):
    return [recording(f"{machine}{index}", machine=machine) for machine in "ab" for index in range(n)]


SHARES = {"validation_share": 0.2, "held_out_share": 0.2}


@given(
    seed=st.integers(0, 10_000),
    groups=st.lists(st.integers(0, 9), min_size=12, max_size=40),
    n_anomalies=st.integers(0, 4),
)
@settings(max_examples=150, deadline=None)
def test_no_group_is_on_two_sides_and_nothing_damaged_is_trained_on(seed, groups, n_anomalies):
    """For any seed and any grouping that leaves enough to train on."""
    recordings = [recording(f"a{i}", machine="a", group=f"a{group}") for i, group in enumerate(groups)]
    recordings += [recording(f"b{i}", machine="b") for i in range(6)]
    recordings += [recording(f"bad{i}", machine="a", label="anomaly", group=f"a{i}") for i in range(n_anomalies)]
    try:
        _, split = split_recordings(recordings, seed=seed, **SHARES)
    except UsageError as error:
        assert "groups of healthy recordings" in str(error)  # noqa: PT017 - the other outcome is asserted below
        return
    group_of = {r.file: r.group for r in recordings}
    sides = [split.train, split.validation, (*split.held_out, *split.anomaly)]
    for index, side in enumerate(sides):
        for other in sides[index + 1 :]:
            assert not {group_of[file] for file in side} & {group_of[file] for file in other}
    normal = {r.file for r in recordings if r.label == "normal"}
    assert normal == {*split.train, *split.validation, *split.held_out}
    assert len(normal) == len(split.train) + len(split.validation) + len(split.held_out)
    assert all(split_recordings(recordings, seed=seed, **SHARES)[1] == split for _ in range(2))


def test_order_of_the_table_and_other_classes_do_not_change_a_split():
    """A machine added later leaves the split of the others."""
    recordings = two_machines()
    _, split = split_recordings(recordings, seed=3, **SHARES)
    more = [recording(f"c{index}", machine="c") for index in range(5)]
    _, larger = split_recordings([*more, *recordings[::-1]], seed=3, **SHARES)
    assert split.train == tuple(file for file in larger.train if not file.startswith("c"))


@given(
    seed=st.integers(0, 1_000),
    groups=st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 15)), min_size=30, max_size=80),
    limit=st.sampled_from([None, 5]),
)
@settings(max_examples=150, deadline=None)
def test_group_of_several_classes_lies_on_one_side(seed, groups, limit):
    """Recordings of one take of several machines; every class has something on each side, or it is refused."""
    recordings = [
        recording(f"{machine}{i}", machine=machine, group=f"take{group}") for i, (machine, group) in enumerate(groups)
    ]
    try:
        classes, split = split_recordings(recordings, seed=seed, limit=limit, **SHARES)
    except UsageError as error:
        assert "healthy recordings to train on" in str(error)  # noqa: PT017 - the other outcome is asserted below
        return
    group_of = {r.file: r.group for r in recordings}
    sides = [split.train, split.validation, split.held_out]
    for index, side in enumerate(sides):
        assert {f"t/{file[0]}" for file in side} == set(classes)
        for other in sides[index + 1 :]:
            assert not {group_of[file] for file in side} & {group_of[file] for file in other}


def test_takes_of_all_machines_together_are_split_alike():
    """And a class whose every group another class has decided on, on too few sides, is refused."""
    recordings = [
        recording(f"{machine}{take}", machine=machine, group=f"t{take}") for machine in "ab" for take in range(9)
    ]
    _, split = split_recordings(recordings, seed=0, **SHARES)
    for side in (split.train, split.validation, split.held_out):
        assert {file[1:] for file in side if file[0] == "a"} == {file[1:] for file in side if file[0] == "b"} != set()
    recordings = [recording(f"a{i}", machine="a", group=f"t{i}") for i in range(4)]
    recordings += [recording("b0", machine="b", group="t0"), recording("b1", machine="b", group="t1")]
    recordings += [recording("b2", machine="b", group="t2"), recording("c0", machine="c", group="t0")]
    with pytest.raises(UsageError, match="groups of healthy recordings"):
        split_recordings(recordings, seed=0, **SHARES)


def test_seeds_differ():
    """Another seed holds out other recordings, at least once in ten."""
    held_out = {split_recordings(two_machines(), seed=seed, **SHARES)[1].held_out for seed in range(10)}
    assert len(held_out) > 1


def test_stated_test_recordings_are_held_out_and_no_others():
    """metadata.csv's own split counts."""
    recordings = two_machines()
    recordings += [recording("a_test", machine="a", split="test"), recording("b_test", machine="b", split="test")]
    _, split = split_recordings(recordings, seed=0, **SHARES)
    assert split.held_out == ("a_test", "b_test")


def test_machine_without_healthy_recordings_is_left_out():
    """Neither class nor anomaly remains of it."""
    recordings = [*two_machines(), recording("x", machine="c", label="anomaly")]
    classes, split = split_recordings(recordings, seed=0, **SHARES)
    assert classes == ("t/a", "t/b")
    assert split.anomaly == ()


def test_one_class_is_refused():
    """Because there is nothing to tell it from."""
    with pytest.raises(UsageError, match=r"1 class with healthy recordings to train on \(t/m\); expected 2 or more"):
        split_recordings([recording(f"{index}") for index in range(5)], seed=0, **SHARES)


def test_too_few_groups_are_refused():
    """With the class and how many it takes."""
    with pytest.raises(UsageError, match=r"class t/b has 2 groups of healthy recordings.* at least 3"):
        split_recordings(
            [*two_machines(3)[:3], recording("b0", machine="b"), recording("b1", machine="b")], seed=0, **SHARES
        )


def test_anomaly_stated_for_training_is_refused():
    """It would be learnt as healthy."""
    with pytest.raises(UsageError, match="bad is an anomaly stated for training"):
        split_recordings(
            [*two_machines(), recording("bad", machine="a", label="anomaly", split="train")], seed=0, **SHARES
        )


def test_folder_without_metadata_is_refused(tmp_path):
    """An empty folder."""
    with pytest.raises(UsageError, match=r"no metadata\.csv there and no clip in a known layout; expected metadata"):
        load_recordings(tmp_path)


def test_metadata_without_clips_is_refused(tmp_path, write_metadata):
    """A header alone."""
    write_metadata(tmp_path, [])
    with pytest.raises(UsageError, match=r"no metadata\.csv there and no clip"):
        load_recordings(tmp_path)


def test_missing_clip_is_named(tones):
    """A line whose file is gone."""
    (tones / "b_2.wav").unlink()
    with pytest.raises(UsageError, match=r"1 clips of metadata\.csv are not there: b_2\.wav"):
        load_recordings(tones)


def test_bad_split_has_its_line(tmp_path, write_metadata):
    """A word that is none of the three."""
    write_metadata(tmp_path, [["a.wav", "t", "m", "normal", "dev", "g"]])
    with pytest.raises(UsageError, match=r"metadata\.csv line 2: split is 'dev'"):
        load_recordings(tmp_path)


def test_all_unusable_clips_are_named_at_once(tones):
    """A NaN clip and one that is no sound."""
    soundfile.write(tones / "a_0.wav", np.full(16_000, np.nan, dtype=np.float32), 16_000, subtype="FLOAT")
    (tones / "b_0.wav").write_text("no sound")
    with pytest.raises(ClipError, match=r"(?s)a_0\.wav.*b_0\.wav"):
        open_waves(tones, ["a_0.wav", "a_1.wav", "b_0.wav"])
