"""A stop while TensorRT builds: at the start and beside what runs, on a CUDA device and a TensorRT that are none."""

import signal
import threading
import time

import numpy as np
import pytest
import soundfile

from edge_asd.artifacts import Artifacts
from edge_asd.cli import main
from edge_asd.config import load_config
from edge_asd.daemon import Daemon
from edge_asd.daemon.stopped import Stopped
from edge_asd.engine import open_engine
from edge_asd.systemd import ServiceManager

ENDLESS_S = 60.0


def stop():
    raise Stopped


@pytest.fixture
def build_endlessly(tensorrt, monkeypatch):
    """A function that lets TensorRT's next build go on until it is cancelled, and `do` something at its second step.

    Its list gets what each step was answered.
    """
    whole = tensorrt.Builder.build_serialized_network

    def let_build(do, end_takes_s=0.0):
        answers = []

        def build(_builder, _network, config):
            config.progress_monitor.phase_start("Building", None, 100)
            give_up_s = time.monotonic() + ENDLESS_S
            while time.monotonic() < give_up_s:
                answers.append(config.progress_monitor.step_complete("Building", len(answers)))
                if not answers[-1]:
                    break
                if len(answers) == 2:
                    do()
                time.sleep(0.01)
            time.sleep(end_takes_s)
            config.progress_monitor.phase_finish("Building")

        monkeypatch.setattr(tensorrt.Builder, "build_serialized_network", build)
        return answers

    yield let_build
    monkeypatch.setattr(tensorrt.Builder, "build_serialized_network", whole)


@pytest.fixture
def write_config(make_hand_bundle, tmp_path):
    """A function that writes the configuration of a device with the hand network and sound without an end."""
    bundle = make_hand_bundle(threshold=1_000.0)
    noise = 0.1 * np.random.default_rng(2).standard_normal(32_000)
    soundfile.write(tmp_path / "noise.flac", noise, bundle.manifest.feature_spec.sample_rate_hz)

    def write(prefer):
        path = tmp_path / "device.yaml"
        path.write_text(
            f"""schema: 1
site: plant
device: line
bundle: {bundle.path}
state_dir: state
trust: {{require_signature: false}}
mqtt: {{url: "mqtt://127.0.0.1:9"}}
engine: {{prefer: {prefer}}}
machines:
  - {{name: motor, listens_to: bldc/M1, source: {{clips: [noise.flac], repeat: true}}}}
"""
        )
        return path

    return write


def kept(tmp_path):
    """Engines of the device, and what a build left half done."""
    store = Artifacts(tmp_path / "state" / "engines")
    return [path for path in store.paths() if path.name.startswith("engine-")], store.unfinished()


def test_stop_ends_a_build_and_leaves_a_clean_cache(
    tensorrt, fake_cuda, build_endlessly, make_hand_bundle, tmp_path
) -> None:
    """No other engine is tried; lock and GPU are free again, and nothing is kept of the engine."""
    asked = []
    answers = build_endlessly(lambda: asked.append(1))
    folder = tmp_path / "state" / "engines"
    with pytest.raises(Stopped):
        open_engine(
            make_hand_bundle(),
            prefer=["tensorrt", "onnxruntime"],
            precision="int8",
            artifacts=Artifacts(folder, check_stop=lambda: stop() if asked else None),
        )
    assert answers == [True, True, False]
    assert kept(tmp_path) == ([], ())
    assert (fake_cuda.n_retained(), fake_cuda.n_allocations()) == (0, 0)
    with Artifacts(folder, check_stop=stop).locked():  # nobody holds it: else the stop would end the wait
        pass
    assert tensorrt.builds == []


def test_signal_ends_the_build_of_the_start(build_endlessly, fake_cuda, write_config, monkeypatch, tmp_path) -> None:
    """`edge-asd run` ends as at any stop, exit code 0, as soon as a step of the build is over."""
    handlers = {}
    monkeypatch.setattr(signal, "signal", handlers.__setitem__)
    for name in ("configure_log", "keep_small", "faulthandler.enable"):  # of the process
        monkeypatch.setattr(f"edge_asd.commands.run.{name}", lambda **_: None)
    answers = build_endlessly(lambda: handlers[signal.SIGTERM](signal.SIGTERM, None))
    assert main(["run", "--config", str(write_config("[tensorrt, onnxruntime]"))]) == 0
    assert answers[-1] is False
    assert kept(tmp_path) == ([], ())
    assert fake_cuda.n_retained() == 0


def test_signal_is_heard_while_tensorrt_builds(build_endlessly, write_config) -> None:
    """A signal's handler runs in the main thread alone: that one waits, and another opens."""
    builders = []
    config = load_config(write_config("[tensorrt]"))
    daemon = Daemon(config, service=ServiceManager())
    build_endlessly(lambda: (builders.append(threading.current_thread()), daemon.request_stop()))
    with pytest.raises(Stopped), daemon:
        pass
    assert threading.main_thread() not in builders
    assert len(builders) == 1


def test_stop_ends_a_build_of_a_reload(build_endlessly, fake_cuda, write_config, tmp_path) -> None:
    """What listens ends in order, and no thread is left within TensorRT when the process ends."""
    path = write_config("[onnxruntime]")
    with Daemon(load_config(path), service=ServiceManager()) as daemon:
        answers = build_endlessly(daemon.request_stop, end_takes_s=5.0)  # longer than all else takes to end
        write_config("[tensorrt, onnxruntime]")
        daemon.request_reload()
        daemon.run()
    assert answers[-1] is False
    assert "reload" not in [thread.name for thread in threading.enumerate()]
    assert kept(tmp_path) == ([], ())
    assert fake_cuda.n_retained() == 0
