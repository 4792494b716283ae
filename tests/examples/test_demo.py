"""The demo: what its machines are, that it needs no torch, and that it ends well."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import soundfile
import yaml

from edge_asd.config import load_config
from examples.newcomer import NAME, Sound, generate, machine_from_sound

ROOT = Path(__file__).resolve().parents[2]
WITHOUT_TORCH = """
import importlib.abc, sys
class Absent(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"torch", "lightning", "sklearn", "onnx"}:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Absent())
import examples.demo
"""


@pytest.fixture(scope="module")
def sound(tmp_path_factory) -> Sound:
    """The generated machine's clips."""
    return generate(tmp_path_factory.mktemp("generated") / "sound")


def test_demo_needs_no_package_of_the_workstation():
    """`make demo` installs no torch: nothing that it imports asks for it."""
    subprocess.run([sys.executable, "-c", WITHOUT_TORCH], check=True, cwd=ROOT, timeout=60)


def test_generated_clips_say_that_they_are(sound):
    """In the comment of each file, should it ever be found without the demo."""
    for clip in (*sound.enrolled, *sound.healthy, *sound.damaged):
        with soundfile.SoundFile(clip) as file:
            assert "not a recording" in file.comment


def test_no_clip_that_is_learned_is_played(sound):
    """Thirty clips are learned, and others are judged: as many damaged as healthy."""
    assert len(set(sound.enrolled)) == 30
    assert len(sound.healthy) == len(sound.damaged) == 3
    contents = [clip.read_bytes() for clip in (*sound.enrolled, *sound.healthy, *sound.damaged)]
    assert len(set(contents)) == len(contents)


def test_machine_is_enrolled_beside_the_shipped_motors(sound, tmp_path):
    """The configuration that the demo runs is good, and no class of the bundle is behind the machine."""
    config = yaml.safe_load((ROOT / "firmware_configs" / "demo.yaml").read_text())
    config["machines"].append(machine_from_sound(sound, speed=4.0))
    path = tmp_path / "demo.yaml"
    path.write_text(yaml.safe_dump(config))
    machine = load_config(path, files_must_exist=False).machines[-1]
    assert (machine.name, machine.is_enrolled) == (NAME, True)


@pytest.mark.slow
def test_demo_ends_well(tmp_path):
    """Every damaged stretch raises its alarm and no healthy one does, the enrolled machine's included."""
    command = [sys.executable, "-m", "examples.demo", "--out", str(tmp_path)]
    done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=ROOT, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("ok   ") == 6
    assert f"ok   {NAME} damaged" in done.stdout
    assert f"{NAME} is enrolled and live: 30 windows" in (tmp_path / "report.html").read_text()
