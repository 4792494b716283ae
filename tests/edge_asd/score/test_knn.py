"""The k-NN score: statistics of healthy sound alone, by domain, of memories within a budget."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_asd.bundle import KnnFit, Spread
from edge_asd.bundle.memory import MIXES_PER_TARGET
from edge_asd.bundle.memory_file import memory_file_bytes, npz_from_memories
from edge_asd.errors import BundleError, ClipError
from edge_asd.score import KnnScorer, build_memory, fit_memory, layer_vectors
from edge_asd.score.knn import domain_memory
from edge_asd.types import EngineOutputs


def outputs(vectors, **more):
    return EngineOutputs(embedding=vectors, cosine=np.zeros((len(vectors), 2), np.float32), **more)


def leave_one_out(vectors, k):
    """Mean distance of each to its k nearest others, vector by vector."""
    exact = vectors.astype(np.float64)
    return np.array(
        [
            np.sort(np.linalg.norm(np.delete(exact, row, axis=0) - exact[row], axis=1))[:k].mean()
            for row in range(len(exact))
        ]
    )


@pytest.mark.parametrize("k", [1, 3])
def test_statistics_are_those_of_leaving_each_clip_out(draw, remember, k):
    """Mean and deviation of healthy distances, without any test clip."""
    vectors = draw(30)
    fit = fit_memory(remember(vectors), remember(vectors), k=k)
    expected = leave_one_out(vectors, k)
    assert fit.source is not None
    assert fit.source.mean == pytest.approx(expected.mean())
    assert fit.source.std == pytest.approx(expected.std(ddof=1))
    assert (fit.source.n, fit.target, fit.n_vectors) == (30, None, 30)


def test_windows_of_one_recording_are_left_out_together(draw, remember):
    """Two windows that overlap are near each other, which says nothing of the next recording."""
    vectors = draw(20)
    doubled = np.concatenate([vectors, vectors])
    group = np.tile(np.arange(20), 2)
    together = remember(doubled, group=group)
    assert fit_memory(together, together).source.mean == pytest.approx(leave_one_out(vectors, 1).mean())
    apart = remember(doubled)
    with pytest.raises(ClipError, match="alike"):
        fit_memory(apart, apart)


def test_score_is_the_distance_in_deviations_of_healthy_ones(draw, remember):
    """By hand."""
    vectors, queries = draw(30), draw(5, seed=1)
    memory, fit = build_memory(remember(vectors), k=2)
    distance = np.sort(np.linalg.norm(queries[:, np.newaxis] - vectors[np.newaxis], axis=2), axis=1)[:, :2].mean(axis=1)
    expected = (distance - fit.source.mean) / fit.source.std
    np.testing.assert_allclose(KnnScorer(memory, fit).score(outputs(queries)), expected, rtol=1e-4)


@settings(max_examples=20)
@given(seed=st.integers(0, 1_000))
def test_order_of_the_memory_is_of_no_account(draw, remember, seed):
    """Not one bit of a score."""
    heard = remember(draw(20, seed=seed))
    shuffled = heard.taken(np.random.default_rng(seed).permutation(20))
    queries = outputs(draw(4, seed=seed + 1))
    scores = [KnnScorer(*build_memory(memory)).score(queries) for memory in (heard, shuffled)]
    np.testing.assert_allclose(scores[0], scores[1], rtol=1e-6)


def test_the_nearer_domain_counts(draw, remember):
    """A machine that sounds as it now does is healthy, however it sounded before."""
    source, target = draw(40, seed=1), draw(6, seed=2)
    memory, fit = build_memory(remember(source).joined(remember(target, is_target=True)))
    assert fit.target is not None
    scorer = KnnScorer(memory, fit)
    alone = KnnScorer(*build_memory(remember(source)))
    fresh = outputs(draw(7, seed=2)[6:])  # drawn as the target was, and not in the memory
    assert scorer.score(fresh)[0] < 3.0 < alone.score(fresh)[0]
    both = [KnnScorer(*build_memory(memory.taken(memory.is_target == domain))) for domain in (False, True)]
    assert scorer.score(fresh)[0] <= min(each.score(fresh)[0] for each in both) + 3.0


def test_scarce_target_is_mixed_with_its_nearest_source(draw, remember):
    """Nine parts of the target vector and one of a source vector, in the group of the target vector."""
    source, target = draw(40, seed=1), draw(3, seed=2)
    memory = remember(source).joined(remember(target, is_target=True))
    vectors, group = domain_memory(memory, is_target=True)
    assert len(vectors) == 3 * (1 + MIXES_PER_TARGET)
    nearest = np.argsort(np.linalg.norm(source - target[1], axis=1))[:MIXES_PER_TARGET]
    own = vectors[3:][group[3:] == group[1]]
    np.testing.assert_allclose(own, 0.9 * target[1] + 0.1 * source[nearest], atol=1e-6)
    assert domain_memory(memory, is_target=False)[0].tolist() == source.tolist()


def test_mixes_of_a_clip_are_left_out_with_it(draw, remember):
    """Or each target clip would find itself again."""
    source, target = draw(40, seed=1), draw(5, seed=2)
    memory = remember(source).joined(remember(target, is_target=True))
    fit = fit_memory(memory, memory)
    nearest_other = leave_one_out(target, 1)
    assert fit.target.mean > 0.7 * nearest_other.mean()


def test_memory_keeps_within_its_budget(draw, remember):
    """By a coreset, whose statistics are still of all that was heard."""
    heard = remember(draw(200))
    memory, fit = build_memory(heard, budget_bytes=memory_file_bytes(50, 16))
    assert len(memory) == fit.n_vectors == 50
    assert fit.source.n == 200
    full = build_memory(heard)[1]
    assert full.source.mean < fit.source.mean < 1.5 * full.source.mean
    fresh = outputs(draw(400)[200:])
    assert abs(float(KnnScorer(memory, fit).score(fresh).mean())) < 0.5


@pytest.mark.parametrize("budget_bytes", [5_000, 20_000, 50_000])
def test_file_of_a_memory_keeps_within_its_budget(draw, remember, budget_bytes):
    """What an npz adds to the vectors counts; the room left is less than one vector."""
    memory, _ = build_memory(remember(draw(2_000)), budget_bytes=budget_bytes)
    taken = len(npz_from_memories([memory]))
    assert taken == memory_file_bytes(len(memory), 16)
    assert budget_bytes - (4 * 16 + 32) < taken <= budget_bytes


def test_scarce_target_is_kept_whole_beside_many_source_vectors(draw, remember):
    """Half of the budget at most."""
    heard = remember(draw(200)).joined(remember(draw(10, seed=2), is_target=True))
    memory, _ = build_memory(heard, budget_bytes=memory_file_bytes(40, 16))
    assert (int(memory.is_target.sum()), len(memory)) == (10, 40)


@pytest.mark.parametrize("budget_bytes", [None, 10_000])
@pytest.mark.parametrize("n", [1, 2])
def test_too_few_clips_are_refused(draw, remember, n, budget_bytes):
    """Two clips have one distance, and no spread."""
    with pytest.raises(ClipError, match=rf"{n} healthy recordings of the source domain; expected 3 or more"):
        build_memory(remember(draw(n)), budget_bytes=budget_bytes)


def test_no_clips_are_refused(draw, remember):
    """As what is left when everything is forgotten."""
    with pytest.raises(ClipError, match="no healthy recordings"):
        build_memory(remember(draw(3)[:0]))


@pytest.mark.parametrize("n_target", [1, 2])
def test_one_or_two_target_clips_serve_with_the_statistics_of_the_source(draw, remember, n_target):
    """They and their mixes are in the memory: the machine as it sounds now is nearer than to its former sound alone."""
    source, target = draw(20), draw(n_target + 1, seed=1)
    memory, fit = build_memory(remember(source).joined(remember(target[:n_target], is_target=True)))
    assert (len(memory), int(memory.is_target.sum())) == (20 + n_target, n_target)
    assert fit.source == fit.target == build_memory(remember(source))[1].source
    fresh = outputs(target[n_target:])
    alone = KnnScorer(*build_memory(remember(source))).score(fresh)
    assert KnnScorer(memory, fit).score(fresh) < alone - 1.0


def test_one_or_two_target_clips_without_a_source_are_refused(draw, remember):
    """There is no spread to be had."""
    with pytest.raises(ClipError, match="2 healthy recordings of the target domain"):
        build_memory(remember(draw(2, seed=1), is_target=True))


def test_clips_all_alike_are_refused(draw, remember):
    """Copies of one recording, or a microphone that is dead."""
    with pytest.raises(ClipError, match=r"all alike.*copies"):
        build_memory(remember(np.repeat(draw(1), 12, axis=0)))


def test_more_neighbours_than_clips_are_refused(draw, remember):
    """With the number that would be needed."""
    with pytest.raises(ClipError, match="fewer than 5"):
        build_memory(remember(draw(5)), k=5)


@pytest.mark.parametrize("domain", ["source", "target"])
def test_statistics_of_more_neighbours_than_vectors_are_refused(draw, remember, domain):
    """Where they are written, and where the memory is read."""
    spread = Spread(mean=0.1, std=0.1, n=9)
    with pytest.raises(ValueError, match="8 neighbours of 5 vectors"):
        KnnFit(k=8, n_vectors=5, **{"source": None, "target": None, domain: spread})
    memory = remember(draw(7)).joined(remember(draw(1, seed=1), is_target=True))
    KnnScorer(memory, KnnFit(k=7, n_vectors=8, source=spread, target=spread))
    fit = KnnFit(k=8, n_vectors=8, source=spread, target=spread)
    with pytest.raises(ValueError, match="7 vectors of the source domain"):
        KnnScorer(memory, fit)


@pytest.mark.parametrize("budget_bytes", [0, memory_file_bytes(2, 16)])
def test_a_budget_for_less_than_a_memory_is_refused(draw, remember, budget_bytes):
    """A memory of two vectors tells nothing."""
    with pytest.raises(ValueError, match="expected 3 or more"):
        build_memory(remember(draw(20)), budget_bytes=budget_bytes)


def test_statistics_of_another_memory_are_refused(draw, remember):
    """Numbers that would make every score wrong."""
    fit = KnnFit(k=1, n_vectors=9, source=Spread(mean=0.1, std=0.1, n=9), target=None)
    with pytest.raises(ValueError, match="fit it again"):
        KnnScorer(remember(draw(10)), fit)
    with pytest.raises(ValueError, match="fit it again"):
        KnnScorer(remember(draw(9), is_target=True), fit)


def test_network_without_the_layer_is_refused(draw):
    """A memory of feature maps needs them."""
    with pytest.raises(BundleError, match="no output feature_map"):
        layer_vectors(outputs(draw(1)), "feature_map")


def test_vectors_are_of_unit_length_whatever_the_engine(draw):
    """Some engines leave embeddings longer, and a feature map is as long as the sound is loud."""
    vectors = draw(3)
    found = layer_vectors(outputs(5.0 * vectors, feature_map=70.0 * vectors), "embedding")
    np.testing.assert_allclose(found, vectors, atol=1e-6)
    found = layer_vectors(outputs(vectors, feature_map=70.0 * vectors), "feature_map")
    np.testing.assert_allclose(found, vectors, atol=1e-6)


def test_impossible_embedding_has_no_score(draw, remember):
    """NaN in, NaN out, for that window alone."""
    scorer = KnnScorer(*build_memory(remember(draw(10))))
    vectors = draw(2, seed=3)
    vectors[0, 0] = np.nan
    assert np.isnan(scorer.score(outputs(vectors))).tolist() == [True, False]
