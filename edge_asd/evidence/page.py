"""One piece of evidence in, a page for a browser out: its sound to play, scores and spectrogram, all in one file."""

from __future__ import annotations

import base64
import html
import math
from collections.abc import Mapping

from edge_asd.evidence.kept import Kept
from edge_asd.evidence.picture import SCORES_PIXELS

_STYLE = """
body { font: 15px sans-serif; margin: 2em; } td { padding: 0 1.5em 0.2em 0; } audio { width: 100%; }
.picture { position: relative; margin: 1em 0 3em 4em; } .picture img { display: block; width: 100%; }
.mark { position: absolute; font-size: 12px; white-space: nowrap; }
.hz { right: 100%; margin-right: 0.5em; transform: translateY(-50%); }
.s { top: 100%; transform: translateX(-50%); }
"""


def page_html(kept: Kept, *, flac: bytes, png: bytes, mel_of_hz: Mapping[int, float]) -> str:
    """Return the page.

    mel_of_hz: frequencies to be marked, each with where it lies: its mel band as a share of all, 0 the lowest.
    """
    facts = {
        "machine": kept.machine,
        "alarm": kept.id,
        "score above the threshold since": kept.began_utc,
        "threshold, highest score": f"{kept.threshold:.2f}, {kept.peak_score:.2f}",
        "model": f"{kept.model['name']} {kept.model['version']}, sha256 {kept.model['sha256']}",
        "sound": f"{kept.length_s:.1f} s from {kept.begin_utc}" + ("" if kept.whole else ", cut short"),
        "lost within it": ", ".join(f"{gap.length_s:.2f} s at {gap.at_s:.2f} s" for gap in kept.gaps) or "nothing",
    }
    rows = "".join(f"<tr><td>{name}</td><td>{html.escape(fact)}</td></tr>" for name, fact in facts.items())
    height = _height(png)
    hz = "".join(
        f'<span class="mark hz" style="top: {_percent(SCORES_PIXELS + (height - SCORES_PIXELS) * (1 - at), height)}">'
        f"{mark_hz / 1000:g} kHz</span>"
        for mark_hz, at in mel_of_hz.items()
    )
    seconds = "".join(
        f'<span class="mark s" style="left: {_percent(second, kept.length_s)}">{second} s</span>'
        for second in range(0, math.floor(kept.length_s) + 1, 5)
    )
    return f"""<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>{html.escape(kept.machine)} {kept.began_utc}</title>
<style>{_STYLE}</style></head><body>
<h1>{html.escape(kept.machine)}</h1>
<table>{rows}</table>
<p><audio controls src="data:audio/flac;base64,{base64.b64encode(flac).decode()}"></audio></p>
<p>Above: the score of each window when its last sample was heard (blue), and the threshold (red). Below: the
spectrogram. Green: the moment at which the alarm was raised.</p>
<div class="picture"><img alt="scores and spectrogram" src="data:image/png;base64,{base64.b64encode(png).decode()}">
{hz}{seconds}</div>
</body></html>
"""


def _height(png: bytes) -> int:
    """Source: PNG specification, IHDR."""
    return int.from_bytes(png[20:24], "big")


def _percent(part: float, whole: float) -> str:
    return f"{100 * part / whole:.2f}%"
