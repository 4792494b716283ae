"""Artifacts: what was put there comes back, or nothing does, whatever happened to the file or to the process."""

import hashlib
import json
import os
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_asd.artifacts import MAX_FILES_A_KIND, Artifacts, DamagedError, read_artifact
from edge_asd.errors import UnavailableError

KEY = {"gpu": "Orin sm_87", "tensorrt": "10.3.0"}


@pytest.fixture
def artifacts(tmp_path):
    return Artifacts(tmp_path / "engines")


def test_what_was_put_there_comes_back(artifacts) -> None:
    """By kind and key, and by no other."""
    artifacts.put("engine", KEY, b"plan\n of several\n lines")
    artifacts.put("kernel", KEY, b"")
    assert artifacts.get("engine", KEY) == b"plan\n of several\n lines"
    assert artifacts.get("engine", dict(reversed(KEY.items()))) == b"plan\n of several\n lines"
    assert artifacts.get("kernel", KEY) == b""
    assert artifacts.get("timing", KEY) is None
    assert artifacts.get("engine", {**KEY, "tensorrt": "10.3.1"}) is None
    assert artifacts.folder.stat().st_mode & 0o077 == 0  # an engine is code of a kind: no one else may put one there


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_no_altered_byte_is_believed(tmp_path_factory, data) -> None:
    """A bit flipped, bytes cut off or added anywhere: the file counts as absent."""
    artifacts = Artifacts(tmp_path_factory.mktemp("engines"))
    path = artifacts.put("engine", KEY, b"plan" * 20)
    sound = path.read_bytes()
    change = data.draw(st.sampled_from(["flip", "cut", "add"]))
    at = data.draw(st.integers(0, len(sound) - 1))
    if change == "flip":
        altered = sound[:at] + bytes([sound[at] ^ (1 << data.draw(st.integers(0, 7)))]) + sound[at + 1 :]
    else:
        altered = sound[:at] if change == "cut" else sound + data.draw(st.binary(min_size=1, max_size=40))
    path.write_bytes(altered)
    assert artifacts.get("engine", KEY) is None
    with pytest.raises(DamagedError):
        read_artifact(path)


def seal(header, content=b"plan") -> bytes:
    body = b"edge-asd artifact 1\n" + json.dumps(header).encode() + b"\n" + content
    return body + hashlib.sha256(body).digest()


HEADER = {"kind": "engine", "key": KEY, "created_utc": "2026-01-01", "sha256": hashlib.sha256(b"plan").hexdigest()}


@pytest.mark.parametrize(
    "header",
    [
        {**HEADER, "key": 5},
        {**HEADER, "key": ["gpu"]},
        {**HEADER, "key": {"gpu": 1}},
        {**HEADER, "kind": "picture"},
        {**HEADER, "created_utc": None},
        {**HEADER, "sha256": 7},
        {**HEADER, "sha256": "0" * 64},
        {**HEADER, "path": "/etc/passwd"},
        [1],
    ],
)
def test_sealed_file_with_an_impossible_header_counts_as_absent(artifacts, header) -> None:
    """Whoever sealed it: what it says of itself must be of the right types and true."""
    path = artifacts.put("engine", KEY, b"plan")
    path.write_bytes(seal(HEADER))
    assert artifacts.get("engine", KEY) == b"plan"
    path.write_bytes(seal(header))
    assert artifacts.get("engine", KEY) is None
    with pytest.raises(DamagedError, match="has a header that"):
        read_artifact(path)


@pytest.mark.parametrize("mode", [0o777, 0o770, 0o702])
@pytest.mark.parametrize("use", ["get", "put", "locked"])
def test_folder_that_others_may_write_to_is_not_trusted(artifacts, caplog, mode, use) -> None:
    """What lies there may be anyone's: it is removed, and the folder closed."""
    path = artifacts.put("engine", KEY, b"plan")
    artifacts.folder.chmod(mode)
    if use == "get":
        assert artifacts.get("engine", KEY) is None
    elif use == "put":
        artifacts.put("engine", {"a": "b"}, b"another")
        assert artifacts.get("engine", {"a": "b"}) == b"another"
    else:
        with artifacts.locked():
            pass
    assert not path.exists()
    assert artifacts.folder.stat().st_mode & 0o777 == 0o700
    assert f"was open to others (mode {mode:o})" in caplog.text


def test_file_of_another_key_is_not_taken(artifacts, caplog) -> None:
    """A sound file that was renamed by hand is named and not believed."""
    path = artifacts.put("engine", KEY, b"plan")
    other = {**KEY, "gpu": "Thor sm_110"}
    path.rename(artifacts.path("engine", other))
    assert artifacts.get("engine", other) is None
    assert "is a file of another key" in caplog.text


def test_oldest_files_make_room(artifacts) -> None:
    """There are never more than the bound of a kind; other kinds are left alone."""
    artifacts.put("kernel", KEY, b"k")
    keys = [{"n": str(number)} for number in range(MAX_FILES_A_KIND + 2)]
    for key in keys:
        path = artifacts.put("engine", key, b"plan")
        stamp = 1_000_000 + int(key["n"])
        os.utime(path, (stamp, stamp))
    assert [artifacts.get("engine", key) is None for key in keys] == [True, True, *[False] * MAX_FILES_A_KIND]
    assert artifacts.get("kernel", KEY) == b"k"


_KILLED = """
import os, sys, time
from pathlib import Path
from edge_asd.artifacts import Artifacts
artifacts = Artifacts(Path(sys.argv[1]))
def hang(descriptor):
    print("written", flush=True)
    time.sleep(60)
with artifacts.locked():
    os.fsync = hang
    artifacts.put("engine", {"a": "b"}, bytes(1 << 20))
"""


def test_process_killed_while_it_writes_leaves_a_clean_store(artifacts) -> None:
    """Half a file is never seen, the lock is free again, and what was left is swept away."""
    artifacts.put("engine", KEY, b"plan")
    with subprocess.Popen(
        [sys.executable, "-c", _KILLED, str(artifacts.folder)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "written\n"
        process.kill()
    assert len(artifacts.unfinished()) == 1
    assert artifacts.get("engine", {"a": "b"}) is None
    with artifacts.locked():
        assert artifacts.unfinished() == ()
    assert artifacts.get("engine", KEY) == b"plan"
    assert len(artifacts.paths()) == 1


_WAITING = """
import logging, sys
from pathlib import Path
from edge_asd.artifacts import Artifacts
logging.basicConfig(stream=sys.stdout, format="%(message)s")
artifacts = Artifacts(Path(sys.argv[1]))
sys.stdin.readline()  # until the other holds the lock
print("ready", flush=True)
with artifacts.locked():
    print(artifacts.get("engine", {"a": "b"}), flush=True)
"""


def test_second_process_waits_for_the_first(artifacts) -> None:
    """Who waited for the lock says for whom, and finds what the other has built meanwhile."""
    command = [sys.executable, "-c", _WAITING, str(artifacts.folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        with artifacts.locked():
            process.stdin.write("go\n")
            process.stdin.flush()
            assert process.stdout.readline() == "ready\n"
            assert f"lock: waiting for process {os.getpid()}, " in process.stdout.readline()
            artifacts.put("engine", {"a": "b"}, b"built")
        assert process.stdout.readline() == "b'built'\n"


def test_stop_ends_the_wait_for_another_process(artifacts) -> None:
    """What `check_stop` raises comes out, and the other keeps the lock."""

    def stop():
        raise KeyboardInterrupt

    waiting = Artifacts(artifacts.folder, check_stop=stop)
    with artifacts.locked():
        for _ in range(2):
            with pytest.raises(KeyboardInterrupt), waiting.locked():
                pass
    with waiting.locked():
        pass


def test_folder_that_cannot_be_made_is_named(tmp_path) -> None:
    """A file in the folder's place is an error with what to do."""
    (tmp_path / "state").write_text("no folder")
    with (
        pytest.raises(UnavailableError, match=r"lock: cannot be opened .*correct state_dir"),
        Artifacts(tmp_path / "state" / "engines").locked(),
    ):
        pass
