"""The daemon as a process, listening to a real sound server that goes away and comes back."""

import copy
import time

import psutil


def told(heard, machine, leaf):
    """Payloads of one machine, repeats dropped, in order."""
    found = {
        message.payload["seq"]: message.payload for message in heard if message.topic.endswith(f"/{machine}/{leaf}")
    }
    return [payload for _, payload in sorted(found.items())]


def wait_for_state(subscriber, state, *, after=0, timeout_s=60.0):
    """The state that motor-1 gets as its next after so many, and how long that took."""
    began_s = time.monotonic()
    heard = subscriber.wait_for(lambda heard: len(told(heard, "motor-1", "state")) > after, timeout_s)
    reached = told(heard, "motor-1", "state")[after]
    assert reached["state"] == state, reached
    return reached, time.monotonic() - began_s


def test_a_card_that_comes_goes_and_comes_is_told_and_others_go_on(mosquitto, make_device, subscribe, pulse):
    """A card that is not there at the start, comes, and is lost with its server: told in time each time.

    A machine that plays clips is scored all the while, and no recording process is left at the end.
    """
    device = make_device()
    motor = device.machine
    motor["source"].update(speed=4.0, repeat=True)
    device.config["machines"] = [
        {**copy.deepcopy(motor), "name": "motor-1", "source": {"device": "plant"}},
        {**motor, "name": "motor-2"},
    ]
    subscriber = subscribe(mosquitto)
    pulse.stop()
    daemon = device.start(mosquitto.url)
    away, _ = wait_for_state(subscriber, "sensor_fault")
    assert (away["previous"], away["reason"].split(":")[0]) == (None, "no sound")
    assert "no sound card" in away["reason"]
    pulse.start()
    _, took_s = wait_for_state(subscriber, "learning", after=1)
    assert took_s < 10.0
    scores_before = len(told(subscriber.heard, "motor-2", "score"))
    pulse.kill()
    lost, took_s = wait_for_state(subscriber, "sensor_fault", after=2)
    assert took_s < 5.0
    assert lost["previous"] == "learning"
    subscriber.wait_for(lambda heard: len(told(heard, "motor-2", "score")) > scores_before + 3, 60.0)
    processes = psutil.Process(daemon.pid).children(recursive=True)
    daemon.terminate()
    assert daemon.wait(20) == 0
    assert told(subscriber.heard, "motor-1", "state")[3:] == [], "a stop is no fault of the card"
    psutil.wait_procs(processes, timeout=10)
    assert not any(process.is_running() for process in processes)


def test_a_device_that_hears_nothing_at_all_ends_with_69(make_device, pulse):
    """Where no machine can be heard at the start, the daemon says why and leaves it to the service manager."""
    pulse.stop()
    device = make_device()
    other = {**copy.deepcopy(device.machine), "name": "motor-2", "source": {"device": "silent mic"}}
    device.machine["source"] = {"device": "plant"}
    device.config["machines"].append(other)
    code, said = device.run("mqtt://127.0.0.1:1")
    pulse.start()
    assert code == 69, said
    assert "no sound card" in said
