"""Scores of a run and waves of its worst clips in, PNG pictures of histograms, ROC curves and spectrograms out."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from edge_asd.features import log_mel_db
from edge_asd.types import FeatureSpec, FloatArray
from train.evaluation.metrics import ScoredClip
from train.evaluation.roc import MAX_FPR, roc_areas, roc_curve

mpl.use("Agg")

_HEALTHY, _DAMAGED = "#1f4e79", "#c0392b"
_COLUMNS = 5
_BINS = 30
_RANGE_DB = 70.0


@dataclass(frozen=True, slots=True, kw_only=True)
class WorstClip:
    """A clip that its score put on the wrong side: title and subtitle of its picture, and its first window (n,)."""

    title: str
    subtitle: str
    wave: FloatArray


def type_picture(clips: Sequence[ScoredClip], decisions: dict[str, float]) -> bytes:
    """Histograms of the scores of each machine ID of a type, and the ROC curves of all of them and of them pooled."""
    names = sorted({clip.class_name for clip in clips})
    n_rows = -(-(len(names) + 1) // _COLUMNS)
    figure = Figure(figsize=(12.4, 2.5 * n_rows + 0.3), layout="constrained")
    axes = figure.subplots(n_rows, _COLUMNS, squeeze=False).ravel()
    for axis, name in zip(axes, names, strict=False):
        _draw_histogram(axis, name, [clip for clip in clips if clip.class_name == name], decisions.get(name))
    figure.legend(*axes[0].get_legend_handles_labels(), fontsize=8, loc="outside upper right", ncols=3, frameon=False)
    _draw_curves(axes[len(names)], names, clips)
    for axis in axes[len(names) + 1 :]:
        axis.set_axis_off()
    return _png(figure)


def _draw_histogram(axis: Axes, name: str, clips: Sequence[ScoredClip], decision: float | None) -> None:
    scores = np.array([clip.score for clip in clips])
    is_anomaly = np.array([clip.is_anomaly for clip in clips], dtype=bool)
    shown = scores if decision is None else np.append(scores, decision)
    middle, width = (shown.min() + shown.max()) / 2.0, max(1.0, float(np.ptp(shown))) * 1.02
    bins = np.linspace(middle - width / 2.0, middle + width / 2.0, _BINS + 1).tolist()
    for kind, color, label in ((~is_anomaly, _HEALTHY, "healthy"), (is_anomaly, _DAMAGED, "damaged")):
        axis.hist(scores[kind], bins=bins, color=color, alpha=0.6, label=f"{label} clips")
    if decision is not None:
        axis.axvline(decision, color="black", ls="--", lw=1, label="decided damaged above")
    auc = roc_areas(scores, is_anomaly)[0][0]
    counts = f"{np.count_nonzero(~is_anomaly)} healthy, {np.count_nonzero(is_anomaly)} damaged"
    axis.set_title(f"{name}: " + (counts if np.isnan(auc) else f"AUC {100 * auc:.1f}"), fontsize=9, loc="left")
    axis.set_xlabel("score z", fontsize=8)
    axis.tick_params(labelsize=7)
    axis.yaxis.set_major_locator(MaxNLocator(nbins=4, integer=True))


def _draw_curves(axis: Axes, names: Sequence[str], clips: Sequence[ScoredClip]) -> None:
    groups = {name.rsplit("/", 1)[1]: [clip for clip in clips if clip.class_name == name] for name in names}
    if len(groups) > 1:
        groups["pooled"] = list(clips)
    for label, members in groups.items():
        is_anomaly = np.array([clip.is_anomaly for clip in members], dtype=bool)
        if is_anomaly.all() or not is_anomaly.any():
            continue
        fpr, tpr = roc_curve(np.array([clip.score for clip in members]), is_anomaly)
        style = {"color": "black", "lw": 1.8, "ls": ":"} if label == "pooled" else {"lw": 1.2}
        axis.plot(fpr[0], tpr[0], label=label, **style)
    axis.axvspan(0.0, MAX_FPR, color="#eeeeee", lw=0, zorder=0)
    axis.plot([0, 1], [0, 1], color="#aaaaaa", lw=0.8)
    axis.set_title("ROC (grey: where pAUC counts)", fontsize=9, loc="left")
    axis.set_xlabel("false-alarm rate", fontsize=8)
    axis.set_ylabel("hit rate", fontsize=8)
    axis.tick_params(labelsize=7)
    if groups and axis.get_legend_handles_labels()[0]:
        axis.legend(fontsize=7, loc="lower right")


def worst_picture(worst: Sequence[WorstClip]) -> bytes:
    """Log-mel spectrograms, two beside each other."""
    spec = FeatureSpec()
    n_rows = -(-len(worst) // 2)
    figure = Figure(figsize=(12.4, 2.7 * n_rows), layout="constrained")
    axes = figure.subplots(n_rows, 2, squeeze=False).ravel()
    image = None
    for axis, clip in zip(axes, worst, strict=False):
        log_mel = log_mel_db(np.resize(clip.wave, spec.window_samples)[None], spec)[0]  # (n_mels, n_frames)
        top_db = float(np.max(log_mel))
        extent = (0.0, spec.window_samples / spec.sample_rate_hz, 0.0, float(spec.n_mels))
        image = axis.imshow(
            log_mel - top_db, origin="lower", aspect="auto", extent=extent, vmin=-_RANGE_DB, vmax=0.0, cmap="magma"
        )
        axis.set_title(f"{clip.title}\n{clip.subtitle}", loc="left", fontsize=8)
        axis.set_xlabel("s", fontsize=8)
        axis.set_ylabel("mel band", fontsize=8)
        axis.tick_params(labelsize=7)
    for axis in axes[len(worst) :]:
        axis.set_axis_off()
    if image is not None:
        figure.colorbar(image, ax=axes.tolist(), shrink=0.6, label="dB below each clip's loudest")
    return _png(figure)


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=100)
    return buffer.getvalue()
