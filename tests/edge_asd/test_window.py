"""Windower: blocks of any size, gaps, times and coverage."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_asd.types import Block, FeatureSpec, Window
from edge_asd.window import Windower, newest

SPEC = FeatureSpec(sample_rate_hz=100, window_samples=50, n_fft=8, hop_samples=4)
START_UTC_S = 1_700_000_000.0


def play(windower: Windower, sizes: list[int], lost: list[int] | None = None) -> list[Window]:
    """Windows of blocks whose samples count 0, 1, 2, ... and say when they were heard; lost[i] lie ahead of block i."""
    windows: list[Window] = []
    at = 0
    for size, gap in zip(sizes, lost or [0] * len(sizes), strict=True):
        at += gap
        samples = np.arange(at, at + size, dtype=np.float32)
        at += size
        end_s = at / SPEC.sample_rate_hz
        windows += windower.push(
            Block(samples=samples, end_monotonic_s=end_s, end_utc_s=START_UTC_S + end_s, lost_samples=gap)
        )
    return windows


@given(sizes=st.lists(st.integers(0, 130), max_size=20), hop_samples=st.integers(1, 120))
def test_any_block_sizes_give_the_same_windows(sizes: list[int], hop_samples: int) -> None:
    """Sound cut into blocks of any size gives the windows of the sound in one block, with the same times."""
    windows = play(Windower(SPEC, hop_samples), sizes)
    at_once = play(Windower(SPEC, hop_samples), [sum(sizes)])
    assert len(windows) == len(at_once)
    for number, (window, expected) in enumerate(zip(windows, at_once, strict=True)):
        begin = number * hop_samples
        np.testing.assert_array_equal(window.wave, np.arange(begin, begin + 50, dtype=np.float32))
        np.testing.assert_array_equal(window.wave, expected.wave)
        assert window.end_monotonic_s == pytest.approx((begin + 50) / 100)
        assert window.end_monotonic_s == pytest.approx(expected.end_monotonic_s)
        assert window.end_utc_s == pytest.approx(expected.end_utc_s, abs=1e-6)
        assert window.fresh_samples == expected.fresh_samples == (50 if number == 0 else min(hop_samples, 50))
        assert window.coverage == 1.0


@given(
    blocks=st.lists(st.tuples(st.integers(0, 90), st.one_of(st.just(0), st.integers(1, 200))), max_size=20),
    hop_samples=st.integers(1, 60),
)
def test_no_window_spans_a_gap(blocks: list[tuple[int, int]], hop_samples: int) -> None:
    """Wherever samples are lost, every window is unbroken sound, and every unbroken stretch gives all its windows."""
    windows = play(Windower(SPEC, hop_samples), [size for size, _ in blocks], [gap for _, gap in blocks])
    for window in windows:
        assert (np.diff(window.wave) == 1).all()
    stretches = [0]
    for size, gap in blocks:
        if gap:
            stretches.append(0)
        stretches[-1] += size
    expected = sum(1 + (stretch - 50) // hop_samples for stretch in stretches if stretch >= 50)
    assert len(windows) == expected


@given(
    blocks=st.lists(st.tuples(st.integers(0, 90), st.one_of(st.just(0), st.integers(1, 200))), max_size=20),
    hop_samples=st.integers(1, 60),
)
def test_coverage_is_the_share_heard_since_the_window_before(blocks: list[tuple[int, int]], hop_samples: int) -> None:
    """Coverage is the share heard of all sound between the ends of two windows, counted from the samples themselves."""
    windows = play(Windower(SPEC, hop_samples), [size for size, _ in blocks], [gap for _, gap in blocks])
    at, heard = 0, set()
    for size, gap in blocks:
        at += gap
        heard.update(range(at, at + size))
        at += size
    end_before = 0
    for window in windows:
        end = int(window.wave[-1]) + 1
        span = range(end_before, end)
        assert window.coverage == pytest.approx(len(heard.intersection(span)) / len(span))
        end_before = end


def test_after_a_gap_all_samples_are_fresh() -> None:
    """The first window after a gap shares no sample with the one before it."""
    windows = play(Windower(SPEC, 10), [70, 50, 10], [0, 30, 0])
    assert [window.fresh_samples for window in windows] == [50, 10, 10, 50, 10]
    assert [window.coverage for window in windows] == [1.0, 1.0, 1.0, 50 / 80, 1.0]


@given(
    blocks=st.lists(st.tuples(st.integers(0, 90), st.one_of(st.just(0), st.integers(1, 200))), max_size=20),
    hop_samples=st.integers(1, 60),
)
def test_skipped_windows_are_as_if_never_cut(blocks: list[tuple[int, int]], hop_samples: int) -> None:
    """The newest of all windows covers all sound since the start: its coverage is that of the whole."""
    windows = play(Windower(SPEC, hop_samples), [size for size, _ in blocks], [gap for _, gap in blocks])
    if not windows:
        return
    window = newest(windows)
    end = int(window.wave[-1]) + 1
    at, heard = 0, 0
    for size, gap in blocks:
        at += gap
        heard += max(0, min(size, end - at))
        at += size
    np.testing.assert_array_equal(window.wave, windows[-1].wave)
    assert (window.end_monotonic_s, window.end_utc_s) == (windows[-1].end_monotonic_s, windows[-1].end_utc_s)
    assert window.heard_samples + window.lost_samples == end
    assert window.coverage == pytest.approx(heard / end)
    assert window.fresh_samples == min(sum(each.fresh_samples for each in windows), SPEC.window_samples)


def test_windows_stay_as_they_are() -> None:
    """A window is a copy that cannot be written to, whatever is pushed later."""
    windower = Windower(SPEC, 10)
    (window,) = play(windower, [50])
    kept = window.wave.copy()
    play(windower, [1_000])
    np.testing.assert_array_equal(window.wave, kept)
    with pytest.raises(ValueError, match="read-only"):
        window.wave[0] = 1.0


def test_hop_of_nothing_is_refused() -> None:
    """A hop below one sample would never get on: refused."""
    with pytest.raises(ValueError, match="hop_samples is 0"):
        Windower(SPEC, 0)
