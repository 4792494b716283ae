"""What was generated in, the data card that lies beside it out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from train.synth.plan import Clip
from train.synth.types import MACHINES

_CARD = """\
# Generated machine sound

**Nothing here was recorded at a machine.** `python -m train.synth` computed it from formulas of machine acoustics.
Figures reached on it say how methods compare on it, and nothing of how they do on real machines; name it as generated
wherever they are quoted.

- seed {seed}, mean severity {severity:g} (each damaged clip within half and one and a half of it)
- background {snr_db:g} dB below the machine's usual level: {background}
- 10 s, 16 kHz, mono, 16 bit; layout of DCASE 2020; every file's comment field says that it is generated
- a unit's speed varies by 6 % up and down, its load from 0.2 to 1, its level by 0.5 dB

| type | units | training | test, healthy | test, damaged | faults |
|---|---|---|---|---|---|
{rows}

`metadata.csv`: `fault`, `severity` (0 healthy, 1 severe), `speed_hz` (turns of the main shaft, strokes or switching
cycles a second), `load`, `noise` (the recording it was cut from), `group` (clips that belong together: here each clip
is drawn on its own), `source` (always `generated`).

Not modelled: wear over time, several faults at once, several machines in a room, the microphone's own distortion,
people and speech unless the noise folder holds them.
"""


def card(clips: Sequence[Clip], seed: int, severity: float, snr_db: float, noise: str) -> str:
    """Write the data card in Markdown. noise: name of the folder, empty where the noise is generated too."""
    background = "generated as well"
    if noise:
        background = f"recordings of the folder `{noise}`, none in both training and test; their licence holds here too"
    counts = Counter((clip.machine_type, clip.split, clip.label) for clip in clips)
    rows = []
    for name in dict.fromkeys(clip.machine_type for clip in clips):
        units = len({clip.machine_id for clip in clips if clip.machine_type == name})
        numbers = [counts[name, "train", "normal"], counts[name, "test", "normal"], counts[name, "test", "anomaly"]]
        faults = ", ".join(MACHINES[name].FAULTS)
        rows.append(f"| {name} | {units} | {numbers[0]} | {numbers[1]} | {numbers[2]} | {faults} |")
    return _CARD.format(seed=seed, severity=severity, snr_db=snr_db, background=background, rows="\n".join(rows))
