"""Paths of golden values and a small data folder of tones, shared by the tests of train."""

import csv
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

GOLDEN = Path(__file__).resolve().parents[2] / ".." / "shared" / "golden"
SHARED_DATA = GOLDEN.parent / "data"


@pytest.fixture(autouse=True)
def two_threads():
    """Leave the other cores to whoever else runs, and other tests as many threads as before."""
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def golden_network_file():
    """The golden file of the network."""
    return _present(GOLDEN / "tfstgram.npz")


@pytest.fixture
def golden_losses_file():
    """The golden file of the losses."""
    return _present(GOLDEN / "losses.npz")


def _present(path):
    if not path.is_file():
        pytest.skip(f"golden values are not at {path}")
    return path


@pytest.fixture
def tones(tmp_path):
    """A folder with two machines of four healthy recordings each, and a damaged one of the first."""
    return _write_tones(tmp_path / "tones")


@pytest.fixture(scope="module")
def module_tones(tmp_path_factory):
    """The same, once for all tests of a module, which leave it as it is."""
    return _write_tones(tmp_path_factory.mktemp("data") / "tones")


def _write_tones(folder):
    folder.mkdir()
    rng = np.random.default_rng(0)
    lines = []
    for machine, tone_hz in (("a", 300.0), ("b", 900.0)):
        for number in range(4):
            name = f"{machine}_{number}.wav"
            _write_tone(folder / name, tone_hz + 10.0 * number, rng)
            lines.append([name, "tone", machine, "normal", "none", name])
    _write_tone(folder / "a_bad.wav", 2000.0, rng)
    lines.append(["a_bad.wav", "tone", "a", "anomaly", "none", "a_bad.wav"])
    write_metadata(folder, lines)
    return folder


def _write_tone(path, tone_hz, rng, seconds=1.5):
    phase = 2.0 * np.pi * tone_hz * np.arange(int(16_000 * seconds)) / 16_000
    soundfile.write(path, 0.1 * np.sin(phase) + 0.01 * rng.standard_normal(len(phase)), 16_000)


def write_metadata(folder, lines):
    """Write metadata.csv."""
    with (folder / "metadata.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file", "machine_type", "machine_id", "label", "split", "group"])
        writer.writerows(lines)


@pytest.fixture(name="write_metadata")
def _write_metadata():
    return write_metadata


@pytest.fixture
def shared_data():
    """A function that gives a folder of real clips by its name, or skips the test."""

    def folder(name):
        path = SHARED_DATA / name
        if not path.is_dir():
            pytest.skip(f"real clips are not at {path}")
        return path.resolve()

    return folder
