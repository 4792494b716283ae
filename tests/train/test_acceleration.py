"""What a run leaves open is filled in by what its machine is good at; what is stated stays."""

import dataclasses

import pytest
import torch

from train import acceleration
from train.acceleration import make_ready, settle
from train.models import network_of, spec_for
from train.presets import preset_settings
from train.retain.settings import RetainSettings
from train.settings import TrainingSettings

X86 = "processor\t: 0\nflags\t\t: fpu avx512f{more}\nprocessor\t: 1\nflags\t\t: fpu avx512f{more}\n"


@pytest.fixture
def cpu_info(tmp_path, monkeypatch):
    """A function that sets what the processor says of itself."""
    path = tmp_path / "cpuinfo"
    monkeypatch.setattr(acceleration, "_CPU_INFO", path)
    return path.write_text


@pytest.mark.parametrize(
    ("told", "precision"),
    [
        (X86.format(more=" avx512_bf16"), "bf16-mixed"),
        (X86.format(more=""), "32-true"),
        ("processor\t: 0\nFeatures\t: fp asimd bf16\n", "bf16-mixed"),
        ("processor\t: 0\nFeatures\t: fp asimd\n", "32-true"),
        ("", "32-true"),
    ],
)
def test_precision_is_what_the_processor_multiplies_in(cpu_info, told, precision):
    """bfloat16 where it has instructions for it."""
    cpu_info(told)
    assert settle(TrainingSettings(), n_windows=1, n_processes=1).precision == precision


def test_stated_precision_and_other_networks_are_left(cpu_info):
    """A baseline scores squares of dB; what rounding does to an encoder from elsewhere is not known."""
    cpu_info(X86.format(more=" amx_bf16"))
    stated = TrainingSettings(precision="32-true", compile=False)
    assert settle(stated, n_windows=10**9, n_processes=1) == stated
    for other in (preset_settings("ae"), RetainSettings(encoder="beats")):
        settled = settle(other, n_windows=10**9, n_processes=1)
        assert (settled.precision, settled.compile) == ("32-true", False)
    assert settle(RetainSettings(), n_windows=1, n_processes=1).precision == "bf16-mixed"


def test_long_runs_of_one_process_are_compiled(monkeypatch):
    """Where there is a compiler."""
    monkeypatch.setattr(acceleration.shutil, "which", lambda _name: "/usr/bin/g++")
    assert settle(TrainingSettings(), n_windows=1_000_000, n_processes=1).compile is True
    assert settle(TrainingSettings(), n_windows=1_000, n_processes=1).compile is False
    assert settle(TrainingSettings(), n_windows=1_000_000, n_processes=2).compile is False
    monkeypatch.setattr(acceleration.shutil, "which", lambda _name: None)
    assert settle(TrainingSettings(), n_windows=1_000_000, n_processes=1).compile is False


def test_layout_changes_no_number_but_by_rounding():
    """Channels last or first, the embedding is the same."""
    settings = dataclasses.replace(preset_settings("logmel-os-scl"), precision="bf16-mixed", compile=False)
    torch.manual_seed(0)
    network = network_of(spec_for(settings, ["a", "b"])).eval()
    wave, log_mel = torch.zeros(2, 160_000), torch.randn(2, 128, 313)
    with torch.inference_mode():
        before, _ = network(wave, log_mel)
        make_ready(network, settings)
        after, _ = network(wave, log_mel)
    assert network.backbone.stem.conv.weight.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(after, before, atol=1e-5, rtol=0.0)
