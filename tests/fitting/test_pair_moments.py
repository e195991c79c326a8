"""Statistics of pairs equal what is computed from their definition, whatever the chunks."""

import numpy as np
import pytest

from subspace.errors import ConfigError
from subspace.fitting import pair_moments
from subspace.fitting.pair_moments import collect_pairs, group_scatter, halves_scatter

DIM = 5


@pytest.fixture(params=[3, 4096])
def chunk(request, monkeypatch) -> int:
    monkeypatch.setattr(pair_moments, "_CHUNK", request.param)
    return request.param


def vectors(count: int = 40) -> np.ndarray:
    rng = np.random.default_rng(0)
    return (rng.normal(size=(count, DIM)) + 3).astype(np.float32)


@pytest.mark.usefixtures("chunk")
def test_pair_statistics_equal_the_loops_of_their_definition():
    v = vectors()
    rng = np.random.default_rng(1)
    queries, documents = rng.permutation(40)[:9], rng.permutation(40)[:14]
    pairs = np.array([(q, d) for q in range(9) for d in rng.permutation(14)[: q % 3 + 1]])
    found = collect_pairs(v, queries=queries, documents=documents, pairs=pairs)
    q, d = v[queries].astype(np.float64), v[documents].astype(np.float64)
    q, d = q - q.mean(axis=0), d - d.mean(axis=0)
    within, cross = np.zeros((DIM, DIM)), np.zeros((DIM, DIM))
    for i, j in pairs:
        within += np.outer(q[i] - d[j], q[i] - d[j]) / 2 / len(pairs)
        cross += np.outer(q[i], d[j]) / 9
    np.testing.assert_allclose(found.within, within, atol=1e-12)
    np.testing.assert_allclose(found.cross, cross, atol=1e-12)
    np.testing.assert_allclose(found.queries.covariance, q.T @ q / 9, atol=1e-12)
    np.testing.assert_allclose(found.documents.mean, v[documents].mean(axis=0), rtol=1e-6)
    assert (found.queries.count, found.documents.count) == (9, 14)


@pytest.mark.usefixtures("chunk")
def test_scatter_inside_groups_leaves_out_what_groups_differ_in():
    v = vectors().astype(np.float64)
    groups = np.array([0, 1, 2, -1, 0, 1, 3, 1] * 5)
    apart = v + 100 * groups[:, None]
    rows = np.random.default_rng(2).permutation(40)
    found = group_scatter(apart.astype(np.float32), rows=rows, groups=groups[rows])
    wanted, freedom = np.zeros((DIM, DIM)), 0
    for group in (0, 1, 2, 3):
        x = apart[groups == group] - apart[groups == group].mean(axis=0)
        wanted += x.T @ x
        freedom += len(x) - 1
    np.testing.assert_allclose(found, wanted / freedom, rtol=1e-3)
    # Counter-check: without groups their distance is all there is.
    assert np.trace(np.cov(apart.T)) > 100 * np.trace(found)


def test_texts_without_groups_of_two_have_no_scatter():
    rows = np.arange(4)
    assert group_scatter(vectors(), rows=rows, groups=np.full(4, -1)) is None
    assert group_scatter(vectors(), rows=rows, groups=rows) is None


def test_halves_are_pairs_of_themselves():
    first, second = np.arange(10), np.arange(10, 20)
    v = vectors().astype(np.float64)
    a, b = v[first] - v[first].mean(axis=0), v[second] - v[second].mean(axis=0)
    found = halves_scatter(vectors(), first=first, second=second)
    np.testing.assert_allclose(found, (a - b).T @ (a - b) / 20, atol=1e-12)


def test_no_pairs_are_refused():
    nothing = np.zeros((0, 2), dtype=np.int64)
    with pytest.raises(ConfigError, match="no query has a relevant document"):
        collect_pairs(vectors(), queries=np.arange(3), documents=np.arange(3), pairs=nothing)
