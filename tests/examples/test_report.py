"""The report page: it tells generated sound from recorded, and hides no stretch that ended wrongly."""

from __future__ import annotations

import numpy as np

from examples.report import HeardAlarm, MotorStory, Stretch, write_report


def story(name, sound, *alarms_s):
    """A machine that plays 12 s healthy and 12 s damaged, with alarms announced at these times."""
    rng = np.random.default_rng(0)
    return MotorStory(
        name=name,
        listens_to="enrolled" if sound == "generated" else "bldc/M1",
        sound=sound,
        wave=rng.normal(0.0, 0.1, 24 * 16_000).astype(np.float32),
        stretches=(Stretch(damaged=False, start_s=0.0, end_s=12.0), Stretch(damaged=True, start_s=12.0, end_s=24.0)),
        threshold=3.0,
        scores=((10.0, 0.5), (20.0, 9.0)),
        alarms=tuple(
            HeardAlarm(alarm_id=str(number), announced_s=time_s, end_s=None, peak_score=9.0)
            for number, time_s in enumerate(alarms_s)
        ),
    )


def page(folder, *stories):
    """The page's text."""
    return write_report(folder, stories, [("took", "30 s")], enrolled="30 windows & more").read_text()


def test_generated_sound_is_labelled(tmp_path):
    """In its rows, and in words above what its enrolment said."""
    text = page(tmp_path, story("motor-1", "recorded", 15.0), story("fan", "generated", 15.0))
    assert text.count("<td>fan</td><td>enrolled</td><td>generated</td>") == 2
    assert text.count("<td>motor-1</td><td>bldc/M1</td><td>recorded</td>") == 2
    assert "generated sound, not a recording" in text
    assert "30 windows &amp; more" in text
    assert "Every damaged stretch raised its alarm, and no healthy one did." in text


def test_false_alarm_of_the_enrolled_machine_is_told(tmp_path):
    """It counts as one of a trained machine does."""
    text = page(tmp_path, story("motor-1", "recorded", 15.0), story("fan", "generated", 8.0, 15.0))
    assert "Not every stretch ended as it must" in text
    assert text.count('<tr class="bad">') == 1
    assert "false alarm" in text


def test_missed_damage_of_the_enrolled_machine_is_told(tmp_path):
    """No alarm while it was damaged is no good end."""
    text = page(tmp_path, story("motor-1", "recorded", 15.0), story("fan", "generated"))
    assert "Not every stretch ended as it must" in text
    assert text.count('<tr class="bad">') == 1
