"""A spool whose files were altered: set aside, announced, and what is whole of it delivered."""

import os
import sqlite3
from collections import defaultdict
from contextlib import closing

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_asd.outbox import Outbox
from edge_asd.types import OutgoingMessage
from tests.edge_asd.spool.kit import NOW, everything, open_outbox, put, put_health, reopened, seqs_of


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


def test_a_lost_commit_of_records_alone_is_noticed(tmp_path):
    """What a daemon remembers may change without a message: a database from before it is not taken for the latest."""
    outbox = open_outbox(tmp_path)
    last = put(outbox)
    outbox.close()
    before = (tmp_path / "spool.db").read_bytes()
    outbox = open_outbox(tmp_path)
    outbox.put_many([], records={"fan": b"alarm"})
    outbox.close()
    (tmp_path / "spool.db").write_bytes(before)
    outbox = open_outbox(tmp_path)
    assert put(outbox) > last
    assert put_health(outbox)[0]["why"] == "the message spool was damaged and set aside"


def with_an_altered_message(folder, *, n_messages, altered):
    """A spool whose message of that number, counted from 0, says another one."""
    outbox = open_outbox(folder)
    for number in range(n_messages):
        put(outbox, note=f"number {number:02}")
    outbox.close()
    path = folder / "spool.db"
    path.write_bytes(path.read_bytes().replace(b"number %02d" % altered, b"number 99"))
    return open_outbox(folder)


def test_altered_message_is_not_delivered_and_the_others_are(tmp_path):
    """One altered payload costs one message."""
    outbox = with_an_altered_message(tmp_path, n_messages=20, altered=7)
    assert everything(outbox) == everything(outbox)
    assert seqs_of(outbox, "fan") == [*range(1, 8), *range(9, 21)]
    assert put_health(outbox)[0]["machine"] == "*"


def test_altered_newest_message_does_not_keep_the_spool_from_opening(tmp_path):
    """The one that is looked at first."""
    outbox = with_an_altered_message(tmp_path, n_messages=3, altered=2)
    assert seqs_of(outbox, "fan") == [1, 2]
    assert put(outbox) > 3


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
            outbox._store.database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    outbox.put_many([], records={"fan": b"alarm"})
    given_out = dict(outbox._store._last_seqs)
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


def test_records_outlive_a_spool_that_is_damaged_while_it_is_open(tmp_path):
    """The new database gets them with the first message that it takes."""
    outbox = open_outbox(tmp_path)
    outbox.put_many([], records={"fan": b"1"})
    outbox._store.database.execute("UPDATE message SET payload = 'altered'")
    assert everything(outbox) == []
    put(outbox)
    outbox.close()
    assert open_outbox(tmp_path).records() == {"fan": b"1"}
