"""The daemon as a process, with an ear that fails while it listens."""

import numpy as np
import soundfile


def test_a_dead_microphone_is_a_sensor_fault_and_no_alarm(mosquitto, make_device, subscribe, example_clips, tmp_path):
    """Digital silence amid a healthy motor: one sensor fault with its reason, no score and no alarm meanwhile."""
    sound = np.concatenate([soundfile.read(clip, dtype="float32")[0] for clip in example_clips("M1", "healthy")[:2]])
    sound = np.resize(sound, 20 * 16_000)
    wave = np.concatenate((sound, np.zeros(15 * 16_000), sound))
    soundfile.write(tmp_path / "dead.flac", wave, 16_000)
    device = make_device()
    device.machine["source"] = {"clips": [str(tmp_path / "dead.flac")], "speed": 30.0}
    device.machine["threshold"] = 1e6
    subscriber = subscribe(mosquitto)
    code, said = device.run(mosquitto.url)
    assert code == 0, said
    heard = subscriber.wait_for(lambda messages: any(message.payload == "stopped" for message in messages))
    states, scores, alarms = (
        [message.payload for message in heard if message.leaf == leaf] for leaf in ("state", "score", "alarm")
    )
    assert [state["state"] for state in states] == ["normal", "sensor_fault", "normal"]
    assert "silence, below -90 dBFS" in states[1]["reason"]
    assert "microphone" in states[1]["reason"]
    assert alarms == []
    begun_s, ended_s = states[1]["time_monotonic_s"], states[2]["time_monotonic_s"]
    assert not [score for score in scores if begun_s <= score["time_monotonic_s"] < ended_s]

    began_s = states[0]["time_monotonic_s"] - 10.0
    assert begun_s - began_s - 20.0 < 0.7 + 1.0
    assert ended_s - began_s - 35.0 < 10.0 + 1.0
