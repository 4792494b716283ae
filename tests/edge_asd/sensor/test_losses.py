"""Sound that is lost again and again."""

import pytest

from tests.edge_asd.sensor.kit import at, block, hear, make_sensor, sound


def test_sound_that_is_never_whole_is_told_without_a_window():
    """Gaps every 5 s leave no window; within 30 s that is a fault, told once, and a whole window ends it."""
    sensor = make_sensor()
    told = [sensor.hear(block(float(second), lost_samples=100 * (second % 5 == 0))) for second in range(1, 60)]
    assert [(second, fault.kind) for second, fault in enumerate(told, 1) if fault] == [(31, "drop_outs")]
    assert {kind for _, kind in hear(sensor, sound("M1/healthy_1950.flac", 12.0), begin_s=100.0)} == {None}


@pytest.mark.parametrize(("lost_s", "kinds"), [(0.5, {None}), (2.0, {"drop_outs"})])
def test_many_losses_within_a_minute_are_a_fault(lost_s, kinds):
    """Three gaps a minute that cost 5 % of it are drop-outs, less is not; a minute later it is over."""
    sensor = make_sensor()
    wave = sound("M1/healthy_1950.flac", 10.5)
    told = {}
    for number in range(4):
        sensor.hear(block(20.0 * number, lost_samples=at(lost_s) if number else 0))
        told[number] = {kind for _, kind in hear(sensor, wave, begin_s=20.0 * number)}
    assert told[3] == kinds
    assert {kind for _, kind in hear(sensor, wave, begin_s=200.0)} == {None}


def test_a_silence_of_the_source_is_no_drop_out():
    """What is missing after the card was unplugged, even three times, was told as such."""
    sensor = make_sensor()
    for number in range(5):
        sensor.restart()
        sensor.hear(block(20.0 * number, lost_samples=at(8.0)))
        told = hear(sensor, sound("M1/healthy_1950.flac", 10.5), begin_s=20.0 * number)
        assert {kind for _, kind in told} == {None}
