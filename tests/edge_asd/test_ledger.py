"""The proof of completeness: whatever was dropped, thinned, repeated and announced."""

from collections import Counter

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from edge_asd.ledger import Announcement, Ledger, Numbers, explain
from edge_asd.messages import Address

SEQS = st.integers(1, 40)


def address(leaf="score", machine="fan"):
    return Address(site="hall", device="orin", machine=None if leaf == "health" else machine, leaf=leaf)


def say(ledger, *seqs, leaf="score", machine="fan", retained=False):
    for seq in seqs:
        ledger.hear(address(leaf, machine), {"seq": seq}, retained=retained)


def announce(ledger, seq, *drops, retained=False):
    ledger.hear(address("health"), {"seq": seq, "drops": list(drops)}, retained=retained)


def drop(first, last, count, machine="fan", why="full"):
    return {"machine": machine, "from": first, "to": last, "count": count, "why": why}


def account(ledger, machine="fan"):
    return next(account for account in ledger.accounts() if account.machine == machine)


@given(st.lists(SEQS))
def test_numbers_are_a_set(numbers):
    """In whatever order they come: what was added is in the ranges, which neither touch nor overlap."""
    ranges = Numbers()
    assert [ranges.add(number) for number in numbers] == [numbers.index(n) == at for at, n in enumerate(numbers)]
    held = [number for first, last in ranges.ranges for number in range(first, last + 1)]
    assert held == sorted(set(numbers))
    assert all(after[0] - before[1] > 1 for before, after in zip(ranges.ranges, ranges.ranges[1:], strict=False))
    gaps = [number for first, last in ranges.missing() for number in range(first, last + 1)]
    assert sorted([*held, *gaps]) == (list(range(min(held), max(held) + 1)) if held else [])


def test_all_there_is_complete():
    """Repeats and late ones are counted and are no gap."""
    ledger = Ledger()
    say(ledger, 1, 2, 4, 3, 3, 4, 5)
    result = account(ledger)
    assert (result.first, result.last, result.seen, result.repeats, result.out_of_order) == (1, 5, 5, 2, 1)
    assert (result.missing, result.unexplained) == (0, 0)


def test_gap_that_nobody_announced_is_unexplained():
    """Even where another machine, or another device, lost as much."""
    ledger = Ledger()
    say(ledger, 1, 2, 6)
    say(ledger, 1, machine="pump")
    announce(ledger, 1, drop(3, 5, 3, machine="pump"), drop(3, 5, 3, machine=None))
    assert [(gap.first, gap.last, gap.unexplained) for gap in account(ledger).explained.gaps] == [(3, 5, 3)]


def test_announced_loss_explains_its_gap_whenever_it_is_told():
    """Before or after, retained or not, and once only however often it is repeated."""
    ledger = Ledger()
    announce(ledger, 7, drop(3, 5, 3, why="thinned"), retained=True)
    announce(ledger, 7, drop(3, 5, 3, why="thinned"))
    say(ledger, 1, 2, 6, 7, 10)
    announce(ledger, 8, drop(8, 9, 2))
    result = account(ledger)
    assert result.unexplained == 0
    assert result.explained.by_cause == {"thinned": 3, "full": 2}
    assert account(ledger, None).seen == 2


def test_count_bounds_what_an_announcement_explains():
    """Thinning told as 2 of 3 to 9 does not cover for a third one."""
    ledger = Ledger()
    say(ledger, 1, 2, 4, 5, 7, 9, 10)
    announce(ledger, 1, drop(3, 9, 2))
    assert account(ledger).unexplained == 1


def test_damaged_spool_explains_all_before_it_for_every_series():
    """`*` without a beginning and a number is what a device says whose spool was lost."""
    ledger = Ledger()
    say(ledger, 5, 1_001)
    say(ledger, 7, 1_001, machine="pump")
    announce(ledger, 1_001, drop(None, 1_000, None, machine="*", why="damaged"))
    say(ledger, 1_003)
    assert account(ledger).unexplained == 1
    assert account(ledger, "pump").unexplained == 0


def test_retained_messages_prove_nothing_and_open_no_gap():
    """A state that lay at the broker came before the audit did."""
    ledger = Ledger()
    say(ledger, 3, leaf="state", retained=True)
    say(ledger, 90, 91)
    assert (account(ledger).first, account(ledger).missing) == (90, 0)


def test_announced_loss_that_came_all_the_same_is_told():
    """A device that announces what it delivered would hide the next loss."""
    ledger = Ledger()
    say(ledger, 1, 2, 3, 4)
    announce(ledger, 1, drop(2, 3, 2))
    assert account(ledger).explained.over_announced == 2


@pytest.mark.parametrize(
    "payload",
    [{}, {"seq": "1"}, {"seq": -1}, {"seq": True}, {"seq": 1.5}, {"seq": 1}, {"seq": 1, "drops": 3},
     {"seq": 1, "drops": [1]}, {"seq": 1, "drops": [{}]}, {"seq": 1, "drops": [drop("a", 1, 1)]},
     {"seq": 1, "drops": [drop(1, None, 1)]}, {"seq": 1, "drops": [drop(1, 1, 1, machine=5)]}],
)  # fmt: skip
def test_what_is_not_of_the_contract_is_refused(payload):
    """A foreign message leaves the books as they were."""
    ledger = Ledger()
    with pytest.raises(ValueError):  # noqa: PT011 (whatever is wrong with it)
        ledger.hear(address("health"), payload, retained=False)
    assert ledger.accounts() == []


@st.composite
def histories(draw):
    """What a device with a bounded spool does: messages delivered or dropped, losses told in batches, repeats."""
    fates = draw(st.lists(st.sampled_from(["come", "come", "thinned", "full", "tell"]), max_size=80))
    events, untold, seq, health = [], {}, 0, 0
    for fate in [*fates, "come", "tell"]:
        if fate == "tell":
            health += 1
            drops = [drop(min(lost), max(lost), len(lost), why=why) for why, lost in untold.items()]
            events.append(("tell", health, drops))
            untold = {}
            continue
        seq += 1
        if fate == "come" or seq == 1:
            events.append(("come", seq))
        else:
            untold.setdefault(fate, []).append(seq)
    again = draw(st.lists(st.integers(0, len(events) - 1), max_size=5))
    for at in sorted(again, reverse=True):
        events.insert(draw(st.integers(at + 1, len(events))), events[at])  # at least once
    return events


def book(events):
    ledger = Ledger()
    for event in events:
        if event[0] == "come":
            say(ledger, event[1])
        else:
            announce(ledger, event[1], *event[2])
    return account(ledger)


@given(histories())
def test_honest_device_is_always_found_complete(events):
    """Whatever it drops, thins, tells in ranges and repeats."""
    result = book(events)
    assert result.unexplained == 0
    assert result.explained.over_announced == 0
    assert sum(result.explained.by_cause.values()) == result.missing


@given(histories(), st.data())
def test_one_message_lost_in_silence_is_always_noticed(events, data):
    """Any one but the first and the last, wherever it lies among the announced losses."""
    seqs = sorted({event[1] for event in events if event[0] == "come"})
    assume(len(seqs) > 2)
    lost = data.draw(st.sampled_from(seqs[1:-1]))
    result = book([event for event in events if event[:2] != ("come", lost)])
    assert result.unexplained == 1


@given(
    st.sets(SEQS, max_size=12),
    st.lists(st.tuples(st.integers(1, 40), st.integers(0, 20), st.integers(0, 4)), max_size=5),
)
def test_as_few_as_possible_stay_unexplained(missing, drawn):
    """Against an exhaustive matching of missing numbers with announcements."""
    announcements = [
        Announcement(first=first, last=first + length, count=count, why=str(at))
        for at, (first, length, count) in enumerate(drawn)
    ]
    explained = explain([(seq, seq) for seq in sorted(missing)], announcements, view=(1, 60))
    assert sum(gap.unexplained for gap in explained.gaps) == len(missing) - best_matching(missing, announcements)
    used = Counter(explained.by_cause)
    assert all(used[told.why] <= told.count for told in announcements)


def best_matching(missing, announcements):
    """How many numbers can have a place in an announcement each (augmenting paths)."""
    places = [told for told in announcements for _ in range(told.count)]
    taken = {}

    def place(seq, tried):
        for at, told in enumerate(places):
            if told.first <= seq <= told.last and at not in tried:
                tried.add(at)
                if at not in taken or place(taken[at], tried):
                    taken[at] = seq
                    return True
        return False

    return sum(place(seq, set()) for seq in missing)
