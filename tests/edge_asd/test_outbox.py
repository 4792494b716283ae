"""The spool: numbered, ordered, bounded, and honest about what it lost."""

import json
import os
import random
import sqlite3
import subprocess
import sys
import threading
from collections import defaultdict
from contextlib import closing
from datetime import datetime, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_asd.errors import TemporaryError
from edge_asd.ledger import Ledger
from edge_asd.messages import Address
from edge_asd.outbox import Outbox
from edge_asd.types import OutgoingMessage

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


def test_full_spool_thins_the_oldest_scores_first(tmp_path):
    """One score in ten of the past is kept, the latest in full; the next health message tells it once."""
    outbox = open_outbox(tmp_path, max_bytes=10_000)
    put(outbox, leaf="state")
    put(outbox, leaf="alarm")
    for _ in range(200):
        put(outbox)
    status = outbox.status()
    assert status.spool_bytes <= 10_000
    kept = seqs_of(outbox, "fan")
    in_full = next(index for index, seq in enumerate(kept) if kept[index : index + 2] == [seq, seq + 1] and seq > 2)
    assert kept[:2] == [1, 2]
    assert kept[2:in_full] == list(range(10, kept[in_full], 10))
    assert kept[in_full:] == list(range(kept[in_full], 203))
    assert len(kept[in_full:]) > 30
    assert status.dropped == 202 - len(kept) == 202 - status.messages
    outbox = reopened(outbox, tmp_path, max_bytes=1_000_000)
    expected = {"machine": "fan", "from": 3, "to": kept[in_full] - 1, "count": status.dropped}
    assert put_health(outbox) == [expected | {"why": "the message spool was full, one score in 10 kept"}]
    assert put_health(outbox) == []


def test_spool_full_of_thinned_scores_drops_the_oldest_and_alarms_last(tmp_path):
    """After thinning come all scores, then health, then states; alarms outlive everything."""
    outbox = open_outbox(tmp_path, max_bytes=4_000)
    for _ in range(3):
        put(outbox, leaf="alarm")
        put(outbox, leaf="state")
    outbox.put(machine=None, leaf="health", retain=True, payload={})
    gone = []
    for _ in range(600):
        put(outbox)
    scores = [seq for (seq,) in outbox._database.execute("SELECT seq FROM message WHERE leaf = 'score' ORDER BY seq")]
    assert len(scores) > 3
    assert scores == list(range(scores[0], 601, 10))
    for _ in range(40):
        put(outbox, leaf="alarm")
        leaves = [leaf for (leaf,) in outbox._database.execute("SELECT leaf FROM message")]
        gone += [leaf for leaf in ("score", "health", "state") if leaf not in leaves and leaf not in gone]
    assert gone == ["score", "health", "state"]
    assert set(leaves) == {"alarm"}


def test_what_waits_too_long_is_dropped_whatever_the_date(tmp_path):
    """Age counts by a clock that never jumps, on over restarts, and is announced."""
    now_s = 1_000.0

    def open_with_clock():
        return Outbox(
            tmp_path / "spool.db", max_bytes=1_000_000, max_age_s=100.0, utc_now=lambda: NOW, monotonic_s=lambda: now_s
        )

    outbox = open_with_clock()
    put(outbox, leaf="alarm")
    now_s += 60.0
    put(outbox)
    put(outbox)
    outbox.close()
    now_s = 5.0  # after a reboot
    outbox = open_with_clock()
    now_s += 39.0
    put(outbox)
    assert outbox.status().dropped == 0
    now_s += 2.0
    put(outbox)
    assert seqs_of(outbox, "fan") == [2, 3, 4, 5]
    assert outbox.status().dropped == 1
    why = "it waited longer than the spool allows"
    assert put_health(outbox) == [{"machine": "fan", "from": 1, "to": 1, "count": 1, "why": why}]


def test_a_health_message_tells_what_it_pushes_out_itself(tmp_path):
    """Whatever fills the spool to the brim: after the last health message no number is missing untold."""
    for n_scores in range(600, 640):  # so that every state of the brim comes up
        with closing(open_outbox(tmp_path / str(n_scores), max_bytes=100_000)) as outbox:
            for number in range(n_scores):
                put(outbox, machine=f"fan-{number % 2}")
            put_health(outbox)
            told = everything(outbox)[-1].payload["drops"]
            for machine in ("fan-0", "fan-1"):
                n_told = sum(drop["count"] for drop in told if drop["machine"] == machine)
                assert len(seqs_of(outbox, machine)) + n_told == n_scores // 2 + (machine == "fan-0" and n_scores % 2)


def test_losses_are_told_anew_when_the_health_message_itself_is_dropped(tmp_path):
    """An announcement that never left the device does not count as made."""
    outbox = open_outbox(tmp_path, max_bytes=1_000)
    for _ in range(20):
        put(outbox)
    outbox.put(machine=None, leaf="health", retain=True, payload={})
    [told] = outbox._database.execute("SELECT payload FROM message WHERE leaf = 'health'").fetchone()
    told = json.loads(told)["drops"]  # read beside the outbox: a message that was offered is dropped no more
    outbox = reopened(outbox, tmp_path, max_bytes=1_000)
    for _ in range(10):
        put(outbox, leaf="alarm")  # pushes scores and the health message out
    outbox = reopened(outbox, tmp_path, max_bytes=1_000_000)
    again = {drop["machine"]: drop for drop in put_health(outbox)}
    assert again["fan"]["from"] == told[0]["from"] == 1
    assert again["fan"]["count"] > told[0]["count"]
    assert again[None] == {"machine": None, "from": 1, "to": 1, "count": 1, "why": "the message spool was full"}


def test_what_is_under_way_is_not_dropped(tmp_path):
    """A message that was offered may have arrived: to announce it as lost would be wrong."""
    outbox = open_outbox(tmp_path, max_bytes=1_000)
    put(outbox)
    put(outbox)
    outbox.pending(limit=2, after=0)
    for _ in range(20):
        put(outbox)
    assert seqs_of(outbox, "fan")[:2] == [1, 2]


def test_what_was_under_way_when_the_process_ended_is_not_dropped_either(tmp_path):
    """It may have arrived, in a run before: to announce it as lost would hide the next loss."""
    outbox = open_outbox(tmp_path, max_bytes=1_000)
    put(outbox)
    put(outbox)
    outbox.pending(limit=2, after=0)
    outbox = reopened(outbox, tmp_path, max_bytes=1_000)
    for _ in range(20):
        put(outbox)
    assert seqs_of(outbox, "fan")[:2] == [1, 2]


def reopened(outbox, folder, *, max_bytes):
    """The spool after a restart."""
    outbox.close()
    return open_outbox(folder, max_bytes=max_bytes)


def garble_header(path):
    path.write_bytes(b"no database" + path.read_bytes()[11:])


def cut_in_half(path):
    os.truncate(path, path.stat().st_size // 2)


def garble_pages(path):
    path.write_bytes(path.read_bytes()[:4096] + b"\xa5" * (path.stat().st_size - 4096))


def newer_schema(path):
    with sqlite3.connect(path) as database:
        database.execute("PRAGMA user_version = 99")
    database.close()


@pytest.mark.parametrize("damage", [garble_header, cut_in_half, garble_pages, newer_schema])
def test_damaged_spool_is_set_aside_and_announced(tmp_path, damage):
    """The device goes on; no number comes twice; the loss of unknown size is told; the file can be examined."""
    outbox = open_outbox(tmp_path)
    for _ in range(50):
        put(outbox)
    outbox.close()
    damage(tmp_path / "spool.db")

    outbox = open_outbox(tmp_path)
    saved = seqs_of(outbox, "fan")
    assert set(saved) <= set(range(1, 51))
    first = put(outbox)
    assert first > 50
    assert put(outbox) == first + 1
    assert put(outbox, "pump") == first
    why = "the message spool was damaged and set aside"
    assert put_health(outbox) == [{"machine": "*", "from": None, "to": first - 1, "count": None, "why": why}]
    assert (tmp_path / "spool.db.damaged-20261121T083000Z").exists()
    assert put(reopened(outbox, tmp_path, max_bytes=1_000_000)) == first + 2


def test_commits_that_a_damaged_log_took_away_are_noticed(tmp_path):
    """SQLite cuts an altered write-ahead log short and calls the rest sound: no number of the rest comes twice."""
    outbox = open_outbox(tmp_path)
    last = [put(outbox) for _ in range(50)][-1]
    log = tmp_path / "spool.db-wal"
    content = bytearray(log.read_bytes())  # as a kill would leave it
    database = (tmp_path / "spool.db").read_bytes()
    outbox.close()
    content[len(content) // 2] ^= 1
    log.write_bytes(content)
    (tmp_path / "spool.db").write_bytes(database)
    outbox = open_outbox(tmp_path)
    assert outbox.status().messages > 0
    assert put(outbox) > last
    assert put_health(outbox)[0]["why"] == "the message spool was damaged and set aside"


def test_altered_message_is_not_delivered_and_the_others_are(tmp_path):
    """One flipped bit in one payload costs one message."""
    outbox = open_outbox(tmp_path)
    for number in range(20):
        put(outbox, note=f"number {number:02}")
    outbox.close()
    path = tmp_path / "spool.db"
    path.write_bytes(path.read_bytes().replace(b"number 07", b"number 17"))
    outbox = open_outbox(tmp_path)
    assert everything(outbox) == everything(outbox)
    assert seqs_of(outbox, "fan") == [*range(1, 8), *range(9, 21)]
    assert put_health(outbox)[0]["machine"] == "*"


def test_altered_newest_message_does_not_keep_the_spool_from_opening(tmp_path):
    """The one that is looked at first."""
    outbox = open_outbox(tmp_path)
    for number in range(3):
        put(outbox, note=f"number {number}")
    outbox.close()
    path = tmp_path / "spool.db"
    path.write_bytes(path.read_bytes().replace(b"number 2", b"number 3"))
    outbox = open_outbox(tmp_path)
    assert seqs_of(outbox, "fan") == [1, 2]
    assert put(outbox) > 3


def test_disk_that_refuses_deletions_does_not_hold_delivery_up(tmp_path, caplog):
    """What was delivered is not offered again in this run, and is taken out once the disk lets it."""
    outbox = open_outbox(tmp_path)
    for _ in range(5):
        put(outbox)
    outbox._database.execute("PRAGMA query_only = ON")
    outbox.delete([message.row_id for message in everything(outbox)[:2]])
    assert seqs_of(outbox, "fan") == [3, 4, 5]
    assert outbox.status().messages == 5
    assert "readonly" in caplog.text
    outbox._database.execute("PRAGMA query_only = OFF")
    outbox.delete([everything(outbox)[0].row_id])
    assert seqs_of(outbox, "fan") == [4, 5]
    assert outbox.status().messages == 2


@pytest.fixture(scope="module")
def left_spools(tmp_path_factory):
    """The files of a spool whose process was killed, with a long write-ahead log, and of one that was closed."""
    folder = tmp_path_factory.mktemp("killed")
    outbox = Outbox(folder / "spool.db", max_bytes=20_000, utc_now=lambda: NOW)
    for number in range(400):
        put(outbox, ("fan", "pump")[number % 2], ("score", "score", "score", "state", "alarm")[number % 5])
        if number % 50 == 0:
            outbox.put(machine=None, leaf="health", retain=True, payload={})
        if number == 250:
            outbox._database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    outbox.put_many([], records={"fan": b"alarm"})
    given_out = dict(outbox._last_seqs)
    killed = {path.name: path.read_bytes() for path in folder.iterdir()}
    outbox.close()
    closed = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert len(killed["spool.db"]) > 20_000
    assert len(killed["spool.db-wal"]) > 20_000
    assert "spool.db-wal" not in closed
    return {"spool.db of a closed one": (closed, given_out), "": (killed, given_out)}


def flip(content, places):
    """The content with a bit flipped at each place, a number from 0 to 1."""
    altered = bytearray(content)
    for place, bit in places:
        altered[int(place * (len(altered) - 1))] ^= 1 << bit
    return bytes(altered)


DATABASES = ["spool.db of a closed one", "spool.db", "spool.db-wal"]
PLACES = st.lists(st.tuples(st.floats(0, 1), st.integers(0, 7)), min_size=1, max_size=8)


def survives(folder, left_spools, name, places):
    """Opens a spool with flipped bits: no number comes twice, what is delivered is what was put, gaps are told."""
    files, given_out = left_spools.get(name, left_spools[""])
    name = name.removesuffix(" of a closed one")
    for file, content in files.items():
        (folder / file).write_bytes(flip(content, places) if file == name else content)
    outbox = Outbox(folder / "spool.db", max_bytes=1_000_000, utc_now=lambda: NOW)
    delivered = defaultdict(list)
    for _ in range(3):  # where damage shows only now, the first look sets the spool aside
        for message in outbox.pending(limit=1_000, after=0):
            assert message.leaf == "health" or message.payload["padding"] == "x" * 60
            delivered[message.machine].append(message.payload["seq"])
        outbox.delete([message.row_id for message in outbox.pending(limit=1_000, after=0)])
    first = {machine: put(outbox, machine) for machine in ("fan", "pump")}
    drops = put_health(outbox)
    for machine, seq in first.items():
        assert seq > given_out[machine]
        missing = set(range(1, seq)) - set(delivered[machine])
        told = [drop for drop in drops if drop["machine"] in {machine, "*"}]
        assert all(any((drop["from"] or 1) <= gap <= drop["to"] for drop in told) for gap in missing)
    outbox.close()
    # And it is sound from now on.
    outbox = open_outbox(folder)
    assert put(outbox) == first["fan"] + 1
    outbox.close()


@settings(max_examples=40)
@given(name=st.sampled_from([*DATABASES, "spool.db.mark", "spool.db.ceiling"]), places=PLACES)
def test_flipped_bits_never_stop_the_spool_nor_repeat_a_number(tmp_path_factory, left_spools, name, places):
    """Any bytes of any one of its files."""
    survives(tmp_path_factory.mktemp("flipped"), left_spools, name, places)


@pytest.mark.slow
@settings(max_examples=1_000)
@given(name=st.sampled_from(DATABASES), places=PLACES)
def test_thousand_flips_never_stop_the_spool(tmp_path_factory, left_spools, name, places):
    """The same with many more cases."""
    survives(tmp_path_factory.mktemp("flipped"), left_spools, name, places)


@pytest.mark.parametrize("word", [b"CREATE TABLE", b"WITHOUT ROWID"])
def test_tables_whose_own_words_are_no_text_are_damage(tmp_path, word):
    """SQLite then quotes bytes that are no UTF-8, and Python fails over its message instead of telling it."""
    outbox = open_outbox(tmp_path)
    last = put(outbox)
    outbox.close()
    path = tmp_path / "spool.db"
    content = path.read_bytes()
    assert word in content
    path.write_bytes(content.replace(word, word[:-1] + b"\xe4"))
    with closing(open_outbox(tmp_path)) as outbox:
        assert put(outbox) > last


def test_only_one_damaged_spool_is_kept(tmp_path):
    """A device whose disk fails again and again does not fill it with its remains."""
    for day in (20, 21, 22):
        outbox = Outbox(tmp_path / "spool.db", max_bytes=1_000_000, utc_now=lambda day=day: NOW.replace(day=day))
        put(outbox)
        outbox.close()
        garble_header(tmp_path / "spool.db")
    assert [path.name for path in tmp_path.glob("*damaged*")] == ["spool.db.damaged-20261122T083000Z"]


def test_missing_spool_does_not_repeat_numbers(tmp_path):
    """A database that was deleted is a loss like any other."""
    outbox = open_outbox(tmp_path)
    put(outbox)
    outbox.close()
    (tmp_path / "spool.db").unlink()
    outbox = open_outbox(tmp_path)
    assert put(outbox) > 1
    assert put_health(outbox)[0]["why"] == "the message spool was missing"


def test_damage_found_while_running_does_not_stop_the_daemon(tmp_path):
    """The publisher that reads bad pages gets a new spool under it, and row ids go on growing."""
    outbox = open_outbox(tmp_path, max_bytes=100_000_000)
    big = OutgoingMessage(machine="fan", leaf="score", retain=False, payload={"padding": "x" * 50_000})
    for _ in range(10):
        outbox.put_many([big] * 20)  # 10 MB: more than SQLite's page cache and write-ahead log hold
    last_row = outbox.last_row_id()
    with (tmp_path / "spool.db").open("r+b") as file:
        file.seek(4096)
        file.write(b"\xa5" * 9_000_000)
    saved = seqs_of(outbox, "fan")
    assert saved == list(range(201 - len(saved), 201))  # of the pages that were not overwritten
    assert put(outbox) > 200
    assert everything(outbox)[-1].row_id == last_row + 1
    assert outbox.status().messages == len(saved) + 1


def test_messages_that_the_disk_refused_are_announced_later(tmp_path, caplog):
    """A full disk neither raises into the scoring thread nor leaves an unexplained gap; the log says it once."""
    outbox = open_outbox(tmp_path)
    put(outbox)
    (pages,) = outbox._database.execute("PRAGMA page_count").fetchone()
    outbox._database.execute(f"PRAGMA max_page_count = {pages}")
    fitting = 0
    while put(outbox, padding="x" * 3_000) is not None:
        fitting += 1
    assert put(outbox, padding="x" * 3_000) is None
    outbox._database.execute("PRAGMA max_page_count = 100000")
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
    outbox._database.execute("PRAGMA query_only = ON")
    for number in range(300):
        assert put(outbox, leaf="score", number=number) is None
        assert put(outbox, leaf="alarm", number=number) is None
    assert outbox.status().unwritten == 300 + 44
    outbox._database.execute("PRAGMA query_only = OFF")
    assert put(outbox, leaf="state") == 1 + 300 + 44 + 256 + 1
    waiting = everything(outbox)
    assert [message.payload["number"] for message in waiting if message.leaf == "alarm"] == list(range(44, 300))
    assert [message.leaf for message in waiting[-2:]] == ["alarm", "state"]
    assert put_health(outbox) == [
        {"machine": "fan", "from": 2, "to": 345, "count": 344, "why": "the disk refused them"}
    ]


def test_records_are_committed_with_the_messages_that_follow_from_them(tmp_path):
    """The next run reads what this one put, replaced or forgot, and no other."""
    outbox = open_outbox(tmp_path)
    outbox.put_many([], records={"fan": b"1", "pump": b"2", "saw": b"3"})
    outbox.put_many([], records={"fan": b"\xff", "saw": None})
    assert outbox.records() == {"fan": b"\xff", "pump": b"2"}
    outbox.close()
    assert open_outbox(tmp_path).records() == {"fan": b"\xff", "pump": b"2"}


def test_record_that_the_disk_refused_is_committed_with_the_next_message(tmp_path):
    """What the daemon is in goes on in memory; the disk catches up when it can."""
    outbox = open_outbox(tmp_path)
    outbox.put_many([], records={"fan": b"1"})
    outbox._database.execute("PRAGMA query_only = ON")  # as a disk does that became read-only
    assert put(outbox) is None
    assert outbox.put_many([], records={"fan": b"2"}) == []
    outbox._database.execute("PRAGMA query_only = OFF")
    assert put(outbox) == 2
    outbox.close()
    assert open_outbox(tmp_path).records() == {"fan": b"2"}


def test_records_outlive_a_spool_that_is_damaged_while_it_is_open(tmp_path):
    """The new database gets them with the first message that it takes."""
    outbox = open_outbox(tmp_path)
    outbox.put_many([], records={"fan": b"1"})
    outbox._database.execute("UPDATE message SET payload = 'altered'")
    assert everything(outbox) == []
    put(outbox)
    outbox.close()
    assert open_outbox(tmp_path).records() == {"fan": b"1"}


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
            outbox._database.execute(f"PRAGMA query_only = {step[1]}")
        else:
            outbox.close()
            outbox = opened()
    outbox._database.execute("PRAGMA query_only = OFF")
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
