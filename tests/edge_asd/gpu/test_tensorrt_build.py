"""From a network to TensorRT's engine on the disk, with a driver and a TensorRT that are none: what serves here."""

import errno
import logging
import os
import sys

import pytest

from edge_asd.artifacts import Artifacts
from edge_asd.engine import Workload, open_engine
from edge_asd.engine.tensorrt import open_tensorrt
from edge_asd.engine.tensorrt.library import import_tensorrt
from edge_asd.errors import UnavailableError

HOP = 640
WORKLOAD = Workload(n_machines=3, hop_samples=HOP)
pytestmark = pytest.mark.usefixtures("tensorrt")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda cuda: cuda.set_devices(0), r"finds no GPU; expected an NVIDIA GPU"),
        (lambda cuda: cuda.set_driver_version(11_040), r"supports CUDA up to 11\.4; expected 12\.0 .*JetPack 6"),
        (lambda cuda: cuda.fail("cuInit", 999), r"cuInit failed: as the fake was told"),
    ],
)
def test_unfit_driver_is_named_before_tensorrt_is_touched(
    tensorrt, fake_cuda, make_hand_bundle, spoil, message
) -> None:
    """Without a GPU or with an old driver the error says so, and no object of TensorRT is made."""
    spoil(fake_cuda)
    with pytest.raises(UnavailableError, match=message):
        open_engine(make_hand_bundle(), prefer=["tensorrt"], precision="int8")
    assert tensorrt.builds == []


@pytest.mark.parametrize(
    ("version", "message"),
    [
        ("8.5.2", r"TensorRT is 8\.5\.2; expected 8\.6 .*update JetPack to 6"),
        ("12.0.1", r"TensorRT is 12\.0\.1; expected .*update edge-asd"),
    ],
)
def test_tensorrt_of_another_age_is_refused(install_tensorrt, make_hand_bundle, version, message) -> None:
    """A version that is not served is named with those that are."""
    install_tensorrt(version)
    with pytest.raises(UnavailableError, match=message):
        open_engine(make_hand_bundle(), prefer=["tensorrt"], precision="int8")


def test_missing_tensorrt_is_told_with_where_it_comes_from(make_hand_bundle, monkeypatch) -> None:
    """TensorRT comes with JetPack, never from pip."""
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(UnavailableError, match=r"apt install python3-libnvinfer, .*--system-site-packages"):
        open_engine(make_hand_bundle(), prefer=["tensorrt"], precision="int8")


@pytest.mark.parametrize(
    ("source", "reason"),
    [("import ctypes\nctypes.CDLL('libnvinfer.so.none')\n", "libnvinfer.so.none"), ("", "__version__")],
)
def test_broken_tensorrt_is_told_and_the_next_engine_runs(
    make_hand_bundle, monkeypatch, tmp_path, source, reason
) -> None:
    """A package whose libraries are gone, or half of which is left, is one more reason to try another engine."""
    (tmp_path / "site" / "tensorrt").mkdir(parents=True)
    (tmp_path / "site" / "tensorrt" / "__init__.py").write_text(source)
    monkeypatch.delitem(sys.modules, "tensorrt")
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    with pytest.raises(UnavailableError, match=rf"cannot be imported \(.*{reason}.*apt install python3-libnvinfer"):
        import_tensorrt()
    with open_engine(make_hand_bundle(), prefer=["tensorrt", "onnxruntime"], precision="int8") as engine:
        assert engine.name == "onnxruntime"


@pytest.mark.parametrize("kind", ["Builder", "Runtime"])
def test_null_of_tensorrt_is_told_with_advice(tensorrt, make_hand_bundle, monkeypatch, kind) -> None:
    """The bindings raise TypeError where TensorRT gives them nothing."""

    def nothing(_logger):
        raise TypeError("pybind11::init(): factory function returned nullptr")

    monkeypatch.setattr(tensorrt, kind, nothing)
    with pytest.raises(UnavailableError, match=r"TensorRT 10\.3\.0 cannot start on this machine .*update the driver"):
        open_engine(make_hand_bundle(), prefer=["tensorrt"], precision="int8")


@pytest.mark.parametrize("where", ["Builder", "Runtime", "deserialize"])
@pytest.mark.parametrize(
    "message",
    [
        "Error Code 1: Cuda Runtime (cudaError 35: CUDA driver version is insufficient for CUDA runtime version)",
        "6: [cudaResources.cpp] CUDA initialization failure with error: 35. Please check your CUDA installation",
    ],
)
def test_driver_too_old_for_this_tensorrt_is_refused(tensorrt, make_hand_bundle, monkeypatch, where, message) -> None:
    """TensorRT says so in its log alone and goes on, to fail or to crash later."""

    def log(logger):
        logger.log(tensorrt.ILogger.Severity.ERROR, message)

    class Runtime(tensorrt.Runtime):
        def __init__(self, logger):
            super().__init__(logger)
            self._logger = logger

        def deserialize_cuda_engine(self, _plan):
            log(self._logger)

    if where == "deserialize":
        monkeypatch.setattr(tensorrt, "Runtime", Runtime)
    else:
        whole = getattr(tensorrt, where)
        monkeypatch.setattr(tensorrt, where, lambda logger: (log(logger), whole(logger))[1])
    with pytest.raises(UnavailableError, match=r"the driver is too old for TensorRT 10\.3\.0 .*35.*update the driver"):
        open_engine(make_hand_bundle(), prefer=["tensorrt"], precision="int8")
    assert len(tensorrt.builds) == (where != "Builder")


@pytest.mark.parametrize(
    ("precision", "flags", "held"),
    [
        ("fp32", set(), set()),
        ("int8", {"fp16", "int8", "obey precisions"}, {"first", "norm", "head"}),
        ("fp16", {"fp16", "obey precisions"}, {"first", "quantized", "norm", "between", "last", "head"}),
    ],
)
def test_tensorrt_8_is_told_the_precisions(install_tensorrt, make_hand_bundle, precision, flags, held) -> None:
    """8.6 knows no strong typing: flags allow half or INT8, and what must be float32 is held there.

    That is all that is float32 in a half network; in an INT8 network the first layers, the head and all norms.
    """
    tensorrt = install_tensorrt("8.6.2")
    bundle = make_hand_bundle()
    model = bundle.onnx_model("fp32" if precision == "fp16" else precision)
    open_tensorrt(model, bundle.manifest, precision=precision, n_machines=3, hop_samples=HOP, artifacts=None).close()
    (build,) = tensorrt.builds
    assert {layer.get_output(0).name for layer in build.network.layers if layer.precision == "float32"} == held
    assert build.config.flags == flags
    assert build.config.previews == {"profile sharing": True}
    assert build.config.cleared == {"tf32"}


def test_network_that_tensorrt_cannot_read_gives_its_reason(make_hand_bundle) -> None:
    """The parser's own words are in the error."""
    manifest = make_hand_bundle().manifest
    with pytest.raises(UnavailableError, match=r"TensorRT 10\.3\.0 cannot read the int8 network \(.+\)"):
        open_tensorrt(b"not a network", manifest, precision="int8", n_machines=1, hop_samples=HOP, artifacts=None)


def test_profiles_hold_one_machine_and_all(tensorrt, make_hand_bundle) -> None:
    """One profile for a single window, one for batches, whose largest is the power of two for all machines."""
    with open_engine(
        make_hand_bundle(), prefer=["tensorrt"], precision="int8", workload=Workload(n_machines=40)
    ) as engine:
        assert engine.max_batch == 16
    (build,) = tensorrt.builds
    shapes = [profile.shapes["wave"] for profile in build.config.profiles]
    assert [[shape[0] for shape in each] for each in shapes] == [[1, 1, 1], [2, 16, 16]]


def full_disk(*_):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


class TestCache:
    """The engine on disk."""

    @pytest.fixture
    def open_once(self, make_hand_bundle, tmp_path):
        def open_(precision="int8", workload=WORKLOAD, **changes):
            artifacts = Artifacts(tmp_path / "artifacts")
            open_engine(
                make_hand_bundle(**changes),
                prefer=["tensorrt"],
                precision=precision,
                workload=workload,
                artifacts=artifacts,
            ).close()
            return artifacts

        return open_

    def test_built_once(self, tensorrt, open_once, caplog) -> None:
        """A second start takes the engine from the disk; progress and time of the build are told."""
        with caplog.at_level(logging.INFO):
            open_once()
        assert "Building: 50 %" in caplog.text
        assert "built in" in caplog.text
        open_once()
        assert len(tensorrt.builds) == 1

    @pytest.mark.parametrize(
        "spoil",
        [
            lambda path: path.write_bytes(b""),
            lambda path: path.write_bytes(path.read_bytes()[:-1]),
            lambda path: path.write_bytes(path.read_bytes()[:300] + b"\0" + path.read_bytes()[301:]),
            lambda path: path.write_bytes(b"a plan of another program" * 100),
            lambda path: path.unlink(),
        ],
    )
    def test_engine_that_is_empty_or_altered_is_built_again(self, tensorrt, open_once, spoil) -> None:
        """What is on the disk is never trusted but by its seal."""
        artifacts = open_once()
        (path,) = artifacts.folder.glob("engine-*.bin")
        sound = path.read_bytes()
        spoil(path)
        open_once()
        assert len(tensorrt.builds) == 2
        assert len(path.read_bytes()) == len(sound)
        open_once()
        assert len(tensorrt.builds) == 2

    def test_engine_of_another_device_is_built_again(self, tensorrt, install_tensorrt, open_once, tmp_path) -> None:
        """GPU, power mode, TensorRT, precision, network and batch are the key; each of them builds anew, once."""
        open_once()
        (tmp_path / "nvpmodel-status").write_text("pmode:0002\n")
        open_once()
        open_once(precision="fp32")
        open_once(workload=Workload(n_machines=1))
        open_once(n_classes=4)
        assert len(tensorrt.builds) == 5
        newer = install_tensorrt("10.13.3")
        open_once(n_classes=4)
        assert len(newer.builds) == 1
        open_once(n_classes=4)
        assert len(newer.builds) == 1

    @pytest.mark.parametrize(
        "module", [{"n_multiprocessors": 16, "total_gib": 8}, {"n_multiprocessors": 8, "total_gib": 16}]
    )
    def test_engine_of_another_module_of_that_name_is_built_again(self, tensorrt, fake_cuda, open_once, module) -> None:
        """All Orin modules are called Orin, of compute capability 8.7: what differs is in the key."""
        open_once()
        fake_cuda.set_module(**module)
        open_once()
        assert len(tensorrt.builds) == 2
        assert [build.timings for build in tensorrt.builds] == [b"", b""]

    def test_engine_of_another_board_is_built_again(self, tensorrt, open_once, tmp_path) -> None:
        """A storage card that moved to another board brings no engine along."""
        (tmp_path / "board").write_text("NVIDIA Jetson Orin NX Engineering Reference Developer Kit\0")
        open_once()
        (tmp_path / "board").write_text("NVIDIA Jetson AGX Orin Developer Kit\0")
        open_once()
        assert len(tensorrt.builds) == 2

    def test_engine_that_tensorrt_refuses_is_built_again(self, tensorrt, open_once, fake_cuda, caplog) -> None:
        """A kept engine with a sound seal that TensorRT takes for foreign all the same makes way for a new one."""
        open_once()
        fake_cuda.gpu_name = "Fake Orin of another stepping"  # not seen by the driver's name
        open_once()
        assert len(tensorrt.builds) == 2
        assert "refuses the engine" in caplog.text

    def test_timings_of_a_build_shorten_the_next(self, tensorrt, open_once) -> None:
        """The timing cache goes from build to build on one device."""
        open_once(precision="fp32")
        open_once(precision="int8")
        assert [build.timings for build in tensorrt.builds] == [b"", b"t"]

    def test_build_that_fails_leaves_the_kept_engine(self, tensorrt, open_once) -> None:
        """The state before stays intact."""
        artifacts = open_once()
        before = {path: path.read_bytes() for path in artifacts.paths()}
        tensorrt.fails_to_build = True
        with pytest.raises(UnavailableError, match="cannot build the fp32 network"):
            open_once(precision="fp32")
        assert {path: path.read_bytes() for path in artifacts.paths()} == before

    def test_disk_that_refuses_costs_the_cache_alone(self, make_hand_bundle, tmp_path, monkeypatch, caplog) -> None:
        """An engine that cannot be kept runs all the same, and the log says what to do."""
        artifacts = Artifacts(tmp_path / "artifacts")
        monkeypatch.setattr("edge_asd.artifacts.write_durably", full_disk)
        with open_engine(make_hand_bundle(), prefer=["tensorrt"], precision="int8", artifacts=artifacts) as engine:
            assert engine.name == "tensorrt"
        assert "cannot be kept (No space left on device)" in caplog.text
