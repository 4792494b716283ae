"""A spool that is full, or whose messages are too old: what goes, in which order, and how that is told."""

import json
from contextlib import closing

from edge_asd.outbox import Outbox
from tests.edge_asd.spool.kit import NOW, everything, open_outbox, put, put_health, reopened, seqs_of


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
    scores = [
        seq for (seq,) in outbox._store.database.execute("SELECT seq FROM message WHERE leaf = 'score' ORDER BY seq")
    ]
    assert len(scores) > 3
    assert scores == list(range(scores[0], 601, 10))
    for _ in range(40):
        put(outbox, leaf="alarm")
        leaves = [leaf for (leaf,) in outbox._store.database.execute("SELECT leaf FROM message")]
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
    [told] = outbox._store.database.execute("SELECT payload FROM message WHERE leaf = 'health'").fetchone()
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
