"""A spool with a clock that stands still, and what is put into it and read from it."""

from datetime import datetime, timezone

from edge_asd.outbox import Outbox

NOW = datetime(2026, 11, 21, 8, 30, tzinfo=timezone.utc)


def open_outbox(folder, *, max_bytes=1_000_000):
    """The spool in the folder, with a clock that stands still."""
    return Outbox(folder / "spool.db", max_bytes=max_bytes, utc_now=lambda: NOW)


def put(outbox, machine="fan", leaf="score", **payload):
    """Puts one message of about 150 bytes in the spool."""
    return outbox.put(machine=machine, leaf=leaf, retain=leaf == "state", payload={"padding": "x" * 60, **payload})


def put_health(outbox):
    """Puts a health message in the spool and returns what it says was lost."""
    outbox.put(machine=None, leaf="health", retain=True, payload={"engine": "fake"})
    return everything(outbox)[-1].payload["drops"]


def everything(outbox):
    """All that waits."""
    return outbox.pending(limit=1_000_000, after=0)


def seqs_of(outbox, machine):
    """The numbers of the machine that wait."""
    return [message.payload["seq"] for message in everything(outbox) if message.machine == machine]


def reopened(outbox, folder, *, max_bytes):
    """The spool after a restart."""
    outbox.close()
    return open_outbox(folder, max_bytes=max_bytes)
