"""The baselines score what their definitions say, and no device runs them."""

import json

import pytest
import torch

from edge_asd.errors import EdgeAsdError
from train import evaluate, fit
from train.baselines import ChunkClassifier, ChunkSpec, FrameNetwork, FrameSpec
from train.checkpoint import Checkpoint, network_for_device
from train.presets import preset_settings


@pytest.mark.parametrize(("predicts", "n_weights"), [("all", 640 + 640), ("middle", 512 + 128)])
def test_frame_networks_have_the_published_layers(predicts, n_weights):
    """640-128x4-8-128x4-640, or 512 to 128 for IDNN, once for each machine type."""
    network = FrameNetwork(FrameSpec(predicts=predicts, type_of_class=(0, 0, 1)))
    linear = [m for m in network.of_type[0].modules() if isinstance(m, torch.nn.Linear)]
    hidden = [128, 128, 128, 128, 8, 128, 128, 128, 128]
    assert [layer.out_features for layer in linear[:-1]] == hidden
    assert linear[0].in_features + linear[-1].out_features == n_weights
    assert len(network.of_type) == 2


def test_chunk_classifier_learns_at_the_published_rate_a_chunk():
    """1e-5 for steps of 32 chunks, from the first epoch to the last; its steps have more."""
    settings = preset_settings("mobilenetv2")
    network = ChunkClassifier(ChunkSpec(n_classes=2)).eval()
    chunks = []
    network.classifier.register_forward_hook(lambda _module, _given, logits: chunks.append(len(logits)))
    network(torch.zeros(1, 128, 313), torch.zeros(1, dtype=torch.int64))
    rate = pytest.approx(1e-5 * settings.batch_size * chunks[0] / 32)
    assert [settings.learning_rate_at(epoch) for epoch in (0, 19)] == [rate, rate]


@pytest.mark.parametrize("predicts", ["all", "middle"])
def test_frame_error_is_that_of_each_window_by_its_own_type(predicts):
    """Against the definition, window by window and frame by frame."""
    network = FrameNetwork(FrameSpec(predicts=predicts, type_of_class=(0, 1))).eval()
    log_mel = torch.randn(3, 128, 12)
    label = torch.tensor([1, 0, 1])
    with torch.inference_mode():
        found = network(log_mel, label)
        for window, number, error in zip(log_mel, label.tolist(), found, strict=True):
            errors = []
            for start in range(12 - 4):
                frames = window[:, start : start + 5].T  # (5, 128)
                given = frames if predicts == "all" else frames[[0, 1, 3, 4]]
                wanted = frames if predicts == "all" else frames[2:3]
                errors.append((network.of_type[number](given.reshape(1, -1)) - wanted.reshape(1, -1)).square().mean())
            torch.testing.assert_close(error, torch.stack(errors).mean())


def test_frame_error_falls_as_one_sound_is_learnt():
    """The gradient reaches the weights."""
    torch.manual_seed(0)
    network = FrameNetwork(FrameSpec(predicts="all", type_of_class=(0, 0)))
    log_mel, label = torch.randn(2, 128, 20), torch.tensor([0, 1])
    optimizer = torch.optim.Adam(network.parameters(), 1e-2)
    errors = []
    for _ in range(30):
        optimizer.zero_grad()
        loss = network(log_mel, label).mean()
        loss.backward()
        optimizer.step()
        errors.append(loss.item())
    assert errors[-1] < 0.9 * errors[0]


def test_mobilenet_scores_minus_log_p_of_the_own_class():
    """Mean over the chunks: e to the minus score, were there one chunk, sums to 1 over the classes."""
    network = ChunkClassifier(ChunkSpec(n_classes=3)).eval()
    log_mel = torch.randn(1, 128, 64)  # one chunk
    with torch.inference_mode():
        scores = network(log_mel.expand(3, -1, -1), torch.arange(3))
    assert torch.exp(-scores).sum().item() == pytest.approx(1.0, abs=1e-5)


def test_baseline_is_refused_for_a_device():
    """With what to train instead."""
    spec = ChunkSpec(n_classes=2)
    checkpoint = Checkpoint(network=ChunkClassifier(spec), spec=spec, classes=("t/a", "t/b"))
    with pytest.raises(EdgeAsdError, match="train one, as with --preset tfstgram-os-scl"):
        network_for_device(checkpoint)


@pytest.fixture
def one_machine(tones, write_metadata):
    """A data folder with four healthy recordings of one machine and a damaged one."""
    lines = [[f"a_{number}.wav", "tone", "a", "normal", "none", f"a_{number}"] for number in range(4)]
    write_metadata(tones, [*lines, ["a_bad.wav", "tone", "a", "anomaly", "none", "a_bad"]])
    return tones


@pytest.mark.parametrize("preset", ["ae", "idnn"])
def test_autoencoder_needs_no_second_machine(one_machine, tmp_path, preset):
    """It trains and is evaluated on one alone."""
    run, report = tmp_path / "run", tmp_path / "report"
    options = ["--preset", preset, "--epochs", "1", "--batch-size", "2"]
    assert fit.main([str(one_machine), "--out", str(run), *options]) == 0
    assert evaluate.main([str(run), str(one_machine), "--out", str(report)]) == 0
    rows = json.loads((report / "metrics.json").read_text())["runs"]["run"]
    figures = next(row["figures"] for row in rows if row["name"] == "tone/a")
    assert 0.0 <= figures["auc"]["value"] <= 1.0


@pytest.mark.parametrize("preset", ["mobilenetv2", "tfstgram-os-scl"])
def test_classifier_of_one_machine_is_refused(one_machine, tmp_path, capsys, preset):
    """With the reason, and with what can be trained."""
    assert fit.main([str(one_machine), "--out", str(tmp_path / "run"), "--preset", preset]) == 2
    message = " ".join(capsys.readouterr().err.split())
    assert "1 class with healthy recordings to train on (tone/a); expected 2 or more: the network learns by" in message
    assert "train one alone: python -m train.fit --preset ae, or idnn" in message
