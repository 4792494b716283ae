"""The name of a study in, its rows and the protocol that they have in common out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from benchmarks.noise_robustness import methods
from benchmarks.noise_robustness.methods import Method
from benchmarks.noise_robustness.retention import retention_methods
from benchmarks.noise_robustness.trial import Protocol

_QUICK = Protocol(limit=4, tested_mixtures=8, further_mixtures=4, memory_each=1, snrs_db=(10.0, -10.0), windows=40)


@dataclass(frozen=True, slots=True, kw_only=True)
class Study:
    """A table. suffix: of its JSON's name. methods, quick_methods: its rows, and those of a quick run."""

    suffix: str
    methods: Mapping[str, Method]
    quick_methods: tuple[str, ...]
    protocol: Protocol
    quick: Protocol


_LOG_MEL, _WHOLE = "logmel-os-scl", "tfstgram-os-scl"

STUDIES: Mapping[str, Study] = {
    "methods": Study(
        suffix="", methods=methods.METHODS, quick_methods=("log-mel", "ae", _LOG_MEL), protocol=Protocol(), quick=_QUICK
    ),
    "retention": Study(
        suffix="-retention",
        methods={**retention_methods(_LOG_MEL), **retention_methods(_WHOLE)},
        quick_methods=tuple(retention_methods(_LOG_MEL)),
        protocol=Protocol(snrs_db=(30.0, 20.0, 10.0, 0.0, -5.0, -10.0)),
        quick=replace(_QUICK, snrs_db=(0.0,)),
    ),
}
"""methods: rivals of TFSTgram, as published. retention: an encoder after train.retain, beside itself and its bounds."""
