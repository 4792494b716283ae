"""What the demo heard in, a one-page HTML report with score curves and spectrograms out."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Literal

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from edge_asd.features import log_mel_db
from edge_asd.types import FeatureSpec, FloatArray

mpl.use("Agg")

_HEALTHY, _DAMAGED, _SCORE, _ALARM = "#e3f1e5", "#f8e2dc", "#1f4e79", "#b3261e"


@dataclass(frozen=True, kw_only=True)
class Stretch:
    """A part of what a machine plays, in seconds from the start of play."""

    damaged: bool
    start_s: float
    end_s: float


@dataclass(frozen=True, kw_only=True)
class HeardAlarm:
    """An alarm as its messages told it, in seconds from the start of play; open while `end_s` is None."""

    alarm_id: str
    announced_s: float
    end_s: float | None
    peak_score: float


@dataclass(frozen=True, kw_only=True)
class MotorStory:
    """All that is known of one machine: wave (n,) at the spec's rate; scores as (end of window in s, z).

    sound: recorded or generated.
    """

    name: str
    listens_to: str
    sound: Literal["recorded", "generated"]
    wave: FloatArray
    stretches: tuple[Stretch, ...]
    threshold: float
    scores: tuple[tuple[float, float], ...]
    alarms: tuple[HeardAlarm, ...]

    def alarms_in(self, stretch: Stretch) -> tuple[HeardAlarm, ...]:
        """The alarms announced while the stretch played."""
        return tuple(a for a in self.alarms if stretch.start_s < a.announced_s <= stretch.end_s)

    def verdict(self, stretch: Stretch) -> tuple[bool, str]:
        """Whether the stretch ended as it must, and in words."""
        alarms = self.alarms_in(stretch)
        if stretch.damaged and alarms:
            return True, f"alarm {alarms[0].announced_s - stretch.start_s:.1f} s after the damage began"
        if stretch.damaged:
            return False, "no alarm"
        return (False, "false alarm") if alarms else (True, "no alarm")


def write_report(
    folder: Path, stories: Sequence[MotorStory], facts: Sequence[tuple[str, str]], *, enrolled: str
) -> Path:
    """Write report.html, self-contained, and the two pictures beside it; returns the page's path.

    enrolled: what the enrolment of the last machine said.
    """
    folder.mkdir(parents=True, exist_ok=True)
    pictures = []
    for name, figure in (("scores", _score_figure(stories)), ("spectrograms", _spectrogram_figure(stories))):
        buffer = io.BytesIO()
        figure.savefig(buffer, format="png", dpi=110)
        (folder / f"{name}.png").write_bytes(buffer.getvalue())
        pictures.append(base64.b64encode(buffer.getvalue()).decode())
    rows = []
    for story in stories:
        for stretch in story.stretches:
            good, words = story.verdict(stretch)
            cells = (
                story.name,
                story.listens_to,
                story.sound,
                "damaged" if stretch.damaged else "healthy",
                f"{stretch.start_s:.1f} to {stretch.end_s:.1f} s",
                words,
            )
            row = "".join(f"<td>{html.escape(cell)}</td>" for cell in cells)
            rows.append(f'<tr class="{"good" if good else "bad"}">{row}</tr>')
    good = all(story.verdict(stretch)[0] for story in stories for stretch in story.stretches)
    page = Template(_PAGE).substitute(
        summary="Every damaged stretch raised its alarm, and no healthy one did."
        if good
        else "Not every stretch ended as it must: see the table.",
        rows="\n".join(rows),
        scores=pictures[0],
        spectrograms=pictures[1],
        enrolled=html.escape(enrolled),
        facts="\n".join(f"<dt>{html.escape(key)}</dt><dd>{html.escape(value)}</dd>" for key, value in facts),
    )
    path = folder / "report.html"
    path.write_text(page, encoding="utf-8")
    return path


def _score_figure(stories: Sequence[MotorStory]) -> Figure:
    figure = Figure(figsize=(10, 2.9 * len(stories)), layout="constrained")
    axes = figure.subplots(len(stories), 1, sharex=True, squeeze=False)[:, 0]
    for axis, story in zip(axes, stories, strict=True):
        for stretch in story.stretches:
            axis.axvspan(stretch.start_s, stretch.end_s, color=_DAMAGED if stretch.damaged else _HEALTHY, lw=0)
            axis.text(
                (stretch.start_s + stretch.end_s) / 2,
                1.01,
                "damaged" if stretch.damaged else "healthy",
                transform=axis.get_xaxis_transform(),
                ha="center",
                va="bottom",
                fontsize=8,
            )
        times_s, scores = zip(*story.scores, strict=True)
        axis.plot(times_s, scores, ".-", color=_SCORE, lw=1.3, ms=4, label="anomaly score of the last 10 s")
        axis.axhline(story.threshold, color="black", ls="--", lw=1, label=f"threshold {story.threshold:.2f}")
        for index, alarm in enumerate(story.alarms):
            label = "alarm announced" if index == 0 else None
            axis.axvline(alarm.announced_s, color=_ALARM, lw=1.5, label=label)
        axis.set_title(f"{story.name} ({story.listens_to}, {story.sound} sound)", loc="left", fontsize=10, pad=14)
        axis.set_ylabel("score z")
        axis.legend(loc="lower right", fontsize=8)
        axis.margins(x=0)
    axes[-1].set_xlabel("time in the sound, s")
    return figure


def _spectrogram_figure(stories: Sequence[MotorStory]) -> Figure:
    figure = Figure(figsize=(10, 2.9 * len(stories)), layout="constrained")
    axes = figure.subplots(len(stories), 2, squeeze=False)
    for row, story in zip(axes, stories, strict=True):
        _draw_window(row[0], story, story.scores[0][0], "first window, healthy")
        if story.alarms:
            _draw_window(row[1], story, story.alarms[0].announced_s, "the window that raised the alarm")
        else:
            row[1].text(0.5, 0.5, "no alarm", ha="center")
            row[1].set_axis_off()
    return figure


def _draw_window(axis: Axes, story: MotorStory, end_s: float, what: str) -> None:
    spec = FeatureSpec()
    end = round(end_s * spec.sample_rate_hz)
    start = max(0, end - spec.window_samples)
    log_mel = log_mel_db(story.wave[start : start + spec.window_samples], spec)  # (mels, frames)
    top_db = float(np.max(log_mel))
    extent = (start / spec.sample_rate_hz, end_s, 0, spec.n_mels)
    axis.imshow(log_mel, origin="lower", aspect="auto", extent=extent, vmin=top_db - 80, vmax=top_db, cmap="magma")
    axis.set_title(f"{story.name}: {what}", loc="left", fontsize=9)
    axis.set_xlabel("s")
    axis.set_ylabel("mel band")


_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>edge_asd demo</title>
<style>
body { font: 15px/1.45 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; color: #1a1a1a; }
h1 { font-size: 1.4rem; margin-bottom: .2rem; }
h2 { font-size: 1.1rem; margin-bottom: .2rem; }
img { width: 100%; }
pre { background: #f4f4f4; padding: .6rem .8rem; font-size: .85rem; white-space: pre-wrap; }
table { border-collapse: collapse; margin: 1rem 0; }
td, th { padding: .25rem .9rem .25rem 0; text-align: left; border-bottom: 1px solid #ddd; }
tr.good td:last-child { color: #1b6e2c; }
tr.bad td:last-child { color: #b3261e; font-weight: bold; }
dl { display: grid; grid-template-columns: max-content auto; gap: .1rem 1rem; font-size: .9rem; }
dd { margin: 0; }
</style>
</head>
<body>
<h1>What the daemon heard</h1>
<p>$summary</p>
<table><tr><th>machine</th><th>class</th><th>sound</th><th>plays</th><th>when</th><th>outcome</th></tr>
$rows
</table>
<p>Each point is one published score: how little the last 10 s sound like the machine they should. An alarm is announced
when the score has stayed at or above the threshold for the on-delay.</p>
<img src="data:image/png;base64,$scores" alt="score curves with threshold and alarm times">
<img src="data:image/png;base64,$spectrograms" alt="log-mel spectrograms, healthy and at the alarm">
<h2>The machine that no model was trained on</h2>
<p>The last machine is <b>generated sound, not a recording</b>: a fan, healthy, and then with a severely worn bearing.
The model was trained on three motors and never heard it. <code>edge-asd enroll</code> learned it here from 30
healthy clips of 10 s, and the daemon scored other clips of it, by the same code as the motors beside it:</p>
<pre>$enrolled</pre>
<p>It shows that the way from clips to alarms works, not how well real machines are told apart. The recordings
cannot show that: of a third motor there are four healthy clips, too few for a threshold, and none damaged; of a fourth
there are damaged ones alone. Not every fault is heard, either: most imbalance of such a fan stays below the threshold
(examples/bldc_motor/README.md has the figures).</p>
<h2>How it was run</h2>
<dl>
$facts
</dl>
</body>
</html>
"""
