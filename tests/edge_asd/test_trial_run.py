"""A self-test in a process of its own: whatever it does, the one who asked lives and is told."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from edge_asd.daemon.trial_run import trial_run
from edge_asd.errors import BundleError, UnavailableError

BUNDLE, CONFIG = Path("x.asd"), Path("device.yaml")


def run(program: str, **bounds) -> None:
    """With that Python program in the place of ours."""
    trial_run(BUNDLE, CONFIG, command=[sys.executable, "-c", program], **bounds)


def test_self_test_that_passes_says_nothing(tmp_path):
    """It is given the bundle and the configuration."""
    heard = tmp_path / "heard"
    run(f"import sys, pathlib; pathlib.Path({str(heard)!r}).write_text(' '.join(sys.argv[1:]))")
    assert heard.read_text() == "x.asd --config device.yaml"


@pytest.mark.parametrize(("code", "kind"), [(78, BundleError), (69, UnavailableError), (70, BundleError)])
def test_self_test_that_fails_is_told_in_its_words(code, kind):
    """With the class of its exit code."""
    with pytest.raises(kind, match=r"^score differs by 9; export it again$"):
        run(f"import sys; print('edge-asd: score differs by 9; export it again', file=sys.stderr); sys.exit({code})")


def test_crash_is_a_failed_self_test():
    """As of an engine that a network leads into the void."""
    with pytest.raises(BundleError, match="signal 11"):
        run("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)")


def test_hang_is_ended():
    """After a bounded time."""
    with pytest.raises(BundleError, match=r"longer than 0\.5 s"):
        run("import time; time.sleep(600)", max_time_s=0.5)


def test_network_that_eats_memory_is_ended():
    """Ahead of the kernel, which might choose the daemon."""
    with pytest.raises(BundleError, match="more than 100 MiB"):
        run("import time; kept = bytearray(400 * 1024**2); time.sleep(600)", max_memory_bytes=100 * 1024**2)


def test_words_without_end_are_cut():
    """And never kept in memory."""
    with pytest.raises(BundleError) as caught:
        run("import sys; sys.stderr.write('x' * 1_000_000); sys.exit(78)")
    assert len(str(caught.value)) < 10_000
