"""The sound card, through a real sound server: PulseAudio plays into a null sink, PortAudio records its monitor."""

import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import soundfile

from edge_asd.capture import SoundCard
from edge_asd.capture import sound_card as sound_card_module
from edge_asd.capture.clips import SAMPLE_RATE_HZ
from edge_asd.capture.devices import list_devices
from edge_asd.cli import main
from edge_asd.errors import UnavailableError

LEFT_HZ, RIGHT_HZ = 1_000.0, 3_000.0
LEFT_PEAK, RIGHT_PEAK = 0.5, 0.25

try:
    import sounddevice
except OSError:
    sounddevice = None
MISSING = [
    name
    for name, is_there in (
        ("PortAudio (libportaudio2)", sounddevice),
        ("pulseaudio", shutil.which("pulseaudio")),
        ("paplay (pulseaudio-utils)", shutil.which("paplay")),
        ("ALSA's pulse plugin (libasound2-plugins)", any(Path("/usr/lib").glob("*/alsa-lib/*pcm_pulse.so"))),
    )
    if not is_there
]
pytestmark = pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}")


@pytest.fixture(scope="module")
def pulse(tmp_path_factory) -> Iterator[subprocess.Popen]:
    """A PulseAudio of our own with a stereo null sink whose monitor is the sound card `plant mic`."""
    home = tmp_path_factory.mktemp("pulse")
    runtime = Path("/tmp") / f"edge-asd-pulse-{os.getpid()}"  # noqa: S108 - a socket's path must be short
    runtime.mkdir(mode=0o700)
    (home / "alsa.conf").write_text(
        '</usr/share/alsa/alsa.conf>\npcm."plant mic" { type pulse device "plant.monitor" }\n'
        'pcm."silent mic" { type pulse device "nowhere.monitor" }\n'
    )
    environment = {
        "HOME": str(home),
        "XDG_RUNTIME_DIR": str(runtime),
        "PULSE_RUNTIME_PATH": str(runtime / "pulse"),
        "ALSA_CONFIG_PATH": str(home / "alsa.conf"),
    }
    command = "pulseaudio -n --daemonize=no --system=false --exit-idle-time=-1 --use-pid-file=no --log-target=stderr"
    modules = (
        "module-native-protocol-unix",
        "module-null-sink sink_name=plant rate=48000 channels=2 format=float32le",
    )
    with pytest.MonkeyPatch.context() as patch, (home / "pulse.log").open("wb") as log:
        for name, value in environment.items():
            patch.setenv(name, value)
        server = subprocess.Popen([*command.split(), *(f"--load={module}" for module in modules)], stderr=log)
        try:
            for _ in range(100):
                if subprocess.run(["pactl", "info"], capture_output=True, check=False).returncode == 0:
                    break
                time.sleep(0.05)
            else:
                pytest.fail(f"PulseAudio did not start: {(home / 'pulse.log').read_text()}")
            sounddevice._terminate()  # PortAudio lists the cards once, when it starts
            sounddevice._initialize()
            yield server
        finally:
            server.terminate()
            server.wait(10)
            shutil.rmtree(runtime)
    sounddevice._terminate()
    sounddevice._initialize()


@pytest.fixture
def tones(pulse, tmp_path) -> Iterator[None]:  # noqa: ARG001 - it plays into that server
    """Two tones, one a channel, played into the plant by paplay."""
    seconds = np.arange(30 * 48_000) / 48_000
    left = LEFT_PEAK * np.sin(2 * np.pi * LEFT_HZ * seconds)
    right = RIGHT_PEAK * np.sin(2 * np.pi * RIGHT_HZ * seconds)
    soundfile.write(tmp_path / "tones.wav", np.stack([left, right], axis=1), 48_000, subtype="FLOAT")
    player = subprocess.Popen(["paplay", "--latency-msec=2000", "--device=plant", str(tmp_path / "tones.wav")])
    yield
    player.terminate()
    player.wait(10)


def record(card: SoundCard, seconds: float) -> tuple[np.ndarray, list]:
    """The sound (n, channels) of that many seconds from the first that is not silent, and its blocks."""
    kept: list = []
    for blocks in card:
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
    """Both tones arrive with their frequency and level, in the order asked for, and nothing is lost."""
    card = SoundCard("plant", [1, 0])
    samples, blocks = record(card, 3.0)
    assert card.rate_hz == SAMPLE_RATE_HZ
    assert card.lost_samples == 0
    assert_tone(samples[:, 0], RIGHT_HZ, RIGHT_PEAK)
    assert_tone(samples[:, 1], LEFT_HZ, LEFT_PEAK)
    assert {block.lost_samples for pair in blocks for block in pair} == {0}


class Card48kHz:
    """The real sounddevice module, of whose cards none takes another rate than 48 kHz."""

    def __getattr__(self, name):
        return getattr(sounddevice, name)

    def query_devices(self):
        """All cards, with 48 kHz as native rate."""
        return [{**device, "default_samplerate": 48_000.0} for device in sounddevice.query_devices()]

    def check_input_settings(self, *, samplerate, **settings):
        """Refuse, as ALSA does, what is not 48 kHz."""
        if samplerate != 48_000:
            raise sounddevice.PortAudioError("Invalid sample rate", -9997)
        sounddevice.check_input_settings(samplerate=samplerate, **settings)


@pytest.mark.usefixtures("tones")
def test_a_card_that_refuses_16_khz_is_resampled(monkeypatch):
    """A card of 48 kHz alone is opened at 48 kHz; its sound arrives at 16 kHz without a break."""
    monkeypatch.setattr(sound_card_module, "portaudio", Card48kHz)
    monkeypatch.setattr("edge_asd.capture.devices.portaudio", Card48kHz)
    card = SoundCard("plant", [0])
    samples, _ = record(card, 3.0)
    assert card.rate_hz == 48_000
    assert card.lost_samples == 0
    assert_tone(samples[:, 0], LEFT_HZ, LEFT_PEAK)


@pytest.mark.usefixtures("tones")
def test_a_block_says_when_it_was_heard():
    """Ends of blocks are on the monotonic clock and in UTC, a moment ago, and as far apart as the sound between."""
    began_s = time.monotonic()
    _, blocks = record(SoundCard("plant", [0]), 5.0)
    blocks = blocks[20:]  # PulseAudio hands over what it had buffered in its first second
    ends_s = np.array([block.end_monotonic_s for (block,) in blocks])
    assert began_s < ends_s[0] < ends_s[-1] <= time.monotonic()
    assert time.monotonic() - ends_s[-1] < 1.5  # the driver may hold a second, and closing takes a moment
    offsets_s = np.array([block.end_utc_s - block.end_monotonic_s for (block,) in blocks])
    np.testing.assert_allclose(offsets_s, time.time() - time.monotonic(), atol=0.05)
    heard_s = sum(len(block.samples) for (block,) in blocks[1:]) / SAMPLE_RATE_HZ
    assert ends_s[-1] - ends_s[0] == pytest.approx(heard_s, abs=0.1)


@pytest.mark.usefixtures("pulse")
def test_closing_from_another_thread_ends_the_iteration():
    """A reader that waits for sound is let go within a second, and the card can be opened again."""
    for _ in range(2):
        card = SoundCard("plant", [0])
        closer = threading.Timer(0.5, card.close)
        closer.start()
        began_s = time.monotonic()
        for _blocks in card:
            pass
        assert time.monotonic() - began_s < 2.5
        closer.join()


@pytest.mark.usefixtures("tones")
def test_a_late_reader_loses_sound_and_is_told_how_much(monkeypatch):
    """What found no room in the queue is the next block's lost sound; heard and lost make up the time."""
    monkeypatch.setattr(sound_card_module, "_QUEUE_S", 0.6)
    card = SoundCard("plant", [0])
    blocks = iter(card)
    for _ in range(20):  # PulseAudio hands over what it had buffered in its first second
        first = next(blocks)[0]
    lost_before = card.lost_samples
    time.sleep(3.0)
    read = [next(blocks)[0] for _ in range(10)]
    card.close()
    lost = card.lost_samples - lost_before
    assert lost == sum(block.lost_samples for block in read) > SAMPLE_RATE_HZ
    heard_s = sum(len(block.samples) for block in read) / SAMPLE_RATE_HZ
    between_s = read[-1].end_monotonic_s - first.end_monotonic_s
    assert heard_s + lost / SAMPLE_RATE_HZ == pytest.approx(between_s, abs=0.5)


@pytest.mark.parametrize(
    ("device", "channels", "text"),
    [
        ("plunt mic", [0], r"no sound card is called 'plunt mic'; did you mean 'plant mic'\? expected .*'plant mic'"),
        ("mic", [0], r"'mic' could be any of 'plant mic', 'silent mic'; .*give more of the name"),
        ("0", [0], r"no sound card is called '0'"),
        ("plant mic", [0, 99], r"'plant mic' has \d+ channel\(s\); channel 99 was asked for; expected 0 to \d+"),
        ("silent mic", [0], r"'silent mic' cannot be opened"),
    ],
)
@pytest.mark.usefixtures("pulse")
def test_a_card_that_cannot_be_used_says_why(device, channels, text):
    """The error says what was found, what was expected and what to do; its exit code is 69."""
    with pytest.raises(UnavailableError, match=text) as caught:
        SoundCard(device, channels)
    assert caught.value.exit_code == 69


@pytest.mark.usefixtures("pulse")
def test_cards_are_listed_with_what_they_can():
    """The card of the sound server is listed by its name, with channels and rate."""
    device = next(device for device in list_devices() if device.name == "plant mic")
    assert device.channels >= 2
    assert device.native_rate_hz >= SAMPLE_RATE_HZ


@pytest.mark.usefixtures("pulse")
def test_the_command_shows_real_cards(capsys):
    """`edge-asd devices` says of a card that works what it can, and of one that does not why."""
    assert main(["devices", "--json"]) == 0
    cards = {card["name"]: card for card in json.loads(capsys.readouterr().out)}
    assert (cards["plant mic"]["takes_16_khz"], cards["plant mic"]["trouble"]) == (True, None)
    assert "cannot be opened" in cards["silent mic"]["trouble"]


DEAD_SERVER = """
    import os, signal, sys, time
    from edge_asd.capture import SoundCard
    from edge_asd.errors import TemporaryError

    card = SoundCard("plant mic", [0], stall_s=2.5)
    blocks = iter(card)
    next(blocks)
    os.kill(int(sys.argv[1]), signal.SIGSTOP)
    began_s = time.monotonic()
    try:
        for _ in blocks:
            pass
    except TemporaryError as error:
        print(error, time.monotonic() - began_s, sep="|")
"""


def test_a_dead_sound_server_is_an_error_and_the_process_still_ends(pulse):
    """A card that stops delivering is a TemporaryError within seconds, and nothing keeps the process from ending."""
    began_s = time.monotonic()
    try:
        ended = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(DEAD_SERVER), str(pulse.pid)],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
    finally:
        os.kill(pulse.pid, signal.SIGCONT)
    assert ended.returncode == 0, ended.stderr
    message, waited_s = ended.stdout.split("|")
    assert "sound card 'plant mic' delivered nothing for 2.5 s; expected sound all the time" in message
    assert float(waited_s) < 8
    assert time.monotonic() - began_s < 20
