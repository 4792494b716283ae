"""Counting, from any thread and from parts that come and go."""

import threading
from typing import get_args

import pytest

from edge_asd.counters import COUNTERS, Count, CounterName, Counters


def value_of(counters, name, machine=None):
    return next(count.value for count in counters.counts() if (count.name, count.machine) == (name, machine))


def test_every_counter_is_described():
    """A counter without words for people would show nowhere."""
    assert set(COUNTERS) == set(get_args(CounterName))
    assert all(kind.what.endswith(".") for kind in COUNTERS.values())


def test_nothing_is_lost_between_threads():
    """Four threads that add at once are all counted."""
    counters = Counters(("fan",))

    def add():
        for _ in range(5_000):
            counters.add("windows_scored", machine="fan")
        counters.add("samples_lost", 480, machine="fan")

    threads = [threading.Thread(target=add) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert value_of(counters, "windows_scored", "fan") == 20_000
    assert value_of(counters, "samples_lost", "fan") == 4 * 480
    assert value_of(counters, "windows_dropped", "fan") == 0


def test_all_counters_show_from_the_start():
    """A counter that has not counted yet is 0, not absent, for each machine."""
    counts = Counters(("fan", "pump")).counts()
    expected = [
        Count(name=name, machine=machine, value=0)
        for name, kind in COUNTERS.items()
        for machine in (("fan", "pump") if kind.per_machine else (None,))
    ]
    assert counts == expected


def test_machines_add_up():
    """A total is the sum over machines."""
    counters = Counters(("fan", "pump"))
    counters.add("alarms_begun", machine="fan")
    counters.add("alarms_begun", 2, machine="pump")
    assert counters.totals()["alarms_begun"] == 3
    assert {name: counts["alarms_begun"] for name, counts in counters.of_machines().items()} == {"fan": 1, "pump": 2}


def test_a_part_that_counts_itself_is_asked():
    """What a part counts shows as it is now, beside what was added."""
    counters = Counters()
    kept = [0]
    counters.add("messages_dropped", 5)
    counters.watch("messages_dropped", lambda: kept[0])
    kept[0] = 2
    assert value_of(counters, "messages_dropped") == 7


def test_a_part_that_is_opened_again_goes_on_counting():
    """The count of a part that was closed stays, and that of its successor adds to it."""
    counters = Counters()
    end = counters.watch("broker_connections", lambda: 3)
    end()
    assert value_of(counters, "broker_connections") == 3
    counters.watch("broker_connections", lambda: 1)
    assert value_of(counters, "broker_connections") == 4


@pytest.mark.parametrize(("name", "machine"), [("windows_scored", None), ("messages_dropped", "fan")])
def test_a_machine_is_given_where_it_belongs(name, machine):
    """A count for the wrong owner is refused, whether added or watched."""
    counters = Counters(("fan",))
    with pytest.raises(ValueError, match=name):
        counters.add(name, machine=machine)
    with pytest.raises(ValueError, match=name):
        counters.watch(name, lambda: 1, machine=machine)
