"""A configuration in, its sources of sound out, each with the machines that it feeds."""

from __future__ import annotations

from edge_asd.capture.clip_player import ClipPlayer
from edge_asd.capture.devices import CardChoice
from edge_asd.capture.sound_card import SoundCard
from edge_asd.capture.source import Source
from edge_asd.config import ClipsSource, DeviceConfig


def open_sources(config: DeviceConfig) -> list[tuple[list[int], Source]]:
    """Each source with the machines that it feeds: one for all channels of a sound card, one for each set of clips."""
    players: list[tuple[list[int], Source]] = []
    cards: dict[CardChoice, dict[int, int]] = {}  # {machine: channel}
    for index, machine in enumerate(config.machines):
        source = machine.source
        if isinstance(source, ClipsSource):
            player = ClipPlayer(source.clips, speed=source.speed, repeat=source.repeat, channel=source.channel)
            players.append(([index], player))
        else:
            choice = CardChoice(name=source.device, alsa_id=source.alsa_id, usb_path=source.usb_path)
            cards.setdefault(choice, {})[index] = source.channel
    return [*players, *((list(fed), SoundCard(card, list(fed.values()))) for card, fed in cards.items())]
