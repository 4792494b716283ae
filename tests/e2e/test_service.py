"""The daemon as a service: what the service manager hears, what Prometheus and people see, and reloads."""

import itertools
import json
import os
import signal
import socket
import urllib.request
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def scores(subscriber):
    return [message.payload for message in subscriber.heard if message.leaf == "score"]


def healths(subscriber):
    return [message.payload for message in subscriber.heard if message.leaf == "health"]


@pytest.fixture
def device(make_device, example_clips):
    """A device that plays healthy clips again and again at ten times real time, and can be asked how it stands."""
    device = make_device(metrics={"port": free_port()})
    device.machine["source"].update(clips=example_clips("M1", "healthy"), speed=10.0, repeat=True)
    device.machine["threshold"] = 1_000.0  # what it hears is no matter of these tests
    return device


def rewrite(running, process, **changes):
    """Change the configuration of a running device and ask for a reload."""
    running.config.update(changes)
    running.path.write_text(json.dumps(running.config))
    process.send_signal(signal.SIGHUP)


def scrape(device):
    """All samples of the metrics endpoint, by name and labels."""
    port = device.config["metrics"]["port"]
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        assert answer.headers["Content-Type"].startswith("text/plain; version=")
        text = answer.read().decode()
    families = list(text_string_to_metric_families(text))
    assert all(family.documentation for family in families)
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
        if family.type != "info"
    }


def test_the_service_manager_hears_of_start_life_and_stop(mosquitto, device, subscribe, tmp_path, monkeypatch):
    """READY=1 comes when sound is heard, WATCHDOG=1 again and again, STATUS= in words, STOPPING=1 at the end."""
    subscriber = subscribe(mosquitto)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        address = os.path.relpath(tmp_path / "notify")  # a socket's path is short
        systemd.bind(address)
        systemd.settimeout(30)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        monkeypatch.setenv("WATCHDOG_USEC", "1000000")
        process = device.start(mosquitto.url)
        heard = [systemd.recv(4096).decode()]
        assert heard == ["READY=1"]
        subscriber.wait_for(lambda _: len(scores(subscriber)) >= 3, 30)
        process.send_signal(signal.SIGTERM)
        while heard[-1] != "STOPPING=1":
            heard.append(systemd.recv(4096).decode())
        assert process.wait(20) == 0
    assert heard.count("WATCHDOG=1") >= 3
    assert any(line.startswith("STATUS=1 machines; 0 in alarm") for line in heard)


def test_prometheus_and_status_see_what_was_said(mosquitto, device, subscribe, edge_asd, wait_until):
    """The scraped metrics have conventional names and help texts, and agree with the messages and with `status`."""
    subscriber = subscribe(mosquitto)
    process = device.start(mosquitto.url)
    subscriber.wait_for(lambda _: len(scores(subscriber)) >= 2, 30)
    values = scrape(device)
    assert values["edge_asd_windows_scored_total", "motor-1"] >= 2
    assert values["edge_asd_broker_connected",] == 1
    assert values["edge_asd_machine_state", "normal", "motor-1"] == 1
    assert values["edge_asd_machine_state", "alarm", "motor-1"] == 0
    assert values["edge_asd_score", "motor-1"] in {score["score"] for score in scores(subscriber)}
    assert 0 <= values["edge_asd_score_age_seconds", "motor-1"] < 60
    code, out, said = edge_asd("status", "--config", device.path, "--json")
    report = json.loads(out)
    assert (code, report["troubles"]) == (0, []), said
    assert report["machines"][0]["state"] == "normal"
    code, out, said = edge_asd("status", "--config", device.path)
    assert code == 0, said
    assert "motor-1" in out
    assert "broker connected" in out
    mosquitto.stop()
    wait_until(lambda: scrape(device)["edge_asd_broker_connected",] == 0)
    code, out, said = edge_asd("status", "--config", device.path)
    assert code == 1
    assert "trouble: broker away" in out
    process.kill()
    process.wait()
    code, _, said = edge_asd("status", "--config", device.path)
    assert code == 69
    assert "no daemon answers" in said


def test_an_engine_that_does_not_run_is_told_and_the_next_one_takes_over(mosquitto, device, subscribe, edge_asd):
    """Where no GPU is, the CPU scores; the reason is in the log, in the health message and in `status`."""
    if Path("/dev/nvidiactl").exists():
        pytest.skip("there is an NVIDIA GPU here")
    device.config["engine"] = {"prefer": ["tensorrt", "onnxruntime"]}
    subscriber = subscribe(mosquitto)
    process = device.start(mosquitto.url)
    subscriber.wait_for(lambda _: scores(subscriber) and healths(subscriber), 30)
    health = healths(subscriber)[-1]
    assert health["engine"] == "onnxruntime-int8"
    assert health["engine_trouble"].startswith("tensorrt: no CUDA driver: ")
    assert health["counters"]["engine_failures"] == 0
    code, out, said = edge_asd("status", "--config", device.path)
    assert code == 1, said
    assert "trouble: not the engine that the configuration names first: tensorrt: no CUDA driver" in out
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=20)
    assert process.returncode == 0
    assert "engine tensorrt does not work here: no CUDA driver" in said


def test_a_port_that_is_taken_costs_the_metrics_alone(mosquitto, device, subscribe):
    """Another program on the port is named in the log; the machines are heard all the same."""
    subscriber = subscribe(mosquitto)
    with socket.create_server(("127.0.0.1", device.config["metrics"]["port"])):
        process = device.start(mosquitto.url)
        subscriber.wait_for(lambda _: scores(subscriber), 30)
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate(timeout=20)
    assert process.returncode == 0
    assert f"port {device.config['metrics']['port']} of 127.0.0.1 cannot be listened on" in said


def test_a_bad_configuration_is_refused_and_a_good_one_taken_without_a_break(mosquitto, device, subscribe, wait_until):
    """A reload with faults, or that renames the device, changes nothing; another threshold applies without a gap."""
    subscriber = subscribe(mosquitto)
    process = device.start(mosquitto.url)
    subscriber.wait_for(lambda _: scores(subscriber), 30)
    good = device.machine["alarm"]
    rewrite(device, process, machines=[{**device.machine, "alarm": {"on_delay": 3}}])
    wait_until(lambda: scrape(device)["edge_asd_reloads_refused_total",] == 1)
    rewrite(device, process, machines=[{**device.machine, "alarm": good}], device="another")
    wait_until(lambda: scrape(device)["edge_asd_reloads_refused_total",] == 2)
    rewrite(device, process, machines=[{**device.machine, "threshold": 777.0}], device="device")
    subscriber.wait_for(lambda _: scores(subscriber)[-1]["threshold"] == 777.0, 30)
    values = scrape(device)
    assert values["edge_asd_reloads_total",] == 1
    process.send_signal(signal.SIGTERM)
    _, said = process.communicate(timeout=20)
    assert process.returncode == 0, said
    assert "reload refused" in said
    assert "did you mean on_delay_s?" in said
    assert "device is another, and was device" in said
    assert {message.topic.split("/")[2] for message in subscriber.heard} == {"device"}
    times = [score["time_monotonic_s"] for score in scores(subscriber)]
    assert {round(later - earlier, 3) for earlier, later in itertools.pairwise(times)} == {0.96}


def test_what_differs_is_opened_again_and_nothing_is_lost(make_mosquitto, device, subscribe):
    """A reload may change broker and machines: messages go to the new broker, each series goes on in its order."""
    first, second = make_mosquitto(), make_mosquitto()
    first.start()
    second.start()
    at_first, at_second = subscribe(first), subscribe(second)
    process = device.start(first.url)
    at_first.wait_for(lambda _: scores(at_first), 30)
    renamed = {**device.machine, "name": "motor-2"}
    rewrite(device, process, mqtt={"url": second.url}, machines=[device.machine, renamed])
    heard = at_second.wait_for(
        lambda heard: {"motor-1", "motor-2"} <= {message.topic.split("/")[3] for message in heard}, 30
    )
    assert heard
    process.send_signal(signal.SIGTERM)
    assert process.wait(20) == 0
    at_second.wait_for(lambda heard: any(message.payload == "stopped" for message in heard))
    for machine in ("motor-1", "motor-2"):
        seqs = {
            message.payload["seq"]
            for message in (*at_first.heard, *at_second.heard)
            if message.topic.split("/")[3] == machine
        }
        assert seqs == set(range(1, len(seqs) + 1))
