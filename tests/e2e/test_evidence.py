"""The daemon as a process, and what it keeps of an alarm for the engineer who comes by."""

import json

import soundfile


def of_leaf(heard, leaf):
    return [message.payload for message in heard if message.leaf == leaf]


def has_stopped(heard):
    return "stopped" in of_leaf(heard, "availability")


def test_an_alarm_leaves_its_sound_and_scores(mosquitto, make_device, subscribe, edge_asd, example_clips):
    """The id in the alarm message finds sound before and after it; exported, a page holds it all."""
    device = make_device(evidence={"before_s": 8.0, "after_s": 4.0})
    device.machine["threshold"] = -1e6  # all is an alarm
    subscriber = subscribe(mosquitto)
    code, said = device.run(mosquitto.url)
    assert code == 0, said
    heard = subscriber.wait_for(has_stopped)
    alarm = of_leaf(heard, "alarm")[0]
    assert alarm["event"] == "new"
    code, out, said = edge_asd("evidence", "list", "--config", device.path, "--json")
    assert code == 0, said
    (kept,) = json.loads(out)
    assert (kept["id"], kept["machine"], kept["began_utc"]) == (alarm["evidence_id"], "motor-1", alarm["began_utc"])
    assert (kept["length_s"], kept["alarm_at_s"], kept["whole"], kept["gaps"]) == (12.0, 8.0, True, [])
    told = {round(score["time_monotonic_s"], 1): score["score"] for score in of_leaf(heard, "score")}
    raised_s = alarm["time_monotonic_s"]
    assert len(kept["scores"]) >= 4
    for scored in kept["scores"]:
        assert told[round(raised_s - 8.0 + scored["at_s"], 1)] == scored["score"]
    code, out, said = edge_asd(
        "evidence", "export", kept["id"][:8], "--config", device.path, "--to", device.path.parent
    )
    assert code == 0, said
    page = (device.path.parent / f"{kept['id']}.html").read_text()
    assert kept["id"] in page
    assert "data:audio/flac" in page
    # Raised after 10 s for the first window, and the first hop beyond the on-delay of 2 s.
    samples, rate_hz = soundfile.read(device.path.parent / f"{kept['id']}.flac", dtype="float32")
    clip, _ = soundfile.read(example_clips("M1", "healthy")[0], dtype="float32")
    begin = round((10.0 + 3 * 0.96 - 8.0) * rate_hz)
    assert (samples[: len(clip) - begin] == clip[begin : begin + len(samples)]).all()


def test_evidence_so_far_outlives_a_kill(mosquitto, make_device, subscribe, edge_asd):
    """A daemon that is killed while the sound after an alarm is still to come leaves what it had heard."""
    device = make_device(evidence={"after_s": 120.0})
    device.machine["threshold"] = -1e6
    device.machine["source"].update(speed=10.0, repeat=True)
    subscriber = subscribe(mosquitto)
    process = device.start(mosquitto.url)
    alarm = of_leaf(subscriber.wait_for(lambda heard: of_leaf(heard, "alarm"), 60), "alarm")[0]
    path = device.path.parent / "state" / "evidence" / f"{alarm['evidence_id']}.json"
    subscriber.wait_for(lambda _: path.exists(), 30)
    process.kill()
    process.wait()
    code, out, said = edge_asd("evidence", "show", alarm["evidence_id"], "--config", device.path, "--json")
    assert code == 0, said
    kept = json.loads(out)
    assert not kept["whole"]
    assert kept["length_s"] >= 12.0


def test_a_device_that_keeps_no_evidence_says_so(mosquitto, make_device, subscribe, edge_asd):
    """With max_bytes null nothing is written, alarms carry no evidence id, and asking for one says what is there."""
    device = make_device(evidence={"max_bytes": None})
    device.machine["threshold"] = -1e6
    subscriber = subscribe(mosquitto)
    code, said = device.run(mosquitto.url)
    assert code == 0, said
    alarm = of_leaf(subscriber.wait_for(has_stopped), "alarm")[0]
    assert alarm["evidence_id"] is None
    assert not (device.path.parent / "state" / "evidence").exists()
    code, _, said = edge_asd("evidence", "show", alarm["id"], "--config", device.path)
    assert code == 2
    assert "evidence of 0 alarms" in said
    code, out, _ = edge_asd("evidence", "list", "--config", device.path)
    assert code == 0
    assert "0 alarms" in out
