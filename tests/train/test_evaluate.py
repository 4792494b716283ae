"""Evaluation tests what was not learnt from, gives its figures by name, and writes files and a page that hold them."""

import base64
import contextlib
import csv
import dataclasses
import html.parser
import io
import json
import re

import numpy as np
import pytest
import soundfile
import torch
from sklearn.metrics import roc_auc_score

from edge_asd.errors import EdgeAsdError, UnavailableError, UsageError
from edge_asd.features import log_mel_db
from edge_asd.score import MarginScorer
from edge_asd.types import FeatureSpec
from train import evaluate
from train.checkpoint import Checkpoint, Split, load_checkpoint, save_checkpoint
from train.data import list_folder, open_waves
from train.evaluation.clip_scorer import ClipScorer
from train.evaluation.metrics import ScoredClip, evaluate_clips
from train.evaluation.published import DEVELOPMENT_IDS, PUBLISHED, TEST_CLIPS, TYPES, why_not_comparable
from train.evaluation.report import Evaluated
from train.evaluation.scoring import RunScores, choose_test_set, score_run
from train.evaluation.submission import write_submission
from train.network import Network, NetworkSpec

CLASSES = ("fan/section_00", "fan/section_01")


def checkpoint(classes=CLASSES, *, seed=0, **split):
    torch.manual_seed(seed)
    spec = NetworkSpec(branches=("log_mel",), n_classes=len(classes))
    return Checkpoint(network=Network(spec).eval(), spec=spec, classes=classes, split=Split(**split))


def write_run(folder, **settings):
    folder.mkdir()
    save_checkpoint(folder / "checkpoint.pt", checkpoint(**settings))
    return folder


def write_clip(path, tone_hz, seconds=1.0):
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(int(tone_hz))
    phase = 2.0 * np.pi * tone_hz * np.arange(int(16_000 * seconds)) / 16_000
    soundfile.write(path, 0.1 * np.sin(phase) + 0.01 * rng.standard_normal(len(phase)), 16_000)


@pytest.fixture(scope="module")
def sections(tmp_path_factory):
    """A data folder as of DCASE 2022 and later: two sections, two domains, two clips each of what there is."""
    folder = tmp_path_factory.mktemp("data") / "sections"
    tone_hz = 200.0
    for section in (0, 1):
        for domain in ("source", "target"):
            for split, label in (("train", "normal"), ("test", "normal"), ("test", "anomaly")):
                for number in range(2):
                    name = f"section_0{section}_{domain}_{split}_{label}_000{number}_vel_{number}.wav"
                    write_clip(folder / "fan" / split / name, tone_hz)
                    tone_hz += 170.0
    write_clip(folder / "fan" / "test" / "section_01_0009.wav", 5000.0)
    return folder


def validation_of(folder):
    return tuple(r.file for r in list_folder(folder).recordings if r.stated_split == "train" and "0001" in r.file)


@pytest.fixture(scope="module")
def run(tmp_path_factory, sections):
    """A run that validated on the second clip of each section and domain."""
    train = tuple(r.file for r in list_folder(sections).recordings if r.stated_split == "train" and "0000" in r.file)
    folder = tmp_path_factory.mktemp("runs") / "seed-0"
    return write_run(folder, train=train, validation=validation_of(sections))


@pytest.fixture(scope="module")
def report(tmp_path_factory, run, sections):
    """What the command line leaves of that run, and what it says on stdout."""
    out = tmp_path_factory.mktemp("reports") / "report"
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        assert evaluate.main([str(run), str(sections), "--out", str(out)]) == 0
    assert said.getvalue() == f"{out / 'report.html'}\n"
    return out


def read_rows(path):
    with path.open(newline="") as file:
        return list(csv.reader(file))


def test_figures_are_those_of_the_scores(report):
    """By machine ID, of both domains."""
    scores = read_rows(report / "scores-seed-0.csv")[1:]
    assert len(scores) == 17
    metrics = json.loads((report / "metrics.json").read_text())
    rows = {row["name"]: row for row in metrics["runs"]["seed-0"]}
    assert set(rows) == {*CLASSES, "fan", "average over types"}
    for class_name in CLASSES:
        members = [
            (label == "anomaly", float(z), domain)
            for _, name, label, domain, z in scores
            if name == class_name and label != "none"
        ]
        expected = roc_auc_score([a for a, *_ in members], [z for _, z, _ in members])
        assert rows[class_name]["figures"]["auc"]["value"] == pytest.approx(expected, abs=1e-9)
        source = [(a, z) for a, z, domain in members if a or domain == "source"]
        expected = roc_auc_score(*zip(*source, strict=True))
        assert rows[class_name]["figures"]["auc_source"]["value"] == pytest.approx(expected, abs=1e-9)


def test_submission_files_are_as_dcase_takes_them(report):
    """No header, a clip's name and its score or 0 or 1; clips without a label are among them."""
    folder = report / "submission" / "seed-0"
    assert {path.name for path in folder.iterdir()} == {
        f"{kind}_fan_section_0{section}_test.csv" for kind in ("anomaly_score", "decision_result") for section in (0, 1)
    }
    scores, decisions = (
        dict(read_rows(folder / f"{kind}_fan_section_01_test.csv")) for kind in ("anomaly_score", "decision_result")
    )
    assert len(scores) == 9
    assert "section_01_0009.wav" in scores
    assert scores.keys() == decisions.keys()
    assert set(decisions.values()) <= {"0", "1"}
    flagged = [float(z) for name, z in scores.items() if decisions[name] == "1"]
    passed = [float(z) for name, z in scores.items() if decisions[name] == "0"]
    assert max(passed, default=-np.inf) < min(flagged, default=np.inf)


def test_decisions_follow_the_validation_clips(run, report, sections):
    """Their 90th percentile, which is the highest of so few."""
    loaded = load_checkpoint(run)
    waves = open_waves(sections, loaded.split.validation)
    names = ["fan/" + re.search(r"section_\d+", file)[0] for file in loaded.split.validation]
    validation = ClipScorer(loaded, device="cpu", windows="all").score(waves, names)
    for section in (0, 1):
        own = f"fan_section_0{section}_test.csv"
        scores = dict(read_rows(report / "submission" / "seed-0" / f"anomaly_score_{own}"))
        decisions = dict(read_rows(report / "submission" / "seed-0" / f"decision_result_{own}"))
        threshold = max(z for z, name in zip(validation, names, strict=True) if name == CLASSES[section])
        assert decisions == {name: str(int(float(z) > threshold)) for name, z in scores.items()}


def fake_evaluated(name, classes=CLASSES, *, files, seed=0):
    rng = np.random.default_rng(seed)
    clips = tuple(
        ScoredClip(
            file=files[number % len(files)],
            class_name=class_name,
            is_anomaly=number % 2 == 1,
            domain="none",
            group=str(number),
            score=float(rng.standard_normal() + number % 2),
        )
        for class_name in classes
        for number in range(8)
    )
    scores = RunScores(name=name, test=clips, unlabelled=(), decisions={}, notes=())
    return Evaluated(scores=scores, rows=evaluate_clips(clips, replicates=20))


class Page(html.parser.HTMLParser):
    """Collects table cells, pictures and the nesting of a page."""

    def __init__(self, text):
        super().__init__()
        self.open, self.cells, self.pictures = [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        if tag == "img":
            self.pictures.append(dict(attributes))
        if tag not in ("img", "meta"):
            self.open.append(tag)
            if tag in ("td", "th"):
                self.cells.append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] in ("td", "th"):
            self.cells[-1] += data.strip()


def test_page_is_whole_and_needs_no_other_file(report):
    """Well nested, its pictures within it and described, its figures those of metrics.json."""
    page = Page((report / "report.html").read_text())
    assert page.open == []
    assert len(page.pictures) == 2
    for picture in page.pictures:
        kind, _, data = picture["src"].partition(",")
        assert kind == "data:image/png;base64"
        assert base64.b64decode(data).startswith(b"\x89PNG")
        assert picture["alt"]
    metrics = json.loads((report / "metrics.json").read_text())
    for row in metrics["runs"]["seed-0"]:
        assert row["name"] in page.cells
        for figure in row["figures"].values():
            assert f"{100 * figure['value']:.2f}" in page.cells


def test_names_cannot_break_the_page(tmp_path):
    """A class that looks like markup is text."""
    write_clip(tmp_path / "a.wav", 300.0)
    classes = ("<b>fan/0&amp", "<b>fan/1&amp")
    evaluate.write_out(tmp_path / "report", [fake_evaluated("run", classes, files=["a.wav"])], tmp_path, [("<i>", "&")])
    page = Page((tmp_path / "report" / "report.html").read_text())
    assert "<b>fan/0&amp" in page.cells
    assert page.open == []


def test_without_validation_clips_there_are_no_decisions(tmp_path):
    """Scores alone."""
    write_submission(tmp_path, fake_evaluated("run", files=["a.wav"]).scores)
    assert {path.name for path in tmp_path.iterdir()} == {f"anomaly_score_fan_section_0{i}_test.csv" for i in (0, 1)}


def test_several_runs_give_mean_and_standard_deviation(tmp_path):
    """On the page and in metrics.json."""
    write_clip(tmp_path / "a.wav", 300.0)
    runs = [fake_evaluated(f"seed-{seed}", files=["a.wav"], seed=seed) for seed in range(3)]
    evaluate.write_out(tmp_path / "report", runs, tmp_path, [])
    metrics = json.loads((tmp_path / "report" / "metrics.json").read_text())
    values = [rows[0]["figures"]["auc"]["value"] for rows in metrics["runs"].values()]
    spread = metrics["over_runs"][CLASSES[0]]["auc"]
    assert spread["mean"] == pytest.approx(np.mean(values))
    assert spread["std"] == pytest.approx(np.std(values, ddof=1))
    page = Page((tmp_path / "report" / "report.html").read_text())
    assert f"{100 * spread['mean']:.2f} ± {100 * spread['std']:.2f}" in page.cells


def test_runs_of_the_same_name_are_told_apart(tmp_path):
    """As they would overwrite each other's files."""
    for parent in ("a", "b"):
        (tmp_path / parent / "seed-0").mkdir(parents=True)
    runs = [tmp_path / "a" / "seed-0", tmp_path / "b" / "seed-0", tmp_path / "c" / "seed-1" / "checkpoint.pt"]
    assert evaluate._names(runs) == ("seed-0", "seed-0-2", "seed-1")


def test_folder_with_something_else_is_not_written_into(tmp_path):
    """An earlier report is replaced."""
    write_clip(tmp_path / "a.wav", 300.0)
    evaluated = [fake_evaluated("run", files=["a.wav"])]
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "dear.txt").write_text("")
    with pytest.raises(UsageError, match="holds something else"):
        evaluate.write_out(tmp_path / "letters", evaluated, tmp_path, [])
    for _ in range(2):
        evaluate.write_out(tmp_path / "report", evaluated, tmp_path, [])


def test_unwritable_folder_is_refused(tmp_path):
    """Here a file stands in the way."""
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="cannot be written: Not a directory; give another --out"):
        evaluate.write_out(tmp_path / "file" / "report", [fake_evaluated("run", files=["a.wav"])], tmp_path, [])


def test_evaluation_data_without_labels_gives_submission_files(tmp_path, capsys):
    """And no figures, which is said."""
    write_clip(tmp_path / "data" / "fan" / "test" / "section_00_0000.wav", 300.0)
    run, out = write_run(tmp_path / "run"), tmp_path / "report"
    assert evaluate.main([str(run), str(tmp_path / "data"), "--out", str(out)]) == 0
    (row,) = read_rows(out / "submission" / "run" / "anomaly_score_fan_section_00_test.csv")
    assert row[0] == "section_00_0000.wav"
    assert "no figure to give" in (out / "report.html").read_text()
    assert "1 clips without a label" in " ".join(capsys.readouterr().err.split())


def test_figures_are_printed_for_a_terminal():
    """By ID and by type, to two places."""
    evaluated = fake_evaluated("run", files=["a.wav"])
    said = io.StringIO()
    evaluate.print_figures([evaluated], evaluate.Console(file=said, width=120))
    for row in evaluated.rows:
        assert (row.name if row.kind != "average" else "average") in said.getvalue()
        for figure in row.figures.values():
            assert f"{100 * figure.value:.2f}" in said.getvalue()


def test_nothing_learnt_from_is_tested(sections):
    """Nor what is stated for training, nor a clip of a trained recording, nor a class that the run does not know."""
    listing = list_folder(sections)
    train = [r.file for r in listing.recordings if r.stated_split == "train"]
    first = next(r for r in listing.recordings if r.stated_split == "test" and r.label == "normal")
    together = dataclasses.replace(
        listing,
        recordings=tuple(
            dataclasses.replace(r, group="one") if r.file in (first.file, train[0]) else r for r in listing.recordings
        ),
    )
    chosen = choose_test_set(checkpoint(train=(train[0],)), together, sections)
    tested = {r.file for r in chosen.test}
    assert len(tested) == 15
    assert not tested & {*train, first.file}
    assert [r.file for r in chosen.unlabelled] == ["fan/test/section_01_0009.wav"]
    other = choose_test_set(checkpoint(("fan/section_00", "pump/section_00")), listing, sections)
    assert {r.class_name for r in other.test} == {"fan/section_00"}
    unknown, untested, few, untold = other.notes
    assert untested == "classes that the run knows and that have no test clip here: pump/section_00"
    assert unknown == "13 clips of classes that the run does not know: fan/section_01"
    assert few.startswith("fewer than 10 healthy or damaged recordings")
    assert few.endswith(": fan/section_00")
    assert untold.startswith("the run does not say what it was trained on")


def test_altered_twins_are_no_classes_to_test(sections):
    """They are outputs of the network, not machines."""
    chosen = choose_test_set(
        checkpoint((*CLASSES, *(f"{name}~altered" for name in CLASSES))), list_folder(sections), sections
    )
    assert not [note for note in chosen.notes if "no test clip here" in note]


def test_data_of_another_run_is_said_to_be(sections):
    """No clip of the run is there by name."""
    chosen = choose_test_set(checkpoint(train=("elsewhere.wav",)), list_folder(sections), sections)
    assert any("none of the 1 clips that the run learnt from is here by name" in note for note in chosen.notes)
    with pytest.raises(UsageError, match=r"no clip to test on; expected clips of pump/a, pump/b"):
        choose_test_set(checkpoint(("pump/a", "pump/b")), list_folder(sections), sections)


def test_clip_scores_are_the_mean_of_its_windows(tmp_path):
    """As the device scores them, whatever else is in the batch; the first alone where asked."""
    lengths_s = {"a.wav": 10.0, "b.wav": 12.5, "c.wav": 3.0}
    for number, (name, seconds) in enumerate(lengths_s.items()):
        write_clip(tmp_path / name, 300.0 + 500.0 * number, seconds)
    loaded = checkpoint()
    waves = open_waves(tmp_path, list(lengths_s))
    names = [CLASSES[0], CLASSES[1], CLASSES[0]]
    one_by_one = [_score_as_the_device_does(loaded, wave, name) for wave, name in zip(waves, names, strict=True)]
    assert [len(scores) for scores in one_by_one] == [1, 3, 1]
    together = ClipScorer(loaded, device="cpu", windows="all").score(waves, names)
    np.testing.assert_allclose(together, [scores.mean() for scores in one_by_one], atol=2e-3)
    first = ClipScorer(loaded, device="cpu", windows="first").score(waves, names)
    np.testing.assert_allclose(first, [scores[0] for scores in one_by_one], atol=2e-3)


def _score_as_the_device_does(loaded, wave, class_name):
    """Window by window, with the runtime's own features and scorer."""
    spec = loaded.spec
    scorer = MarginScorer(spec.scale, spec.margin, n_classes=spec.n_classes)
    wave = np.resize(wave, max(len(wave), 160_000))
    windows = [wave[start : start + 160_000] for start in range(0, len(wave) - 160_000 + 1, 15_360)]
    with torch.inference_mode():
        cosines = [
            loaded.network(torch.from_numpy(window[None]), torch.from_numpy(log_mel_db(window[None], FeatureSpec())))[1]
            for window in windows
        ]
    return scorer.score(torch.cat(cosines).numpy(), loaded.classes.index(class_name))


def test_weights_that_give_no_number_are_refused(sections):
    """A NaN is never ranked as if it were a score."""
    loaded = checkpoint()
    with torch.no_grad():
        loaded.network.class_weight.fill_(float("nan"))
    recordings = choose_test_set(loaded, list_folder(sections), sections)
    few = dataclasses.replace(recordings, test=recordings.test[:2], unlabelled=())
    with pytest.raises(EdgeAsdError, match=r"run broken: the score of fan/test/section_00\S* is nan, and of 2 clips"):
        score_run("broken", loaded, sections, few)


def test_device_that_is_not_there_is_refused():
    """With what to do."""
    if torch.cuda.is_available():
        pytest.skip("there is a CUDA device")
    with pytest.raises(UnavailableError, match="use --device cpu"):
        ClipScorer(checkpoint(), device="cuda", windows="all")


def test_broken_clip_ends_it_with_its_name(run, tmp_path, capsys):
    """And says which program leaves such clips out."""
    broken = tmp_path / "fan" / "test" / "section_00_source_test_anomaly_0000.wav"
    broken.parent.mkdir(parents=True)
    broken.write_text("no sound")
    assert evaluate.main([str(run), str(tmp_path)]) == 65
    said = " ".join(capsys.readouterr().err.split())
    assert broken.name in said
    assert "train.prepare leaves such clips out" in said


def test_published_rows_stand_beside_the_whole_development_test_alone():
    """Its 23 machine IDs; each row's averages are those of its types within what the paper's rounding allows."""
    assert len(DEVELOPMENT_IDS) == 23
    whole = dict.fromkeys(DEVELOPMENT_IDS, (400, 400)) | TEST_CLIPS
    assert not why_not_comparable(whole, generated=False)
    assert "of all 23 machine IDs of that test, these of 1 IDs" in why_not_comparable(
        {"fan/id_00": TEST_CLIPS["fan/id_00"]}, generated=False
    )
    assert why_not_comparable(whole | {"pump/id_06": (1, 1)}, generated=False) == (
        "the published test has 100 healthy and 102 damaged clips of pump/id_06, this one 1 and 1"
    )
    assert "generated" in why_not_comparable(whole, generated=True)
    for row in PUBLISHED:
        assert len(row.by_type) in (0, len(TYPES))
        if row.by_type and row.method.startswith("TFSTgram"):
            assert row.auc == pytest.approx(np.mean([auc for auc, _ in row.by_type]), abs=0.01)


def test_counts_of_the_published_test_fit_the_baseline_of_its_organisers():
    """The AUC of an ID is a whole number of ordered pairs; theirs are printed to six digits."""
    printed = {
        "ToyCar": (0.828474, 0.866307, 0.639396, 0.869477),
        "fan": (0.539607, 0.721866, 0.622098, 0.72277),
        "pump": (0.670769, 0.609369, 0.8886, 0.734902),
        "slider": (0.963315, 0.78809, 0.946011, 0.702247),
        "valve": (0.687311, 0.674083, 0.744, 0.552833),
    }
    for machine_type, aucs in printed.items():
        counts = [counts for name, counts in sorted(TEST_CLIPS.items()) if name.startswith(machine_type)]
        for auc, (n_normal, n_anomaly) in zip(aucs, counts, strict=True):
            pairs = auc * n_normal * n_anomaly
            assert abs(pairs - round(pairs)) <= 0.5e-6 * n_normal * n_anomaly + 1e-6


def test_real_clips_are_evaluated_by_their_names(tmp_path, shared_data):
    """One type's folder of the official data, of clips of 11 s, with the note that so few IDs are not comparable."""
    data = shared_data("dcase2020") / "ToyCar"
    run = write_run(tmp_path / "run", classes=tuple(f"ToyCar/id_0{number}" for number in (1, 2, 3, 4)))
    assert evaluate.main([str(run), str(data), "--out", str(tmp_path / "report"), "--windows", "first"]) == 0
    rows = json.loads((tmp_path / "report" / "metrics.json").read_text())["runs"]["run"]
    assert sum(row["kind"] == "id" for row in rows) == 4
    assert "NOT COMPARABLE" in (tmp_path / "report" / "report.html").read_text()


def test_clips_of_both_domain_folders_are_in_files_of_their_own(tmp_path):
    """As DCASE 2021 takes them."""
    files = ["fan/source_test/section_00_source_test_0000.wav", "fan/target_test/section_00_target_test_0000.wav"]
    run = dataclasses.replace(fake_evaluated("run", files=files).scores, decisions={CLASSES[0]: 0.0})
    run = dataclasses.replace(run, test=tuple(clip for clip in run.test if clip.class_name == CLASSES[0]))
    written = write_submission(tmp_path, run)
    assert {path.name for path in written} == {
        f"{kind}_fan_section_00_{domain}_test.csv"
        for kind in ("anomaly_score", "decision_result")
        for domain in ("source", "target")
    }
    for domain in ("source", "target"):
        names = [name for name, _ in read_rows(tmp_path / f"anomaly_score_fan_section_00_{domain}_test.csv")]
        assert names == [f"section_00_{domain}_test_0000.wav"]
    assert evaluate.submission_notes(run) == ()


def test_clips_of_the_same_name_stand_with_their_paths(tmp_path):
    """As those of several signal-to-noise ratios, and it is noted."""
    files = ["6_dB_fan/fan/id_00/normal/00000000.wav", "0_dB_fan/fan/id_00/normal/00000000.wav"]
    run = fake_evaluated("run", ("fan/id_00", "fan/id_02"), files=files).scores
    write_submission(tmp_path, run)
    assert sorted(name for name, _ in read_rows(tmp_path / "anomaly_score_fan_id_00.csv")) == sorted(files)
    (note,) = evaluate.submission_notes(run)
    assert note.endswith("fan/id_00, fan/id_02")


def test_runs_that_test_different_classes_are_refused(tmp_path, run, sections, capsys):
    """Ahead of all scoring; an earlier report stays as it is."""
    other = write_run(tmp_path / "other", classes=("fan/section_00", "fan/section_09"))
    out = tmp_path / "report"
    (out / "submission").mkdir(parents=True)
    (out / "metrics.json").write_text("{}")
    assert evaluate.main([str(run), str(other), str(sections), "--out", str(out)]) == 2
    assert "they differ in fan/section_01" in " ".join(capsys.readouterr().err.split())
    assert (out / "submission").is_dir()


def test_figure_that_one_run_alone_has_is_written_without_a_deviation(tmp_path):
    """As null, and the earlier report is not lost."""
    write_clip(tmp_path / "a.wav", 300.0)
    runs = [fake_evaluated("a", files=["a.wav"]), fake_evaluated("b", CLASSES[:1], files=["a.wav"])]
    evaluate.write_out(tmp_path / "report", runs, tmp_path, [])
    spreads = json.loads((tmp_path / "report" / "metrics.json").read_text())["over_runs"]
    assert spreads[CLASSES[1]]["auc"]["std"] is None
    assert spreads[CLASSES[0]]["auc"]["std"] is not None


def test_folder_is_looked_at_before_anything_is_scored(tmp_path, run, sections, monkeypatch, capsys):
    """Which takes long; the folder of a run is none of a report, though it has figures."""
    monkeypatch.delattr(evaluate, "evaluate")
    (tmp_path / "dear.txt").write_text("")
    for out in (tmp_path, run):
        assert evaluate.main([str(run), str(sections), "--out", str(out)]) == 2
        assert "holds something else" in capsys.readouterr().err
    (run / "metrics.json").write_text("{}")
    assert evaluate.main([str(run), str(sections), "--out", str(run)]) == 2
    (run / "metrics.json").unlink()
