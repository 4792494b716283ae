"""The sound card, through a real sound server: PulseAudio plays into a null sink, PortAudio records its monitor."""

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest
import soundfile

from edge_asd.capture.clips import SAMPLE_RATE_HZ
from edge_asd.capture.devices import CardChoice
from edge_asd.capture.sound_card import SoundCard
from edge_asd.types import FeatureSpec, NoSound
from edge_asd.window import Windower

LEFT_HZ, RIGHT_HZ = 1_000.0, 3_000.0
LEFT_PEAK, RIGHT_PEAK = 0.5, 0.25
PLANT = CardChoice(name="plant")


@pytest.fixture
def tones(pulse, tmp_path) -> Iterator[None]:  # noqa: ARG001 - it plays into that server
    """Two tones, one a channel, played into the plant by paplay."""
    seconds = np.arange(60 * 48_000) / 48_000
    left = LEFT_PEAK * np.sin(2 * np.pi * LEFT_HZ * seconds)
    right = RIGHT_PEAK * np.sin(2 * np.pi * RIGHT_HZ * seconds)
    soundfile.write(tmp_path / "tones.wav", np.stack([left, right], axis=1), 48_000, subtype="FLOAT")
    player = subprocess.Popen(["paplay", "--latency-msec=2000", "--device=plant", str(tmp_path / "tones.wav")])
    yield
    player.terminate()
    player.wait(10)


@pytest.fixture
def card(pulse) -> Iterator[SoundCard]:  # noqa: ARG001 - it records that server
    """One channel of the plant."""
    made = SoundCard(PLANT, [0])
    yield made
    made.close()


def record(card: SoundCard, seconds: float) -> tuple[np.ndarray, list]:
    """The sound (n, channels) of that many seconds from the first that is not silent, and its blocks."""
    kept: list = []
    for blocks in card:
        assert not isinstance(blocks, NoSound), blocks
        if blocks[0].lost_samples:  # what a sound server skips at its start
            kept = []
        if kept or np.abs(blocks[0].samples).max(initial=0) > 0.1:
            kept.append(blocks)
        if sum(len(blocks[0].samples) for blocks in kept) >= seconds * SAMPLE_RATE_HZ:
            break
    card.close()
    kept = kept[1:]  # the tone may begin within the first
    return np.concatenate([np.stack([block.samples for block in blocks], axis=1) for blocks in kept]), kept


def assert_tone(samples: np.ndarray, frequency_hz: float, peak: float) -> None:
    """A sine of that frequency and peak without a break: what a fitted sine leaves is 60 dB below it."""
    phase = 2 * np.pi * frequency_hz * np.arange(len(samples)) / SAMPLE_RATE_HZ
    basis = np.stack([np.cos(phase), np.sin(phase)], axis=1)  # (n, 2)
    fitted, *_ = np.linalg.lstsq(basis, samples.astype(float), rcond=None)
    assert np.hypot(*fitted) == pytest.approx(peak, rel=0.01)
    assert np.sqrt(np.mean((samples - basis @ fitted) ** 2)) < 1e-3 * peak


@pytest.mark.usefixtures("tones")
def test_a_card_is_recorded_channel_by_channel():
    """Both tones arrive with their frequency and level, in the order asked for, each block a moment after its sound."""
    samples, blocks = record(SoundCard(PLANT, [1, 0]), 3.0)
    assert_tone(samples[:, 0], RIGHT_HZ, RIGHT_PEAK)
    assert_tone(samples[:, 1], LEFT_HZ, LEFT_PEAK)
    ends_s = np.array([block.end_monotonic_s for block, _ in blocks])
    assert ends_s[-1] <= time.monotonic()
    offsets_s = np.array([block.end_utc_s - block.end_monotonic_s for block, _ in blocks])
    np.testing.assert_allclose(offsets_s, time.time() - time.monotonic(), atol=0.05)
    heard_s = sum(len(block.samples) for block, _ in blocks[1:]) / SAMPLE_RATE_HZ
    assert ends_s[-1] - ends_s[0] == pytest.approx(heard_s, abs=0.1)


NATIVE_RATE_ALONE = '''
"""The real sounddevice, whose cards take 48 kHz alone."""
import importlib.util, sys
from importlib.machinery import PathFinder
spec = PathFinder.find_spec("sounddevice", [path for path in sys.path if not __file__.startswith(path + "/")])
real = importlib.util.module_from_spec(spec)
spec.loader.exec_module(real)
globals().update(vars(real))

def query_devices():
    return [{**device, "default_samplerate": 48_000.0} for device in real.query_devices()]

def check_input_settings(*, samplerate, **settings):
    if samplerate != 48_000:
        raise PortAudioError("Invalid sample rate", -9997)
    real.check_input_settings(samplerate=samplerate, **settings)
'''


@pytest.mark.slow
@pytest.mark.usefixtures("tones")
def test_a_card_that_refuses_16_khz_is_resampled(tmp_path, monkeypatch):
    """A card of 48 kHz alone is opened at 48 kHz; its sound arrives at 16 kHz without a break."""
    (tmp_path / "sounddevice.py").write_text(NATIVE_RATE_ALONE)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    samples, blocks = record(SoundCard(PLANT, [0]), 3.0)
    assert {len(block.samples) for (block,) in blocks} != {640}
    assert_tone(samples[:, 0], LEFT_HZ, LEFT_PEAK)


@pytest.mark.usefixtures("tones")
def test_no_window_spans_the_gap_when_the_recording_process_is_killed(card):
    """A kill within a tone: every window of what is heard is an unbroken tone, and the gap stands in coverage."""
    windower = Windower(FeatureSpec(window_samples=SAMPLE_RATE_HZ // 2), SAMPLE_RATE_HZ // 4)
    windows, n_blocks = [], 0
    for heard in card:
        if isinstance(heard, NoSound):
            n_blocks = 0
            continue
        windows += windower.push(heard[0])
        n_blocks += 1
        if n_blocks == 40 and card.restarts:
            break
        if n_blocks == 40:
            card._recorder.process.kill()
    loud = [window for window in windows if np.abs(window.wave[:100]).max() > 0.1]  # the tone has begun
    assert len(loud) >= 4
    for window in loud:
        assert_tone(window.wave[800:], LEFT_HZ, LEFT_PEAK)  # a server's resampler swings in
    assert min(window.coverage for window in windows) < 0.9


def faults(card: SoundCard, events: list[tuple[float, str]]) -> threading.Thread:
    """Follow a card in a thread: when its sound stopped and came back, on the monotonic clock."""

    def follow():
        silent = False
        for heard in card:
            if isinstance(heard, NoSound):
                if not silent:
                    events.append((time.monotonic(), heard.reason))
                silent = True
            elif silent or not events:
                events.append((time.monotonic(), "heard"))
                silent = False

    thread = threading.Thread(target=follow, daemon=True)
    thread.start()
    return thread


def wait_for(events, n_events, timeout_s=30.0):
    give_up_s = time.monotonic() + timeout_s
    while len(events) < n_events:
        assert time.monotonic() < give_up_s, events
        time.sleep(0.02)
    return events[n_events - 1]


def test_a_sound_server_that_dies_is_told_in_5_s_and_heard_again_in_10(pulse, card):
    """PulseAudio killed and started again under a live capture."""
    events: list[tuple[float, str]] = []
    follower = faults(card, events)
    wait_for(events, 1)
    pulse.kill()
    broken_s = time.monotonic()
    lost_s, reason = wait_for(events, 2)
    assert lost_s - broken_s < 5.0
    assert "ended its stream" in reason or "not delivered" in reason
    time.sleep(1.0)
    pulse.start()
    back_s = time.monotonic()
    assert wait_for(events, 3)[0] - back_s < 10.0
    card.close()
    follower.join(5)
    assert not follower.is_alive()


@pytest.mark.slow
def test_a_sound_server_that_hangs_is_told_in_5_s_and_heard_again_in_10(pulse, card):
    """PulseAudio stopped by a signal under a live capture, for longer than an attempt takes, and let go on."""
    events: list[tuple[float, str]] = []
    faults(card, events)
    wait_for(events, 1)
    pulse.freeze()
    broken_s = time.monotonic()
    try:
        lost_s, reason = wait_for(events, 2)
        assert lost_s - broken_s < 5.0
        assert "has not delivered sound for 3 s" in reason
        time.sleep(12.0)
    finally:
        pulse.thaw()
    back_s = time.monotonic()
    assert wait_for(events, 3)[0] - back_s < 10.0


@pytest.mark.usefixtures("pulse")
def test_closing_from_another_thread_ends_the_iteration():
    """A reader that waits for sound is let go within a second, and the card can be opened again."""
    for _ in range(2):
        card = SoundCard(PLANT, [0])
        closer = threading.Timer(0.5, card.close)
        closer.start()
        began_s = time.monotonic()
        assert not any(isinstance(heard, NoSound) for heard in card)
        assert time.monotonic() - began_s < 4.0
        closer.join()


@pytest.mark.parametrize(
    ("choice", "channels", "text"),
    [
        (CardChoice(name="plunt mic"), [0], "no sound card is called 'plunt mic'; did you mean 'plant mic'?"),
        (CardChoice(name="mic"), [0], "'mic' could be any of 'plant mic', 'silent mic'; expected what fits one name"),
        (CardChoice(alsa_id="Device"), [0], "there is no sound card of ALSA id 'Device'; expected one of"),
        (PLANT, [0, 99], "channel 99 was asked for; expected 0 to"),
        (CardChoice(name="silent mic"), [0], "'silent mic' cannot be opened"),
    ],
    ids=str,
)
@pytest.mark.usefixtures("pulse")
def test_a_card_that_cannot_be_used_says_why(choice, channels, text):
    """What was found, what was expected and what to do is the first that is heard of it."""
    card = SoundCard(choice, channels)
    silence = next(iter(card))
    card.close()
    assert isinstance(silence, NoSound)
    assert text in silence.reason


@pytest.mark.usefixtures("pulse")
def test_the_command_shows_real_cards():
    """`edge-asd devices` says of a card that works what it can, and of one that does not why."""
    command = [sys.executable, "-m", "edge_asd.cli", "devices", "--json"]
    done = subprocess.run(command, capture_output=True, check=True, text=True)
    cards = {card["name"]: card for card in json.loads(done.stdout)}
    plant = cards["plant mic"]
    assert (plant["takes_16_khz"], plant["trouble"]) == (True, None)
    assert plant["channels"] >= 2
    assert plant["native_rate_hz"] >= SAMPLE_RATE_HZ
    assert "cannot be opened" in cards["silent mic"]["trouble"]
