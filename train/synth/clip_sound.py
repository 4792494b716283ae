"""A planned clip in, its int16 samples at 16 kHz out."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from train.synth.background import Background, mix
from train.synth.levels import gain_from_db, rms
from train.synth.machine import HEALTHY, SAMPLE_RATE_HZ, Machine, Operation, Take, Wave
from train.synth.plan import Clip
from train.synth.random_streams import stream
from train.synth.room import Room
from train.synth.types import MACHINES

CLIP_SAMPLES = 10 * SAMPLE_RATE_HZ
_LEAD_IN = SAMPLE_RATE_HZ // 2
"""Samples ahead of the clip that are left out, so that the room is full of sound when it begins."""
_MACHINE_DBFS = -28.0
_MACHINE_PEAK = 0.3
"""A machine of blows, as a valve, is recorded at a lower level, so that its healthy peaks leave room."""
_PEAK = 0.97
_FULL_SCALE = 32_768.0


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Installation:
    """A unit where it stands: heard in its room, scaled by `gain` to the usual level `level_rms` at its microphone."""

    machine: Machine
    room: Room
    gain: float
    level_rms: float


@lru_cache(maxsize=1024)
def install(seed: int, machine_type: str, machine_id: str) -> Installation:
    """Draw a unit and its room, and set the microphone's gain by a run at nominal speed."""
    names = (machine_type, machine_id)
    machine = MACHINES[machine_type].draw(stream(seed, *names, "unit"))
    rng = stream(seed, *names, "room")
    room = Room.draw(rng)
    level_rms = gain_from_db(_MACHINE_DBFS + float(rng.uniform(-3.0, 3.0)))
    take = Take(n_samples=CLIP_SAMPLES + _LEAD_IN, healthy=rng, damaged=rng)
    nominal = room.hear(machine.sound(Operation(speed_hz=machine.speed_hz, load=0.6), HEALTHY, take))[_LEAD_IN:]
    gain = min(level_rms / rms(nominal), _MACHINE_PEAK / float(np.max(np.abs(nominal))))
    return Installation(machine=machine, room=room, gain=gain, level_rms=gain * rms(nominal))


def make_clip(seed: int, clip: Clip, background: Background, snr_db: float) -> tuple[NDArray[np.int16], str]:
    """Generate a clip: (160000,) int16, and the name of the recording its noise is from.

    The same for the same arguments, whatever else is generated. A clip whose peaks would clip is scaled down whole.

    Raises:
        ClipError: as `Background.draw`.
    """
    unit = install(seed, clip.machine_type, clip.machine_id)
    names = (clip.machine_type, clip.machine_id, clip.split, clip.label, str(clip.number))
    take = Take(
        n_samples=CLIP_SAMPLES + _LEAD_IN, healthy=stream(seed, *names, "sound"), damaged=stream(seed, *names, "damage")
    )
    wave = unit.machine.sound(clip.operation(unit.machine.speed_hz), clip.damage, take)
    rng = stream(seed, *names, "recording")
    heard = unit.room.hear(wave)[_LEAD_IN:] * unit.gain * gain_from_db(float(rng.normal(0.0, 0.5)))
    noise, source = background.draw(rng, CLIP_SAMPLES, clip.split)
    return _as_int16(mix(rng, heard, noise, unit.level_rms, snr_db)), source


def _as_int16(wave: Wave) -> NDArray[np.int16]:
    peak = float(np.max(np.abs(wave)))
    scaled = wave * (_PEAK / peak) if peak > _PEAK else wave
    return np.rint(scaled * _FULL_SCALE).astype(np.int16)
