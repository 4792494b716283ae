"""One alarm over kills of the daemon, commands from a terminal, and its end."""

import random
import time


def of_machine(heard):
    """(leaf, payload) of all that was said of machines, by seq, repeats dropped."""
    said = {message.payload["seq"]: (message.leaf, message.payload) for message in heard if "score" in message.topic
            or message.leaf in {"state", "alarm"}}  # fmt: skip
    return [said[seq] for seq in sorted(said)]


def alarms(heard):
    return [payload for leaf, payload in of_machine(heard) if leaf == "alarm"]


def starts(heard):
    """The first state of each life of the daemon."""
    return [payload for leaf, payload in of_machine(heard) if leaf == "state" and payload["previous"] is None]


def test_one_alarm_over_kills_commands_and_a_restart(mosquitto, make_device, subscribe, edge_asd):
    """SIGKILL at random moments: one `new`, no gap, marks that stay, and an `end` that refers to it."""
    draw = random.Random(11)
    device = make_device()
    device.machine["source"].update(speed=10.0, repeat=True)
    device.machine["threshold"] = -1_000.0
    subscriber = subscribe(mosquitto)
    for life in range(3):
        process = device.start(mosquitto.url)
        subscriber.wait_for(lambda heard, n=life: len(starts(heard)) > n, 40)
        if life == 0:
            subscriber.wait_for(alarms)
            for action in ("acknowledge", "mute"):
                code, _, errors = edge_asd("alarm", action, "motor-1", "--config", device.path, "--by", "anna")
                assert code == 0, errors
        time.sleep(draw.uniform(0.0, 0.5))
        process.kill()
        process.wait()
    device.machine["threshold"] = 1_000.0
    device.machine["source"].update(speed=60.0, repeat=False)
    code, said = device.run(mosquitto.url)
    assert code == 0, said
    heard = subscriber.wait_for(lambda heard: heard[-1].payload == "stopped")
    told = of_machine(heard)
    assert [payload["seq"] for _, payload in told] == list(range(1, len(told) + 1))
    events = alarms(heard)
    assert [event["event"] for event in events] == ["new", "update", "update", "end"]
    assert len({event["id"] for event in events}) == 1
    assert [event["acknowledged_by"] for event in events] == [None, "anna", "anna", "anna"]
    assert [event["muted_until_utc"] is not None for event in events] == [False, False, True, True]
    assert len(starts(heard)) == 4
    assert {start["alarm_id"] for start in starts(heard)[1:3]} == {events[0]["id"]}
    assert {start["acknowledged_by"] for start in starts(heard)[1:3]} == {"anna"}
