"""The sound around an alarm: sample by sample, with its gaps, in a memory that is bounded."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_asd.evidence import Recorder
from tests.edge_asd.evidence.kit import RATE_HZ, block, event, ramp


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
