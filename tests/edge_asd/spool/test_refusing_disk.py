"""A disk that refuses writes: nothing raises into scoring, delivery goes on, and what is lost is announced."""

import json
import subprocess
import sys

import pytest

from tests.edge_asd.spool.kit import everything, open_outbox, put, put_health, seqs_of


def test_disk_that_refuses_deletions_does_not_hold_delivery_up(tmp_path, caplog):
    """What was delivered is not offered again in this run, and is taken out once the disk lets it."""
    outbox = open_outbox(tmp_path)
    for _ in range(5):
        put(outbox)
    outbox._store.database.execute("PRAGMA query_only = ON")
    outbox.delete([message.row_id for message in everything(outbox)[:2]])
    assert seqs_of(outbox, "fan") == [3, 4, 5]
    assert outbox.status().messages == 5
    assert "readonly" in caplog.text
    outbox._store.database.execute("PRAGMA query_only = OFF")
    outbox.delete([everything(outbox)[0].row_id])
    assert seqs_of(outbox, "fan") == [4, 5]
    assert outbox.status().messages == 2


def test_messages_that_the_disk_refused_are_announced_later(tmp_path, caplog):
    """A full disk neither raises into the scoring thread nor leaves an unexplained gap; the log says it once."""
    outbox = open_outbox(tmp_path)
    put(outbox)
    (pages,) = outbox._store.database.execute("PRAGMA page_count").fetchone()
    outbox._store.database.execute(f"PRAGMA max_page_count = {pages}")
    fitting = 0
    while put(outbox, padding="x" * 3_000) is not None:
        fitting += 1
    assert put(outbox, padding="x" * 3_000) is None
    outbox._store.database.execute("PRAGMA max_page_count = 100000")
    assert put(outbox) == 1 + fitting + 2 + 1
    assert put_health(outbox) == [
        {"machine": "fan", "from": fitting + 2, "to": fitting + 3, "count": 2, "why": "the disk refused them"}
    ]
    assert [record.levelname for record in caplog.records] == ["ERROR", "WARNING"]
    assert "database or disk is full" in caplog.records[0].message


def test_alarms_and_states_that_the_disk_refused_are_committed_once_it_can(tmp_path):
    """They wait in memory, ahead of what comes next, each once; of a flood of them the oldest are counted as lost."""
    outbox = open_outbox(tmp_path)
    put(outbox)
    outbox._store.database.execute("PRAGMA query_only = ON")
    for number in range(300):
        assert put(outbox, leaf="score", number=number) is None
        assert put(outbox, leaf="alarm", number=number) is None
    assert outbox.status().unwritten == 300 + 44
    outbox._store.database.execute("PRAGMA query_only = OFF")
    assert put(outbox, leaf="state") == 1 + 300 + 44 + 256 + 1
    waiting = everything(outbox)
    assert [message.payload["number"] for message in waiting if message.leaf == "alarm"] == list(range(44, 300))
    assert [message.leaf for message in waiting[-2:]] == ["alarm", "state"]
    assert put_health(outbox) == [
        {"machine": "fan", "from": 2, "to": 345, "count": 344, "why": "the disk refused them"}
    ]


def test_record_that_the_disk_refused_is_committed_with_the_next_message(tmp_path):
    """What the daemon is in goes on in memory; the disk catches up when it can."""
    outbox = open_outbox(tmp_path)
    outbox.put_many([], records={"fan": b"1"})
    outbox._store.database.execute("PRAGMA query_only = ON")  # as a disk does that became read-only
    assert put(outbox) is None
    assert outbox.put_many([], records={"fan": b"2"}) == []
    outbox._store.database.execute("PRAGMA query_only = OFF")
    assert put(outbox) == 2
    outbox.close()
    assert open_outbox(tmp_path).records() == {"fan": b"2"}


ON_A_FULL_DISK = """
import json, sys
from pathlib import Path
from edge_asd.outbox import Outbox

folder = Path(sys.argv[1])
def reopen():
    return Outbox(folder / "spool.db", max_bytes=10_000_000)

def put(outbox, leaf="score"):
    return outbox.put(machine="fan", leaf=leaf, retain=False, payload={"padding": "x" * 300})

outbox = reopen()
taken = [put(outbox) for _ in range(50)]
with (folder / "ballast").open("wb", buffering=0) as ballast:
    try:
        while True:
            ballast.write(bytes(4096))
    except OSError:
        pass
outbox.close()
outbox = reopen()  # a start on a full disk
seqs = [put(outbox) for _ in range(2_000)]
refused = seqs.count(None)
delivered = []
while batch := outbox.pending(limit=64, after=0):  # delivery goes on
    delivered += [message.payload["seq"] for message in batch]
    outbox.delete([message.row_id for message in batch])
assert [put(outbox, "alarm") for _ in range(3)] == [None] * 3
(folder / "ballast").unlink()
last = put(outbox)
outbox.put(machine=None, leaf="health", retain=True, payload={})
rest = outbox.pending(limit=100, after=0)
delivered += [message.payload["seq"] for message in rest if message.machine]
print(json.dumps({
    "refused": refused, "last": last, "alarms": [message.leaf for message in rest].count("alarm"),
    "delivered": delivered, "drops": rest[-1].payload["drops"],
    "status": outbox.status().unwritten,
}))
"""


def test_full_disk_stops_neither_scoring_nor_delivery(tmp_path):
    """On a real file system without a free byte: no error, repeat or lost alarm; all else is delivered or announced."""
    if subprocess.run(["unshare", "-rm", "true"], check=False).returncode != 0:
        pytest.skip("a file system of its own cannot be mounted here (unshare -rm)")
    script = f'mount -t tmpfs -o size=8m tmpfs "{tmp_path}" && exec "{sys.executable}" -c "$1" "{tmp_path}"'
    done = subprocess.run(
        ["unshare", "-rm", "sh", "-c", script, "sh", ON_A_FULL_DISK], check=True, capture_output=True, text=True
    )
    result = json.loads(done.stdout)
    assert result["refused"] > 1_000
    assert result["status"] == result["refused"]
    assert result["alarms"] == 3
    assert len(result["delivered"]) == len(set(result["delivered"]))
    told = {seq for drop in result["drops"] for seq in range(drop["from"], drop["to"] + 1)}
    assert sum(drop["count"] for drop in result["drops"]) == result["refused"] == len(told)
    assert told | set(result["delivered"]) == set(range(1, result["last"] + 1))
    assert "messages are lost until it can" in done.stderr
