"""Clips with known health of the ear in, what the sensor calls a fault out: none of a sound clip may be one.

`python -m benchmarks.sensor DATA [--json FILE]`. DATA holds folders of clips, each with a metadata.csv (file,
machine_type, machine_id, attributes, label). Each clip is heard on its own for faults of its samples. Then, machine by
machine, an ear learns from half of the normal clips and hears the others (the same where there is one alone) and the
damaged ones for a change of the ear; and what it knows once more, muffled and turned down, which has to be found.
Folders without machine_id are heard for faults of samples alone.
"""

from __future__ import annotations

import argparse
import csv
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from rich.progress import track

from benchmarks.report import print_table, write_report
from edge_asd.capture.clips import read_clip
from edge_asd.errors import EdgeAsdError
from edge_asd.sensor import Baseline, Sensor, SensorSettings
from edge_asd.types import FeatureSpec, FloatArray, Window

_SPEC = FeatureSpec()
_HOP_SAMPLES = 15_360
_NEVER_S = 1e9
_CORNER_HZ, _ORDER = 2_000.0, 3
"""Of the low-pass that stands for a cover over the microphone."""

_QUIETER = 10.0 ** (-15.0 / 20.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Clip:
    """One file and the machine that it is of; machine is None where the folder does not say."""

    path: Path
    machine: tuple[str, ...] | None
    normal: bool


@dataclass(slots=True)
class _Count:
    """Of one folder."""

    clips: int = 0
    windows: int = 0
    faults: Counter[str] = field(default_factory=Counter)  # clips with a fault of that kind
    clips_with_fault: int = 0
    judge_ms: list[float] = field(default_factory=list)
    changes_heard: int = 0  # clips that an ear with a baseline heard
    changes: Counter[str] = field(default_factory=Counter)
    known_clips: int = 0
    muffled_found: int = 0
    quieter_found: int = 0

    def figures(self) -> dict[str, float]:
        figures = {
            "clips": self.clips,
            "windows": self.windows,
            "clips_with_fault": self.clips_with_fault,
            "clips_with_fault_share": self.clips_with_fault / self.clips,
            "judge_hop_p50_ms": float(np.percentile(self.judge_ms, 50)),
            **{f"fault_{kind}_clips": count for kind, count in sorted(self.faults.items())},
        }
        if self.changes_heard:
            figures |= {
                "changes_heard_clips": self.changes_heard,
                "changes_told_clips": sum(self.changes.values()),
                "muffled_found_share": self.muffled_found / self.known_clips,
                "quieter_found_share": self.quieter_found / self.known_clips,
                **{f"change_{kind}_clips": count for kind, count in sorted(self.changes.items())},
            }
        return figures


def main(arguments: Sequence[str] | None = None) -> int:
    """Count, print the table, write the JSON; 0 where no sound clip of a machine is a fault."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sensor", description=(__doc__ or "").split("\n", 1)[0])
    parser.add_argument("data", type=Path, help="folders of clips, each with a metadata.csv")
    parser.add_argument("--json", type=Path, help="where to write the results (default: benchmarks/results)")
    options = parser.parse_args(arguments)
    folders = sorted(path.parent for path in options.data.glob("*/metadata.csv"))
    if not folders:
        parser.exit(2, f"{parser.prog}: {options.data} holds no folder with a metadata.csv; check the path\n")
    counts = {folder.name: count_faults(folder) for folder in folders}
    contestants = {name: count.figures() for name, count in counts.items()}
    machines = [count for count in counts.values() if count.changes_heard]
    clips = sum(count.clips for count in machines)
    false = sum(count.clips_with_fault + sum(count.changes.values()) for count in machines)
    ratios = {"false_faults_of_machine_clips": false / clips if clips else 0.0}
    print_table("sensor", contestants, ratios)
    write_report("sensor", contestants, ratios, path=options.json, details={"settings": repr(SensorSettings())})
    return 1 if false else 0


def count_faults(folder: Path) -> _Count:
    """Hear all clips of one folder."""
    count = _Count()
    clips = _clips(folder)
    for clip in track(clips, folder.name, transient=True, disable=not sys.stderr.isatty()):
        count.clips += 1
        kinds = _kinds(Sensor(_SPEC, SensorSettings(), Baseline(learn_s=_NEVER_S)), _windows(_sound(clip)), count)
        count.faults.update(kinds)
        count.clips_with_fault += bool(kinds)
    machines: dict[tuple[str, ...], list[_Clip]] = defaultdict(list)
    for clip in clips:
        if clip.machine is not None:
            machines[clip.machine].append(clip)
    for of_machine in track(
        list(machines.values()), f"{folder.name}, machines", transient=True, disable=not sys.stderr.isatty()
    ):
        _count_changes(of_machine, count)
    return count


def _count_changes(clips: Sequence[_Clip], count: _Count) -> None:
    """Hear the clips of one machine with an ear that has learned half of its normal ones, and the other half."""
    normal = [clip for clip in clips if clip.normal]
    if not normal:
        return  # nothing tells what the machine sounds like
    halves = [half for half in (normal[0::2], normal[1::2]) if half]
    baselines = [_learned_from(half) for half in halves]
    for half, of_other in zip(halves, reversed(baselines), strict=True):
        for clip in half:
            _count_change(_sound(clip), of_other, count)
    for clip in clips:
        if not clip.normal:
            _count_change(_sound(clip), baselines[0], count)
    for half, of_same in zip(halves, baselines, strict=True):
        for clip in half:
            known = _sound(clip)
            count.known_clips += 1
            count.muffled_found += "muffled" in _kinds(_knowing(of_same), _windows(_low_passed(known)))
            count.quieter_found += "quieter" in _kinds(_knowing(of_same), _windows(known * np.float32(_QUIETER)))


def _count_change(sound: FloatArray, baseline: Baseline, count: _Count) -> None:
    count.changes_heard += 1
    count.changes.update(_kinds(_knowing(baseline), _windows(sound)) & {"muffled", "quieter"})


def _learned_from(clips: Sequence[_Clip]) -> Baseline:
    baseline = Baseline(learn_s=_NEVER_S)
    for clip in clips:
        sensor = _knowing(baseline)
        for window in _windows(_sound(clip)):
            sensor.judge(window)
    baseline.learn_s = baseline.heard_s  # it is complete
    return baseline


def _knowing(baseline: Baseline) -> Sensor:
    return Sensor(_SPEC, SensorSettings(), baseline)


def _kinds(sensor: Sensor, windows: Iterator[Window], count: _Count | None = None) -> set[str]:
    kinds: set[str] = set()
    for number, window in enumerate(windows):
        began_s = time.perf_counter()
        fault = sensor.judge(window)
        if count is not None:
            count.windows += 1
            if number:  # the first is measured whole
                count.judge_ms.append(1e3 * (time.perf_counter() - began_s))
        if fault is not None:
            kinds.add(fault.kind)
    return kinds


def _windows(sound: FloatArray) -> Iterator[Window]:
    """Cut windows, one each hop; a clip that is no hop longer than a window gives one."""
    for end in range(_SPEC.window_samples, len(sound) + 1, _HOP_SAMPLES):
        first = end == _SPEC.window_samples
        fresh = _SPEC.window_samples if first else _HOP_SAMPLES
        end_s = end / _SPEC.sample_rate_hz
        yield Window(
            wave=sound[end - _SPEC.window_samples : end],
            end_monotonic_s=end_s,
            end_utc_s=end_s,
            fresh_samples=fresh,
            heard_samples=fresh,
            lost_samples=0,
        )


def _sound(clip: _Clip) -> FloatArray:
    """Read a clip, said again where it is shorter than two windows: so long a machine goes on."""
    samples = read_clip(clip.path)
    return np.resize(samples, max(len(samples), 2 * _SPEC.window_samples))


def _low_passed(sound: FloatArray) -> FloatArray:
    spectrum = np.fft.rfft(sound)
    frequencies_hz = np.fft.rfftfreq(len(sound), 1.0 / _SPEC.sample_rate_hz)
    spectrum /= np.sqrt(1.0 + (frequencies_hz / _CORNER_HZ) ** (2 * _ORDER))
    low_passed: FloatArray = np.fft.irfft(spectrum, len(sound)).astype(np.float32)
    return low_passed


def _clips(folder: Path) -> list[_Clip]:
    with (folder / "metadata.csv").open(encoding="utf-8", newline="") as file:
        return [
            _Clip(path=folder / row["file"], machine=_machine(row), normal=row.get("label") == "normal")
            for row in csv.DictReader(file)
        ]


def _machine(row: dict[str, str]) -> tuple[str, ...] | None:
    """What an ear would be mounted at; a domain of DCASE 2021 and later is another place."""
    if row.get("machine_id") in (None, "unknown"):
        return None
    attributes = dict(part.split("=", 1) for part in row["attributes"].split(";") if "=" in part)
    return row["machine_type"], row["machine_id"], attributes.get("domain", "")


if __name__ == "__main__":
    try:
        sys.exit(main())
    except EdgeAsdError as error:
        sys.exit(f"python -m benchmarks.sensor: {error}")
