"""What is known of one clip of a data folder, before its sound is read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

Label: TypeAlias = Literal["normal", "anomaly", "none"]
StatedSplit: TypeAlias = Literal["train", "validation", "test", "none"]
Domain: TypeAlias = Literal["source", "target", "none"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """One clip.

    file: below the data folder, with slashes. class_name: `TYPE/ID`. label: none where it is not known, as in
    evaluation data without its labels. stated_split: where the data itself puts the clip. group: recordings that must
    stay on one side of every split. domain, attributes: as in DCASE 2021 and later.
    """

    file: str
    class_name: str
    label: Label
    stated_split: StatedSplit
    group: str
    domain: Domain = "none"
    attributes: str = ""

    @property
    def machine_type(self) -> str:
        """The part of the class name that names the type."""
        return self.class_name.rsplit("/", 1)[0]

    @property
    def machine_id(self) -> str:
        """The part of the class name that names the unit (or the section)."""
        return self.class_name.rsplit("/", 1)[1]
