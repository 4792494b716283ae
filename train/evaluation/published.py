"""Published figures on the DCASE 2020 Task 2 development test, to set a run's beside."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias

TYPES = ("fan", "pump", "slider", "valve", "ToyCar", "ToyConveyor")
DEVELOPMENT_IDS = frozenset(
    f"{machine_type}/id_{number:02}"
    for machine_type, numbers in {
        **dict.fromkeys(("fan", "pump", "slider", "valve"), (0, 2, 4, 6)),
        "ToyCar": (1, 2, 3, 4),
        "ToyConveyor": (1, 2, 3),
    }.items()
    for number in numbers
)
"""Machine IDs with a published test: 23."""

TEST_CLIPS = {
    f"{machine_type}/id_{number:02}": (n_normal, n_anomaly)
    for machine_type, n_normal, counts in (
        ("fan", 100, {0: 407, 2: 359, 4: 348, 6: 361}),
        ("pump", 100, {0: 143, 2: 111, 4: 100, 6: 102}),
        ("slider", 100, {0: 356, 2: 267, 4: 178, 6: 89}),
        ("valve", 100, {0: 119, 2: 120, 4: 120, 6: 120}),
        ("ToyCar", 350, {1: 264, 2: 265, 3: 265, 4: 265}),
    )
    for number, n_anomaly in counts.items()
}
"""Healthy and damaged test clips of its machine IDs; those of ToyConveyor are not known here.

Source: ToyCar by the file numbers in the README of the organisers' baseline (y-kawagu/dcase2020_task2_baseline), the
others by the damaged segments of MIMII (Purohit et al., 2019); each fits the AUC that the README prints of its ID.
"""

Pooling: TypeAlias = Literal["mean over IDs", "IDs pooled", "not stated"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedRow:
    """A method's figures in %: average over types; None where none is published.

    how: the way its ID's scores were brought together. by_type: AUC and pAUC in the order of TYPES; empty where not
    published.
    """

    method: str
    auc: float
    pauc: float
    mauc: float | None
    how: Pooling
    source: str
    by_type: tuple[tuple[float, float], ...] = ()


_PAPER = "TFSTgram OS-SCL paper, tables II to IV"

PUBLISHED = (
    PublishedRow(
        method="autoencoder (DCASE 2020 baseline)",
        auc=73.66,
        pauc=59.67,
        mauc=None,
        how="mean over IDs",
        source="DCASE 2020 Task 2 baseline",
    ),
    PublishedRow(
        method="IDNN",
        auc=76.96,
        pauc=62.57,
        mauc=None,
        how="not stated",
        source=_PAPER,
        by_type=((67.71, 52.9), (73.76, 61.07), (86.45, 67.58), (84.09, 64.94), (78.69, 69.22), (71.07, 59.7)),
    ),
    PublishedRow(
        method="MobileNetV2",
        auc=84.34,
        pauc=77.74,
        mauc=None,
        how="not stated",
        source=_PAPER,
        by_type=((80.19, 74.4), (82.53, 76.5), (95.27, 85.22), (88.65, 87.98), (87.66, 85.92), (69.71, 56.43)),
    ),
    PublishedRow(
        method="Glow-Aff",
        auc=85.2,
        pauc=73.9,
        mauc=None,
        how="not stated",
        source=_PAPER,
        by_type=((74.9, 65.3), (83.4, 73.8), (94.6, 82.8), (91.4, 75.0), (92.2, 84.1), (71.5, 59.0)),
    ),
    PublishedRow(
        method="STgram-MFN (ArcFace)",
        auc=91.73,
        pauc=85.86,
        mauc=84.86,
        how="not stated",
        source=_PAPER,
        by_type=((89.31, 83.71), (93.54, 85.08), (99.58, 97.82), (99.18, 96.45), (95.15, 90.06), (73.62, 62.01)),
    ),
    PublishedRow(
        method="CLP-SCF",
        auc=93.75,
        pauc=88.48,
        mauc=87.62,
        how="not stated",
        source=_PAPER,
        by_type=((96.98, 93.23), (94.97, 87.39), (99.57, 97.73), (99.89, 99.51), (95.85, 90.19), (75.21, 62.79)),
    ),
    PublishedRow(
        method="TASTgram (noisy ArcMix)",
        auc=94.08,
        pauc=89.01,
        mauc=None,
        how="not stated",
        source=_PAPER,
        by_type=((98.1, 94.97), (94.51, 85.22), (99.49, 97.3), (99.95, 99.72), (96.19, 89.96), (76.26, 66.95)),
    ),
    PublishedRow(
        method="log-mel (OS-SCL)",
        auc=94.64,
        pauc=88.42,
        mauc=89.24,
        how="IDs pooled",
        source=_PAPER,
        by_type=((95.66, 88.59), (94.34, 85.8), (99.55, 97.64), (99.83, 99.09), (96.83, 90.44), (81.64, 68.97)),
    ),
    PublishedRow(
        method="STgram (OS-SCL)",
        auc=94.63,
        pauc=89.34,
        mauc=None,
        how="IDs pooled",
        source=_PAPER,
        by_type=((96.74, 87.12), (94.83, 87.12), (99.53, 97.55), (99.53, 97.74), (96.67, 90.39), (80.54, 69.23)),
    ),
    PublishedRow(
        method="TFSTgram (ArcFace)",
        auc=93.44,
        pauc=87.42,
        mauc=None,
        how="not stated",
        source=_PAPER,
        by_type=((95.02, 89.01), (94.44, 86.74), (99.61, 97.94), (99.21, 96.81), (96.54, 90.71), (75.8, 63.31)),
    ),
    PublishedRow(
        method="TFSTgram (OS-SCL)",
        auc=95.71,
        pauc=90.23,
        mauc=91.23,
        how="IDs pooled",
        source=_PAPER,
        by_type=((98.41, 94.5), (96.25, 88.74), (99.63, 98.04), (99.85, 99.23), (96.55, 91.17), (83.56, 69.87)),
    ),
    PublishedRow(
        method="STgram-MFN (its own repository)",
        auc=92.36,
        pauc=86.34,
        mauc=None,
        how="not stated",
        source="STgram-MFN repository",
    ),
    PublishedRow(
        method="TASTgram (noisy ArcMix, its own paper)",
        auc=94.65,
        pauc=89.31,
        mauc=89.78,
        how="not stated",
        source="Noisy-ArcMix, ICASSP 2024",
    ),
    PublishedRow(
        method="TFSTgram (OS-SCL), replicated with the public code, one seed",
        auc=94.95,
        pauc=89.67,
        mauc=89.22,
        how="IDs pooled",
        source="independent replication",
    ),
)
"""Rows as published; they stand beside figures of the whole development test alone."""


def why_not_comparable(counts: Mapping[str, tuple[int, int]], *, generated: bool) -> str:
    """What keeps figures from standing beside the published ones, in words; empty where nothing is known to.

    counts: healthy and damaged test clips by machine ID. generated: whether they were, not recorded.
    """
    if generated:
        return "this sound is generated, not that of the published test"
    if set(counts) != DEVELOPMENT_IDS:
        all_ids = len(DEVELOPMENT_IDS)
        return f"the published figures are of all {all_ids} machine IDs of that test, these of {len(counts)} IDs"
    for name, published in TEST_CLIPS.items():
        if counts[name] != published:
            return (
                f"the published test has {published[0]} healthy and {published[1]} damaged clips of {name}, this one "
                f"{counts[name][0]} and {counts[name][1]}"
            )
    return ""
