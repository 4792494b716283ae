"""A sound card or recorded clips in, blocks of samples at 16 kHz out."""

from edge_asd.capture.clip_player import ClipPlayer
from edge_asd.capture.devices import SoundDevice, list_devices
from edge_asd.capture.sound_card import SoundCard
from edge_asd.capture.source import Source

__all__ = ["ClipPlayer", "SoundCard", "SoundDevice", "Source", "list_devices"]
