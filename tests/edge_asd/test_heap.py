"""Memory of a long-lived process: what was freed is the system's again."""

import subprocess
import sys

PROGRAM = """
import re, sys
from pathlib import Path
from edge_asd.heap import give_back, keep_small

if "keep" in sys.argv:
    keep_small()
del (huge := [bytearray(30_000_000)])[:]  # from now on glibc takes what is smaller for worth keeping
pinned = []
blocks = []
for _ in range(60):
    blocks.append(bytearray(1_000_000))
    pinned.append(bytearray(200_000))  # larger than any hole that the start has left
del blocks
if "give" in sys.argv:
    give_back()
print(re.search(r"VmRSS:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
"""


def resident_mb(*how):
    """What such a process holds in the end."""
    done = subprocess.run([sys.executable, "-c", PROGRAM, *how], capture_output=True, text=True, check=True)
    return int(done.stdout) / 1024


def test_freed_memory_goes_back_to_the_system():
    """Large blocks among small ones that stay: by themselves 60 MB would stay with the process."""
    assert resident_mb("give") < resident_mb() - 40.0


def test_large_blocks_are_no_part_of_the_heap():
    """They go back to the system whatever small ones lie between them."""
    assert resident_mb("keep") < resident_mb() - 40.0


FAULTS = """
import resource, sys
from edge_asd.heap import keep_all

if "keep" in sys.argv:
    keep_all()
bytearray(40_000_000)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    bytearray(40_000_000)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def pages_cleared(*how):
    """How many pages the system had to find and clear for arrays that come and go."""
    done = subprocess.run([sys.executable, "-c", FAULTS, *how], capture_output=True, text=True, check=True)
    return int(done.stdout)


def test_arrays_that_come_again_take_no_new_memory():
    """Those of training: once there, pages stay."""
    assert pages_cleared("keep") < pages_cleared() / 10
