"""Margin score: golden values and what must hold for any cosines."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from edge_asd.score import MarginScorer

GOLDEN = Path(__file__).parents[3] / "shared" / "golden" / "tfstgram.npz"

cosines = arrays(np.float32, (1, 5), elements=st.floats(-1, 1, width=32))


@pytest.mark.skipif(not GOLDEN.exists(), reason="golden values of the published method are not at hand")
def test_softplus_of_golden_score_is_met() -> None:
    """softplus(z) is the published cross-entropy score within 1e-3."""
    golden = np.load(GOLDEN)
    scorer = MarginScorer(float(golden["scale"]), float(golden["margin"]), n_classes=41)
    z = scorer.score(golden["cosine"], golden["label"])
    np.testing.assert_allclose(np.logaddexp(0.0, z), golden["score"], atol=1e-3)


@given(cosine=cosines, own=st.integers(0, 4), margin=st.sampled_from([0.0, 0.4, 0.7, 1.0]))
def test_softplus_is_the_cross_entropy(cosine: np.ndarray, own: int, margin: float) -> None:
    """For any cosines softplus(z) is the cross-entropy of the margin logits, and z is finite."""
    angle = np.arccos(cosine[0, own].astype(np.float64))
    beyond = cosine[0, own] <= np.cos(np.pi - margin)
    logits = 30.0 * cosine[0].astype(np.float64)
    logits[own] = 30.0 * (cosine[0, own] - margin * np.sin(margin) if beyond else np.cos(angle + margin))
    expected = np.log(np.exp(logits - logits[own]).sum())
    z = MarginScorer(30.0, margin, n_classes=5).score(cosine, own)
    assert z.shape == (1,)
    assert z.dtype == np.float32
    assert np.logaddexp(0.0, float(z[0])) == pytest.approx(expected, abs=1e-3)


def test_good_normals_do_not_saturate() -> None:
    """Two embeddings whose cross-entropy is 0 in float32 still rank by z."""
    near = np.array([[0.99, -0.8, -0.9]], dtype=np.float32)
    nearer = np.array([[1.0, -0.8, -0.9]], dtype=np.float32)
    scorer = MarginScorer(30.0, 0.4, n_classes=3)
    assert scorer.score(nearer, 0)[0] < scorer.score(near, 0)[0]


def test_cosine_above_one_by_rounding_is_finite() -> None:
    """An embedding that meets its class weight with a cosine just above 1 has a finite score."""
    cosine = np.array([[1.0000001, 0.0]], dtype=np.float32)
    assert np.isfinite(MarginScorer(30.0, 0.4, n_classes=2).score(cosine, 0)).all()


@pytest.mark.parametrize("place", [0, 1])
def test_not_a_number_stays_one(place: int) -> None:
    """NaN in the own or another cosine gives NaN, never a number."""
    cosine = np.array([[0.5, 0.1, 0.2]], dtype=np.float32)
    cosine[0, place] = np.nan
    assert np.isnan(MarginScorer(30.0, 0.4, n_classes=3).score(cosine, 0)).all()


def test_batch_scores_each_with_its_own_class() -> None:
    """An index per window scores each window as its own class."""
    cosine = np.array([[0.9, 0.1], [0.9, 0.1]], dtype=np.float32)
    scorer = MarginScorer(30.0, 0.4, n_classes=2)
    z = scorer.score(cosine, np.array([0, 1]))
    assert z[0] == scorer.score(cosine[:1], 0)[0]
    assert z[1] == scorer.score(cosine[1:], 1)[0]
    assert z[0] < z[1]


def test_single_class_is_refused() -> None:
    """A network with one class has no others to compare with: said at construction."""
    with pytest.raises(ValueError, match="at least 2 classes"):
        MarginScorer(30.0, 0.4, n_classes=1)


@pytest.mark.parametrize("class_index", [-1, 3])
def test_class_outside_the_network_is_refused(class_index: int) -> None:
    """A class index that the network lacks is refused, not wrapped around."""
    with pytest.raises(ValueError, match="expected 0 to 2"):
        MarginScorer(30.0, 0.4, n_classes=3).score(np.zeros((1, 3), dtype=np.float32), class_index)


def test_cosines_of_another_network_are_refused() -> None:
    """Cosines to another number of classes are refused with both shapes."""
    with pytest.raises(ValueError, match=r"\(1, 4\).*\(B, 3\)"):
        MarginScorer(30.0, 0.4, n_classes=3).score(np.zeros((1, 4), dtype=np.float32), 0)
