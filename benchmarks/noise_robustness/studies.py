"""The name of a study in, its rows and the protocol that they have in common out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.noise_robustness import methods
from benchmarks.noise_robustness.choices import choices_of
from benchmarks.noise_robustness.methods import Method
from benchmarks.noise_robustness.retention import retention_methods, unheard_methods
from benchmarks.noise_robustness.sound import Sound
from benchmarks.noise_robustness.trial import Protocol, Trial, open_trial, open_unheard

_QUICK = Protocol(
    limit=4,
    tested_mixtures=8,
    further_mixtures=4,
    memory_each=1,
    snrs_db=(10.0, -10.0),
    windows=40,
    fine_tuning_windows=40,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Study:
    """A table.

    suffix: of its JSON's name. methods, quick_methods: its rows, and those of a quick run. open: gives a seed's trial.
    """

    suffix: str
    methods: Mapping[str, Method]
    quick_methods: tuple[str, ...]
    protocol: Protocol
    quick: Protocol
    open: Callable[[Sound, int, Protocol, Path], Trial] = open_trial


_FROM_30_DB = Protocol(snrs_db=(30.0, 20.0, 10.0, 0.0, -5.0, -10.0))
_LOG_MEL, _WHOLE, _RIVAL = "logmel-os-scl", "tfstgram-os-scl", "stgram-arcface"

STUDIES: Mapping[str, Study] = {
    "methods": Study(
        suffix="", methods=methods.METHODS, quick_methods=("log-mel", "ae", _LOG_MEL), protocol=Protocol(), quick=_QUICK
    ),
    "choices": Study(
        suffix="-choices",
        methods={**choices_of(_LOG_MEL), **choices_of(_WHOLE)},
        quick_methods=tuple(choices_of(_LOG_MEL)),
        protocol=Protocol(),
        quick=_QUICK,
    ),
    "retention": Study(
        suffix="-retention",
        methods={**retention_methods(_LOG_MEL), **retention_methods(_WHOLE), **retention_methods(_RIVAL)},
        quick_methods=tuple(retention_methods(_LOG_MEL)),
        protocol=_FROM_30_DB,
        quick=replace(_QUICK, snrs_db=(0.0,)),
    ),
    "unheard": Study(
        suffix="-unheard",
        methods={**unheard_methods(_LOG_MEL), **unheard_methods(_WHOLE)},
        quick_methods=tuple(unheard_methods(_LOG_MEL)),
        protocol=replace(_FROM_30_DB, memory_each=16),
        quick=replace(_QUICK, snrs_db=(0.0,), memory_each=50),
        open=open_unheard,
    ),
}
"""methods: rivals of TFSTgram, as published. choices: the same with one setting changed. retention: an encoder after
train.retain, beside itself and its bound; a rival's too. unheard: of machines of a type that no training heard,
enrolled from few mixtures and from many: the rows of "methods" were trained on them and have the same test."""
