"""Studies of retention: what trains and what tests are apart, scorers are those of devices, and every row runs."""

import dataclasses
import json

import numpy as np
import pytest
import soundfile

from benchmarks.noise_robustness import retention
from benchmarks.noise_robustness.__main__ import main
from benchmarks.noise_robustness.corpus import CLEAN_DBFS, write_corpus
from benchmarks.noise_robustness.methods import Compute, Fitted
from benchmarks.noise_robustness.picture import draw
from benchmarks.noise_robustness.results import ResultRow
from benchmarks.noise_robustness.scorers import SCORERS, Outputs
from benchmarks.noise_robustness.sound import open_sound
from benchmarks.noise_robustness.studies import STUDIES
from benchmarks.noise_robustness.trial import CASES, Protocol, open_trial, open_unheard
from edge_asd.errors import EdgeAsdError, UsageError
from train.data import list_folder
from train.retain.noise import list_noise
from train.synth import __main__ as synth

ROWS = ("on mixtures", "frozen", "denoised", "tagged", "aligned", "retained", "oracle")
PROTOCOL = Protocol(limit=3, tested_mixtures=3, further_mixtures=1, memory_each=2, snrs_db=(0.0,), windows=8)


@pytest.fixture(scope="module")
def generated(tmp_path_factory):
    """A small data folder of generated sound: two units of two types."""
    folder = tmp_path_factory.mktemp("generated")
    assert synth.main([str(folder), "--types", "fan", "valve", "--ids", "2", "--train", "4", "--test", "2"]) == 0
    return folder


@pytest.fixture(scope="module")
def sound(generated, tmp_path_factory):
    """It with the noise that is generated for it."""
    return open_sound(generated, tmp_path_factory.mktemp("noise"))


@pytest.fixture(scope="module")
def unheard(sound, tmp_path_factory):
    """A trial of valves, of which no training hears one."""
    return open_unheard(sound, 0, PROTOCOL, tmp_path_factory.mktemp("work"))


def test_type_that_is_unheard_is_in_no_training(sound, unheard, tmp_path):
    """All of its units are remembered and tested, and by what they are where every training hears them."""
    tested = {mixture.machine.class_name for mixture in unheard.test["stationary", 0.0].mixtures}
    assert tested == {mixture.machine.class_name for mixture in unheard.memory["stationary"].mixtures}
    assert tested == {name for name in unheard.sides.classes if name.startswith("valve/")}
    machines, _ = write_corpus(unheard)
    for folder in (unheard.folder, machines):
        assert {one.class_name.split("/")[0] for one in list_folder(folder).recordings} == {"fan"}
    known = open_trial(sound, 0, PROTOCOL, tmp_path)
    assert tested < {recording.class_name for recording in list_folder(known.folder).recordings}
    of_type = [one for one in known.test["stationary", 0.0].mixtures if one.machine.class_name in tested]
    assert tuple(of_type) == unheard.test["stationary", 0.0].mixtures


def test_sound_of_one_type_leaves_nothing_to_train_on(sound, tmp_path):
    """Which is told before anything is mixed."""
    fans = [one for one in sound.recordings if one.class_name.startswith("fan/")]
    with pytest.raises(UsageError, match="without the machines of type fan, which are to be unheard, 0 are left"):
        open_unheard(dataclasses.replace(sound, recordings=tuple(fans)), 0, PROTOCOL, tmp_path)


def test_studies_of_one_sound_share_their_networks():
    """Only tests and fine-tuning differ between them."""
    methods, *others = (study.protocol for study in STUDIES.values())
    assert all(each.of_networks() == methods.of_networks() for each in others)
    assert methods.of_networks() != Protocol(windows=7).of_networks()


def test_corpus_is_of_the_training_side_alone(unheard):
    """Clean machines at one level with their split, and training noise of both kinds with its tags."""
    machines, noise = write_corpus(unheard)
    recordings = list_folder(machines).recordings
    assert {(one.class_name, one.stated_split) for one in recordings} == {
        (clip.class_name, side)
        for side, clips in (("train", unheard.sides.train), ("validation", unheard.sides.validation))
        for clip in clips
    }
    for recording in recordings:
        wave, _ = soundfile.read(machines / recording.file)
        assert 20.0 * np.log10(np.sqrt(np.mean(wave**2))) == pytest.approx(CLEAN_DBFS, abs=0.01)
    test_groups = {clip.group for clips in unheard.sides.test_noise.values() for clip in clips}
    listed = list_noise(noise)
    assert len(listed) == sum(len(clips) for clips in unheard.sides.train_noise.values())
    assert not {clip.group for clip in listed} & test_groups


def outputs(n, seed, **changes):
    rng = np.random.default_rng(seed)
    return Outputs(
        **{
            "class_names": ("a/1",) * n,
            "layers": {"embedding": rng.standard_normal((n, 8)).astype(np.float32)},
            "own": rng.standard_normal(n),
            "groups": tuple(f"g{number // 2}" for number in range(n)),
            **changes,
        }
    )


def test_fusion_is_the_mean_of_both_in_deviations_of_the_memory():
    """Distances of the memory itself are to other recordings than a vector's own."""
    memory, test = outputs(12, 0), outputs(5, 1)
    unit = [
        one.layers["embedding"] / np.linalg.norm(one.layers["embedding"], axis=1)[:, None] for one in (memory, test)
    ]
    among = np.linalg.norm(unit[0][:, None] - unit[0][None], axis=2)
    groups = np.array(memory.groups)
    among[groups[:, None] == groups[None]] = np.inf
    healthy = among.min(axis=1)
    distance = np.linalg.norm(unit[1][:, None] - unit[0][None], axis=2).min(axis=1)
    expected = (distance - healthy.mean()) / healthy.std(ddof=1)
    expected = (expected + (test.own - memory.own.mean()) / memory.own.std(ddof=1)) / 2.0
    np.testing.assert_allclose(SCORERS["fusion"](memory, test), expected, rtol=1e-4, atol=1e-4)


def test_so_many_are_remembered_as_the_scorer_says():
    """More of them are never farther, and too few are told."""
    memory, test = outputs(100, 0), outputs(20, 1)
    few, more, all_of_them = (SCORERS[name](memory, test) for name in ("k-NN of 10", "k-NN of 30", "k-NN of 100"))
    assert (more <= few).all()
    assert (more < few).any()
    np.testing.assert_array_equal(all_of_them, SCORERS["k-NN"](memory, test))
    with pytest.raises(ValueError, match="9 mixtures of a/1 to remember; expected 10 or more"):
        SCORERS["k-NN of 10"](outputs(9, 0), test)


def test_length_of_a_vector_says_nothing_where_it_is_made_a_unit():
    """As on a device, where a loud machine has a long feature map."""
    memory, test = (outputs(20, seed, layers={}) for seed in (0, 1))
    rng = np.random.default_rng(2)
    vectors = [rng.standard_normal((20, 8)).astype(np.float32) for _ in range(2)]

    def scores(scorer, *, factor):
        louder = rng.uniform(1.0, factor, (20, 1)).astype(np.float32)
        both = (vectors[0], louder * vectors[1])
        known, asked = (
            dataclasses.replace(one, layers={"feature_map": each})
            for one, each in zip((memory, test), both, strict=True)
        )
        return SCORERS[scorer](known, asked)

    unit = scores("k-NN unit map", factor=1.0)
    np.testing.assert_allclose(unit, scores("k-NN unit map", factor=9.0), atol=1e-5)
    assert not np.allclose(scores("k-NN map", factor=1.0), scores("k-NN map", factor=9.0), atol=0.1)
    units = [vector / np.linalg.norm(vector, axis=1)[:, None] for vector in vectors]
    among = np.linalg.norm(units[1][:, None] - units[0][None], axis=2).min(axis=1)
    np.testing.assert_allclose(unit, among, atol=1e-5)


def test_oracle_hears_machine_and_noise_apart(unheard, monkeypatch):
    """Its embedding lies between theirs, as loud as in a mixture at 0 dB whatever the mixture's ratio."""

    class Listener:
        def __init__(self, *_arguments):
            pass

        def hear(self, waves, class_names):
            levels = np.sqrt(np.mean(np.square(waves), axis=1))
            heard.append(levels)
            of_part = np.eye(2, dtype=np.float32)[[len(heard) - 1] * len(waves)]
            return Outputs(class_names=class_names, layers={"embedding": 5.0 * len(heard) * of_part})

    heard = []
    nothing = Fitted(hear=None, scorers=(), cost=None, settings={})
    monkeypatch.setattr(retention, "frozen", lambda *_a, **_k: nothing)
    monkeypatch.setattr(retention, "load_checkpoint", lambda _run: None)
    monkeypatch.setattr(retention, "Listener", Listener)
    fitted = retention.oracle(unheard, Compute(), base="logmel-os-scl")
    mixtures = unheard.memory["stationary"]
    assert {mixture.snr_db for mixture in mixtures.mixtures} != {0.0}
    np.testing.assert_allclose(fitted.hear(mixtures).layers["embedding"], 1.0, rtol=1e-5)  # halfway, whatever its size
    expected = [np.sqrt(np.mean(np.square(mixture.parts(0.0)), axis=1)) for mixture in mixtures.mixtures]
    np.testing.assert_allclose(heard, np.transpose(expected), rtol=1e-5)
    assert fitted.scorers == ("k-NN", "k-NN unit map")


def test_every_study_has_its_quick_rows():
    """And all of the ablations for the encoders, known machines by a rival too."""
    for study in STUDIES.values():
        assert set(study.quick_methods) <= set(study.methods)
    for base in ("logmel-os-scl", "tfstgram-os-scl"):
        names = {f"{base} {row}" for row in ROWS}
        assert names <= set(STUDIES["retention"].methods)
        assert names <= set(STUDIES["unheard"].methods)
    assert {f"stgram-arcface {row}" for row in ROWS} <= set(STUDIES["retention"].methods)


def test_row_of_another_study_is_refused(generated, tmp_path, capsys):
    """With those that there are."""
    command = [str(generated), "--quick", "--json", str(tmp_path / "r.json"), "--study", "retention"]
    assert main([*command, "--methods", "ae"]) == 2
    assert "--methods ae: study retention has logmel-os-scl on mixtures" in " ".join(capsys.readouterr().err.split())


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", ["retention", "unheard"])
def test_quick_runs_every_row_of_a_study(generated, tmp_path, name):
    """Frozen, both losses, each of them, the baseline and the bound, trained and scored in every noise."""
    path = tmp_path / "results.json"
    assert main([str(generated), "--study", name, "--quick", "--json", str(path)]) == 0
    rows = {row["method"]: row for row in json.loads(path.read_text())["rows"]}
    assert list(rows) == list(STUDIES[name].quick_methods)
    settings = [rows[f"logmel-os-scl {row}"]["settings"] for row in ("tagged", "aligned", "denoised")]
    assert [one["objective"] for one in settings] == ["retain", "retain", "denoise"]
    assert (settings[0]["align_weight"], settings[1]["tag_weight"]) == (0.0, 0.0)
    nearest = ("k-NN", "k-NN unit map")
    assert {scorer for row in rows.values() for scorer in row["figures"]} == {
        "retention": {"margin", *nearest, "fusion"},
        "unheard": {f"{scorer}{of}" for scorer in nearest for of in ("", " of 10", " of 30", " of 100")},
    }[name]


def test_picture_has_a_line_for_every_method_and_is_the_same_for_the_same_rows(tmp_path):
    """With the number of its seeds; a scorer that no row has is refused."""
    rows = [result_row(method, seed) for method in ("one", "other") for seed in (0, 1)]
    for name in ("a.svg", "b.svg"):
        draw(rows, tmp_path / name, scorer="k-NN", figure="harmonic_mean")
    text = (tmp_path / "a.svg").read_text()
    assert text == (tmp_path / "b.svg").read_text()
    assert "one (2 seeds)" in text
    assert "mismatched noise" in text
    with pytest.raises(EdgeAsdError, match="no row has the scorer 'margin'; expected one of k-NN"):
        draw(rows, tmp_path / "c.svg", scorer="margin", figure="auc")


def result_row(method, seed):
    figures = {case: {snr: {"harmonic_mean": 0.5 + 0.01 * seed} for snr in ("10", "-10")} for case in CASES}
    return ResultRow(
        method=method,
        seed=seed,
        figures={"k-NN": figures},
        training_s=1.0,
        training_cpu_s=1.0,
        scoring_s=1.0,
        steps=1,
        parameters=1,
        multiply_adds=1,
        settings={},
        compute={},
        git=None,
        environment={},
    )
