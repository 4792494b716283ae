"""The settings' fields in, command line options out, and the parsed options back into settings."""

from __future__ import annotations

import argparse
import dataclasses
from typing import Any, get_args

from edge_asd.errors import UsageError
from train.retain.encoders import DEFAULT_START
from train.retain.settings import DEVICE_ENCODER, RETAIN_ONLY, Objective, RetainSettings, Scaling
from train.settings import Device, Precision
from train.settings_options import none_if

_GROUPS: dict[str, dict[str, str]] = {
    "losses": {
        "tag_weight": "of the loss that names machine and noise in the mixture; 0 leaves it out",
        "align_weight": "of the loss that holds the mixture against the embeddings of its parts; 0 leaves it out",
        "clean_share": "share of the clean embedding in what the mixture's should be (lambda); the noise has the rest",
        "layer": "what is aligned and tagged: embedding, or feature_map (averaged over time, frequency kept)",
    },
    "mixtures": {
        "gain_db": "make the machine louder by so much (negative: quieter) ahead of mixing",
        "noise_channel": "of noise clips with several, test noise too, counted from 0",
        "time_masks": "of SpecAugment, on the mixture alone",
        "time_mask_frames": "each is up to so long",
        "frequency_masks": "of SpecAugment, on the mixture's log-mel alone",
        "frequency_mask_mels": "each is up to so wide",
    },
    "training": {
        "steps": "batches that are trained with",
        "warm_up_steps": "in which the learning rate rises from 0",
        "batch_size": "mixtures a step",
        "learning_rate": "after the warm-up",
        "final_learning_rate": "at the end of the cosine",
        "weight_decay": "of AdamW",
        "validate_every": "steps between two validations",
        "validation_share": "of the noise recordings, and of each class's groups where the start does not say",
        "held_out_share": "of each class's groups, where neither the start nor the data says",
        "limit": "at most this many healthy recording groups a class, for a quick try",
        "seed": "of the split and of all chance in training",
    },
}
_INTEGERS = frozenset(
    {"time_masks", "time_mask_frames", "frequency_masks", "frequency_mask_mels", "steps", "warm_up_steps", "batch_size"}
    | {"validate_every", "limit", "seed", "noise_channel"}
)


def _range(text: str) -> tuple[float, float]:
    numbers = [float(part) for part in text.split(":")]
    if len(numbers) > 2:
        raise argparse.ArgumentTypeError(f"{text!r}; expected a number, or two as -5:5")
    return numbers[0], numbers[-1]


def add_settings(parser: argparse.ArgumentParser) -> None:
    """Add one option a field; those not given are the defaults."""
    usual = RetainSettings()
    given: dict[str, Any] = {"default": argparse.SUPPRESS}
    parser.add_argument(
        "--start-from",
        metavar="RUN",
        help="checkpoint or run folder of train.fit that the encoder is of, as python -m train.fit DATA --preset "
        f"{DEFAULT_START} --out RUN makes it; with another --encoder: what its own code makes of it",
        **given,
    )
    parser.add_argument(
        "--encoder",
        metavar="NAME",
        help=f"the network that a device runs, or one that --import registers (default: {DEVICE_ENCODER})",
        **given,
    )
    groups = {name: parser.add_argument_group(name) for name in _GROUPS}
    groups["losses"].add_argument(
        "--objective",
        choices=get_args(Objective),
        help="keep both sounds, or name the machine whatever the noise: the baseline (default: retain)",
        **given,
    )
    groups["losses"].add_argument(
        "--scaling",
        choices=get_args(Scaling),
        help="of embeddings ahead of the losses: to RMS 1, to mean 0 and variance 1, or none (default: rms)",
        **given,
    )
    groups["mixtures"].add_argument(
        "--snr-db",
        type=_range,
        metavar="N or N:N",
        help="of machine to noise, or the range that it is drawn from, as --snr-db=-5:5 (default: 0)",
        **given,
    )
    groups["training"].add_argument("--device", choices=get_args(Device), help="where to train (default: cpu)", **given)
    groups["training"].add_argument(
        "--precision",
        type=none_if("auto", str),
        choices=(None, *get_args(Precision)),
        metavar="P",
        help=f"auto, {' or '.join(get_args(Precision))} (default: auto, bf16-mixed where the device multiplies in it)",
        **given,
    )
    groups["training"].add_argument(
        "--compile",
        action=argparse.BooleanOptionalAction,
        help="compile the encoder, which takes a minute or two (default: where the run is long enough)",
        **given,
    )
    for group, helps in _GROUPS.items():
        for name, text in helps.items():
            default = getattr(usual, name)
            kind = str if name == "layer" else int if name in _INTEGERS else float
            shown = "" if default is None else f" (default: {default})"
            groups[group].add_argument(
                "--" + name.replace("_", "-"),
                type=kind,
                metavar="N" if kind is not str else "NAME",
                help=text + shown,
                **given,
            )


def settings_from(options: argparse.Namespace) -> RetainSettings:
    """Settings of the options given.

    Raises:
        UsageError: a value that cannot be, or that the objective has no use for.
    """
    names = {field.name for field in dataclasses.fields(RetainSettings)}
    settings = RetainSettings(**{name: value for name, value in vars(options).items() if name in names})
    useless = [name for name in RETAIN_ONLY if name in vars(options)] if settings.objective == "denoise" else []
    if useless:
        raise UsageError(
            f"--{useless[0].replace('_', '-')} is given, of which --objective denoise has no use; leave it out"
        )
    return settings
