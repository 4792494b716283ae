"""Noise, starts and what is gathered of them, for the tests of retention on the folder of tones."""

import numpy as np
import pytest
import soundfile
import torch

from edge_asd.types import FeatureSpec
from train.checkpoint import Checkpoint, save_checkpoint
from train.data import Split
from train.network import Network, NetworkSpec
from train.retain.material import gather
from train.retain.settings import RetainSettings

SPLIT = Split(
    train=("a_0.wav", "a_1.wav", "b_0.wav", "b_1.wav"),
    validation=("a_2.wav", "b_2.wav"),
    held_out=("a_3.wav", "b_3.wav"),
    anomaly=("a_bad.wav",),
)
CLASSES = ("tone/a", "tone/b", "tone/a~altered", "tone/b~altered")


@pytest.fixture(autouse=True)
def one_thread(two_threads):  # noqa: ARG001 - which comes first
    """Networks as small as these gain nothing by a second one, and lose much where the machine is busy."""
    torch.set_num_threads(1)


@pytest.fixture
def start(tmp_path):
    """The run folder of a network of the tones, with weights by chance."""
    torch.manual_seed(0)
    spec = NetworkSpec(branches=("log_mel",), n_classes=len(CLASSES))
    (tmp_path / "start").mkdir()
    network = Network(spec).eval()
    checkpoint = Checkpoint(network=network, spec=spec, classes=CLASSES, split=SPLIT)
    save_checkpoint(tmp_path / "start" / "checkpoint.pt", checkpoint)
    return tmp_path / "start"


@pytest.fixture
def noise(tmp_path):
    """A folder of five clips each of wind and rain, in folders of these names."""
    rng = np.random.default_rng(1)
    for tag in ("wind", "rain"):
        (tmp_path / "noise" / tag).mkdir(parents=True)
        for number in range(5):
            wave = 0.02 * rng.standard_normal(24_000)
            soundfile.write(tmp_path / "noise" / tag / f"{number}.wav", wave, 16_000)
    return tmp_path / "noise"


@pytest.fixture
def gathered(tones, noise):
    """A function that gathers tones and noise; its arguments are those of `gather`."""
    small = RetainSettings(batch_size=4, steps=2, warm_up_steps=0)

    def of_tones(settings=small, **more):
        n_samples = FeatureSpec().window_samples
        return gather(tones, noise, settings, n_samples=n_samples, **{"start": None, **more})

    return of_tones
