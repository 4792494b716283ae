"""The settings' fields in, command line options out, and the parsed options back into settings."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable
from typing import Any, get_args

from edge_asd.errors import UsageError
from train.network import BRANCHES, HEAD_ACTIVATIONS, Branch
from train.presets import PRESETS, preset_settings
from train.settings import MARGIN_ONLY, AugmentSettings, BatchNorm, Device, Keep, Loss, Precision, TrainingSettings

_HEAD_REDUCTIONS = (None, 128, 64, 32, 16, 8, 4)
"""Those that the paper compares."""

_NETWORK_HELP = {
    "margin": "of ArcFace, in radians; also of the score",
    "scale": "of ArcFace",
}
_RUN_HELP = {
    "epochs": "how often the training recordings are gone through",
    "contrastive_epochs": "epochs of SupCon alone ahead of them (two-stage training)",
    "contrastive_learning_rate": "in these epochs",
    "windows_per_epoch": "windows drawn an epoch; by default as many as the training recordings hold",
    "batch_size": "windows a step",
    "learning_rate": "at the start",
    "final_learning_rate": "at the end of the cosine",
    "weight_decay": "of AdamW",
    "mixup_alpha": "both parameters of the Beta distribution of the mixing factor; none mixes nothing",
    "supcon_temperature": "of the contrastive loss",
    "ema_decay": "of the averaged weights; auto is 0.9999 from 50,000 steps on, else 1 - 10 / steps; 0 averages none",
    "ema_extra_decay": "share that averaged weights lose a step; 2e-6 in the public code of OS-SCL",
    "validation_share": "of each class's groups, at least one",
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


def none_if(word: str, kind: Callable[[str], Any]) -> Callable[[str], Any]:
    """A type for argparse: None where the word is given, else what `kind` makes of the text."""

    def parse(text: str) -> Any:
        return None if text == word else kind(text)

    parse.__name__ = f"{kind.__name__} or {word}"  # argparse names it where a value does not parse
    return parse


def _branches(text: str) -> tuple[Branch, ...]:
    named = text.split("+")
    unknown = [name for name in named if name not in BRANCHES]
    if unknown:
        raise argparse.ArgumentTypeError(f"{'+'.join(unknown)} in {text!r}; expected of {'+'.join(BRANCHES)}")
    return tuple(branch for branch in BRANCHES if branch in named)


_KINDS: dict[str, Callable[[str], Any]] = {
    **dict.fromkeys(
        ("epochs", "contrastive_epochs", "windows_per_epoch", "batch_size", "validate_every", "limit", "seed"), int
    ),
    "join_pieces": int,
    "mixup_alpha": none_if("none", float),
    "ema_decay": none_if("auto", float),
}


def add_settings(parser: argparse.ArgumentParser) -> None:
    """Add one option a field; those not given are the preset's."""
    parser.add_argument(
        "--preset",
        choices=PRESETS,
        default="tfstgram-os-scl",
        help="published method that all settings are taken from (default: %(default)s); options change single ones",
    )
    network = parser.add_argument_group("network and loss (defaults shown are those of tfstgram-os-scl)")
    paper = TrainingSettings()
    given: dict[str, Any] = {"default": argparse.SUPPRESS}
    network.add_argument(
        "--branches",
        type=_branches,
        metavar="A+B",
        help=f"input channels, of {'+'.join(BRANCHES)} (default: {'+'.join(paper.branches)})",
        **given,
    )
    network.add_argument(
        "--head-reduction",
        type=none_if("none", int),
        choices=_HEAD_REDUCTIONS,
        metavar="R",
        help="width of the feature perturbation head: none, 128, 64, 32, 16, 8 or 4 (default: 64)",
        **given,
    )
    network.add_argument(
        "--head-activation", choices=HEAD_ACTIVATIONS, help=f"in the head (default: {paper.head_activation})", **given
    )
    network.add_argument("--loss", choices=get_args(Loss), help=f"what is trained (default: {paper.loss})", **given)
    network.add_argument(
        "--batch-norm",
        choices=get_args(BatchNorm),
        help="its statistics: averaged as all weights, or measured at the end over unmixed training windows (default: "
        f"{paper.batch_norm})",
        **given,
    )
    run = parser.add_argument_group("training (defaults shown are those of tfstgram-os-scl)")
    run.add_argument("--device", choices=get_args(Device), help="where to train (default: cpu)", **given)
    run.add_argument(
        "--precision",
        type=none_if("auto", str),
        choices=(None, *get_args(Precision)),
        metavar="P",
        help=f"auto, {' or '.join(get_args(Precision))} (default: auto, bf16-mixed where the device multiplies in it)",
        **given,
    )
    run.add_argument(
        "--compile",
        action=argparse.BooleanOptionalAction,
        help="compile the network, which takes a minute or two (default: where the run is long enough)",
        **given,
    )
    run.add_argument(
        "--keep", choices=get_args(Keep), help=f"validated weights that are kept (default: {paper.keep})", **given
    )
    run.add_argument(
        "--start-from", metavar="RUN", help="go on from the weights of an earlier run of the same split", **given
    )
    augment = parser.add_argument_group("training windows (the defaults change nothing)")
    for group, helps, defaults in (
        (network, _NETWORK_HELP, paper),
        (run, _RUN_HELP, paper),
        (augment, _AUGMENT_HELP, paper.augment),
    ):
        for name, text in helps.items():
            default = getattr(defaults, name)
            shown = "" if default is None else f" (default: {default:g})"
            kind = _KINDS.get(name, float)
            group.add_argument("--" + name.replace("_", "-"), type=kind, metavar="N", help=text + shown, **given)


def settings_from(options: argparse.Namespace) -> TrainingSettings:
    """Change the preset's settings by the options given.

    Raises:
        UsageError: a value that cannot be.
    """
    base = preset_settings(options.preset)
    given = vars(options)
    augment = AugmentSettings(**{name: given[name] for name in _AUGMENT_HELP if name in given})
    names = {field.name for field in dataclasses.fields(TrainingSettings)} - {"preset", "augment"}
    useless = [name for name in MARGIN_ONLY if name in given] if base.model != "margin" else []
    if useless:
        raise UsageError(
            f"--{useless[0].replace('_', '-')} is given, of which preset {options.preset} has no use; leave it out"
        )
    # A quick try is one of the first stage too.
    if base.contrastive_epochs and "contrastive_epochs" not in given and given.get("epochs", base.epochs) < base.epochs:
        given = given | {"contrastive_epochs": min(base.contrastive_epochs, given["epochs"])}
    changes = {name: value for name, value in given.items() if name in names}
    return dataclasses.replace(base, augment=augment, **changes)
