"""UTC as text."""

import subprocess
import sys
from datetime import datetime, timezone

from hypothesis import given
from hypothesis import strategies as st

from edge_asd.utc import iso_utc


@given(st.floats(min_value=0.0, max_value=4e9))
def test_text_is_the_moment_to_the_millisecond(utc_s):
    """In the form that the contract fixes."""
    text = iso_utc(utc_s)
    moment = datetime.strptime(text, "%Y-%m-%dT%H:%M:%S.%f%z")
    assert len(text) == len("2026-01-31T12:34:56.789Z")
    assert moment == datetime.fromtimestamp(utc_s, tz=timezone.utc).replace(microsecond=moment.microsecond)
    assert abs(moment.timestamp() - utc_s) <= 0.001 + 1e-6


PROGRAM = """
import tracemalloc
from edge_asd.utc import iso_utc
iso_utc(0.0)
others = [None] * 4_000
tracemalloc.start()
for n in range(4_000):
    others[n] = f"{n:09}"  # so that what the next text needs lies elsewhere
    iso_utc(1.7e9 + n)
del others[:]
print(tracemalloc.get_traced_memory()[0])
"""


def test_text_after_text_leaves_nothing_behind():
    """A daemon writes one with every score."""
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    assert int(done.stdout) < 1_000
