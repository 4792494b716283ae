"""The settings' fields in, command line options out, and the parsed options back into settings."""

from __future__ import annotations

import argparse
from typing import get_args

from train.settings import PRESETS, AugmentSettings, Device, Precision, TrainingSettings

_RUN_HELP = {
    "epochs": "how often the training recordings are gone through",
    "windows_per_epoch": "windows drawn an epoch; by default as many as the training recordings hold",
    "batch_size": "windows a step",
    "learning_rate": "at the start",
    "final_learning_rate": "at the end of the cosine",
    "weight_decay": "of AdamW",
    "mixup_alpha": "both parameters of the Beta distribution of the mixing factor",
    "supcon_temperature": "of the contrastive loss",
    "ema_decay": "of the averaged weights; by default 1 - 10 / steps, at most 0.9999 (the paper's)",
    "validation_share": "of each class's groups, at least one: the validation loss decides the checkpoint kept",
    "held_out_share": "of each class's groups, at least one, where the data states no test",
    "validate_every": "epochs between two validations",
    "limit": "at most this many healthy recording groups a class, for a quick try",
    "seed": "of the split, the first weights and all chance in training",
}
_AUGMENT_HELP = {
    "join_pieces": "join windows from up to this many pieces of recordings of one class; 1 joins none",
    "speed_share": "play windows faster or slower by up to this share",
    "gain_db": "make windows louder or quieter by up to this",
    "noise_snr_db": "add white noise at this signal-to-noise ratio or up to 30 dB above it",
    "altered_share": "alter this share of the windows as a fault might and learn them as classes of their own",
}
_WHOLE_NUMBERS = ("epochs", "windows_per_epoch", "batch_size", "validate_every", "limit", "seed", "join_pieces")


def add_settings(parser: argparse.ArgumentParser) -> None:
    """Add one option a field."""
    run = parser.add_argument_group("training")
    run.add_argument("--preset", choices=PRESETS, default="tfstgram-os-scl", help="network and its loss")
    run.add_argument("--device", choices=get_args(Device), default="cpu", help="where to train")
    run.add_argument(
        "--precision", choices=get_args(Precision), default="32-true", help="bf16-mixed halves the time on recent CPUs"
    )
    run.add_argument(
        "--compile", action="store_true", help="compile the network: a minute at the start, then up to twice as fast"
    )
    run.add_argument("--start-from", metavar="RUN", help="go on from the weights of an earlier run of the same split")
    augment = parser.add_argument_group("training windows (the defaults change nothing)")
    for group, helps, defaults in (
        (run, _RUN_HELP, TrainingSettings()),
        (augment, _AUGMENT_HELP, AugmentSettings()),
    ):
        for name, text in helps.items():
            kind = int if name in _WHOLE_NUMBERS else float
            option = "--" + name.replace("_", "-")
            group.add_argument(option, type=kind, metavar="N", default=getattr(defaults, name), help=text)


def settings_from(options: argparse.Namespace) -> TrainingSettings:
    """Build the settings.

    Raises:
        UsageError: a value that cannot be.
    """
    augment = AugmentSettings(**{name: getattr(options, name) for name in _AUGMENT_HELP})
    return TrainingSettings(
        preset=options.preset,
        device=options.device,
        precision=options.precision,
        compile=options.compile,
        start_from=options.start_from,
        augment=augment,
        **{name: getattr(options, name) for name in _RUN_HELP},
    )
