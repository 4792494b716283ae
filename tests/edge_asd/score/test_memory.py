"""Memories of healthy sound: what is kept, added and forgotten, and what is refused of a memory's file."""

from dataclasses import replace

import numpy as np
import pytest

from edge_asd.bundle import Encoder, KnnFit, Memory, Spread
from edge_asd.bundle.memory_file import memories_from_npz, memory_limit_bytes, npz_from_memories
from edge_asd.bundle.plain_npz import npz_from_arrays
from edge_asd.errors import BundleError
from edge_asd.types import FeatureSpec

SPREAD = Spread(mean=0.1, std=0.02, n=8)
ENCODER = Encoder(sha256="a" * 64, precision="int8", layer="embedding", feature_spec=FeatureSpec())
FITS = [
    KnnFit(k=1, n_vectors=8, source=SPREAD, target=None),
    KnnFit(k=2, n_vectors=6, source=None, target=SPREAD),
]


@pytest.fixture
def two(draw, remember):
    """Memories of two machines."""
    hours = 3_600.0 * np.arange(8)
    return [
        remember(draw(8), begin_utc_s=hours, end_utc_s=hours + 10.0),
        remember(draw(6, seed=1), is_target=True, group=np.repeat(np.arange(3), 2)),
    ]


def read(data, fits=FITS):
    return memories_from_npz(data, encoder=ENCODER, vector_size=16, fits=fits, where="memory.npz")


def test_file_gives_back_what_was_written(two):
    """Every array of every memory, bit by bit, and the same bytes each time."""
    data = npz_from_memories(two)
    assert data == npz_from_memories(two)
    assert len(data) <= memory_limit_bytes(16, FITS)
    for found, expected in zip(read(data), two, strict=True):
        assert found.encoder == expected.encoder
        for name in ("vectors", "is_target", "group", "begin_utc_s", "end_utc_s"):
            assert np.array_equal(getattr(found, name), getattr(expected, name)), name


def altered(two, **changes):
    """The file of `two`, with other arrays."""
    names = ("vectors", "is_target", "group", "begin_utc_s", "end_utc_s")
    arrays = {name: np.concatenate([getattr(memory, name) for memory in two]) for name in names}
    arrays["is_target"] = arrays["is_target"].astype(np.int64)
    for name, change in changes.items():
        arrays[name] = change(arrays[name].copy())
    return npz_from_arrays(arrays)


def put(value, row=0):
    def change(array):
        array[row] = value
        return array

    return change


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"vectors": put(np.nan)}, "vectors holds values that are not finite"),
        ({"vectors": put(np.inf)}, "vectors holds values that are not finite"),
        ({"vectors": put(3.0)}, "expected unit length"),
        ({"vectors": put(0.0)}, "expected unit length"),
        ({"vectors": lambda array: array[:-1]}, r"vectors is float32 \(13, 16\)"),
        ({"vectors": lambda array: array.astype(np.float64)}, "vectors is float64"),
        ({"is_target": put(2)}, "expected 0 and 1"),
        ({"is_target": put(1)}, r"'target': True}, its statistics are of 8"),
        ({"group": lambda array: array.astype(np.float64)}, "group is float64"),
        ({"end_utc_s": put(np.nan)}, "end_utc_s holds values that are not finite"),
        ({"begin_utc_s": put(1e9)}, "begins after its end"),
        ({"end_utc_s": put(1e12)}, "beyond"),
        ({"begin_utc_s": put(-1.0)}, "times"),
    ],
)
def test_impossible_file_is_refused(two, changes, said):
    """With what was found."""
    with pytest.raises(BundleError, match=said):
        read(altered(two, **changes))


def test_file_of_other_memories_is_refused(two):
    """More rows than the manifest speaks of, or fewer."""
    for n in (7, 9):
        with pytest.raises(BundleError, match="expected float32"):
            read(npz_from_memories(two), [FITS[0].model_copy(update={"n_vectors": n}), FITS[1]])


@pytest.mark.parametrize(
    "other",
    [
        replace(ENCODER, sha256="b" * 64),
        replace(ENCODER, precision="fp32"),
        replace(ENCODER, layer="feature_map"),
        replace(ENCODER, feature_spec=FeatureSpec(n_mels=64)),
    ],
)
def test_vectors_of_another_encoder_are_not_added(two, draw, remember, other):
    """Network, precision, layer and front end must be the same."""
    with pytest.raises(BundleError, match=r"another encoder.*make the memory again"):
        two[0].joined(replace(remember(draw(4)), encoder=other))


def test_added_recordings_stay_apart(two, draw, remember):
    """Group 0 of what is added is none of those that were there, nor the minute after the latest of them."""
    joined = two[1].joined(remember(draw(2)))
    assert joined.group.tolist() == [0, 0, 1, 1, 2, 2, 4, 5]
    assert joined.is_target.tolist() == [True] * 6 + [False] * 2


def test_a_range_of_time_is_forgotten(two, draw, remember):
    """Whatever sounded within it, even in part; sound without a time stays."""
    memory = two[0].joined(remember(draw(2)))
    kept = memory.without(from_utc_s=3_605.0, to_utc_s=3 * 3_600.0)
    assert kept.begin_utc_s.tolist() == [0.0, *(3_600.0 * np.arange(3, 8)), 0.0, 0.0]


@pytest.mark.parametrize("broken", ["vectors", "is_target", "group", "times"])
def test_arrays_that_do_not_fit_make_no_memory(draw, broken):
    """Types and lengths."""
    arrays = {
        "vectors": draw(4).astype(np.float64 if broken == "vectors" else np.float32),
        "is_target": np.zeros(3 if broken == "is_target" else 4, bool),
        "group": np.zeros(4, np.float64 if broken == "group" else np.int64),
        "begin_utc_s": np.full(4, np.nan if broken == "times" else 0.0),
        "end_utc_s": np.zeros(4),
    }
    with pytest.raises(ValueError, match="expected"):
        Memory(encoder=ENCODER, **arrays)
