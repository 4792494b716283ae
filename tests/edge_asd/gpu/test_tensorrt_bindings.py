"""NVIDIA's own Python bindings, parser, builder and compiler, as far as they work without a GPU."""

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import edge_asd.engine.tensorrt as tensorrt_engine
from edge_asd.cuda import Nvrtc
from edge_asd.cuda.logmel import SOURCE, kernel_options, kernel_source
from edge_asd.engine.tensorrt import build
from edge_asd.errors import UnavailableError
from edge_asd.types import FeatureSpec

KIT = Path(sys.prefix) / "tensorrt-kit"
ROOT = Path(__file__).parents[3]
EXAMPLE = next(iter(sorted(ROOT.glob("examples/*/*.asd"))))
pytestmark = pytest.mark.skipif(
    not KIT.is_dir(), reason=f"{KIT} is missing: make test prepares it where NVIDIA's wheels can be had"
)

KERNELS = """
import json, pathlib, re, sys
import tensorrt as trt
from edge_asd.bundle import open_bundle
from export.quantize import quantize
from export.windows import Windows
bundle = open_bundle(pathlib.Path(sys.argv[1]))
golden = bundle.golden
network = quantize(bundle.onnx_model("fp32"), [Windows(wave=golden.wave, log_mel=golden.log_mel, label=None)])
names = ("backbone.blocks.2.widen.conv", "tfgram.block2.conv1")
in_float = [node for node, name in network.layers.items() if name in names]
class Listener(trt.ILogger):
    def __init__(self):
        super().__init__()
        self.lines = []
    def log(self, severity, text):
        self.lines.append(text)
def kernels(model):
    logger = Listener()
    builder = trt.Builder(logger)
    parsed = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    assert trt.OnnxParser(parsed, logger).parse(model)
    config = builder.create_builder_config()
    config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    profile = builder.create_optimization_profile()
    for spec in bundle.manifest.inputs:
        profile.set_shape(spec.name, *[(1, *spec.shape[1:])] * 3)
    config.add_optimization_profile(profile)
    assert builder.build_serialized_network(parsed, config) is not None
    kind = re.compile(r"Name: (node_Conv_[0-9]+)_\\S+, LayerType: correlation, Inputs: [^}]*Datatype: ([A-Za-z0-9]+)")
    return dict(kind.findall("\\n".join(logger.lines)))
print(json.dumps([in_float, kernels(network.draft(in_float=in_float)), kernels(network.model(in_float=in_float))]))
"""
BUILD = """
import json, pathlib, sys
import tensorrt as trt
from edge_asd.bundle import open_bundle
from edge_asd.engine.tensorrt.build import BuildSettings, build_engine
from edge_asd.engine.tensorrt.library import import_tensorrt, make_logger
from edge_asd.errors import UnavailableError
bundle = open_bundle(pathlib.Path(sys.argv[1]))
precision = sys.argv[2]
if precision == "fp16":
    from export.half import half_from_fp32
    model = half_from_fp32(bundle.onnx_model("fp32"))
else:
    model = bundle.onnx_model("int8" if precision == "broken" else precision)
if precision == "broken":
    model = model[: len(model) // 2]
assert import_tensorrt() is trt
said = []
try:
    settings = BuildSettings(precision=precision, batch_sizes=(1, 2, 4))
    built = build_engine(
        trt, make_logger(trt), model, bundle.manifest.inputs, settings, timings=None, say=said.append
    )
    print(json.dumps({"plan": len(built.plan), "timings": len(built.timings), "said": said}))
except UnavailableError as error:
    print(json.dumps({"error": str(error)}))
"""

# Asked for only where TensorRT is 8.6, or guarded by hasattr.
ONLY_8_6 = {
    *("EXPLICIT_BATCH", "FP16", "INT8", "OBEY_PRECISION_CONSTRAINTS", "PROFILE_SHARING_0806", "PreviewFeature"),
    *("set_preview_feature", "precision", "device_memory", "device_memory_size"),
    "create_execution_context_without_device_memory",
}
# Asked for where they are, or guarded by hasattr.
ONLY_FROM_10 = {
    *("STRONGLY_TYPED", "IProgressMonitor", "progress_monitor", "ExecutionContextAllocationStrategy"),
    *("set_device_memory", "device_memory_size_v2"),
}
CLASS_OF = {
    "builder": "Builder",
    "network": "INetworkDefinition",
    "parser": "OnnxParser",
    "config": "IBuilderConfig",
    "profile": "IOptimizationProfile",
    "runtime": "Runtime",
    "engine": "ICudaEngine",
    "context": "IExecutionContext",
    "layer": "ILayer",
    "cache": "ITimingCache",
}
LOOK = """
import json, sys
import tensorrt as trt
missing = []
for path in json.loads(sys.argv[1]):
    found = trt
    for name in path:
        found = getattr(found, name, None)
        if found is None:
            missing.append(".".join(path))
            break
print(json.dumps([trt.__version__, missing]))
"""


def run(folder: str, program: str, *arguments: str):
    """What a program that sees that TensorRT prints, from JSON."""
    if not (KIT / folder).is_dir():
        pytest.skip(f"{KIT / folder} is missing: NVIDIA has no wheel of TensorRT {folder} for this Python")
    environment = {**os.environ, "PYTHONPATH": f"{KIT / folder}:{ROOT}"}
    command = [sys.executable, "-c", program, *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


TWO_ENGINES = """
import gc, json
import tensorrt as trt
from edge_asd.engine.tensorrt.library import make_logger
first = trt.Runtime(make_logger(trt))
second = trt.Runtime(make_logger(trt))
del first
gc.collect()
overwritten = [bytearray(b"A" * n) for n in (48, 64, 80, 96, 112, 128) * 2000]
try:
    trt.get_plugin_registry().load_library("/no/such/library.so")  # of which TensorRT logs
except Exception:
    pass
print(json.dumps("alive"))
"""
INTERRUPTED = (
    BUILD.replace("say=said.append", "say=interrupt").replace(
        "said = []",
        """
import os, signal
def interrupt(text):
    if text.endswith("%"):
        os.kill(os.getpid(), signal.SIGINT)
""",
    )
    + """
except KeyboardInterrupt:
    print(json.dumps("interrupted"))
"""
)
STOPPED = (
    BUILD.replace("say=said.append", "say=print, check_stop=stop").replace(
        "said = []",
        """
class Stopped(BaseException):
    pass
steps = []
def stop():
    steps.append(1)
    if len(steps) >= 3:
        raise Stopped
""",
    )
    + """
except Stopped:
    print(json.dumps(len(steps)))
"""
)
NO_RUNTIME = """
import json
import tensorrt as trt
from edge_asd.engine.tensorrt.library import make_object
from edge_asd.errors import UnavailableError
try:
    make_object(trt, trt.Runtime)
except UnavailableError as error:
    print(json.dumps(str(error)))
"""


def test_logger_outlives_the_engine_that_was_opened_first() -> None:
    """TensorRT keeps the first logger for all: a model that was opened later logs after the first is closed."""
    assert run("builder", TWO_ENGINES) == "alive"


def test_ctrl_c_ends_a_build() -> None:
    """TensorRT's bindings swallow what their callbacks raise; here it comes out of the build all the same."""
    assert run("builder", INTERRUPTED, str(EXAMPLE), "int8") == "interrupted"


def test_stop_ends_a_build_after_a_few_steps() -> None:
    """Of hundreds: TensorRT cancels when a step is answered so, though not at once."""
    assert 3 <= run("builder", STOPPED, str(EXAMPLE), "int8") < 200


@pytest.mark.parametrize("version", ["8.6", "10.3", "10.13", "10.16"])
def test_null_of_tensorrt_is_told_with_advice(version) -> None:
    """These bindings stand on libraries that are stubs."""
    assert "cannot start on this machine" in run(version, NO_RUNTIME)


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_example_network_parses_and_builds(precision) -> None:
    """The shipped network is one that TensorRT 11.4 takes, with one profile for one machine and one for batches."""
    built = run("builder", BUILD, str(EXAMPLE), precision)
    assert built["plan"] > 1_000_000
    assert built["timings"] > 0
    assert "with TensorRT 11.4" in built["said"][0]
    assert built["said"][-1].endswith(" %")


def test_half_precision_leaves_int8_as_it_was() -> None:
    """By the builder's own list of kernels: layers that are not in INT8 take half, and all others what they took."""
    in_float, single, half = run("builder", KERNELS, str(EXAMPLE))
    assert len(in_float) == 2
    assert {single[node] for node in in_float} == {"Float"}
    assert {half[node] for node in in_float} == {"Half"}
    others = single.keys() - set(in_float)
    assert {node: half[node] for node in others} == {node: single[node] for node in others}
    assert sum(kind == "Int8" for kind in half.values()) > 30


def test_parser_says_why_it_refuses() -> None:
    """A damaged network is an error with the parser's reason, not a crash."""
    refused = run("builder", BUILD, str(EXAMPLE), "broken")
    assert "TensorRT 11.4" in refused["error"]
    assert "cannot read the broken network (" in refused["error"]


def names_used() -> set[tuple[str, ...]]:
    """Names of TensorRT that the engine's modules use, by the class that they belong to."""
    used = {("IExecutionContext", "execute_async_v3")}
    for name in ("__init__.py", "library.py", "build.py", "progress.py", "contexts.py"):
        for node in ast.walk(ast.parse(Path(tensorrt_engine.__file__).with_name(name).read_text())):
            if isinstance(node, ast.Attribute):
                names = ast.unparse(node).split(".")
                if names[0] == "trt" and all(name.isidentifier() for name in names):
                    used.add(tuple(names[1:3]))
                elif len(names) == 2 and names[0] in CLASS_OF:
                    used.add((CLASS_OF[names[0]], names[1]))
    return used


@pytest.mark.parametrize("version", ["8.6", "10.3", "10.13", "10.16", "builder"])
def test_every_name_exists_in_every_version(version) -> None:
    """What the engine uses of TensorRT is there from 8.6 to 11.4, but for what is guarded for one or the other."""
    of_others = ONLY_FROM_10 if version == "8.6" else ONLY_8_6
    used = {path for path in names_used() if not of_others & set(path)}
    assert {("BuilderFlag", "TF32"), ("ICudaEngine", "get_tensor_name"), ("Runtime",)} <= used
    if version == "8.6":
        assert {("ILayer", "precision"), ("ICudaEngine", "device_memory_size")} <= used
        used |= {("NetworkDefinitionCreationFlag", "EXPLICIT_BATCH")}
        used |= {("LayerType", name) for name in (*build._HALF_LAYERS, *build._UNTYPED_LAYERS)}
    found, missing = run(version, LOOK, json.dumps(sorted(used)))
    assert missing == []
    assert found.startswith("11.4" if version == "builder" else version)


@pytest.fixture(scope="module")
def nvrtc() -> Nvrtc:
    (library,) = KIT.glob("nvrtc/nvidia/cuda_nvrtc/lib/libnvrtc.so.12")
    return Nvrtc(library)


@pytest.mark.parametrize("architecture", ["sm_87", "sm_90"])
def test_kernel_compiles_by_nvrtc(nvrtc, architecture) -> None:
    """The compiler library of JetPack 6.1 and 6.2 makes the kernel for Orin, and for Hopper."""
    assert nvrtc.version == (12, 6)
    options = kernel_options(FeatureSpec())
    cubin = nvrtc.cubin(kernel_source(), name=SOURCE, architecture=architecture, options=options)
    assert cubin.startswith(b"\x7fELF")
    assert b"log_mel_db" in cubin


@pytest.mark.parametrize(
    ("source", "architecture", "message"),
    [
        ("__global__ void k() { nonsense; }", "sm_87", r"does not compile for sm_87 with NVRTC 12\.6: .*nonsense"),
        ("__global__ void k() {}", "sm_999", r"does not compile for sm_999"),
    ],
)
def test_kernel_that_does_not_compile_says_why(nvrtc, source, architecture, message) -> None:
    """The compiler's first error and what to do are in the message."""
    with pytest.raises(UnavailableError, match=message):
        nvrtc.cubin(source, name="k.cu", architecture=architecture, options=())
