"""A block learned from pairs keeps what they share and drops what tells them apart."""

import numpy as np
import pytest
from scipy.linalg import eigh

from subspace.blocks import unit
from subspace.errors import ConfigError, LayoutError
from subspace.matching import solve_matching

SHARED, OTHER = slice(0, 4), slice(4, 12)


def world(count: int = 150, *, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Query n and document n share the first dimensions; the others are louder and unrelated."""
    rng = np.random.default_rng(seed)
    shared = rng.normal(size=(count, 4))
    texts = []
    for _ in range(2):
        x = 3 * rng.normal(size=(count, 12))
        x[:, SHARED] = shared + 0.1 * rng.normal(size=(count, 4))
        texts.append(x.astype(np.float32))
    return texts[0], texts[1], np.repeat(np.arange(count)[:, None], 2, axis=1)


def first_ranks(queries: np.ndarray, documents: np.ndarray) -> float:
    """How often the document of the pair is the nearest."""
    scores = unit(queries) @ unit(documents).T
    return float((scores.argmax(axis=1) == np.arange(len(queries))).mean())


def test_pairs_never_seen_find_each_other_and_did_not_before():
    queries, documents, pairs = world()
    settings = {"queries": queries, "documents": documents, "width": 4, "shrinkage": 0.05}
    learned = solve_matching(pairs=pairs, **settings)
    new_queries, new_documents, _ = world(seed=1)
    known = first_ranks(new_queries[:, SHARED], new_documents[:, SHARED])
    assert first_ranks(new_queries, new_documents) < 0.2
    assert first_ranks(learned(new_queries), learned(new_documents)) > 0.8 * known
    # Counter-check: wrong pairs teach nothing.
    wrong = pairs.copy()
    wrong[:, 1] = np.roll(wrong[:, 1], 1)
    misled = solve_matching(pairs=wrong, **settings)
    assert first_ranks(misled(new_queries), misled(new_documents)) < 0.2


def test_the_rows_are_the_leading_directions_of_the_definition():
    queries, documents, pairs = world(60)
    learned = solve_matching(queries=queries, documents=documents, pairs=pairs, shrinkage=0.3)
    q = queries.astype(np.float64) - queries.mean(axis=0)
    d = documents.astype(np.float64) - documents.mean(axis=0)
    within = np.zeros((12, 12))
    for i, j in pairs:
        within += np.outer(q[i] - d[j], q[i] - d[j]) / 2 / len(pairs)
    within = 0.7 * within + 0.3 * np.trace(within) / 12 * np.eye(12)
    total = (q.T @ q + d.T @ d) / (len(q) + len(d))
    values, _ = eigh(total, within)
    w = learned.weight.astype(np.float64)
    np.testing.assert_allclose(w @ within @ w.T, np.eye(12), atol=1e-4)
    np.testing.assert_allclose(np.diag(w @ total @ w.T), values[::-1], rtol=1e-3)


def test_wrong_input_is_refused():
    queries, documents, pairs = world(20)
    with pytest.raises(ConfigError, match="no query has a relevant document"):
        solve_matching(queries=queries, documents=documents, pairs=pairs[:0])
    with pytest.raises(ConfigError, match="between 1 and 12, got 13"):
        solve_matching(queries=queries, documents=documents, pairs=pairs, width=13)
    with pytest.raises(ConfigError, match="shrinkage"):
        solve_matching(queries=queries, documents=documents, pairs=pairs, width=4, shrinkage=0)
    with pytest.raises(LayoutError, match=r"documents \(20, 11\)"):
        solve_matching(queries=queries, documents=documents[:, 1:], pairs=pairs, width=4)
