"""A card of a sound library that does as it is told, and what is heard of it."""

import psutil

from edge_asd.capture.devices import CardChoice
from edge_asd.capture.recorder import Patience
from edge_asd.types import NoSound

FAKE = CardChoice(name="fake")

LONG = Patience(start_s=60.0, open_s=60.0, first_s=60.0, stall_s=60.0)

SHORT = Patience(start_s=60.0, open_s=0.5, first_s=0.5, stall_s=1.0)  # four times open_s and first_s at first


def recorders():
    """The recording processes of this one."""
    return [child for child in psutil.Process().children() if "edge_asd.capture.child" in " ".join(child.cmdline())]


def until(heard, wanted):
    """What is heard up to the first that is wanted."""
    before = []
    for each in heard:
        if wanted(each):
            return before, each
        before.append(each)
    raise AssertionError(f"not heard: {before}")


def is_block(each):
    return not isinstance(each, NoSound)


def is_silence(each):
    return isinstance(each, NoSound)
