"""An error in, the same error without the objects that its frames held, out."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def released_on_error() -> Iterator[None]:
    """An error that leaves this block, or a function that it decorates, keeps nothing alive that was made within.

    Its traceback would, until after the GPU's context is given back; TensorRT's objects must end before.
    """
    try:
        yield
    except BaseException as error:
        traceback.clear_frames(error.__traceback__)
        raise
