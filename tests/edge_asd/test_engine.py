"""Engines: the same outputs from each, the first that works is taken, and the reasons why others were not."""

import logging
import re
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from edge_asd.cuda import driver
from edge_asd.engine import ENGINE_NAMES, open_engine
from edge_asd.errors import UnavailableError, UsageError

# Two machines' models are open, then neither is, as when a device is told to take another engine; then it is stopped.
SIGNAL_AFTER_ENGINES = """
import faulthandler, signal, sys
from pathlib import Path
from edge_asd.bundle import open_bundle
from edge_asd.engine import open_engine
faulthandler.enable()
signal.signal(signal.SIGTERM, lambda *_: print("stopped in good order", flush=True))
bundle = open_bundle(Path(sys.argv[1]))
first, second = (open_engine(bundle, prefer=[sys.argv[2]], precision="fp32", threads=1) for _ in range(2))
first.close()
second.close()
del first, second
signal.raise_signal(signal.SIGTERM)
"""


@pytest.fixture(autouse=True)
def no_cuda_driver(monkeypatch):
    """Whatever this machine has, these tests see no GPU."""
    monkeypatch.setattr(driver, "LIBRARY", "libcuda-of-no-machine.so")


@pytest.fixture(params=["openvino", "onnxruntime"])
def engine_name(request):
    """Each engine that is installed."""
    pytest.importorskip(request.param, reason=f"the package {request.param} is not installed")
    return request.param


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_outputs_are_those_of_the_network(engine_name, precision, make_hand_bundle, hand_network) -> None:
    """Embedding and cosine are what the network gives in numpy in float32, for a batch too."""
    bundle = make_hand_bundle()
    random = np.random.default_rng(3)
    wave = (0.1 * random.standard_normal((3, 4_000))).astype(np.float32)
    log_mel = random.uniform(-100, 0, (3, 20, 63)).astype(np.float32)
    with open_engine(bundle, prefer=[engine_name], precision=precision) as engine:
        assert (engine.name, engine.precision) == (engine_name, precision)
        outputs = engine.infer(wave, log_mel)
        single = engine.infer(wave[1:2], log_mel[1:2])
    embedding, cosine = hand_network.run(wave, log_mel)
    np.testing.assert_allclose(outputs.embedding, embedding, atol=2e-5)
    np.testing.assert_allclose(outputs.cosine, cosine, atol=2e-5)
    np.testing.assert_allclose(single.cosine, cosine[1:2], atol=2e-5)


def test_network_of_log_mel_alone_runs(engine_name, make_hand_bundle, hand_network) -> None:
    """A network that makes no use of the wave runs on every engine, whatever the engine makes of that input."""
    bundle = make_hand_bundle(hears_wave=False)
    golden = bundle.golden
    with open_engine(bundle, prefer=[engine_name], precision="fp32") as engine:
        outputs = engine.infer(golden.wave, golden.log_mel)
    _, cosine = replace(hand_network, hears_wave=False).run(golden.wave, golden.log_mel)
    np.testing.assert_allclose(outputs.cosine, cosine, atol=2e-5)


def test_outputs_are_the_callers(engine_name, make_hand_bundle) -> None:
    """Outputs stay as they are when the next window is run, and inputs are not written to."""
    bundle = make_hand_bundle()
    golden = bundle.golden
    with open_engine(bundle, prefer=[engine_name], precision="fp32", threads=1) as engine:
        first = engine.infer(golden.wave[:1], golden.log_mel[:1])
        kept = first.cosine.copy()
        engine.infer(golden.wave[1:], golden.log_mel[1:])
        np.testing.assert_array_equal(first.cosine, kept)
        assert not np.array_equal(engine.infer(golden.wave[1:], golden.log_mel[1:]).cosine, kept)


def test_closing_twice_is_no_fault(engine_name, make_hand_bundle) -> None:
    """An engine may be closed again by whoever cleans up last."""
    engine = open_engine(make_hand_bundle(), prefer=[engine_name], precision="fp32")
    engine.close()
    engine.close()


def test_signal_finds_its_handler_after_engines_were_closed(engine_name, make_hand_bundle, tmp_path) -> None:
    """An engine may leave its thread the stack of signals that it took; the first signal then ends the process."""
    make_hand_bundle()
    (path,) = tmp_path.glob("*.asd")
    command = [sys.executable, "-c", SIGNAL_AFTER_ENGINES, path, engine_name]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "stopped in good order\n"), done.stderr


def test_next_engine_is_taken_and_the_reason_logged(engine_name, make_hand_bundle, caplog) -> None:
    """Where the preferred engine is not there, the next one runs, and the log says why."""
    with (
        caplog.at_level(logging.INFO, logger="edge_asd.engine"),
        open_engine(make_hand_bundle(), prefer=["tensorrt", engine_name], precision="int8") as engine,
    ):
        assert engine.name == engine_name
    assert re.search(rf"WARNING .*tensorrt does not work here: no CUDA driver: .*; trying {engine_name}", caplog.text)


def test_missing_package_is_named(engine_name, make_hand_bundle, monkeypatch) -> None:
    """An engine whose package is not installed is named with the package and how to install one."""
    monkeypatch.setitem(sys.modules, engine_name, None)
    monkeypatch.delitem(sys.modules, f"edge_asd.engine.{engine_name}", raising=False)
    with pytest.raises(UnavailableError, match=rf"{engine_name}: not installed .*pip install") as caught:
        open_engine(make_hand_bundle(), prefer=["tensorrt", engine_name], precision="int8")
    assert "tensorrt: no CUDA driver" in str(caught.value)
    assert caught.value.exit_code == 69


def test_network_that_no_engine_reads_gives_each_reason(engine_name, make_hand_bundle) -> None:
    """A model that is no ONNX is refused by the engine with its reason, not with a crash."""
    bundle = replace(make_hand_bundle(), _models={"int8": b"not a network " * 50})
    with pytest.raises(UnavailableError, match=rf"no engine works here for the int8 network of .*{engine_name}: .*\w+"):
        open_engine(bundle, prefer=[engine_name], precision="int8")


def test_network_of_other_classes_is_refused(engine_name, make_hand_bundle) -> None:
    """A network that runs but whose outputs do not fit the manifest is refused with both shapes."""
    from_other = make_hand_bundle(n_classes=4).onnx_model("fp32")
    with pytest.raises(UnavailableError, match=r"cosine is float32 \(1, 4\); expected float32 \(1, 3\)"):
        open_engine(replace(make_hand_bundle(), _models={"fp32": from_other}), prefer=[engine_name], precision="fp32")


@pytest.mark.parametrize("prefer", [[], ["openvno"], ["openvino", "cuda"]])
def test_unknown_engine_is_a_usage_error(prefer, make_hand_bundle) -> None:
    """A name that is no engine, or none at all, is refused with the names there are, even behind one that works."""
    with pytest.raises(UsageError, match=", ".join(ENGINE_NAMES)):
        open_engine(make_hand_bundle(), prefer=prefer, precision="int8")
