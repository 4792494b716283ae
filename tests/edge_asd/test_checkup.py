"""What the doctor makes of disks, clocks and cards that a test cannot have."""

from collections import namedtuple

import pytest
import yaml

from edge_asd.capture.devices import SoundDevice
from edge_asd.capture.survey import SurveyedCard
from edge_asd.config import load_config
from edge_asd.daemon import checkup
from edge_asd.health import Clock

Usage = namedtuple("Usage", ("total", "used", "free"))


@pytest.fixture
def make_config(tmp_path):
    """A function: the configuration of a device with one machine on a sound card."""

    def make(**source):
        path = tmp_path / "device.yaml"
        machine = {"name": "fan", "listens_to": "fan/F1", "source": source}
        path.write_text(
            yaml.safe_dump(
                {"schema": 1, "site": "hall", "device": "d", "state_dir": str(tmp_path), "machines": [machine]}
            )
        )
        return load_config(path, files_must_exist=False)

    return make


@pytest.mark.parametrize(("free", "verdict"), [(50e6, "bad"), (200e6, "poor"), (64e9, "good")])
def test_a_disk_is_judged_by_what_may_come_to_lie_on_it(free, verdict, make_config, monkeypatch):
    """Room for the spool and evidence is good, less is poor, and next to none is bad."""
    monkeypatch.setattr("shutil.disk_usage", lambda _: Usage(64e9, 64e9 - free, free))
    finding = checkup._disk(make_config())
    assert (finding.subject, finding.verdict) == ("disk", verdict)
    assert f"{free / 1e6:.0f} MB free" in finding.text


def test_a_clock_that_nobody_sets_is_poor():
    """Alarms go on without it; what to start is said."""
    assert checkup._clock(Clock(synced=True, max_error_ms=3.0)).verdict == "good"
    finding = checkup._clock(Clock(synced=False, max_error_ms=None))
    assert finding.verdict == "poor"
    assert "timedatectl set-ntp true" in finding.text


CARD = SoundDevice(index=0, name="USB Audio", channels=2, native_rate_hz=48_000, is_default=True)


@pytest.mark.parametrize(
    ("source", "trouble", "verdict", "text"),
    [
        ({"device": "usb", "channel": 1}, None, "good", "USB Audio, channel 1, 48000 Hz, resampled"),
        ({"device": "usb", "channel": 2}, None, "bad", "expected 0 to 1"),
        ({"device": "line"}, None, "bad", "no sound card is called 'line'"),
        ({"device": "usb"}, "it is busy; see who has it", "bad", "it is busy; see who has it"),
    ],
)
def test_a_sound_card_is_there_has_the_channel_and_opens(source, trouble, verdict, text, make_config):
    """What is missing of the three is said."""
    machine = make_config(**source).machines[0]
    surveyed = SurveyedCard(device=CARD, takes_16_khz=None if trouble else False, trouble=trouble)
    finding = checkup._sound_card("fan", machine.source, (surveyed,))
    assert finding.verdict == verdict
    assert text in finding.text


def test_a_card_in_use_by_the_daemon_is_well(make_config, monkeypatch):
    """A machine that the running daemon hears has its card, which nobody else can open now."""
    monkeypatch.setattr(checkup, "survey", lambda: ())
    findings = list(checkup._sound_cards(make_config(device="usb"), frozenset({"fan"})))
    assert [finding.verdict for finding in findings if finding.subject == "sound of fan"] == ["good"]
