"""What is known of boot, clock and software."""

import gc

import pytest

from edge_asd.errors import UnavailableError
from edge_asd.health import Clock, KernelClock, boot_id, clock_state, read_kernel_clock, software_versions


def test_boot_id_is_the_kernels_and_stays():
    """Two calls within one boot agree, and it has the form of a UUID."""
    assert boot_id() == boot_id()
    assert len(boot_id()) == 36


def test_boot_id_without_proc_says_what_is_missing(tmp_path):
    """A system without /proc is named, not guessed at."""
    with pytest.raises(UnavailableError, match="/proc mounted"):
        boot_id(tmp_path / "boot_id")


def test_kernel_clock_answers():
    """The struct is laid out as the kernel's: all three figures are in their documented range."""
    kernel = read_kernel_clock()
    assert 0 <= kernel.verdict <= 5
    assert 0 <= kernel.max_error_us <= 16_000_000
    assert 0 <= kernel.status < 0x10000


@pytest.mark.parametrize(
    ("verdict", "status", "synced"),
    [(0, 0x2001, True), (1, 0x2001, True), (5, 0x2001, False), (0, 0x0040, False), (5, 0x0040, False)],
)
def test_clock_is_synced_only_without_time_error_and_unsync(verdict, status, synced):
    """Either sign of the kernel is enough to distrust UTC; a pending leap second is not."""
    clock = clock_state(lambda: KernelClock(verdict=verdict, status=status, max_error_us=2_500))
    assert clock == Clock(synced=synced, max_error_ms=2.5)


def test_clock_that_cannot_be_asked_is_not_trusted():
    """A sandbox that forbids adjtimex does not stop the daemon."""

    def forbidden():
        raise OSError(1, "Operation not permitted")

    assert clock_state(forbidden) == Clock(synced=False, max_error_ms=None)


def test_versions_leave_out_what_is_not_installed():
    """Only the engine that is installed is listed."""
    versions = software_versions(("numpy", "no-such-package-of-ours"))
    assert set(versions) == {"edge-asd", "python", "linux", "numpy"}


def test_asking_again_and_again_leaves_no_garbage():
    """In circles of references, which may lie for hours in a service until the collector comes by."""
    clock_state(), software_versions()
    gc.collect()
    gc.disable()
    try:
        for _ in range(10):
            clock_state(), software_versions()
        assert gc.collect() == 0
    finally:
        gc.enable()
