"""The daemon as a process, from recorded sound to messages on real brokers."""

import itertools
import json
import signal
import time

import pytest


def of_leaf(heard, leaf):
    return [message.payload for message in heard if message.leaf == leaf]


def has_stopped(heard):
    return "stopped" in of_leaf(heard, "availability")


def unique(messages):
    """Messages of a machine by seq, repeats dropped."""
    return [payload for _, payload in sorted({payload["seq"]: payload for payload in messages}.items())]


@pytest.fixture
def threshold_between(edge_asd, example_bundle, example_clips):
    """A function: halfway between a motor's healthy and damaged clips; the fitted one is another test's."""

    def between(machine):
        scores = {}
        for kind in ("healthy", "propeller"):
            clips = example_clips(machine, kind)
            _, out, _ = edge_asd("score", example_bundle, *clips, "--machine", f"bldc/{machine}", "--json")
            scores[kind] = [clip["score"] for clip in json.loads(out)]
        assert max(scores["healthy"]) < min(scores["propeller"])
        return (max(scores["healthy"]) + min(scores["propeller"])) / 2

    return between


@pytest.mark.parametrize("broker_fixture", ["mosquitto", "amqtt_broker"])
def test_damage_raises_one_alarm_and_healthy_sound_none(
    broker_fixture, request, make_device, subscribe, threshold_between
):
    """A motor that runs healthy and then damaged is told as such: scores, states, one alarm, in one gap-free order."""
    broker = request.getfixturevalue(broker_fixture)
    device = make_device(mqtt={"protocol": 5 if broker_fixture == "mosquitto" else "3.1.1"})
    device.machine["threshold"] = threshold_between("M1")
    device.machine["alarm"]["off_delay_s"] = 3_600.0  # where the damage varies, it stays one alarm
    subscriber = subscribe(broker)
    code, said = device.run(broker.url)
    assert code == 0, said
    heard = subscriber.wait_for(has_stopped)
    scores, states, alarms = (of_leaf(heard, leaf) for leaf in ("score", "state", "alarm"))
    told = unique(scores + states + alarms)
    assert [message["seq"] for message in told] == list(range(1, len(told) + 1))
    assert unique(states)[0]["state"] == "normal"
    assert unique(states)[-1]["state"] == "alarm"
    assert [alarm["event"] for alarm in unique(alarms)] == ["new"]
    assert unique(states)[-1]["alarm_id"] == alarms[0]["id"]
    assert of_leaf(heard, "availability") == ["online", "stopped"]
    assert all(score["model"]["name"] == "bldc-motor" for score in scores)
    times = [score["time_monotonic_s"] for score in unique(scores)]
    steps = {round(later - earlier, 3) for earlier, later in itertools.pairwise(times)}
    assert steps == {0.96}
    assert of_leaf(heard, "health")[-1]["counters"]["windows_scored"] == len(scores)


def test_what_is_retained_is_state_availability_and_health(mosquitto, make_device, subscribe):
    """Who subscribes after the daemon has gone gets its last state, not old scores or alarms."""
    live = subscribe(mosquitto)
    code, said = make_device().run(mosquitto.url)
    assert code == 0, said
    live.wait_for(has_stopped)
    late = subscribe(mosquitto)
    heard = late.wait_for(lambda messages: len(messages) >= 3)
    assert {message.leaf for message in heard} == {"state", "availability", "health"}
    assert all(message.retained for message in heard)


def test_a_killed_daemon_is_offline_and_goes_on_counting_when_it_is_back(mosquitto, make_device, subscribe):
    """A kill -9 leaves the last will, and the next start continues the sequence without a gap."""
    subscriber = subscribe(mosquitto)
    device = make_device()
    device.machine["source"].update(speed=4.0, repeat=True)
    first = device.start(mosquitto.url)
    subscriber.wait_for(lambda heard: len(of_leaf(heard, "score")) >= 3, 30)
    first.kill()
    first.wait()
    subscriber.wait_for(lambda heard: "offline" in of_leaf(heard, "availability"))
    second = device.start(mosquitto.url)
    n_before = len(of_leaf(subscriber.heard, "score"))
    subscriber.wait_for(lambda heard: len(of_leaf(heard, "score")) >= n_before + 3, 30)
    second.send_signal(signal.SIGTERM)
    assert second.wait(20) == 0
    heard = subscriber.wait_for(has_stopped)
    told = unique([payload for leaf in ("score", "state", "alarm") for payload in of_leaf(heard, leaf)])
    assert [message["seq"] for message in told] == list(range(1, len(told) + 1))


@pytest.mark.parametrize("stop_signal", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_it_cleanly(stop_signal, mosquitto, make_device, subscribe):
    """SIGTERM and SIGINT end the daemon within seconds: exit code 0, `stopped` retained, nothing left in the spool."""
    subscriber = subscribe(mosquitto)
    device = make_device()
    device.machine["source"].update(speed=4.0, repeat=True)
    process = device.start(mosquitto.url)
    subscriber.wait_for(lambda heard: of_leaf(heard, "score"), 30)
    begun_s = time.monotonic()
    process.send_signal(stop_signal)
    assert process.wait(15) == 0
    assert time.monotonic() - begun_s < 10
    assert of_leaf(subscriber.wait_for(has_stopped), "availability")[-1] == "stopped"


def test_without_a_broker_it_goes_on_and_delivers_later(make_mosquitto, make_device, subscribe):
    """A broker that is absent at the start costs nothing: all scores arrive later, marked historical."""
    broker = make_mosquitto()
    device = make_device()
    code, said = device.run(broker.url)
    assert code == 0, said
    assert f"127.0.0.1:{broker.port}" in said
    broker.start()
    subscriber = subscribe(broker)
    code, said = device.run(broker.url)
    assert code == 0, said
    heard = subscriber.wait_for(has_stopped)
    told = unique([payload for leaf in ("score", "state", "alarm") for payload in of_leaf(heard, leaf)])
    assert [message["seq"] for message in told] == list(range(1, len(told) + 1))
    assert {message["historical"] for message in told} == {True, False}
    assert told[0]["historical"] is True
    assert told[-1]["historical"] is False


def test_without_its_sound_card_it_says_so(make_device):
    """A sound card that is not there is exit code 69, and the message says what was found instead."""
    device = make_device()
    device.machine["source"] = {"device": "no such card"}
    code, said = device.run("mqtt://127.0.0.1:1")
    assert code == 69, said
    assert "sound card" in said


def test_every_fault_of_a_configuration_shows_at_once(make_device, tmp_path):
    """A bad configuration is exit code 78, one line a fault, each with its line number, and nothing is started."""
    device = make_device()
    device.machine["hop_samples"] = 16_000
    device.machine["threshhold"] = 1
    device.config["bundle"] = str(tmp_path / "none.asd")
    code, said = device.run("mqtt://127.0.0.1:1")
    assert code == 78
    lines = [line for line in said.splitlines() if " line " in line]
    assert len(lines) == 3
    assert any("hop_samples is 16000" in line and "use 15360" in line for line in lines)
    assert any("did you mean threshold?" in line for line in lines)
    assert any("none.asd" in line for line in lines)
    assert not (device.path.parent / "state").exists()


def test_a_class_that_the_bundle_lacks_is_named(make_device):
    """A machine that the bundle was not trained on is exit code 78, with the classes that there are."""
    device = make_device()
    device.machine["listens_to"] = "bldc/M9"
    code, said = device.run("mqtt://127.0.0.1:1")
    assert code == 78
    assert "bldc/M9" in said
    assert "bldc/M1" in said
