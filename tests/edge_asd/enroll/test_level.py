"""What is too quiet to be a machine."""

import numpy as np
import pytest

from edge_asd.enroll.level import is_too_quiet, level_dbfs


def white(level, offset=0.0):
    """White noise of that level, about an offset."""
    noise = np.random.default_rng(0).standard_normal(160_000)
    return (10.0 ** (level / 20.0) * noise + offset).astype(np.float32)


@pytest.mark.parametrize(
    ("level", "too_quiet"), [(-100.0, True), (-88.0, True), (-81.0, True), (-79.0, False), (-30.0, False)]
)
def test_near_silence_is_too_quiet(level, too_quiet) -> None:
    """Whatever the offset of the converter."""
    assert is_too_quiet(white(level)) is too_quiet
    assert is_too_quiet(white(level, offset=0.05)) is too_quiet


def test_level_is_the_root_mean_square_in_db_of_full_scale() -> None:
    """And finite for exact zeros."""
    assert level_dbfs(white(-40.0)) == pytest.approx(-40.0, abs=0.1)
    assert level_dbfs(np.zeros(100, np.float32)) == -200.0
