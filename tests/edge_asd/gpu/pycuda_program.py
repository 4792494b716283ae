"""TEST ONLY: a bundle and a fake libcuda in, what its TensorRT engine does through pycuda, as JSON, out.

A process of its own: pycuda loads whichever libcuda.so.1 the loader finds, here that of LD_LIBRARY_PATH.
"""

import importlib.util
import json
import os
import sys
import threading
from pathlib import Path

import numpy as np

sys.setdlopenflags(os.RTLD_LAZY)  # the fake libcuda has but the calls that are made
HERE = Path(__file__).parent


def load(name: str):
    spec = importlib.util.spec_from_file_location(name, HERE / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def main() -> None:
    """Open in one thread, hear in another, exhaust memory, close in a third; end without a word on stderr."""
    import edge_asd.engine.tensorrt as tensorrt_engine
    from edge_asd.bundle import open_bundle
    from edge_asd.cuda import CudaError
    from edge_asd.cuda.driver import LIBRARY
    from edge_asd.engine import Hop

    conftest = load("conftest")
    cuda = conftest.FakeCuda(LIBRARY)
    sys.modules["tensorrt"] = load("fake_tensorrt").make(cuda)
    tensorrt_engine.Nvrtc = conftest.NoCompiler
    bundle = open_bundle(Path(sys.argv[1]))
    said = {}

    def open_engine() -> None:
        said["engine"] = tensorrt_engine.open_tensorrt(
            bundle.onnx_model("int8"), bundle.manifest, precision="int8", n_machines=2, hop_samples=640, artifacts=None
        )

    def hear() -> None:
        engine = said["engine"]
        n_allocations = cuda.n_allocations()
        hops = [Hop(stream=engine.stream(), wave=wave, fresh_samples=wave.size) for wave in bundle.golden.wave]
        said["cosine"] = [each.outputs.cosine[0].tolist() for each in engine.hear(hops)]
        cuda.forget_calls()
        engine.hear([Hop(stream=hop.stream, wave=hop.wave, fresh_samples=0) for hop in hops])
        said["calls"] = cuda.calls()
        said["log_mel"] = engine.log_mel_db(bundle.golden.wave[0]).tolist()
        said["grown"] = cuda.n_allocations() - n_allocations
        cuda.set_free_bytes(1_000)
        try:
            with engine._gpu.current():
                engine._gpu.allocate(2_000, "a test")
        except CudaError as error:
            said["exhausted"] = str(error)
        cuda.fail("cuStreamSynchronize", 700)
        try:
            engine.hear(hops)
        except CudaError as error:
            said["fault"] = str(error)

    def close() -> None:
        said["binding"] = said["engine"]._gpu.binding
        said.pop("engine").close()

    for work in (open_engine, hear, close):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    said["left"] = [cuda.n_allocations(), cuda.n_retained(), cuda.n_current()]
    said["expected"] = bundle.golden.cosine.tolist()
    said["log_mel_difference_db"] = float(np.abs(np.array(said.pop("log_mel")) - bundle.golden.log_mel[0]).max())
    sys.stdout.write(json.dumps(said))


if __name__ == "__main__":
    main()
