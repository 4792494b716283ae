"""Which sound card a choice means."""

import pytest

from edge_asd.capture.alsa import AlsaCard, alsa_cards
from edge_asd.capture.devices import CardChoice, SoundDevice, choose_device, list_devices
from edge_asd.errors import UnavailableError


def card(
    index: int, name: str, *, alsa_id: str | None = None, usb_path: str | None = None, is_default: bool = False
) -> SoundDevice:
    """A sound card."""
    return SoundDevice(
        index=index,
        name=name,
        alsa_id=alsa_id,
        usb_path=usb_path,
        channels=2,
        native_rate_hz=48_000,
        is_default=is_default,
    )


CARDS = (
    card(0, "USB Audio Device: -", alsa_id="Device", usb_path="1-2.1"),
    card(3, "USB Audio Device: -", alsa_id="Device_1", usb_path="1-2.3"),
    card(4, "UMC404HD [rev 2]: USB", alsa_id="UMC", usb_path="2-1"),
    card(5, "UMC404HD [rev 2]", is_default=True),
    card(6, "UMC404HD [rev 2]: second", alsa_id="UMC", usb_path="2-1"),
)


@pytest.mark.parametrize(
    ("wanted", "index"),
    [
        (CardChoice(name="UMC404HD [rev 2]: USB"), 4),
        (CardChoice(name="UMC404HD [rev 2]"), 5),  # the whole name of one wins over a part of another's
        (CardChoice(name="umc404hd [REV 2]: usb"), 4),
        (CardChoice(name="UMC*: USB"), 4),
        (CardChoice(name="rev ?]: u"), 4),
        (CardChoice(alsa_id="Device_1"), 3),
        (CardChoice(alsa_id="UMC"), 4),  # the first device of the card
        (CardChoice(usb_path="1-2.1"), 0),
        (CardChoice(), 5),
    ],
    ids=str,
)
def test_a_choice_means_one_card(wanted, index):
    """A card is chosen by its name, a part or a pattern that fits its name alone, its id, its port, or as default."""
    assert choose_device(CARDS, wanted).index == index


@pytest.mark.parametrize(
    ("devices", "wanted", "text"),
    [
        (
            CARDS,
            CardChoice(name="USB Audio"),
            (
                r"'USB Audio' could be any of .*; give more of the name, or its alsa_id or usb_path instead: "
                r"'USB Audio Device: -' is alsa_id 'Device', usb_path '1-2\.1'; .* is alsa_id 'Device_1'"
            ),
        ),
        (
            CARDS,
            CardChoice(name="UMC204HD"),
            r"no sound card is called 'UMC204HD'; did you mean 'UMC404HD \[rev 2\]'\?",
        ),
        (CARDS, CardChoice(name="hw:1,0"), r"no sound card is called 'hw:1,0'"),  # changes from boot to boot
        (CARDS, CardChoice(name="0"), r"'0' could be any of"),  # never the card with that number
        (CARDS, CardChoice(name="[rev]"), r"no sound card is called"),  # brackets stand for themselves
        (
            CARDS,
            CardChoice(alsa_id="Dev"),
            r"no sound card of ALSA id 'Dev'; expected one of 'Device' \(USB Audio.*'UMC'",
        ),
        (
            CARDS,
            CardChoice(usb_path="1-2"),
            r"no sound card at USB port '1-2'; expected one of '1-2\.1' .*; connect it",
        ),
        (CARDS[3:4], CardChoice(usb_path="1-2"), r"expected one of none, for no card that can record has one"),
        (CARDS[:3], CardChoice(), r"no default sound card; expected the name of one; use one of 'USB Audio"),
        ((), CardChoice(), r"no sound card that can record was found; expected one; connect it"),
        ((), CardChoice(name="USB"), r"no sound card that can record was found"),
    ],
)
def test_a_choice_that_means_no_card_is_an_error_that_lists_them(devices, wanted, text):
    """No card, no such card or several: the error says which there are and what to do."""
    with pytest.raises(UnavailableError, match=text):
        choose_device(devices, wanted)


@pytest.fixture
def sysfs(tmp_path):
    """A /sys/class/sound with two USB cards alike, one behind a hub, and a card on the board."""
    devices = {
        "card0": ("tegra", "platform/sound"),
        "card1": ("Device", "platform/3610000.usb/usb1/1-2/1-2:1.0"),
        "card2": ("Device_1", "platform/3610000.usb/usb1/1-4/1-4.3/1-4.3:1.0"),
    }
    folder = tmp_path / "class" / "sound"
    folder.mkdir(parents=True)
    (folder / "timer").mkdir()
    for name, (alsa_id, place) in devices.items():
        card_folder = tmp_path / "devices" / place / "sound" / name
        card_folder.mkdir(parents=True)
        (card_folder / "id").write_text(f"{alsa_id}\n")
        (folder / name).symlink_to(card_folder)
    return folder


def test_the_kernel_says_which_card_is_where(sysfs):
    """Each card has its id, and a USB card the port that it is plugged into."""
    assert alsa_cards(sysfs) == {
        0: AlsaCard(number=0, alsa_id="tegra", usb_path=None),
        1: AlsaCard(number=1, alsa_id="Device", usb_path="1-2"),
        2: AlsaCard(number=2, alsa_id="Device_1", usb_path="1-4.3"),
    }


def test_without_sound_in_the_kernel_there_are_no_cards(tmp_path):
    """A container without /sys/class/sound is no error."""
    assert alsa_cards(tmp_path / "none") == {}


def test_a_card_is_the_same_whatever_number_it_got(sysfs, monkeypatch):
    """PortAudio's names are joined with the kernel's list by their numbers, and lose them."""

    class PortAudio:
        default = type("Default", (), {"device": (1, 1)})

        @staticmethod
        def query_devices():
            names = ("tegra: - (hw:0,0)", "USB Audio: - (hw:2,0)", "pulse", "HDMI: 3 (hw:9,3)")
            return [
                {"index": index, "name": name, "max_input_channels": 2, "default_samplerate": 48_000.0}
                for index, name in enumerate(names)
            ]

    monkeypatch.setattr("edge_asd.capture.devices.portaudio", lambda: PortAudio)
    monkeypatch.setattr("edge_asd.capture.devices.alsa_cards", lambda: alsa_cards(sysfs))
    found = [(device.name, device.alsa_id, device.usb_path, device.is_default) for device in list_devices()]
    assert found == [
        ("tegra: -", "tegra", None, False),
        ("USB Audio: -", "Device_1", "1-4.3", True),
        ("pulse", None, None, False),
        ("HDMI: 3", None, None, False),
    ]
