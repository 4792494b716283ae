"""A seed in; the generated sound of a fan that no model was trained on, and what `edge-asd enroll` made of it, out."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edge_asd.errors import EdgeAsdError, TemporaryError
from train.synth.background import GeneratedBackground
from train.synth.data_set import Settings, write_data_set
from train.synth.machine import Damage
from train.synth.plan import DEFAULT_SNR_DB, plan_clips

NAME = "generated-fan"
"""Says wherever the machine is named, on MQTT and in pictures, that nobody recorded it."""

_TYPE = "fan"  # a motor with blades: of generated machines the nearest to motors with propellers
_DAMAGE = Damage(fault="bearing", severity=1.0)  # severe, by docs/synth.md
_N_ENROLLED = 30  # 5 minutes
_N_PLAYED = 3  # healthy, and as many damaged
_TIME_LIMIT_S = 90.0


@dataclass(frozen=True, kw_only=True)
class Sound:
    """Clips of 10 s, one window each: healthy to be learned, and healthy and damaged ones that were never learned."""

    enrolled: tuple[Path, ...]
    healthy: tuple[Path, ...]
    damaged: tuple[Path, ...]


@dataclass(frozen=True, kw_only=True)
class Enrolment:
    """What the command said, and its wall time with the start of its process and of the engine."""

    said: str
    n_windows: int
    took_s: float

    @property
    def summary(self) -> str:
        """The time, as a whole and for each window."""
        return (
            f"{self.n_windows} windows learned in {self.took_s:.1f} s, start of the command included: "
            f"{self.took_s / self.n_windows:.2f} s a window"
        )


def generate(folder: Path, *, seed: int = 0) -> Sound:
    """Generate one unit's clips into a new folder; every file's comment says that it is generated.

    Raises:
        EdgeAsdError: the folder cannot be written.
    """
    planned = plan_clips([_TYPE], ids=1, train=_N_ENROLLED, test=_N_PLAYED, seed=seed, severity=_DAMAGE.severity)
    clips = [clip if clip.label == "normal" else replace(clip, damage=_DAMAGE) for clip in planned]
    settings = Settings(seed=seed, severity=_DAMAGE.severity, snr_db=DEFAULT_SNR_DB, noise="")
    write_data_set(folder, clips, settings, GeneratedBackground(), threads=os.cpu_count() or 1)
    return Sound(
        enrolled=tuple(folder / clip.file for clip in clips if clip.split == "train"),
        healthy=tuple(folder / clip.file for clip in clips if (clip.split, clip.label) == ("test", "normal")),
        damaged=tuple(folder / clip.file for clip in clips if clip.label == "anomaly"),
    )


def machine_from_sound(sound: Sound, *, speed: float) -> dict[str, Any]:
    """The machine's part of a device's configuration; all else of it is as the defaults are."""
    return {
        "name": NAME,
        "listens_to": "enrolled",
        "source": {"clips": [str(clip) for clip in (*sound.healthy, *sound.damaged)], "speed": speed},
        "alarm": {"on_delay_s": 2.0, "off_delay_s": 5.0, "re_alarm_s": None},
    }


def enroll(config: Path, clips: Sequence[Path]) -> Enrolment:
    """Run the product's own command as a process of its own.

    Raises:
        EdgeAsdError: it does not learn the machine; its message stands above.
        TemporaryError: it takes too long.
    """
    command = [sys.executable, "-m", "edge_asd.cli", "enroll", NAME, "--config", str(config), "--clips"]
    started_s = time.monotonic()
    try:
        done = subprocess.run(
            [*command, *map(str, clips)], check=False, stdout=subprocess.PIPE, text=True, timeout=_TIME_LIMIT_S
        )
    except subprocess.TimeoutExpired as error:
        raise TemporaryError(
            f"edge-asd enroll still ran after {error.timeout:g} s; expected it to end; is the machine busy?"
        ) from error
    if done.returncode != 0:
        raise EdgeAsdError(
            f"edge-asd enroll ended with {done.returncode}; expected 0; its message stands above\n{done.stdout}"
        )
    return Enrolment(said=done.stdout.strip(), n_windows=len(clips), took_s=time.monotonic() - started_s)
