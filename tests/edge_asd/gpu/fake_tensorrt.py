"""TEST ONLY: as much of TensorRT's Python API as the engine uses, which runs its networks by ONNX Runtime.

Work is put on a stream of the fake libcuda, so that it is captured, replayed and synchronised as TensorRT's would be.
"""

import ctypes
import enum
import json
from contextlib import suppress
from types import ModuleType, SimpleNamespace

import numpy as np
import onnxruntime

_WORK = ctypes.CFUNCTYPE(None, ctypes.c_int)
_WORKING_BYTES = 1 << 20
_MAGIC = b"FAKEPLAN"


class Severity(enum.Enum):
    INTERNAL_ERROR = 0
    ERROR = 1
    WARNING = 2
    INFO = 3
    VERBOSE = 4


class ILogger:
    Severity = Severity


class TensorIOMode(enum.Enum):
    INPUT = 1
    OUTPUT = 2


class LayerType(enum.Enum):
    CONVOLUTION = 0
    NORMALIZATION = 1
    CONSTANT = 2
    QUANTIZE = 3
    DEQUANTIZE = 4
    ELEMENTWISE = 5


class Tensor:
    def __init__(self, name, shape, mode, dtype="float32"):
        self.name, self.shape, self.mode, self.dtype = name, shape, mode, dtype


class Layer:
    """type, and the one tensor that it makes of others."""

    num_outputs = 1

    def __init__(self, kind, taken, made, dtype="float32"):
        self.type, self.precision, self.num_inputs = kind, None, len(taken)
        self._taken, self._made, self._dtype = taken, made, dtype

    def get_input(self, index):
        return Tensor(self._taken[index], (), None)

    def get_output(self, _index):
        return Tensor(self._made, (), None, self._dtype)


def _session(model):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


class Network:
    def __init__(self):
        self.model, self.inputs = b"", []
        # A first layer, a quantized one, what lies between it and the next, the head, a constant and a half layer.
        self.layers = [
            Layer(LayerType.CONVOLUTION, ["wave"], "first"),
            Layer(LayerType.QUANTIZE, ["first"], "q1", "int8"),
            Layer(LayerType.DEQUANTIZE, ["q1"], "dq1"),
            Layer(LayerType.CONVOLUTION, ["dq1"], "quantized"),
            Layer(LayerType.NORMALIZATION, ["quantized"], "norm"),
            Layer(LayerType.ELEMENTWISE, ["norm"], "between"),
            Layer(LayerType.QUANTIZE, ["between"], "q2", "int8"),
            Layer(LayerType.DEQUANTIZE, ["q2"], "dq2"),
            Layer(LayerType.CONVOLUTION, ["dq2"], "last"),
            Layer(LayerType.ELEMENTWISE, ["last"], "head"),
            Layer(LayerType.CONSTANT, [], "constant"),
            Layer(LayerType.CONVOLUTION, ["constant"], "half", "float16"),
        ]

    @property
    def num_inputs(self):
        return len(self.inputs)

    @property
    def num_layers(self):
        return len(self.layers)

    def get_input(self, index):
        return self.inputs[index]

    def get_layer(self, index):
        return self.layers[index]


class OnnxParser:
    def __init__(self, network, _logger):
        self.network, self.num_errors = network, 0

    def parse(self, model):
        try:
            session = _session(model)
        except Exception as error:  # noqa: BLE001 - ONNX Runtime's errors share no narrower class
            self.num_errors, self.error = 1, str(error)
            return False
        self.network.model = model
        self.network.inputs = [Tensor(each.name, (), TensorIOMode.INPUT) for each in session.get_inputs()]
        return True

    def get_error(self, _index):
        return SimpleNamespace(desc=lambda: self.error)


class TimingCache:
    def __init__(self, content):
        self.content = content

    def serialize(self):
        return self.content + b"t"


class Profile:
    def __init__(self):
        self.shapes = {}

    def set_shape(self, name, low, best, high):
        self.shapes[name] = (low, best, high)


class Config:
    def __init__(self):
        self.flags, self.cleared, self.profiles, self.previews = set(), set(), [], {}
        self.builder_optimization_level = None
        self.progress_monitor = None

    def set_memory_pool_limit(self, pool, n_bytes):
        self.pool = (pool, n_bytes)

    def set_flag(self, flag):
        self.flags.add(flag)

    def clear_flag(self, flag):
        self.cleared.add(flag)

    def set_preview_feature(self, feature, value):
        self.previews[feature] = value

    def add_optimization_profile(self, profile):
        self.profiles.append(profile)

    def create_timing_cache(self, content):
        return TimingCache(content)

    def set_timing_cache(self, cache, ignore_mismatch):  # noqa: ARG002 - TensorRT's signature
        self.timing_cache = cache


class Context:
    """Runs only what it was set up for; says False where TensorRT would."""

    def __init__(self, engine):
        self.engine, self.addresses, self.shapes, self.device_memory, self.profile = engine, {}, {}, None, None

    def set_optimization_profile_async(self, index, _stream):
        self.profile = self.engine.plan["profiles"][index]
        return True

    def set_tensor_address(self, name, address):
        self.addresses[name] = address
        return name in self.engine.names

    def set_input_shape(self, name, shape):
        low, _, high = self.profile[name]
        self.shapes[name] = shape
        return low[0] <= shape[0] <= high[0] and tuple(shape[1:]) == tuple(low[1:])

    def execute_async_v3(self, stream):
        if not self.device_memory or len(self.addresses) != len(self.engine.names):
            return False
        shapes = dict(self.shapes)
        self.engine.put(stream, lambda: self.engine.run(shapes, self.addresses))
        return True


class SizedContext(Context):
    """From TensorRT 10 on."""

    def set_device_memory(self, address, n_bytes):
        self.device_memory = address if n_bytes >= _WORKING_BYTES else None


class Engine:
    def __init__(self, cuda, plan, model, context_class):
        self.plan, self._cuda = plan, cuda
        self._session = _session(model)
        self._tensors = [
            *(Tensor(t.name, (-1, *t.shape[1:]), TensorIOMode.INPUT) for t in self._session.get_inputs()),
            *(Tensor(t.name, (-1, *t.shape[1:]), TensorIOMode.OUTPUT) for t in self._session.get_outputs()),
        ]
        self.names = [tensor.name for tensor in self._tensors]
        self.num_io_tensors = len(self.names)
        self._context_class = context_class
        self._work = []
        self._callback = _WORK(lambda number: self._work[number]())

    def get_tensor_name(self, index):
        return self.names[index]

    def _tensor(self, name):
        return self._tensors[self.names.index(name)]

    def get_tensor_shape(self, name):
        return self._tensor(name).shape

    def get_tensor_dtype(self, name):
        return self._tensor(name).dtype

    def get_tensor_mode(self, name):
        return self._tensor(name).mode

    def put(self, stream, work):
        self._work.append(work)
        self._cuda.library.fake_put(ctypes.c_void_p(stream), self._callback, len(self._work) - 1)

    def run(self, shapes, addresses):
        feeds = {name: _view(addresses[name], shape).copy() for name, shape in shapes.items()}
        batch = next(iter(shapes.values()))[0]
        for name, values in zip(
            (t.name for t in self._session.get_outputs()), self._session.run(None, feeds), strict=True
        ):
            _view(addresses[name], (batch, *values.shape[1:]))[:] = values


class Engine10(Engine):
    device_memory_size_v2 = _WORKING_BYTES

    def create_execution_context(self, strategy):
        assert strategy == "user managed"
        return self._context_class(self)


class Engine8(Engine):
    device_memory_size = _WORKING_BYTES

    def create_execution_context_without_device_memory(self):
        return self._context_class(self)


def _view(address, shape):
    n = int(np.prod(shape))
    return np.frombuffer((ctypes.c_float * n).from_address(address), dtype=np.float32).reshape(shape)


def make(cuda, version="10.3.0"):
    """The module `tensorrt` of that version; `builds` lists the configurations that engines were built with."""
    is_old = version.startswith("8.")
    builds = []

    class Builder:
        def __init__(self, _logger):
            assert "cuInit" in cuda.calls(), "TensorRT's objects must wait for the driver"

        def create_network(self, flags):
            assert flags == (1 if is_old else 2)
            return Network()

        def create_builder_config(self):
            return Config()

        def create_optimization_profile(self):
            return Profile()

        def build_serialized_network(self, network, config):
            builds.append(SimpleNamespace(network=network, config=config, timings=config.timing_cache.content))
            if config.progress_monitor:
                config.progress_monitor.phase_start("Building", None, 2)
                go_on = True
                with suppress(BaseException):  # as the bindings do with what a callback raises
                    go_on = config.progress_monitor.step_complete("Building", 0)
                config.progress_monitor.phase_finish("Building")
                if not go_on:
                    return None
            if module.fails_to_build:
                return None
            plan = {"version": version, "gpu": cuda.gpu_name, "profiles": [p.shapes for p in config.profiles]}
            return _MAGIC + json.dumps(plan).encode() + b"\n" + network.model

    class Runtime:
        def __init__(self, _logger):
            assert "cuInit" in cuda.calls(), "TensorRT's objects must wait for the driver"

        def deserialize_cuda_engine(self, plan):
            header, _, model = plan.partition(b"\n")
            if not header.startswith(_MAGIC):
                return None
            plan = json.loads(header[len(_MAGIC) :])
            if (plan["version"], plan["gpu"]) != (version, cuda.gpu_name):
                return None
            if is_old:
                return Engine8(cuda, plan, model, Context)
            return Engine10(cuda, plan, model, SizedContext)

    class IProgressMonitor:
        pass

    module = ModuleType("tensorrt")
    vars(module).update(
        __version__=version,
        ILogger=ILogger,
        Builder=Builder,
        Runtime=Runtime,
        OnnxParser=OnnxParser,
        LayerType=LayerType,
        TensorIOMode=TensorIOMode,
        MemoryPoolType=SimpleNamespace(WORKSPACE="workspace"),
        float32="float32",
        builds=builds,
        fails_to_build=False,
    )
    if is_old:
        module.NetworkDefinitionCreationFlag = SimpleNamespace(EXPLICIT_BATCH=0)
        module.BuilderFlag = SimpleNamespace(
            TF32="tf32", FP16="fp16", INT8="int8", OBEY_PRECISION_CONSTRAINTS="obey precisions"
        )
        module.PreviewFeature = SimpleNamespace(PROFILE_SHARING_0806="profile sharing")
    else:
        module.NetworkDefinitionCreationFlag = SimpleNamespace(STRONGLY_TYPED=1)
        module.BuilderFlag = SimpleNamespace(TF32="tf32")
        module.ExecutionContextAllocationStrategy = SimpleNamespace(USER_MANAGED="user managed")
        module.IProgressMonitor = IProgressMonitor
    return module
