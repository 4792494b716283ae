"""The folder that the command line names in, the machines, further machines and noise that the benchmark uses out."""

from __future__ import annotations

import hashlib
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.noise_robustness.noise import NoiseClip, generate_noise, list_kinds
from edge_asd.errors import UsageError
from train.data import Recording, load_recordings
from train.data.generated import is_generated
from train.retain.noise import list_noise

MACHINES, NOISE = "uav_propeller", "esc50"
"""Folders of DATA with the machines that are tested, and with the noise."""
FURTHER_FOLDERS = ("bldc_motor", "dcase2020")
"""Folders of DATA whose healthy clips not stated for the test may be further classes."""
FURTHER_TAGS = ("airplane", "chainsaw", "engine", "hand_saw", "helicopter", "train")
"""Machine-like tags of the noise folder that are further classes, and noise nowhere."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineClip:
    """One recording of a machine. group: recordings that must stay on one side."""

    path: Path
    class_name: str
    is_anomaly: bool
    group: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Sound:
    """What there is to work with.

    name: of the tested machines' folder. generated: whether they are computed, not recorded. folder, recordings: the
    tested machines. further: healthy clips of other machines, for training alone. noise: none of it is of a tag that
    is in `further`.
    """

    name: str
    generated: bool
    folder: Path
    recordings: tuple[Recording, ...]
    further: tuple[MachineClip, ...]
    noise: tuple[NoiseClip, ...]

    def facts(self) -> dict[str, Any]:
        """What results say of it, and are compared by."""
        return {
            "machines": self.name,
            "generated": self.generated,
            "clips": dict(sorted(Counter(f"{one.class_name} {one.label}" for one in self.recordings).items())),
            "further": dict(sorted(Counter(one.class_name for one in self.further).items())),
            "noise": dict(sorted(Counter(one.kind for one in self.noise).items())),
            "sha256": self.sha256(),
        }

    def sha256(self) -> str:
        """Of every clip's bytes, and of what is said of it: rows of a table are measured on the same sound."""
        said = [
            *((self.folder / each.file, each.class_name, each.label, each.group) for each in self.recordings),
            *((each.path, each.class_name, "further", each.group) for each in self.further),
            *((each.path, each.tag, each.kind, each.group) for each in self.noise),
        ]
        lines = ["\t".join((path.name, *words, hashlib.sha256(path.read_bytes()).hexdigest())) for path, *words in said]
        return hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()


def open_sound(data: Path, work: Path, *, noise: Path | None = None) -> Sound:
    """List what is in DATA: the folders uav_propeller and esc50, or itself a data folder of machines.

    Args:
        data: as the command line names it.
        work: where noise is generated if none is given and none is at hand.
        noise: a folder of noise with a metadata.csv (file, tag, group).

    Raises:
        UsageError: neither is there, or a table is not as expected.
        ClipError: a noise clip cannot be used.
    """
    if (data / MACHINES).is_dir():
        folder, noise_folder = data / MACHINES, noise or data / NOISE
        further = _further(data, noise_folder)
        noise_clips = list_kinds(noise_folder, without=FURTHER_TAGS)
    else:
        folder, further = data, ()
        if noise is None:
            generate_noise(work / "noise", seed=0)
        noise_clips = list_kinds(noise or work / "noise")
    if not noise_clips:
        raise UsageError(f"{noise or data}: no clip of noise is clearly stationary or clearly not; record more kinds")
    return Sound(
        name=folder.resolve().name,
        generated=is_generated(folder),
        folder=folder,
        recordings=load_recordings(folder),
        further=further,
        noise=noise_clips,
    )


def _further(data: Path, noise_folder: Path) -> tuple[MachineClip, ...]:
    clips = [
        MachineClip(
            path=folder / recording.file, class_name=recording.class_name, is_anomaly=False, group=recording.group
        )
        for folder in (data / name for name in FURTHER_FOLDERS)
        if folder.is_dir()
        for recording in load_recordings(folder)
        if recording.label == "normal" and (recording.stated_split == "train" or folder.name == FURTHER_FOLDERS[0])
    ]
    clips += [
        MachineClip(
            path=noise_folder / clip.file,
            class_name=f"{noise_folder.name}/{clip.tag}",
            is_anomaly=False,
            group=clip.group,
        )
        for clip in list_noise(noise_folder)
        if clip.tag in FURTHER_TAGS
    ]
    return tuple(clips)
