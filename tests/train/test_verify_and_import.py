"""Golden files and published checkpoints come in by one name map, and misfits are named."""

import numpy as np
import pytest
import torch

from edge_asd.errors import EdgeAsdError
from train import import_checkpoint, verify
from train.checkpoint import load_checkpoint, load_state
from train.import_checkpoint import import_state, published_names
from train.network import Network, NetworkSpec


def published_state(spec):
    """Weights of a fresh network under their published names."""
    network = Network(spec).eval()
    ours = network.state_dict()
    return network, {theirs: ours[name] for theirs, name in published_names(spec.branches).items()}


def test_golden_file_passes(golden_network_file, capsys):
    """Every stage is printed and within its tolerance."""
    assert verify.main([str(golden_network_file)]) == 0
    printed = capsys.readouterr().out
    for stage in ("log_mel", "tgram", "tfgram", "backbone_feature", "embedding", "margin_logits", "score"):
        assert f"\n{stage} " in f"\n{printed}"


def test_altered_weight_fails(golden_network_file, tmp_path, capsys):
    """Exit code 1 and the stage marked."""
    content = dict(np.load(golden_network_file))
    content["state/TFgramNet.pre_block3.bn2.bias"] = content["state/TFgramNet.pre_block3.bn2.bias"] + 0.01
    np.savez(tmp_path / "altered.npz", **content)
    assert verify.main([str(tmp_path / "altered.npz")]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if line.startswith("tgram") and line.endswith("ok")]
    assert [line for line in lines if line.startswith("tfgram") and line.endswith("TOO LARGE")]


def test_golden_losses_pass_and_altered_ones_fail(golden_losses_file, tmp_path, capsys):
    """Losses and gradients, each by its own."""
    assert verify.main([str(golden_losses_file)]) == 0
    stages = [line.split()[0] for line in capsys.readouterr().out.splitlines()]
    assert stages == ["noisy_arcmix", "noisy_supcon", "total", "grad_raw_embedding", "grad_class_weight"]
    content = dict(np.load(golden_losses_file))
    np.savez(tmp_path / "altered.npz", **(content | {"grad_class_weight": content["grad_class_weight"] * 1.001}))
    assert verify.main([str(tmp_path / "altered.npz")]) == 1
    wrong = [line.split()[0] for line in capsys.readouterr().out.splitlines() if line.endswith("TOO LARGE")]
    assert wrong == ["grad_class_weight"]
    np.savez(tmp_path / "part.npz", **{name: value for name, value in content.items() if name != "total"})
    assert verify.main([str(tmp_path / "part.npz")]) == 70
    assert "part.npz: total not in it" in capsys.readouterr().err


def test_losses_of_other_number_types_are_the_same(golden_losses_file, tmp_path) -> None:
    """Labels as int32 or uint8, and all floats as float64."""
    golden = dict(np.load(golden_losses_file))
    for labels in (np.int32, np.uint8):
        altered = golden | {name: golden[name].astype(labels) for name in ("label_a", "label_b")}
        np.savez(tmp_path / "labels.npz", **altered)
        assert verify.main([str(tmp_path / "labels.npz")]) == 0
    doubled = {name: value.astype(np.float64) if value.dtype == np.float32 else value for name, value in golden.items()}
    np.savez(tmp_path / "doubled.npz", **doubled)
    assert verify.main([str(tmp_path / "doubled.npz")]) == 0


@pytest.mark.parametrize(
    "change",
    [
        ("label_a", lambda values: values[:-1], "class indices"),
        ("label_b", lambda values: values + 1_000, "class indices"),
        ("class_weight", lambda values: values[:, :7], "expected floats of (any, "),
        ("raw_embedding", lambda values: values[:0], "expected floats of (any, any)"),
        ("raw_embedding", lambda values: values.astype(np.int64), "expected floats of (any, any)"),
        ("lam", lambda value: np.array([value, value]), "expected one number"),
    ],
)
def test_values_that_are_no_losses_are_told(tmp_path, golden_losses_file, capsys, change) -> None:
    """Their name, type and shape, and what is expected."""
    name, alter, expected = change
    golden = dict(np.load(golden_losses_file))
    golden[name] = alter(golden[name])
    np.savez(tmp_path / "odd.npz", **golden)
    assert verify.main([str(tmp_path / "odd.npz")]) == 70
    said = capsys.readouterr().err
    assert f"odd.npz: {name} is " in said
    assert expected in said


def test_log_mel_alone_with_another_margin_passes(golden_network_file, tmp_path, capsys):
    """The other configuration that a golden file can name; its values are this project's own."""
    golden = np.load(golden_network_file)
    spec = NetworkSpec(branches=("log_mel",), head_activation="leaky_relu", n_classes=7, margin=0.7)
    network, state = published_state(spec)
    label = torch.tensor([1, 6])
    log_mel = torch.from_numpy(golden["log_mel"])
    with torch.inference_mode():
        feature = network.backbone(log_mel[:, None])
        embedding, cosine = network(torch.from_numpy(golden["wave"]), log_mel)
        logits = verify.margin_logits(cosine, label, margin=0.7, scale=30.0)
    np.savez(
        tmp_path / "log_mel.npz",
        **{f"state/{name}": value.numpy() for name, value in state.items()},
        wave=golden["wave"],
        log_mel=golden["log_mel"],
        backbone_feature=feature.numpy(),
        embedding=embedding.numpy(),
        cosine=cosine.numpy(),
        label=label.numpy(),
        margin_logits=logits.numpy(),
        score=torch.nn.functional.cross_entropy(logits, label, reduction="none").numpy(),
        margin=0.7,
        scale=30.0,
        branches="log_mel",
        head_activation="leaky_relu",
    )
    assert verify.main([str(tmp_path / "log_mel.npz")]) == 0
    assert "tgram" not in capsys.readouterr().out


def test_published_pth_round_trip(tmp_path):
    """Unused weights are dropped, the DataParallel prefix too, and the embedding stays."""
    network, state = published_state(NetworkSpec(n_classes=3))
    state |= {"TFgramNet.conv_block1.conv1.weight": torch.zeros(2), "TFgramNet.fc_audioset.bias": torch.zeros(2)}
    torch.save({f"module.{name}": value for name, value in state.items()}, tmp_path / "published.pth")
    out = tmp_path / "ours.pt"
    assert import_checkpoint.main([str(tmp_path / "published.pth"), "--out", str(out)]) == 0
    loaded = load_checkpoint(out)
    assert loaded.spec == NetworkSpec(n_classes=3)
    wave, log_mel = torch.randn(1, 160_000) * 0.1, torch.randn(1, 128, 313)
    with torch.inference_mode():
        assert torch.equal(loaded.network(wave, log_mel)[1], network(wave, log_mel)[1])


def test_every_weight_has_exactly_one_published_name():
    """The map covers the network and nothing twice."""
    for spec in (NetworkSpec(), NetworkSpec(branches=("log_mel",))):
        ours = list(published_names(spec.branches).values())
        assert sorted(ours) == sorted(Network(spec).state_dict())


def test_missing_and_extra_weights_are_named():
    """As published, both in one message."""
    spec = NetworkSpec(n_classes=3)
    _, state = published_state(spec)
    state["surprise.weight"] = state.pop("tgramnet.conv_extrctor.weight")
    with pytest.raises(EdgeAsdError, match=r"missing: tgramnet\.conv_extrctor\.weight; extra: surprise\.weight"):
        import_state(state, spec, source="file.pth")


def test_weight_of_another_shape_is_named():
    """With both shapes."""
    network = Network(NetworkSpec(n_classes=3))
    state = network.state_dict() | {"class_weight": torch.zeros(4, 128)}
    with pytest.raises(EdgeAsdError, match=r"class_weight \(4, 128\) instead of \(3, 128\)"):
        load_state(network, state, source="file.pt")


def test_pickled_code_is_refused(tmp_path, capsys):
    """A .pth that would execute something is an error, and nothing is executed."""
    torch.save({"model": print}, tmp_path / "evil.pth")
    assert import_checkpoint.main([str(tmp_path / "evil.pth"), "--out", str(tmp_path / "x.pt")]) == 70
    assert "cannot be read as weights alone" in capsys.readouterr().err
    assert not (tmp_path / "x.pt").exists()


def test_file_that_is_no_npz_is_refused(tmp_path, capsys):
    """With its name."""
    (tmp_path / "text.npz").write_text("not a zip")
    assert verify.main([str(tmp_path / "text.npz")]) == 70
    assert "text.npz: not a readable .npz" in capsys.readouterr().err


def test_single_array_is_no_golden_file(tmp_path, capsys):
    """It is told as any other file that is no .npz."""
    np.save(tmp_path / "plain.npy", np.zeros(3))
    assert verify.main([str(tmp_path / "plain.npy")]) == 70
    assert "plain.npy: not a readable .npz" in capsys.readouterr().err
