"""The spool: numbered, ordered, and safe from kills."""

import random
import subprocess
import sys
import threading
from collections import defaultdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_asd.errors import TemporaryError
from edge_asd.ledger import Ledger
from edge_asd.messages import Address
from edge_asd.outbox import Outbox
from edge_asd.types import OutgoingMessage
from tests.edge_asd.spool.kit import NOW, everything, open_outbox, put, put_health, seqs_of


def test_each_machine_counts_for_itself_over_all_leaves(tmp_path):
    """Scores, states and alarms of one machine share one gap-free series; health has its own."""
    outbox = open_outbox(tmp_path)
    assert [put(outbox), put(outbox, leaf="state"), put(outbox, "pump"), put(outbox, leaf="alarm")] == [1, 2, 1, 3]
    assert put_health(outbox) == []
    waiting = [(message.machine, message.leaf, message.payload["seq"]) for message in everything(outbox)]
    assert waiting == [
        ("fan", "score", 1),
        ("fan", "state", 2),
        ("pump", "score", 1),
        ("fan", "alarm", 3),
        (None, "health", 1),
    ]


def test_numbers_go_on_after_a_restart_even_when_all_was_delivered(tmp_path):
    """An empty spool still knows the last number."""
    outbox = open_outbox(tmp_path)
    put(outbox)
    outbox.delete([message.row_id for message in everything(outbox)])
    last_row = outbox.last_row_id()
    outbox.close()
    outbox = open_outbox(tmp_path)
    assert outbox.last_row_id() == last_row
    assert put(outbox) == 2


def test_messages_put_together_are_committed_together(tmp_path):
    """A payload that is not JSON leaves nothing of its companions behind, and takes no number."""
    outbox = open_outbox(tmp_path)
    good = OutgoingMessage(machine="fan", leaf="score", retain=False, payload={"score": 1.0})
    bad = OutgoingMessage(machine="fan", leaf="score", retain=False, payload={"score": float("nan")})
    with pytest.raises(ValueError, match="JSON"):
        outbox.put_many([good, bad])
    assert everything(outbox) == []
    assert outbox.put_many([good, good]) == [1, 2]


def test_pending_goes_on_after_a_row(tmp_path):
    """The publisher reads on from where it was, and deletes in any order."""
    outbox = open_outbox(tmp_path)
    for _ in range(5):
        put(outbox)
    first = outbox.pending(limit=2, after=0)
    second = outbox.pending(limit=2, after=first[-1].row_id)
    outbox.delete([second[0].row_id, first[0].row_id])
    assert seqs_of(outbox, "fan") == [2, 4, 5]
    assert outbox.status().messages == 3


def test_records_are_committed_with_the_messages_that_follow_from_them(tmp_path):
    """The next run reads what this one put, replaced or forgot, and no other."""
    outbox = open_outbox(tmp_path)
    outbox.put_many([], records={"fan": b"1", "pump": b"2", "saw": b"3"})
    outbox.put_many([], records={"fan": b"\xff", "saw": None})
    assert outbox.records() == {"fan": b"\xff", "pump": b"2"}
    outbox.close()
    assert open_outbox(tmp_path).records() == {"fan": b"\xff", "pump": b"2"}


def test_second_process_on_the_same_spool_is_told_so(tmp_path):
    """Two daemons would each deliver half of the other's messages."""
    outbox = open_outbox(tmp_path)
    with pytest.raises(TemporaryError, match=r"spool\.db.*locked.*stop another edge-asd"):
        open_outbox(tmp_path)
    outbox.close()


def test_folder_that_cannot_be_made_is_named(tmp_path):
    """The path and what to do are in the message."""
    (tmp_path / "file").write_text("")
    with pytest.raises(TemporaryError, match=r"file/below/spool\.db"):
        open_outbox(tmp_path / "file" / "below")


def test_one_thread_puts_while_another_delivers(tmp_path):
    """All messages come out once and in order while both threads run."""
    outbox = open_outbox(tmp_path)
    delivered = []

    def deliver():
        while len(delivered) < 500:
            batch = outbox.pending(limit=7, after=0)
            delivered.extend(message.payload["seq"] for message in batch)
            outbox.delete([message.row_id for message in batch])

    thread = threading.Thread(target=deliver)
    thread.start()
    for _ in range(500):
        put(outbox)
    thread.join(30)
    assert delivered == list(range(1, 501))


PUT_FOREVER = """
import sys
from pathlib import Path
from edge_asd.outbox import Outbox
outbox = Outbox(Path(sys.argv[1]), max_bytes=100_000_000)
while True:
    for machine in ("fan", "pump"):
        print(machine, outbox.put(machine=machine, leaf="score", retain=False, payload={"score": 1.0}), flush=True)
"""


def test_no_kill_loses_a_committed_message_or_leaves_a_gap(tmp_path):
    """Killed at a dozen random moments: every number that was given out is there, once, and none is missing."""
    path = tmp_path / "spool.db"
    given_out = defaultdict(int)
    moments = random.Random(7)
    for _ in range(12):
        child = subprocess.Popen([sys.executable, "-c", PUT_FOREVER, path], stdout=subprocess.PIPE, text=True)
        for _ in range(moments.randrange(1, 60)):
            machine, seq = child.stdout.readline().split()
            given_out[machine] = int(seq)
        child.kill()
        rest = child.communicate()[0]
        for line in rest.splitlines(keepends=True):
            if line.endswith("\n"):
                given_out[line.split()[0]] = int(line.split()[1])
    outbox = Outbox(path, max_bytes=100_000_000)
    for machine in ("fan", "pump"):
        seqs = seqs_of(outbox, machine)
        assert seqs == list(range(1, len(seqs) + 1))
        assert given_out[machine] <= len(seqs) <= given_out[machine] + 12  # a kill may hit between commit and print


MACHINES = st.sampled_from(["fan", "pump"])

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), MACHINES, st.sampled_from(["score", "score", "state", "alarm"])),
        st.tuples(st.just("health")),
        st.tuples(st.just("deliver"), st.integers(1, 5)),
        st.tuples(st.just("restart")),
        st.tuples(st.just("wait"), st.floats(0, 80)),
        st.tuples(st.just("disk"), st.sampled_from(["ON", "OFF"])),
    ),
    max_size=60,
)


@settings(max_examples=30)
@given(steps=STEPS)
def test_every_number_is_delivered_or_announced_as_lost(tmp_path_factory, steps):
    """Whatever is put, delivered, dropped, aged, refused and restarted: a subscriber finds nothing missing."""
    path = tmp_path_factory.mktemp("spool") / "spool.db"
    now_s = 0.0
    ledger = Ledger()

    def opened(max_bytes=1_200):
        return Outbox(path, max_bytes=max_bytes, max_age_s=100.0, utc_now=lambda: NOW, monotonic_s=lambda: now_s)

    def deliver(limit):
        batch = outbox.pending(limit=limit, after=0)
        for message in batch:
            address = Address(site="hall", device="orin", machine=message.machine, leaf=message.leaf)
            ledger.hear(address, dict(message.payload), retained=False)
        outbox.delete([message.row_id for message in batch])

    def say_all():
        for machine in ("fan", "pump"):
            put(outbox, machine)
        outbox.put(machine=None, leaf="health", retain=True, payload={})
        deliver(1_000)

    outbox = opened()
    say_all()
    for step in steps:
        if step[0] == "put":
            put(outbox, step[1], step[2])
        elif step[0] == "health":
            outbox.put(machine=None, leaf="health", retain=True, payload={})
        elif step[0] == "deliver":
            deliver(step[1])
        elif step[0] == "wait":
            now_s += step[1]
        elif step[0] == "disk":
            outbox._store.database.execute(f"PRAGMA query_only = {step[1]}")
        else:
            outbox.close()
            outbox = opened()
    outbox._store.database.execute("PRAGMA query_only = OFF")
    say_all()
    outbox.close()
    # The last health message may itself have pushed messages out of a full spool: there is room now to say so.
    outbox = opened(max_bytes=1_000_000)
    say_all()
    assert outbox.status().messages == 0
    outbox.close()
    for account in ledger.accounts():
        assert account.first == 1
        assert (account.unexplained, account.out_of_order, account.explained.over_announced) == (0, 0, 0)
