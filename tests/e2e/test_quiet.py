"""A device tells nobody of itself but its broker."""

import subprocess
import sys

import pytest

PROGRAM = """
import sys
seen = []
def watch(event, arguments):
    if event in {"os.fork", "os.forkpty", "os.posix_spawn", "subprocess.Popen", "socket.connect", "socket.getaddrinfo"}:
        seen.append((event, arguments[:2]))
sys.addaudithook(watch)
import time
from pathlib import Path
from edge_asd.bundle import open_bundle
from edge_asd.engine import open_engine
bundle = open_bundle(Path(sys.argv[1]))
with open_engine(bundle, prefer=[sys.argv[2]], precision="int8", threads=1):
    time.sleep(1.0)
print(seen)
"""


@pytest.mark.parametrize("engine", ["openvino", "onnxruntime"])
def test_an_engine_neither_forks_nor_calls_home(engine, example_bundle):
    """To open an engine starts no process and opens no connection, whatever its makers would like to know."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, example_bundle, engine], capture_output=True, text=True, check=False
    )
    assert done.stdout == "[]\n", done.stdout + done.stderr
