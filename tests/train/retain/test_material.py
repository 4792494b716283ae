"""What is trained with is checked: sides, silence, content shared with the test, room for both sounds."""

from dataclasses import asdict, replace

import numpy as np
import pytest
import soundfile
import torch

from edge_asd.errors import ClipError, UsageError
from edge_asd.types import FeatureSpec
from train.checkpoint import load_checkpoint
from train.data import Split
from train.features import LogMel
from train.network import Network, NetworkSpec
from train.retain.class_weights import classes_of_result, with_mean_embeddings
from train.retain.noise import list_noise
from train.retain.settings import RetainSettings

N_SAMPLES = FeatureSpec().window_samples


def test_class_weights_are_the_mean_embeddings_of_their_mixtures(gathered):
    """Of machines that the start does not know, and with altered twins, so that the margin score holds."""
    torch.manual_seed(0)
    network = Network(NetworkSpec(branches=("log_mel",), n_classes=3)).eval()
    drawn = gathered().training
    names, machines = ("tone/b", "tone/a", "tone/b~altered", "tone/a~altered"), ("tone/a", "tone/b")
    found = with_mean_embeddings(
        network, drawn, names=names, machines=machines, draws_each=2, feature_spec=FeatureSpec()
    )
    batch = drawn.__getitems__(range(4))
    with torch.inference_mode():
        embedding, _ = network(batch.mixture, LogMel()(batch.mixture))
    for label, place in ((0, 1), (1, 0)):
        mean = torch.nn.functional.normalize(embedding[batch.machine == label].sum(dim=0), dim=0)
        torch.testing.assert_close(found.class_weight[place], mean, atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(found.class_weight.norm(dim=1), torch.ones(4))
    torch.testing.assert_close(found.backbone.stem.conv.weight, network.backbone.stem.conv.weight)


def test_classes_of_the_result_are_the_start_s_where_these_are_its_machines():
    """Altered twins included; other machines are classes of their own."""
    start = ("t/b", "t/a", "t/b~altered", "t/a~altered")
    assert classes_of_result(start, ("t/a", "t/b")) == start
    assert classes_of_result(start, ("t/a", "t/c")) == ("t/a", "t/c")


def test_noise_recordings_are_on_one_side(noise, gathered):
    """By their groups in metadata.csv, whose tags count."""
    files = [f"{tag}/{number}.wav" for tag in ("wind", "rain") for number in range(5)]
    rows = [f"{file},{'low' if 'wind' in file else 'high'},{number // 2}" for number, file in enumerate(files)]
    (noise / "metadata.csv").write_text("\n".join(["file,tag,group", *rows]) + "\n")
    material = gathered()
    assert material.tags == ("high", "low")
    assert len(material.noise["validation"]) == 2
    assert not {clip.group for clip in material.noise["train"]} & {clip.group for clip in material.noise["validation"]}


def test_silent_noise_is_refused(noise, gathered):
    """It cannot be at any ratio."""
    soundfile.write(noise / "rain" / "7.wav", np.resize([5e-5, -5e-5], 16_000), 16_000)
    with pytest.raises(UsageError, match=r"1 noise clips are silent, below -80 dB of full scale: rain/7.wav"):
        gathered()


def test_machine_that_is_silent_for_a_window_is_refused(tones, gathered):
    """Its mixture would be silence with two tags; a shorter pause stays."""
    wave, _ = soundfile.read(tones / "a_0.wav")
    for pause, refused in ((N_SAMPLES - 8_000, False), (N_SAMPLES, True)):
        for machine in "ab":
            for number in range(4):
                silence = np.zeros(pause)
                soundfile.write(tones / f"{machine}_{number}.wav", np.concatenate([wave, silence, wave]), 16_000)
        if refused:
            with pytest.raises(UsageError, match="4 machine clips are silent for a whole window, below -80 dB"):
                gathered()
        else:
            assert gathered().training.__getitems__(range(8)).clean.std(dim=1).min() > 1e-3


def test_silent_stretches_of_noise_are_never_drawn(noise, gathered):
    """A clip of ten seconds of silence and then rain is rain alone."""
    rng = np.random.default_rng(2)
    for path in noise.rglob("*.wav"):
        soundfile.write(path, np.concatenate([np.zeros(N_SAMPLES), 0.02 * rng.standard_normal(8_000)]), 16_000)
    noise_drawn = gathered().training.__getitems__(range(18)).noise
    assert torch.isfinite(noise_drawn).all()
    assert (noise_drawn.std(dim=1) > 1e-3).all()


def test_too_few_noise_clips_are_refused(gathered):
    """A batch would hold the same noise twice."""
    with pytest.raises(UsageError, match="9 clips of noise to train with; expected at least 10"):
        gathered(RetainSettings(batch_size=10, steps=2, warm_up_steps=0))


def test_one_noise_recording_is_refused(noise, gathered):
    """None is left to validate with."""
    for path in list(noise.rglob("*.wav"))[1:]:
        path.unlink()
    with pytest.raises(
        UsageError, match="1 recordings of noise with 1 tags: none can be validated with; expected a tag"
    ):
        gathered()


def test_no_tag_is_validated_alone(noise, gathered):
    """A recording that alone has its tag trains; with none but such there is nothing to validate with."""
    files = [f"{tag}/{number}.wav" for tag in ("wind", "rain") for number in range(5)]
    rows = [f"{file},{number if number < 8 else 'two'}" for number, file in enumerate(files)]
    (noise / "metadata.csv").write_text("\n".join(["file,tag", *rows]) + "\n")
    for seed in range(4):
        material = gathered(RetainSettings(batch_size=4, steps=2, warm_up_steps=0, seed=seed, validation_share=0.4))
        assert [clip.tag for clip in material.noise["validation"]] == ["two"]
    (noise / "metadata.csv").write_text("\n".join(["file,tag", *(f"{file},{n}" for n, file in enumerate(files))]))
    with pytest.raises(UsageError, match="10 recordings of noise with 10 tags: none can be validated with; expected"):
        gathered()


def test_copies_under_two_names_are_on_one_side(noise, gathered):
    """They train; where nothing but copies is there, nothing is left to validate with."""
    wave, _ = soundfile.read(noise / "wind" / "0.wav")
    for number in range(1, 5):
        soundfile.write(noise / "wind" / f"{number}.wav", 0.5 * wave[100 * number :], 16_000)
    for seed in range(4):
        material = gathered(RetainSettings(batch_size=4, steps=2, warm_up_steps=0, seed=seed, validation_share=0.1))
        assert {clip.tag for clip in material.noise["validation"]} == {"rain"}
    for number in range(5):
        (noise / "rain" / f"{number}.wav").unlink()
    with pytest.raises(UsageError, match="5 recordings of noise with 1 tags: none can be validated with beside 5"):
        gathered(RetainSettings(batch_size=2, steps=2, warm_up_steps=0))


def test_link_is_tagged_by_the_folder_that_it_lies_in(tmp_path):
    """Not by that of the file that it leads to."""
    for tag in ("wind", "rain"):
        (tmp_path / "noise" / tag).mkdir(parents=True)
        (tmp_path / "pool").mkdir(exist_ok=True)
        soundfile.write(tmp_path / "pool" / f"{tag}.wav", np.zeros(100), 16_000)
        (tmp_path / "noise" / tag / "0.wav").symlink_to(tmp_path / "pool" / f"{tag}.wav")
    soundfile.write(tmp_path / "noise" / "1.wav", np.zeros(100), 16_000)
    found = {clip.file: clip.tag for clip in list_noise(tmp_path / "noise")}
    assert found == {"wind/0.wav": "wind", "rain/0.wav": "rain", "1.wav": "noise"}


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            ["file,tag", *(f"wind/{n}.wav,wind" for n in range(5)), "rain/../wind/3.wav,low"],
            r"rain/../wind/3.wav, wind/3.wav listed more than once",
        ),
        (["file,tag", "wind/0.wav,wind", "wind/1.wav"], r"metadata.csv line 3: file is 'wind/1.wav' and tag ''"),
        (
            ["file,tag", "wind/0.wav,wind", "wind/9.wav,wind"],
            r"metadata.csv line 3: file is 'wind/9.wav' and tag 'wind'",
        ),
        (["file,category", "wind/0.wav,wind"], r"metadata.csv: column tag is missing; expected file and tag"),
    ],
    ids=["listed twice, by two paths", "without a tag", "not there", "no column of tags"],
)
def test_table_of_noise_that_is_wrong_is_refused(noise, gathered, rows, message):
    """With its line or column: what is listed twice might train and validate."""
    (noise / "metadata.csv").write_text("\n".join(rows) + "\n")
    with pytest.raises(UsageError, match=message):
        gathered()


def test_noise_with_a_machine_of_the_training_is_refused(tones, noise, gathered):
    """It would be tagged as noise."""
    wave, _ = soundfile.read(tones / "b_0.wav")
    soundfile.write(noise / "wind" / "m.wav", 0.5 * wave[300:], 16_000)
    message = r"same sound as machine clips of .*tones: wind/m.wav \(as b_0.wav\); expected noise without the machines"
    with pytest.raises(UsageError, match=message):
        gathered()


@pytest.mark.parametrize("cells", [f"{m},{label}" for m in "ac" for label in ("anomaly", "normal", "none")])
def test_test_clips_that_the_start_does_not_know_count(tones, noise, start, gathered, cells):
    """Added since, of a class that is not trained, or without a label."""
    wave = 0.02 * np.random.default_rng(5).standard_normal(24_000)
    soundfile.write(tones / "new.wav", wave, 16_000)
    with (tones / "metadata.csv").open("a") as file:
        file.write(f"new.wav,tone,{cells},test,new\n")
    soundfile.write(noise / "wind" / "new.wav", 0.7 * wave, 16_000)
    with pytest.raises(UsageError, match=r"same sound as test clips of .*tones: wind/new.wav \(as new.wav\)"):
        gathered(start=load_checkpoint(start))


@pytest.mark.parametrize("where", ["machines", "noise"])
def test_noise_shared_with_the_test_is_refused(tones, noise, tmp_path, where, gathered):
    """Known by its samples, under another name and in another format."""
    if where == "machines":
        wave, _ = soundfile.read(tones / "a_bad.wav", dtype="int16")
        soundfile.write(noise / "wind" / "new.flac", wave, 16_000)
        message, more = r"1 noise clips have the same sound as test clips of .*tones: wind/new.flac", {}
    else:
        wave, _ = soundfile.read(noise / "wind" / "3.wav", dtype="int16")
        soundfile.write(tmp_path / "tested.flac", wave, 16_000)
        tested = tmp_path / "tested"
        tested.mkdir()
        (tmp_path / "tested.flac").rename(tested / "tested.flac")
        message, more = (
            r"1 noise clips have the same sound as test noise in .*tested: wind/3.wav",
            {"test_noise": [tested]},
        )
    with pytest.raises(UsageError, match=message):
        gathered(**more)


def test_ratio_that_clips_is_refused_with_the_gain_that_leaves_room(gathered):
    """And that gain is enough."""
    settings = {"batch_size": 4, "steps": 2, "warm_up_steps": 0, "snr_db": (-10.0, 0.0)}
    with pytest.raises(UsageError, match=r"--snr-db -10: \d+ of \d+ pairs .* may pass full scale, by up to") as refused:
        gathered(RetainSettings(**settings))
    gain_db = float(str(refused.value).split("--gain-db ")[1].split()[0])
    material = gathered(RetainSettings(**settings, gain_db=gain_db))
    assert material.training.__getitems__(range(18)).mixture.abs().max() <= 1.0


def test_start_that_learnt_from_the_test_is_refused(tones, write_metadata, gathered, start):
    """Its figures would be too good."""
    lines = [
        [f"{m}_{n}.wav", "tone", m, "normal", "test" if n == 1 else "none", f"{m}_{n}"] for m in "ab" for n in range(4)
    ]
    write_metadata(tones, lines)
    with pytest.raises(UsageError, match=r"trained on 2 clips that .*tones gives to the test \(a_1.wav, b_1.wav\)"):
        gathered(start=load_checkpoint(start))


def test_start_whose_clips_are_half_there_is_refused(tones, write_metadata, gathered, start):
    """One machine alone tells nothing apart."""
    write_metadata(tones, [[f"a_{n}.wav", "tone", "a", "normal", "none", f"a_{n}"] for n in range(4)])
    with pytest.raises(UsageError, match="there are 2, of 1 classes, 0 of them without"):
        gathered(start=load_checkpoint(start))


def test_limit_is_refused_where_the_start_knows_the_clips(gathered, start):
    """It would change nothing."""
    settings = RetainSettings(batch_size=4, steps=2, warm_up_steps=0, limit=3)
    with pytest.raises(UsageError, match=r"--limit 3: .*tones is divided as --start-from"):
        gathered(settings, start=load_checkpoint(start))


@pytest.mark.parametrize("trained_in", ["above", "below"])
def test_start_that_names_the_clips_by_another_path_is_refused(tones, write_metadata, gathered, start, trained_in):
    """Its split would not hold: what it trained on would be tested with."""
    known = load_checkpoint(start)
    if trained_in == "above":
        known = _below(known, "plant")
        message = r"tones: [ab]_\w+.wav is plant/[ab]_\w+.wav in the split of --start-from"
    else:
        (tones / "plant").mkdir()
        rows = [(f"{machine}_{number}.wav", machine) for machine in "ab" for number in range(4)]
        for name, _ in rows:
            (tones / name).rename(tones / "plant" / name)
        write_metadata(tones, [[f"plant/{name}", "tone", m, "normal", "none", name] for name, m in rows])
        message = r"tones: plant/[ab]_\w+.wav is [ab]_\w+.wav in the split of --start-from"
    with pytest.raises(UsageError, match=message):
        gathered(start=known)


def _below(start, folder):
    """The start as if its data folder had been the one above."""
    sides = {side: tuple(f"{folder}/{file}" for file in files) for side, files in asdict(start.split).items()}
    return replace(start, split=Split(**sides))


def test_clips_of_other_machines_may_be_named_as_those_of_the_start(gathered, start):
    """Names such as 0001.wav are common."""
    of_others = replace(_below(load_checkpoint(start), "plant"), classes=("pump/1", "pump/2"))
    assert gathered(start=of_others).classes == ("tone/a", "tone/b")


@pytest.mark.parametrize("settings", [{"seed": -1}, {"seed": 2**32}, {"learning_rate": float("inf")}])
def test_settings_that_no_training_can_use_are_refused(settings):
    """Before anything is read."""
    with pytest.raises(UsageError, match=r"--(seed|learning-rate) is .*; expected"):
        RetainSettings(**settings)


def test_noise_of_several_channels_is_heard_on_the_chosen_one(noise, gathered):
    """Without a choice it is refused with the option that makes it; a mono clip has channel 0 too."""
    wave, _ = soundfile.read(noise / "rain" / "0.wav")
    soundfile.write(noise / "rain" / "0.wav", np.column_stack([wave, np.zeros_like(wave)]), 16_000)
    with pytest.raises(ClipError, match=r"0.wav: it has 2 channels(.|\n)*--noise-channel"):
        gathered()
    assert "rain" in gathered(RetainSettings(batch_size=4, steps=2, warm_up_steps=0, noise_channel=0)).tags


def test_noise_may_be_shorter_than_a_machine_s_clip(noise, gathered):
    """A knock is noise too."""
    soundfile.write(noise / "rain" / "0.wav", 0.02 * np.random.default_rng(2).standard_normal(4_000), 16_000)
    assert "rain/0.wav" in {clip.file for clips in gathered().noise.values() for clip in clips}
