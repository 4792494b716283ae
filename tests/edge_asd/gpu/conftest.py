"""A CUDA device and a TensorRT that are none, for tests of all that surrounds the GPU; see fake_libcuda.cpp."""

import ctypes
import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import edge_asd.engine.tensorrt as tensorrt_engine
from edge_asd.cuda import driver
from edge_asd.cuda.logmel import kernel_options
from edge_asd.engine.tensorrt import device

HERE = Path(__file__).parent
LOGMEL_CU = Path(driver.__file__).with_name("logmel.cu")
CEILINGS_CU = HERE.parents[2] / "benchmarks" / "ceilings.cu"


class FakeCuda:
    """What the fake libcuda was asked, and what it shall answer."""

    gpu_name = "Fake Orin"

    def __init__(self, path: Path) -> None:
        self.path = path
        self.library = ctypes.CDLL(str(path))
        self.library.fake_calls.restype = ctypes.c_char_p
        self.library.fake_free_bytes.argtypes = [ctypes.c_size_t]
        self.library.fake_allocations.restype = ctypes.c_size_t

    def calls(self) -> list[str]:
        return self.library.fake_calls().decode().split()

    def forget_calls(self) -> None:
        self.library.fake_forget_calls()

    def fail(self, name: str, code: int, times: int = 1) -> None:
        """The next calls of that name fail so."""
        self.library.fake_fail(name.encode(), code, times)

    def set_free_bytes(self, n_bytes: int) -> None:
        self.library.fake_free_bytes(n_bytes)

    def set_driver_version(self, version: int) -> None:
        self.library.fake_driver_version(version)

    def set_devices(self, count: int) -> None:
        self.library.fake_devices(count)

    def set_module(self, *, n_multiprocessors: int, total_gib: int) -> None:
        """Another module of the same name and architecture."""
        self.library.fake_module(n_multiprocessors, ctypes.c_size_t(total_gib << 30))

    def run_threads_backwards(self, yes: bool) -> None:
        self.library.fake_backwards(yes)

    def n_retained(self) -> int:
        """How often the primary context is held."""
        return int(self.library.fake_retained())

    def n_current(self) -> int:
        """Contexts on this thread's stack."""
        return int(self.library.fake_contexts())

    def n_allocations(self) -> int:
        return int(self.library.fake_allocations())


@pytest.fixture(scope="session")
def build_fake_libcuda(tmp_path_factory):
    """A function that compiles the fake libcuda with the kernels of a spec in it, once for each."""
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.skip("g++ is not installed: the kernel cannot be compiled for the CPU")
    folder = tmp_path_factory.mktemp("fake-libcuda")

    def build(spec) -> Path:
        options = kernel_options(spec)
        path = folder / f"libcuda-{abs(hash(options))}.so"
        if not path.exists():
            sources = [f'-DLOGMEL_CU="{LOGMEL_CU}"', f'-DCEILINGS_CU="{CEILINGS_CU}"']
            flags = ["-std=c++17", "-O2", "-ffp-contract=off", "-w", "-shared", "-fPIC"]
            command = [compiler, *flags, "-o", path, *sources, *options]
            subprocess.run([*command, HERE / "fake_libcuda.cpp"], check=True)
        return path

    return build


@pytest.fixture
def make_fake_cuda(build_fake_libcuda, tmp_path, monkeypatch):
    """A function that puts a fresh fake libcuda for a spec in the driver's place."""

    def make(spec) -> FakeCuda:
        path = tmp_path / f"libcuda-{len(list(tmp_path.glob('libcuda-*')))}.so"
        shutil.copy(build_fake_libcuda(spec), path)  # a file of its own has state of its own
        monkeypatch.setattr(driver, "LIBRARY", str(path))
        monkeypatch.setitem(sys.modules, "pycuda", None)  # an installed one would look for a real libcuda
        return FakeCuda(path)

    return make


@pytest.fixture
def fake_cuda(make_fake_cuda, make_hand_bundle):
    """The fake libcuda for the spec of the hand bundle."""
    return make_fake_cuda(make_hand_bundle().manifest.feature_spec)


class NoCompiler:
    """Stands for NVRTC: the fake libcuda has its kernels compiled in. compiled: how often it was asked."""

    version = (12, 6)
    compiled = 0

    def cubin(self, _source, *, name, architecture, options):  # noqa: ARG002 - NVRTC's signature
        NoCompiler.compiled += 1
        return f"{name} for {architecture}".encode()


@pytest.fixture
def install_tensorrt(fake_cuda, monkeypatch, tmp_path):
    """A function that puts a fake TensorRT of some version where `import tensorrt` finds it."""
    spec = importlib.util.spec_from_file_location("fake_tensorrt", HERE / "fake_tensorrt.py")
    fake_tensorrt = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(fake_tensorrt)

    def install(version="10.3.0"):
        module = fake_tensorrt.make(fake_cuda, version)
        monkeypatch.setitem(sys.modules, "tensorrt", module)
        return module

    monkeypatch.setattr(tensorrt_engine, "Nvrtc", NoCompiler)
    monkeypatch.setattr(NoCompiler, "compiled", 0)
    monkeypatch.setattr(device, "POWER_MODE_PATH", tmp_path / "nvpmodel-status")
    monkeypatch.setattr(device, "BOARD_PATH", tmp_path / "board")
    return install


@pytest.fixture
def tensorrt(install_tensorrt):
    """TensorRT 10.3, faked."""
    return install_tensorrt()
