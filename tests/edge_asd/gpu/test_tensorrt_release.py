"""TensorRT's objects end in order and within the GPU's context, however far the opening came."""

import pytest

from edge_asd.engine import Workload, open_engine
from edge_asd.engine.tensorrt import contexts
from edge_asd.engine.tensorrt.engine import TensorRtEngine
from edge_asd.errors import UnavailableError

OUT_OF_MEMORY = 2
WORKLOAD = Workload(n_machines=3, hop_samples=640)
N_CONTEXTS = 3  # batches of 1, 2 and 4


class Noted:
    """One of TensorRT's objects, whose end is noted with the contexts that are held and current then."""

    def __init__(self, real, name, ends, cuda):
        vars(self).update(real=real, name=name, ends=ends, cuda=cuda)

    def __getattr__(self, name):
        return getattr(self.real, name)

    def __setattr__(self, name, value):
        setattr(self.real, name, value)

    def __del__(self):
        self.ends.append((self.name, self.cuda.n_retained(), self.cuda.n_current() > 0))


@pytest.fixture
def ends(tensorrt, fake_cuda, monkeypatch):
    """The ends of TensorRT's objects, in order: (what, times that the GPU's context is held, whether it is current)."""
    noted = []

    class Engine(Noted):
        def create_execution_context(self, strategy):
            context = self.real.create_execution_context(strategy)
            return context and Noted(context, "context", noted, fake_cuda)

    class Runtime(Noted):
        def deserialize_cuda_engine(self, plan):
            return Engine(self.real.deserialize_cuda_engine(plan), "engine", noted, fake_cuda)

    make_runtime, make_builder = tensorrt.Runtime, tensorrt.Builder
    monkeypatch.setattr(tensorrt, "Runtime", lambda logger: Runtime(make_runtime(logger), "runtime", noted, fake_cuda))
    monkeypatch.setattr(tensorrt, "Builder", lambda logger: Noted(make_builder(logger), "builder", noted, fake_cuda))
    return noted


def in_order(n_contexts):
    names = ["builder", *["context"] * n_contexts, "engine", "runtime"]
    return [(name, 1, True) for name in names]


def test_closed_in_order(ends, fake_cuda, make_hand_bundle) -> None:
    """Contexts, engine, runtime, and then the GPU's context."""
    open_engine(make_hand_bundle(), prefer=["tensorrt"], precision="int8", workload=WORKLOAD).close()
    assert ends == in_order(N_CONTEXTS)
    assert fake_cuda.n_retained() == 0


@pytest.mark.parametrize("refused", range(N_CONTEXTS))
def test_context_that_cannot_be_made(ends, fake_cuda, make_hand_bundle, monkeypatch, refused) -> None:
    """Those that were made end before engine and runtime, while the error is still on its way."""
    whole, made = contexts._context, []

    def make(trt, engine):
        made.append(1)
        return None if len(made) > refused else whole(trt, engine)

    monkeypatch.setattr(contexts, "_context", make)
    with pytest.raises(UnavailableError, match="cannot make an execution context"):
        open_engine(make_hand_bundle(), prefer=["tensorrt"], precision="int8", workload=WORKLOAD)
    assert ends == in_order(refused)
    assert (fake_cuda.n_retained(), fake_cuda.n_allocations()) == (0, 0)


@pytest.mark.parametrize("call", ["cuMemAlloc_v2", "cuStreamSynchronize"])
def test_gpu_that_fails_while_contexts_are_made(ends, fake_cuda, make_hand_bundle, monkeypatch, call) -> None:
    """A fault of the driver between TensorRT's calls leaves nothing behind either."""
    whole = contexts._working_bytes

    def fail(engine):
        fake_cuda.fail(call, OUT_OF_MEMORY)
        return whole(engine)

    monkeypatch.setattr(contexts, "_working_bytes", fail)
    with pytest.raises(UnavailableError, match=r"MEMORY|memory"):
        open_engine(make_hand_bundle(), prefer=["tensorrt"], precision="int8", workload=WORKLOAD)
    assert ends == in_order(0 if call == "cuMemAlloc_v2" else 1)
    assert (fake_cuda.n_retained(), fake_cuda.n_allocations()) == (0, 0)


def test_first_run_that_fails(ends, fake_cuda, make_hand_bundle, monkeypatch) -> None:
    """A network that cannot run ends whole, and the next engine is tried without it."""
    whole = TensorRtEngine._recorded

    def recorded(self, size):
        if size == 2:
            fake_cuda.fail("cuStreamSynchronize", OUT_OF_MEMORY)
        return whole(self, size)

    monkeypatch.setattr(TensorRtEngine, "_recorded", recorded)
    with open_engine(
        make_hand_bundle(), prefer=["tensorrt", "onnxruntime"], precision="int8", workload=WORKLOAD
    ) as engine:
        assert engine.name == "onnxruntime"
        assert ends == in_order(N_CONTEXTS)
        assert (fake_cuda.n_retained(), fake_cuda.n_allocations()) == (0, 0)


def test_build_that_fails(ends, tensorrt, make_hand_bundle) -> None:
    """The builder ends before the GPU's context."""
    tensorrt.fails_to_build = True
    with pytest.raises(UnavailableError, match="cannot build"):
        open_engine(make_hand_bundle(), prefer=["tensorrt"], precision="int8", workload=WORKLOAD)
    assert ends == [("builder", 1, True)]


def test_interrupted_build_ends_the_program(ends, fake_cuda, make_hand_bundle, monkeypatch) -> None:
    """Ctrl-C within TensorRT's callback, which swallows it, stops the build, and no other engine is tried."""

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("edge_asd.engine.tensorrt.progress.BuildProgress.step", interrupt)
    with pytest.raises(KeyboardInterrupt):
        open_engine(make_hand_bundle(), prefer=["tensorrt", "onnxruntime"], precision="int8", workload=WORKLOAD)
    assert ends == [("builder", 1, True)]
    assert (fake_cuda.n_retained(), fake_cuda.n_allocations()) == (0, 0)
