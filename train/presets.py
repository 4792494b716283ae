"""Names of published methods in, the settings of their training out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from edge_asd.errors import UsageError
from train.settings import Model, TrainingSettings

_FRAME_MODELS: tuple[Model, ...] = ("ae", "idnn")

# Averaged weights came with OS-SCL; its rivals train without.
_ARCFACE = TrainingSettings(
    preset="tfstgram-arcface", ema_decay=0.0, loss="arcface", mixup_alpha=None, head_reduction=None
)

PRESETS: Mapping[str, TrainingSettings] = {
    settings.preset: settings
    for settings in (
        # Source: TFSTgram OS-SCL, and its ablations of branches and losses.
        TrainingSettings(preset="tfstgram-os-scl"),
        TrainingSettings(preset="stgram-os-scl", branches=("log_mel", "tgram")),
        TrainingSettings(preset="logmel-os-scl", branches=("log_mel",), head_activation="leaky_relu", margin=0.7),
        _ARCFACE,
        # Source: STgram-MFN (Liu et al., 2022). Its log-mel has n_fft 1024, here 2048 as everywhere.
        replace(
            _ARCFACE,
            preset="stgram-arcface",
            branches=("log_mel", "tgram"),
            margin=0.7,
            batch_size=128,
            weight_decay=0.0,
        ),
        # Source: Noisy-ArcMix (Choi and Choi, 2024).
        TrainingSettings(
            preset="tastgram-namix",
            ema_decay=0.0,
            branches=("log_mel", "tgram", "tagram"),
            head_reduction=None,
            loss="noisy-arcmix",
            margin=0.7,
        ),
        # Source: CLP-SCF (Guan et al., 2023), on STgram.
        replace(
            _ARCFACE,
            preset="clp-scf",
            branches=("log_mel", "tgram"),
            margin=1.0,
            contrastive_epochs=100,
            supcon_temperature=0.1,
        ),
        # Source: DCASE 2020 Task 2 baseline (Adam at 1e-3, 100 epochs), and IDNN (Suefusa et al., 2020) likewise.
        *(
            TrainingSettings(
                preset=name,
                model=name,
                mixup_alpha=None,
                ema_decay=0.0,
                epochs=100,
                batch_size=16,
                learning_rate=1e-3,
                final_learning_rate=1e-3,
                weight_decay=0.0,
            )
            for name in _FRAME_MODELS
        ),
        # Source: DCASE 2021 Task 2 baseline (Adam at 1e-5, 20 epochs; https://github.com/y-kawagu/
        # dcase2021_task2_baseline_mobile_net_v2, baseline.yaml). A step there has 32 chunks, here those of 16 windows:
        # 512. With a sixteenth of the steps, the rate is 16 times as high (Goyal et al., 2017; not measured here).
        TrainingSettings(
            preset="mobilenetv2",
            model="mobilenetv2",
            mixup_alpha=None,
            ema_decay=0.0,
            epochs=20,
            batch_size=16,
            learning_rate=1.6e-4,
            final_learning_rate=1.6e-4,
            weight_decay=0.0,
        ),
    )
}


def preset_settings(name: str) -> TrainingSettings:
    """The settings of a preset.

    Raises:
        UsageError: there is none of that name.
    """
    if name not in PRESETS:
        raise UsageError(f"--preset is {name!r}; expected one of {', '.join(PRESETS)}")
    return PRESETS[name]
