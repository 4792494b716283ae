"""Options of the command line in, how each class of a bundle shall be scored out."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast, get_args

from edge_asd.bundle import EMBEDDING_SIZE
from edge_asd.bundle.memory import MAX_NEIGHBOURS
from edge_asd.bundle.memory_file import memory_file_bytes
from edge_asd.errors import UsageError
from edge_asd.score.build import MIN_GROUPS
from edge_asd.types import Layer, ScorerName
from train.network import FEATURE_MAP_SIZE

_MEMORY_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class WantedScorers:
    """By what a class is scored, and what its memory is made of.

    default: of classes that by_class does not name. layer: whose vectors memories hold. neighbours: whose distances are
    averaged. memory_bytes: of one class's rows.
    """

    default: ScorerName = "margin"
    by_class: Mapping[str, ScorerName] = field(default_factory=dict)
    layer: Layer = "feature_map"
    neighbours: int = 1
    memory_bytes: int = _MEMORY_BYTES

    def of(self, class_name: str) -> ScorerName:
        """By what one class is to be scored."""
        return self.by_class.get(class_name, self.default)

    @property
    def need_memories(self) -> bool:
        """Whether any class is scored by more than its margin."""
        return {self.default, *self.by_class.values()} != {"margin"}


def add_scorer_options(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.add_argument(
        "--scorer",
        action="append",
        default=[],
        metavar="KIND|TYPE/ID=KIND",
        help="how classes, or one class, are scored: margin (default), knn or fusion; may be given several times. With "
        "knn or fusion every class with clips enough gets a memory of healthy sound, and devices may choose another",
    )
    parser.add_argument(
        "--layer",
        choices=get_args(Layer),
        default="feature_map",
        help="what memories hold: embeddings, or feature maps averaged over time, eight times as long, which hear more "
        "in noise (default: %(default)s)",
    )
    parser.add_argument(
        "--neighbours", type=int, default=1, metavar="K", help="nearest neighbours that are averaged (%(default)d)"
    )
    parser.add_argument(
        "--memory-bytes",
        type=int,
        default=_MEMORY_BYTES,
        metavar="BYTES",
        help="of one class; of more clips a coreset is kept (%(default)d)",
    )


def wanted_scorers(options: argparse.Namespace, classes: Sequence[str]) -> WantedScorers:
    """What was asked for.

    Raises:
        UsageError: a scorer or class is not known, or a number is out of range.
    """
    by_class: dict[str, ScorerName] = {}
    default: ScorerName = "margin"
    for text in options.scorer:
        class_name, _, kind = text.rpartition("=")
        if kind not in get_args(ScorerName) or (class_name and class_name not in classes):
            raise UsageError(
                f"--scorer {text}: expected margin, knn or fusion, or one of them for a class, as {classes[0]}=knn; "
                f"classes are {', '.join(classes)}"
            )
        if class_name:
            by_class[class_name] = cast("ScorerName", kind)
        else:
            default = cast("ScorerName", kind)
    if not 1 <= options.neighbours <= MAX_NEIGHBOURS:
        raise UsageError(f"--neighbours is {options.neighbours}; expected 1 to {MAX_NEIGHBOURS}")
    least = memory_file_bytes(2 * MIN_GROUPS, EMBEDDING_SIZE if options.layer == "embedding" else FEATURE_MAP_SIZE)
    if options.memory_bytes < least:
        raise UsageError(
            f"--memory-bytes is {options.memory_bytes}; expected {least} or more, {MIN_GROUPS} vectors of the "
            f"{options.layer} for each of two domains"
        )
    return WantedScorers(
        default=default,
        by_class=by_class,
        layer=options.layer,
        neighbours=options.neighbours,
        memory_bytes=options.memory_bytes,
    )
