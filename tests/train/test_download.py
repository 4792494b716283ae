"""Archives arrive whole from a real server that cuts, stalls, corrupts and refuses, and never half or altered."""

import hashlib
import io
import json
import shutil
import subprocess
import sys
import threading
import zipfile
from collections import namedtuple
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest

from edge_asd.errors import EdgeAsdError, UnavailableError
from train import download
from train.data import load_recordings

STALL_S = 1.0


def archive(*names):
    """A zip whose files hold noise, so that it is as large as they are."""
    buffer = io.BytesIO()
    rng = np.random.default_rng(len(names))
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as packed:
        for name in names:
            packed.writestr(name, rng.bytes(100_000))
    return buffer.getvalue()


class Zenodo:
    """A server with Zenodo's records, and a plan of what goes wrong at each request for a file."""

    def __init__(self):
        self.files = {}  # record -> {name: content}
        self.plan = []  # what happens to the next requests for a file
        self.asked = []  # (name, Range header) of each request for a file
        self.knows_ranges = True
        zenodo = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                parts = self.path.strip("/").split("/")
                if len(parts) == 3:
                    zenodo._list(self, parts[2])
                else:
                    zenodo._send(self, parts[2], parts[4])

            def log_message(self, *_):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._stop = threading.Event()
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def api(self):
        return f"http://127.0.0.1:{self._server.server_port}/api"

    def close(self):
        self._stop.set()
        self._server.shutdown()
        self._server.server_close()

    def _list(self, handler, record):
        if record not in self.files:
            handler.send_error(404)
            return
        files = [
            {
                "key": name,
                "size": len(content),
                "checksum": f"md5:{hashlib.md5(content, usedforsecurity=False).hexdigest()}",
                "links": {"self": f"{self.api}/records/{record}/files/{name}/content"},
            }
            for name, content in self.files[record].items()
        ]
        answer = json.dumps({"id": int(record), "files": files}).encode()
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(answer)))
        handler.end_headers()
        handler.wfile.write(answer)

    def _send(self, handler, record, name):
        content = self.files[record][name]
        wanted = handler.headers.get("Range")
        self.asked.append((name, wanted))
        what, *detail = self.plan.pop(0) if self.plan else ("whole",)
        if what == "refuse":
            handler.send_error(detail[0])
            return
        start = int(wanted.removeprefix("bytes=").removesuffix("-")) if wanted and self.knows_ranges else 0
        rest = content[start:]
        if what == "corrupt":
            rest = rest[:10] + bytes([rest[10] ^ 1]) + rest[11:]
        handler.send_response(206 if start else 200)
        if start:
            handler.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        handler.send_header("Content-Length", str(len(rest)))
        handler.end_headers()
        handler.wfile.write(rest[: detail[0]] if what in ("cut", "stall") else rest)
        handler.wfile.flush()
        if what == "stall":
            self._stop.wait(30)
        if what in ("cut", "stall"):
            handler.close_connection = True


@pytest.fixture
def zenodo():
    """The data set of 2020 in small: four records with the names of the real ones."""
    server = Zenodo()
    server.files = {
        "3678171": {
            "dev_data_fan.zip": archive("fan/train/normal_id_00_00000000.wav", "fan/test/anomaly_id_00_00000000.wav")
        },
        "3727685": {"eval_data_train_fan.zip": archive("fan/train/normal_id_01_00000000.wav")},
        "3841772": {
            "eval_data_test_fan.zip": archive(
                "fan/test/id_01_00000000.wav", "fan/test/id_01_00000001.wav", "fan/test/id_01_00000002.wav"
            )
        },
        "3951620": {
            "eval_data_list.csv": b"fan\nid_01_00000000.wav,a,0\nid_01_00000001.wav,b,1\nid_01_00000002.wav,c,1\n"
        },
    }
    yield server
    server.close()


def fetch_all(zenodo, out):
    said = []
    waited_s = []
    told = download.Told(say=said.append, progress=lambda *_: None)
    download.download("dcase2020", out, told=told, api=zenodo.api, sleep=waited_s.append, stall_s=STALL_S)
    return said


def assert_whole(zenodo, out):
    for files in zenodo.files.values():
        for name, content in files.items():
            if not name.endswith(".zip"):
                assert (out / name).read_bytes() == content
                continue
            with zipfile.ZipFile(io.BytesIO(content)) as packed:
                for member in packed.namelist():
                    assert (out / member).read_bytes() == packed.read(member)
    assert not [*out.rglob("*.zip"), *out.rglob("*.part"), *out.rglob("*.tmp")]


def test_data_set_is_a_data_folder_afterwards(zenodo, tmp_path):
    """Development, additional training and evaluation data, with the labels of the last."""
    fetch_all(zenodo, tmp_path)
    assert_whole(zenodo, tmp_path)
    known = {recording.file: (recording.class_name, recording.label) for recording in load_recordings(tmp_path)}
    assert known["fan/test/anomaly_id_00_00000000.wav"] == ("fan/id_00", "anomaly")
    assert known["fan/test/id_01_00000001.wav"] == ("fan/id_01", "anomaly")
    assert known["fan/train/normal_id_01_00000000.wav"] == ("fan/id_01", "normal")
    assert len(known) == 6


def test_second_run_fetches_nothing(zenodo, tmp_path):
    """What is there is there."""
    fetch_all(zenodo, tmp_path)
    zenodo.asked.clear()
    assert fetch_all(zenodo, tmp_path) == ["4 of 4 files of dcase2020 are there"]
    assert zenodo.asked == []


@pytest.mark.parametrize("fault", ["cut", "stall"])
def test_interrupted_transfer_goes_on_where_it_was(zenodo, tmp_path, fault):
    """Twice in one file, by a range; no byte is fetched twice."""
    zenodo.plan = [(fault, 50_000), (fault, 30_000)]
    fetch_all(zenodo, tmp_path)
    assert_whole(zenodo, tmp_path)
    first = [wanted for name, wanted in zenodo.asked if name == "dev_data_fan.zip"]
    assert first == [None, "bytes=50000-", "bytes=80000-"]


def test_server_without_ranges_sends_it_whole_again(zenodo, tmp_path):
    """And what it sends is not put behind what was there."""
    zenodo.knows_ranges = False
    zenodo.plan = [("cut", 50_000)]
    fetch_all(zenodo, tmp_path)
    assert_whole(zenodo, tmp_path)


def test_many_cuts_with_progress_between_them_do_not_end_it(zenodo, tmp_path):
    """Only tries without progress count."""
    zenodo.plan = [("cut", 9_000)] * 20
    fetch_all(zenodo, tmp_path)
    assert_whole(zenodo, tmp_path)


def test_corrupted_archive_is_fetched_again(zenodo, tmp_path):
    """One flipped bit, in the first answer."""
    zenodo.plan = [("corrupt",)]
    said = fetch_all(zenodo, tmp_path)
    assert any("fetching it again from the start" in line for line in said)
    assert_whole(zenodo, tmp_path)


def test_archive_that_is_always_corrupted_is_never_unpacked(zenodo, tmp_path):
    """After the second time it ends, and nothing of it is there."""
    zenodo.plan = [("corrupt",), ("corrupt",)]
    with pytest.raises(EdgeAsdError, match=r"dev_data_fan\.zip.*: arrived damaged twice"):
        fetch_all(zenodo, tmp_path)
    assert not (tmp_path / "fan").exists()
    fetch_all(zenodo, tmp_path)
    assert_whole(zenodo, tmp_path)


def test_server_that_stays_away_ends_it_and_a_later_run_goes_on(zenodo, tmp_path):
    """With what had arrived kept."""
    zenodo.plan = [("cut", 70_000)] + [("refuse", 503)] * 20
    with pytest.raises(UnavailableError, match=r"no progress in 8 tries, lately: HTTP Error 503"):
        fetch_all(zenodo, tmp_path)
    zenodo.plan.clear()
    fetch_all(zenodo, tmp_path)
    assert ("dev_data_fan.zip", "bytes=70000-") in zenodo.asked
    assert_whole(zenodo, tmp_path)


def test_unknown_record_ends_it_at_once(zenodo, tmp_path):
    """Asking again would not help."""
    del zenodo.files["3841772"]
    with pytest.raises(UnavailableError, match="the server says 404"):
        fetch_all(zenodo, tmp_path)


def test_full_disk_is_told_before_anything_is_fetched(zenodo, tmp_path, monkeypatch):
    """With how much it takes."""
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage(10**9, 10**9, 10**6))
    with pytest.raises(EdgeAsdError, match=r"0\.0 GB are free; expected 0\.1 GB for 0\.0 GB of archives"):
        fetch_all(zenodo, tmp_path)
    assert zenodo.asked == []


def test_partly_unpacked_archive_needs_room_for_the_rest_alone(zenodo, tmp_path, monkeypatch):
    """Cut off at its third clip, with no more free than that one takes."""
    zenodo.files = {record: {} for record in zenodo.files} | {"3841772": zenodo.files["3841772"]}
    copy = shutil.copyfileobj
    copied = []

    def cut_off_at_third(source, target, length):
        copied.append(target.name)
        if len(copied) == 3:
            raise KeyboardInterrupt
        copy(source, target, length)

    monkeypatch.setattr(shutil, "copyfileobj", cut_off_at_third)
    with pytest.raises(KeyboardInterrupt):
        fetch_all(zenodo, tmp_path)
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _path: usage(10**9, 10**9 - 100_000, 100_000))
    monkeypatch.setattr(download, "_SPARE_BYTES", 0)
    fetch_all(zenodo, tmp_path)
    assert_whole(zenodo, tmp_path)
    assert [name for name, _ in zenodo.asked] == ["eval_data_test_fan.zip"]


@pytest.mark.parametrize("removed", [True, False])
def test_run_killed_as_it_removes_an_archive_does_not_fetch_it_again(zenodo, tmp_path, monkeypatch, removed):
    """Right after it did, or right before; then the next run removes it, and unpacks nothing."""
    remove = Path.unlink

    def killed(path, **options):
        if removed or path.name != "dev_data_fan.zip":
            remove(path, **options)
        if path.name == "dev_data_fan.zip":
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Path, "unlink", killed)
        with pytest.raises(KeyboardInterrupt):
            fetch_all(zenodo, tmp_path)
    zenodo.asked.clear()
    assert fetch_all(zenodo, tmp_path) == ["1 of 4 files of dcase2020 are there"]
    assert "dev_data_fan.zip" not in [name for name, _ in zenodo.asked]
    assert_whole(zenodo, tmp_path)


def test_disk_that_fills_up_ends_it_and_a_later_run_goes_on(zenodo, tmp_path):
    """Here no file may grow beyond 100 kB."""
    limited = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000)); "
        "from train.download import main; sys.exit(main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", limited, "dcase2020", "--out", tmp_path / "data", "--api", zenodo.api]
    child = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert child.returncode == EdgeAsdError.exit_code
    assert "cannot be written: File too large; what has arrived stays" in " ".join(child.stderr.split())
    fetch_all(zenodo, tmp_path / "data")
    assert ("dev_data_fan.zip", "bytes=100000-") in zenodo.asked
    assert_whole(zenodo, tmp_path / "data")


def test_names_that_lead_out_of_the_folder_are_not_unpacked(zenodo, tmp_path):
    """A prepared archive must not write elsewhere."""
    zenodo.files["3678171"] = {"dev_data_fan.zip": archive("../evil.wav")}
    with pytest.raises(EdgeAsdError, match=r"holds '\.\./evil\.wav'"):
        fetch_all(zenodo, tmp_path / "out")
    assert not (tmp_path / "evil.wav").exists()


def test_archive_that_was_damaged_before_it_got_there_is_no_crash(zenodo, tmp_path):
    """Its checksum fits, what is packed in it does not unpack."""
    name = "fan/train/normal_id_00_00000000.wav"
    damaged = bytearray(archive(name))
    damaged[30 + len(name)] = 0xFF  # the head of the first block: of a type that deflate does not have
    zenodo.files["3678171"] = {"dev_data_fan.zip": bytes(damaged)}
    with pytest.raises(EdgeAsdError, match=r"dev_data_fan\.zip: cannot be unpacked"):
        fetch_all(zenodo, tmp_path / "out")


def test_foreign_answer_is_refused(zenodo, tmp_path):
    """A server whose answer lists no checksums."""
    zenodo._list = lambda handler, _record: (
        handler.send_response(200),
        handler.end_headers(),
        handler.wfile.write(b'{"files": [{"key": "a.zip"}]}'),
    )
    with pytest.raises(EdgeAsdError, match="does not list files with key"):
        fetch_all(zenodo, tmp_path)


def test_command_line(zenodo, tmp_path, capsys):
    """The folder alone on stdout."""
    assert download.main(["dcase2020", "--out", str(tmp_path / "data"), "--api", zenodo.api]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'data'}\n"
    assert_whole(zenodo, tmp_path / "data")


def test_server_that_is_not_there_is_told_at_the_first_try(tmp_path):
    """Not after minutes of silence."""
    said = []
    told = download.Told(say=said.append, progress=lambda *_: None)
    nowhere = "http://127.0.0.1:9/api"
    with pytest.raises(UnavailableError, match="no progress in 8 tries"):
        download.download("dcase2020", tmp_path, told=told, api=nowhere, sleep=lambda _s: None, stall_s=STALL_S)
    assert len(said) == 7
    assert said[0].startswith(f"{nowhere}/records/3678171: ")


def test_address_without_a_scheme_is_refused(tmp_path, capsys):
    """With what was expected."""
    assert download.main(["dcase2020", "--out", str(tmp_path / "data"), "--api", "zenodo.org/api"]) == 2
    assert "--api is zenodo.org/api; expected an address" in " ".join(capsys.readouterr().err.split())
