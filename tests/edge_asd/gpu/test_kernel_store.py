"""The front end's kernels: which compiler makes them, when they are made again, what is said where they cannot be."""

import json
import os
import shutil
import subprocess
import sys

import pytest

import edge_asd.engine.tensorrt as tensorrt_engine
from edge_asd.artifacts import Artifacts
from edge_asd.cuda import driver
from edge_asd.engine import Workload, open_engine
from edge_asd.errors import UnavailableError

NO_BINARY_FOR_GPU = 209
WORKLOAD = Workload(n_machines=1, hop_samples=640)
NVRTC_STUB = """
int nvrtcVersion(int* major, int* minor) { *major = VERSION; *minor = 0; return 0; }
int nvrtcCreateProgram() { return 1; }
int nvrtcDestroyProgram() { return 1; }
int nvrtcCompileProgram() { return 1; }
int nvrtcGetProgramLogSize() { return 1; }
int nvrtcGetProgramLog() { return 1; }
int nvrtcGetCUBINSize() { return 1; }
int nvrtcGetCUBIN() { return 1; }
"""
WHICH = """
import ctypes, json, sys
from edge_asd.cuda import Nvrtc, driver
driver.LIBRARY = sys.argv[1]
if sys.argv[2] != "0":
    ctypes.CDLL(driver.LIBRARY).fake_driver_version(int(sys.argv[2]))
print(json.dumps(Nvrtc().version[0]))
"""


@pytest.fixture(scope="module")
def nvrtc_folder(tmp_path_factory):
    """Two compilers, of CUDA 12 and 13, that know their version alone."""
    if shutil.which("gcc") is None:
        pytest.skip("gcc is not installed: no stub of NVRTC can be made")
    folder = tmp_path_factory.mktemp("nvrtc")
    (folder / "stub.c").write_text(NVRTC_STUB)
    for major in (12, 13):
        options = ["-w", "-shared", "-fPIC", f"-DVERSION={major}", f"-Wl,-soname,libnvrtc.so.{major}"]
        command = ["gcc", *options, "-o", folder / f"libnvrtc.so.{major}", folder / "stub.c"]
        subprocess.run(command, check=True)
    return folder


@pytest.mark.parametrize(("driver_version", "major"), [(12_060, 12), (12_020, 12), (13_000, 13)])
def test_compiler_of_the_driver_s_cuda_comes_first(fake_cuda, nvrtc_folder, driver_version, major) -> None:
    """A driver of CUDA 12 is not sure to load what NVRTC 13 makes."""
    assert which(fake_cuda.path, driver_version, nvrtc_folder) == major


def test_compiler_is_found_without_a_driver(nvrtc_folder) -> None:
    """Compiling needs none."""
    assert which("libcuda-of-no-machine.so", 0, nvrtc_folder) in (12, 13)


def which(libcuda, driver_version, folder):
    environment = {**os.environ, "LD_LIBRARY_PATH": str(folder)}
    command = [sys.executable, "-c", WHICH, str(libcuda), str(driver_version)]
    return json.loads(subprocess.run(command, env=environment, capture_output=True, check=True).stdout)


@pytest.fixture
def open_once(install_tensorrt, make_hand_bundle, tmp_path):
    """A function that opens the engine with a store and closes it."""
    install_tensorrt()

    def open_():
        store = Artifacts(tmp_path / "engines")
        open_engine(
            make_hand_bundle(), prefer=["tensorrt"], precision="int8", workload=WORKLOAD, artifacts=store
        ).close()

    return open_


def test_kept_kernel_that_the_driver_refuses_is_compiled_again(fake_cuda, open_once, caplog) -> None:
    """Once: the engine runs, and the next start takes what was compiled then."""
    open_once()
    assert tensorrt_engine.Nvrtc.compiled == 1
    fake_cuda.fail("cuModuleLoadData", NO_BINARY_FOR_GPU)
    open_once()
    assert tensorrt_engine.Nvrtc.compiled == 2
    assert "CUDA_ERROR_NO_BINARY_FOR_GPU" in caplog.text
    open_once()
    assert tensorrt_engine.Nvrtc.compiled == 2


def test_kernel_that_is_refused_twice_is_given_up_with_advice(fake_cuda, open_once) -> None:
    """The message says which compiler is wanted."""
    open_once()
    fake_cuda.fail("cuModuleLoadData", NO_BINARY_FOR_GPU, times=2)
    with pytest.raises(
        UnavailableError,
        match=r"cuModuleLoadData failed: CUDA_ERROR_NO_BINARY_FOR_GPU.*install the NVRTC of the driver's CUDA",
    ):
        open_once()
    assert tensorrt_engine.Nvrtc.compiled == 2


def test_kernel_is_compiled_for_each_driver(fake_cuda, open_once) -> None:
    """An update of the driver may bring a compiler that suits it better."""
    open_once()
    fake_cuda.set_driver_version(12_080)
    tensorrt_engine.Nvrtc.compiled = 0
    driver._driver.cache_clear()
    open_once()
    assert tensorrt_engine.Nvrtc.compiled == 1


@pytest.mark.parametrize(
    ("call", "code", "advice"),
    [
        ("cuDevicePrimaryCtxRetain", 2, "CUDA_ERROR_OUT_OF_MEMORY.*end other programs"),
        ("cuStreamCreate", 2, "CUDA_ERROR_OUT_OF_MEMORY.*end other programs"),
        ("cuStreamSynchronize", 700, "CUDA_ERROR_ILLEGAL_ADDRESS.*see dmesg for its cause, and restart edge-asd"),
        ("cuStreamSynchronize", 719, "see dmesg for its cause, and restart edge-asd"),
    ],
)
def test_error_of_the_driver_says_what_to_do(fake_cuda, open_once, call, code, advice) -> None:
    """Memory, kernel or a fault of the GPU: each has its own advice."""
    fake_cuda.fail(call, code)
    with pytest.raises(UnavailableError, match=rf"{call} failed: .*{advice}"):
        open_once()
