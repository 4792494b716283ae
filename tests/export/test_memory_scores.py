"""Ceilings of scorers that need a memory: no sound that they are meant for scores higher, and one scores as high."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_asd.bundle import EMBEDDING_SIZE, Encoder
from edge_asd.score import Fusion, KnnScorer, MarginScorer, OwnClassMargin
from edge_asd.types import EngineOutputs, FeatureSpec
from export.memory_scores import ClassScores, Roles
from export.parity import Evaluated
from export.scorer_options import WantedScorers
from export.thresholds import score_ceiling
from export.windows import Clips
from train.data import Recording

ENCODER = Encoder(sha256="0" * 64, precision="int8", layer="feature_map", feature_spec=FeatureSpec())
MAP_SIZE = 12


def class_scores(random, *, domains, margin, k=1):
    """A class of five healthy clips a domain: maps without a negative value, the last value 0."""
    recordings = tuple(
        Recording(file=file, class_name="fan/A", label="normal", stated_split="none", group=file, domain=domain)
        for domain in domains
        for file in (f"{domain}-{number}.wav" for number in range(5))
    )
    scatter = {domain: random.uniform(0.01, 1.0) for domain in domains}
    feature_map = np.stack(
        [1.0 + scatter[recording.domain] * random.uniform(-1.0, 1.0, MAP_SIZE) for recording in recordings]
    )
    feature_map[:, -1] = 0.0
    found = Evaluated(
        embedding=np.zeros((len(recordings), EMBEDDING_SIZE), np.float32),
        score=(margin["mean"] + margin["std"] * random.standard_normal(len(recordings))).astype(np.float32),
        feature_map=feature_map.astype(np.float32),
    )
    roles = Roles(Clips(trained=recordings, calibration=(), test_normal=(), test_anomaly=()))
    return ClassScores("fan/A", found, roles, encoder=ENCODER, wanted=WantedScorers(default="knn", neighbours=k))


@given(
    seed=st.integers(0, 2**32 - 1),
    domains=st.sampled_from([("source",), ("target",), ("source", "target")]),
    margin=st.fixed_dictionaries({"mean": st.floats(-40.0, 40.0), "std": st.floats(0.01, 100.0)}),
    n_classes=st.integers(2, 5),
    k=st.integers(1, 3),
)
def test_ceiling_is_the_highest_score_of_what_it_is_meant_for(seed, domains, margin, n_classes, k):
    """As devices score: sounds taken wholly for any other class, with any map that is not opposite to the healthy ones.

    It is reached by the class most unlike, at right angles; only a target domain's mixes, shorter than 1, lie a little
    nearer.
    """
    random = np.random.default_rng(seed)
    own = class_scores(random, domains=domains, margin=margin, k=k)
    weight = random.standard_normal((n_classes, EMBEDDING_SIZE))
    weight /= np.linalg.norm(weight, axis=1, keepdims=True)
    cosine = (weight @ weight.T).astype(np.float32)
    scorer = MarginScorer(30.0, 0.4, n_classes=n_classes)
    maps = np.abs(random.standard_normal((40, MAP_SIZE)) ** 3)
    maps[0] = np.eye(MAP_SIZE)[-1]  # at right angles to all
    others, rows = (each.ravel() for each in np.meshgrid(np.arange(1, n_classes), np.arange(len(maps))))
    outputs = EngineOutputs(
        embedding=weight[others].astype(np.float32), cosine=cosine[others], feature_map=maps[rows].astype(np.float32)
    )
    knn = KnnScorer(own.memory, own.fit)
    margin_ceiling = score_ceiling(cosine, 0, scorer)
    for name, scores in (
        ("knn", knn.score(outputs)),
        ("fusion", Fusion(OwnClassMargin(scorer, 0), own.margin, knn).score(outputs)),
    ):
        ceiling = own.ceiling(name, margin_ceiling)
        # In deviations, of which a distance of 1 has so many.
        per_distance = max(1.0 / spread.std for spread in (own.fit.source, own.fit.target) if spread is not None)
        rounding = 1e-5 * (1.0 + abs(ceiling) + per_distance + 80.0 / own.margin.std)
        assert scores.max() <= ceiling + rounding
        shorter = 0.1 * per_distance if domains == ("source", "target") else 0.0
        assert scores.max() >= ceiling - shorter - rounding


@pytest.mark.parametrize(("seed", "lower"), [(0, "source"), (1, "target")])
def test_ceiling_is_that_of_the_domain_in_whose_deviations_it_is_lower(seed, lower):
    """For the lower of both scores counts."""
    own = class_scores(np.random.default_rng(seed), domains=("source", "target"), margin={"mean": 0.0, "std": 1.0})
    by_domain = {
        name: (math.sqrt(2.0) - spread.mean) / spread.std
        for name, spread in (("source", own.fit.source), ("target", own.fit.target))
    }
    assert min(by_domain, key=by_domain.get) == lower
    assert own.ceiling("knn", 40.0) == pytest.approx(by_domain[lower])


def test_ceiling_of_the_fusion_is_the_mean_of_both():
    """Each in deviations of the memory's own clips."""
    own = class_scores(np.random.default_rng(0), domains=("none",), margin={"mean": -15.0, "std": 0.05})
    expected = ((40.0 - own.margin.mean) / own.margin.std + own.ceiling("knn", 40.0)) / 2.0
    assert own.ceiling("fusion", 40.0) == pytest.approx(expected)
    assert own.ceiling("knn", 0.0) == own.ceiling("knn", 40.0)
