"""No recording and no noise serves both training and test, whatever the sound and the seed."""

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.noise_robustness.noise import NOISE_KINDS, NoiseClip
from benchmarks.noise_robustness.sides import choose_sides
from benchmarks.noise_robustness.sound import MachineClip, Sound
from edge_asd.errors import UsageError
from train.data import Recording

GROUPS = st.lists(st.integers(1, 3), min_size=3, max_size=8)
"""How many clips each recording of a class has."""
SEEDS = st.integers(0, 2**31)


def sound_of(healthy, damaged, noise):
    recordings = [
        recording(f"{name}/{label}{group}_{clip}", name, label, f"{name} {label} {group}")
        for label, classes in (("normal", healthy), ("anomaly", damaged))
        for name, groups in classes.items()
        for group, n_clips in enumerate(groups)
        for clip in range(n_clips)
    ]
    further = tuple(
        MachineClip(path=Path(f"f{number}"), class_name="other/x", is_anomaly=False, group=f"f{number // 2}")
        for number in range(6)
    )
    return Sound(
        name="sound", generated=False, folder=Path("/data"), recordings=tuple(recordings), further=further, noise=noise
    )


def recording(file, name, label, group):
    return Recording(file=file, class_name=f"uav/{name}", label=label, stated_split="none", group=group)


def noise_of(kinds, n_groups):
    return tuple(
        NoiseClip(path=Path(f"n{place}"), tag="tag", group=f"g{place % n_groups}", kind=kind)
        for place, kind in enumerate(kinds)
    )


@given(a=GROUPS, b=GROUPS, damaged=st.lists(st.integers(1, 2), min_size=1, max_size=3), seed=SEEDS)
def test_recordings_are_on_one_side(a, b, damaged, seed):
    """Every healthy clip is on exactly one side, and all clips of a recording are on the same."""
    sound = sound_of({"a": a, "b": b}, {"a": damaged}, noise_of(NOISE_KINDS * 20, 20))
    sides = choose_sides(sound, seed)
    groups = [{clip.group for clip in side} for side in (sides.train, sides.validation, sides.test)]
    assert all(not groups[i] & groups[j] for i, j in ((0, 1), (0, 2), (1, 2)))
    counts = Counter(clip.path for side in (sides.train, sides.validation, sides.test) for clip in side)
    assert counts == {sound.folder / one.file: 1 for one in sound.recordings}
    assert all(not clip.is_anomaly for clip in (*sides.train, *sides.validation, *sides.further))
    assert sides == choose_sides(sound, seed)


@given(kinds=st.lists(st.sampled_from(NOISE_KINDS), min_size=40, max_size=80), n_groups=st.integers(20, 60), seed=SEEDS)
def test_noise_is_on_one_side(kinds, n_groups, seed):
    """A recording of noise is heard in training or in the test, also where its clips are of both kinds."""
    sound = sound_of({"a": [1, 1, 1], "b": [1, 1, 1]}, {}, noise_of(kinds, n_groups))
    try:
        sides = choose_sides(sound, seed)
    except UsageError as error:
        assert "larger folder of noise" in str(error)  # noqa: PT017 - chance may leave a side without a kind
        return
    train, test = (
        {clip.group for clips in noise.values() for clip in clips} for noise in (sides.train_noise, sides.test_noise)
    )
    assert not train & test
    for noise in (sides.train_noise, sides.test_noise):
        assert all(clip.kind == kind for kind, clips in noise.items() for clip in clips)


def test_a_limit_takes_clips_of_different_recordings():
    """Of a class at most so many clips, no two of one recording."""
    sound = sound_of({"a": [3] * 9, "b": [3] * 9}, {"a": [2] * 9}, noise_of(NOISE_KINDS * 20, 20))
    sides = choose_sides(sound, 0, limit=2)
    for side in (sides.train, sides.validation, sides.test, sides.further):
        counts = Counter((clip.class_name, clip.is_anomaly) for clip in side)
        assert max(counts.values()) <= 2
        assert len({clip.group for clip in side}) == len(side)


def test_too_little_noise_is_told():
    """One recording of a kind cannot serve training and test."""
    sound = sound_of({"a": [1, 1, 1], "b": [1, 1, 1]}, {}, noise_of(["stationary", "non-stationary"], 1))
    with pytest.raises(UsageError, match="clips of stationary noise for training"):
        choose_sides(sound, 0)
