"""Generated machines in; how many healthy and damaged windows are above the threshold once they are enrolled, out.

`python -m benchmarks.enrolment [BUNDLE] [--types fan] [--units 10] [--seed 100] [--json FILE]`. Each unit is learned
from 30 healthy clips of 10 s, by the code of `edge-asd enroll --clips` and with its defaults. Three healthy and three
damaged clips a fault are judged; each clip is one window. The sound is generated, so its figures are none of real
machines. The time to learn a window is that of reading, the ear's checks, the search for speech, and the network.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.progress import track

from benchmarks.report import print_table, write_report
from edge_asd.bundle import Encoder, open_bundle
from edge_asd.config import EnrollConfig
from edge_asd.daemon.models import encoder_of
from edge_asd.enroll.clips import ClipLearner
from edge_asd.enroll.collector import Kept, memory_from_kept
from edge_asd.enroll.learn import learn
from edge_asd.errors import EdgeAsdError
from edge_asd.pipeline import open_pipeline
from edge_asd.score import KnnScorer
from edge_asd.sensor import SensorSettings
from train.evaluation.roc import roc_areas
from train.synth.background import GeneratedBackground
from train.synth.data_set import LABEL, Settings, write_data_set
from train.synth.plan import DEFAULT_SNR_DB, Clip, plan_clips
from train.synth.types import MACHINES

_EXAMPLE = Path(__file__).resolve().parent.parent / "examples" / "bldc_motor" / "bldc-motor-1.0.0.asd"
_N_ENROLLED = 30
_N_JUDGED = 3  # of each kind


@dataclass(kw_only=True)
class _Kind:
    """Of one machine type: its healthy windows, or those with one fault."""

    margins: list[NDArray[np.float64]] = field(default_factory=list)  # of each unit's windows: score less threshold
    aucs: list[float] = field(default_factory=list)  # of each unit; of healthy windows none

    def figures(self) -> dict[str, float]:
        margins = np.concatenate(self.margins)
        figures = {
            "windows": len(margins),
            "above_threshold": int((margins >= 0.0).sum()),
            "units": len(self.margins),
            "units_with_any_above": sum(bool((unit >= 0.0).any()) for unit in self.margins),
            "margin_min": float(margins.min()),
            "margin_max": float(margins.max()),
        }
        return figures | ({"auc_mean": float(np.mean(self.aucs))} if self.aucs else {})


@dataclass(kw_only=True)
class _Judge:
    """Enrolls units one after the other; kinds by the name of the type and fault, and how long each clip took."""

    learner: ClipLearner
    encoder: Encoder
    kinds: dict[str, _Kind] = field(default_factory=lambda: defaultdict(_Kind))
    learn_ms: list[float] = field(default_factory=list)

    def judge(self, machine_type: str, seed: int, severity: float) -> None:
        """Learn one unit and add its scores to those of its type."""
        learned: list[Kept] = []
        judged: list[tuple[str, Kept]] = []
        for clip, kept in self._heard(machine_type, seed, severity):
            if clip.split == "train":
                learned += kept
            else:
                judged += [(clip.damage.fault, each) for each in kept]
        memory = memory_from_kept(learned, self.encoder)
        spec = self.encoder.feature_spec
        calibration = learn(
            memory,
            false_alarms_per_week=EnrollConfig().false_alarms_per_week,
            window_s=spec.window_samples / spec.sample_rate_hz,
            precision=self.encoder.precision,
        ).calibration
        scores = KnnScorer(memory, calibration.fit).score_vectors(np.stack([each.vector for _, each in judged]))
        faults = np.array([fault for fault, _ in judged])
        for fault in dict.fromkeys(faults.tolist()):
            kind = self.kinds[f"{machine_type} {'healthy' if fault == 'none' else fault}"]
            kind.margins.append(scores[faults == fault] - calibration.threshold.threshold)
            if fault != "none":
                both = (faults == fault) | (faults == "none")
                kind.aucs.append(float(roc_areas(scores[both], faults[both] == fault)[0][0]))

    def _heard(self, machine_type: str, seed: int, severity: float) -> Iterator[tuple[Clip, list[Kept]]]:
        clips = _planned(machine_type, seed, severity)
        with tempfile.TemporaryDirectory(prefix="edge-asd-enrolment-") as folder:
            settings = Settings(seed=seed, severity=severity, snr_db=DEFAULT_SNR_DB, noise="")
            write_data_set(Path(folder), clips, settings, GeneratedBackground())
            for clip in clips:
                began_s = time.perf_counter()
                # Groups are the minutes of a clip, and each clip lasts a part of one.
                heard = self.learner.learn(Path(folder) / clip.file, first_group=2 * clip.number)
                self.learn_ms.append(1e3 * (time.perf_counter() - began_s))
                yield clip, heard.kept


def main(arguments: Sequence[str] | None = None) -> int:
    """Enroll, judge, print the table, write the JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.enrolment", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("bundle", nargs="?", type=Path, default=_EXAMPLE, help="default: the example's")
    parser.add_argument("--types", nargs="+", choices=list(MACHINES), default=["fan"], help="of machines (%(default)s)")
    parser.add_argument("--units", type=int, default=10, help="of each type, each with a seed of its own (%(default)s)")
    parser.add_argument("--seed", type=int, default=100, help="of the first unit (%(default)s)")
    parser.add_argument("--severity", type=float, default=1.0, help="of every damage; 1 is severe (%(default)s)")
    parser.add_argument("--json", type=Path, help="where to write the results (default: benchmarks/results)")
    options = parser.parse_args(arguments)
    try:
        bundle = open_bundle(options.bundle)
        with open_pipeline(bundle, prefer=["openvino", "onnxruntime"], precision="int8") as pipeline:
            encoder = encoder_of(bundle, pipeline.precision)
            settings = SensorSettings()
            judge = _Judge(
                learner=ClipLearner(
                    pipeline, encoder, settings=settings, refuse_speech=EnrollConfig().refuse_speech, channel=None
                ),
                encoder=encoder,
            )
            units = [(name, options.seed + number) for name in options.types for number in range(options.units)]
            for machine_type, seed in track(units, "units", transient=True, disable=not sys.stderr.isatty()):
                judge.judge(machine_type, seed, options.severity)
            engine = pipeline.engine
    except EdgeAsdError as error:
        parser.exit(error.exit_code, f"{parser.prog}: {error}\n")
    learning = {"p50_ms": float(np.percentile(judge.learn_ms, 50)), "p99_ms": float(np.percentile(judge.learn_ms, 99))}
    contestants = {name: kind.figures() for name, kind in judge.kinds.items()} | {"learning a window": learning}
    print_table("enrolment", contestants, {})
    details = {
        "sound": LABEL,
        "model": f"{bundle.manifest.name} {bundle.manifest.version}",
        "layer": encoder.layer,
        "engine": engine,
        "false_alarms_per_week": EnrollConfig().false_alarms_per_week,
    }
    write_report("enrolment", contestants, {}, path=options.json, details=details)
    return 0


def _planned(machine_type: str, seed: int, severity: float) -> list[Clip]:
    """One unit's clips: healthy to be learned, then healthy and damaged to be judged, as many of each fault."""
    n_test = _N_JUDGED * len(MACHINES[machine_type].FAULTS)
    planned = plan_clips([machine_type], ids=1, train=_N_ENROLLED, test=n_test, seed=seed, severity=severity)
    return [
        clip if clip.label == "normal" else replace(clip, damage=replace(clip.damage, severity=severity))
        for clip in planned
        if clip.label == "anomaly" or clip.split == "train" or clip.number < _N_JUDGED
    ]


if __name__ == "__main__":
    sys.exit(main())
