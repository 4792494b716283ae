"""Areas agree with scikit-learn whatever the scores; figures follow their definitions; intervals behave."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.stats import hmean
from sklearn import metrics as sklearn_metrics

from train.evaluation.metrics import AVERAGE, ScoredClip, evaluate_clips, over_runs
from train.evaluation.roc import roc_areas, roc_curve


@given(data=st.data(), n=st.integers(2, 60), levels=st.integers(1, 12), weighted=st.booleans())
def test_areas_are_those_of_scikit_learn(data, n, levels, weighted):
    """For any scores, with many ties, and any weights: to 1e-9."""
    scores = np.array(data.draw(st.lists(st.integers(0, levels), min_size=n, max_size=n)), dtype=np.float64) / 3.0
    is_anomaly = np.array(data.draw(st.lists(st.booleans(), min_size=n, max_size=n)))
    weights = np.ones(n)
    if weighted:
        weights = np.array(data.draw(st.lists(st.integers(0, 4), min_size=n, max_size=n)), dtype=np.float64)
    assume(weights[is_anomaly].sum() > 0 and weights[~is_anomaly].sum() > 0)
    auc, pauc = roc_areas(scores, is_anomaly, weights[None])
    kept = weights > 0
    arguments = (is_anomaly[kept], scores[kept])
    expected = sklearn_metrics.roc_auc_score(*arguments, sample_weight=weights[kept])
    expected_partial = sklearn_metrics.roc_auc_score(*arguments, sample_weight=weights[kept], max_fpr=0.1)
    assert auc[0] == pytest.approx(expected, abs=1e-9)
    assert pauc[0] == pytest.approx(expected_partial, abs=1e-9)


@given(seed=st.integers(0, 10_000), n=st.integers(2, 400))
def test_areas_of_real_valued_scores_are_those_of_scikit_learn(seed, n):
    """Float32 scores as a network gives them, rounded to make some equal."""
    rng = np.random.default_rng(seed)
    is_anomaly = np.r_[True, False, rng.random(n) < 0.5]
    scores = np.round(rng.standard_normal(n + 2) + is_anomaly, 2).astype(np.float32)
    auc, pauc = roc_areas(scores, is_anomaly)
    assert auc[0] == pytest.approx(sklearn_metrics.roc_auc_score(is_anomaly, scores), abs=1e-9)
    assert pauc[0] == pytest.approx(sklearn_metrics.roc_auc_score(is_anomaly, scores, max_fpr=0.1), abs=1e-9)


def test_curve_passes_the_points_of_scikit_learn():
    """From (0, 0) to (1, 1), all thresholds between."""
    rng = np.random.default_rng(0)
    is_anomaly = rng.random(80) < 0.4
    scores = np.round(rng.standard_normal(80) + is_anomaly, 1)
    fpr, tpr = roc_curve(scores, is_anomaly)
    expected_fpr, expected_tpr, _ = sklearn_metrics.roc_curve(is_anomaly, scores, drop_intermediate=False)
    np.testing.assert_allclose(fpr[0], expected_fpr, atol=1e-12)
    np.testing.assert_allclose(tpr[0], expected_tpr, atol=1e-12)


def test_one_kind_of_clips_has_no_area():
    """It is not a number, and no error."""
    assert np.isnan(roc_areas(np.arange(3.0), np.zeros(3, dtype=bool))).all()


def clip(class_name, number, score, *, anomaly=False, domain="none", group=None):
    file = f"{class_name}/{number}"
    return ScoredClip(
        file=file, class_name=class_name, is_anomaly=anomaly, domain=domain, group=group or file, score=score
    )


def machine(class_name, *, seed, shift=1.0, offset=0.0, n=40, domains=("none",)):
    rng = np.random.default_rng(seed)
    return [
        clip(
            class_name,
            number,
            float(rng.standard_normal() + offset + shift * (number % 2)),
            anomaly=number % 2 == 1,
            domain=domains[number // 2 % len(domains)],
        )
        for number in range(n)
    ]


def rows_by_name(clips, **settings):
    return {row.name: row for row in evaluate_clips(clips, **settings)}


def value(row, name):
    return row.figures[name].value


def sklearn_auc(clips, **settings):
    return sklearn_metrics.roc_auc_score([c.is_anomaly for c in clips], [c.score for c in clips], **settings)


def test_pooled_and_averaged_figures_are_told_apart():
    """IDs whose scores stand at different heights: pooling costs, averaging does not; mAUC is the lowest ID's."""
    first, second = machine("fan/id_00", seed=0), machine("fan/id_02", seed=1, offset=30.0)
    pump = machine("pump/id_00", seed=2, shift=0.3)
    rows = rows_by_name([*first, *second, *pump])
    each = [sklearn_auc(first), sklearn_auc(second)]
    fan = rows["fan"]
    assert value(rows["fan/id_00"], "auc") == pytest.approx(each[0], abs=1e-9)
    assert value(fan, "auc_id_mean") == pytest.approx(np.mean(each), abs=1e-9)
    assert value(fan, "auc_pooled") == pytest.approx(sklearn_auc(first + second), abs=1e-9)
    assert value(fan, "pauc_pooled") == pytest.approx(sklearn_auc(first + second, max_fpr=0.1), abs=1e-9)
    assert value(fan, "mauc") == pytest.approx(min(each), abs=1e-9)
    assert value(fan, "auc_pooled") < value(fan, "mauc")
    assert value(rows[AVERAGE], "auc_id_mean") == pytest.approx(np.mean([np.mean(each), sklearn_auc(pump)]), abs=1e-9)
    assert value(rows[AVERAGE], "mauc") == pytest.approx(np.mean([min(each), sklearn_auc(pump)]), abs=1e-9)
    assert "auc_source" not in fan.figures
    assert (fan.n_normal, fan.n_anomaly) == (40, 40)


def test_domains_follow_dcase_2022():
    """Healthy clips of a domain against the damaged ones of both; the harmonic mean over both AUC and the pAUC."""
    clips = [
        *machine("fan/section_00", seed=3, domains=("source", "target")),
        *machine("valve/section_01", seed=4, shift=2.0, domains=("source", "target")),
    ]
    rows = rows_by_name(clips)
    parts = []
    for name in ("fan/section_00", "valve/section_01"):
        members = [c for c in clips if c.class_name == name]
        for domain in ("source", "target"):
            expected = sklearn_auc([c for c in members if c.is_anomaly or c.domain == domain])
            assert value(rows[name], f"auc_{domain}") == pytest.approx(expected, abs=1e-9)
            parts.append(expected)
        parts.append(sklearn_auc(members, max_fpr=0.1))
    assert value(rows["fan"], "harmonic_mean") == pytest.approx(hmean(parts[:3]), abs=1e-9)
    assert value(rows[AVERAGE], "harmonic_mean") == pytest.approx(hmean(parts), abs=1e-9)


def test_id_without_damaged_clips_has_no_row():
    """And does not spoil the figures of its type."""
    clips = [*machine("fan/id_00", seed=0), clip("fan/id_02", 0, 1.0), clip("fan/id_02", 1, 2.0)]
    assert set(rows_by_name(clips)) == {"fan/id_00", "fan", AVERAGE}
    assert evaluate_clips([clip("fan/id_02", 0, 1.0)]) == ()


def test_intervals_hold_the_value_and_narrow_with_more_clips():
    """95 % of a bootstrap; the same for the same seed, whatever other IDs there are."""
    few, many = (rows_by_name(machine("fan/id_00", seed=5, n=n))["fan/id_00"].figures["auc"] for n in (40, 640))
    for figure in (few, many):
        assert figure.low < figure.value < figure.high
    assert many.high - many.low < 0.5 * (few.high - few.low)
    again = rows_by_name([*machine("fan/id_00", seed=5), *machine("pump/id_00", seed=6)])["fan/id_00"].figures["auc"]
    assert again == few


def test_interval_covers_the_truth_about_as_often_as_it_says():
    """95 % intervals of 60 data sets hold the true AUC in at least 85 % of them."""
    truth = 0.7602499389065233  # of two unit normals a distance of 1 apart
    figures = [
        rows_by_name(machine("fan/id_00", seed=seed, n=100), replicates=200)["fan/id_00"].figures["auc"]
        for seed in range(60)
    ]
    assert np.mean([figure.low <= truth <= figure.high for figure in figures]) >= 0.85


def test_clips_of_one_recording_are_drawn_together():
    """Copies in one group do not narrow the interval, copies that pass for recordings of their own do."""
    single = machine("fan/id_00", seed=7)

    def copies(together):
        return [
            clip("fan/id_00", f"{c.file} {i}", c.score, anomaly=c.is_anomaly, group=c.file if together else None)
            for c in single
            for i in range(9)
        ]

    def width(clips):
        figure = rows_by_name(clips)["fan/id_00"].figures["auc"]
        return figure.high - figure.low

    assert width(copies(together=True)) == pytest.approx(width(single), rel=0.25)
    assert width(copies(together=False)) < 0.5 * width(single)


def test_several_runs_have_mean_and_standard_deviation():
    """Of n - 1, by row and figure, over the runs that have it."""
    runs = [evaluate_clips(machine("fan/id_00", seed=seed), replicates=10) for seed in range(3)]
    values = [run[0].figures["auc"].value for run in runs]
    spread = over_runs(runs)["fan/id_00"]["auc"]
    assert spread.mean == pytest.approx(np.mean(values))
    assert spread.std == pytest.approx(np.std(values, ddof=1))
    assert spread.n_runs == 3
    assert over_runs(runs[:1])["fan/id_00"]["auc"].std is None
