"""Blocks learned from pairs keep what pairs share, and map queries to what answers them."""

from dataclasses import replace

import numpy as np
import pytest
from scipy.linalg import eigh

from subspace.blocks import BlockLayout, unit
from subspace.errors import ConfigError
from subspace.fitting.pair_blocks import (
    ANSWER,
    MATCH,
    FromPairs,
    Together,
    add_pair_blocks,
    factor_layout,
)
from subspace.fitting.pair_moments import PairStatistics, collect_pairs
from subspace.model.projection import Projection

SHARED = slice(0, 4)
DIM = 12


def world(count: int = 150, *, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Query n and document n share the first dimensions; the others are louder and unrelated."""
    rng = np.random.default_rng(seed)
    shared = rng.normal(size=(count, 4))
    texts = []
    for _ in range(2):
        x = 3 * rng.normal(size=(count, DIM))
        x[:, SHARED] = shared + 0.1 * rng.normal(size=(count, 4))
        texts.append(x.astype(np.float32))
    return texts[0], texts[1], np.repeat(np.arange(count)[:, None], 2, axis=1)


def statistics_of(queries: np.ndarray, documents: np.ndarray, pairs: np.ndarray) -> PairStatistics:
    rows = np.arange(len(queries) + len(documents))
    return collect_pairs(
        np.concatenate([queries, documents]),
        queries=rows[: len(queries)],
        documents=rows[len(queries) :],
        pairs=pairs,
    )


def learn(
    queries: np.ndarray,
    documents: np.ndarray,
    pairs: np.ndarray,
    *,
    block: str = MATCH,
    width: int = 4,
    **settings: float,
) -> Projection:
    together = Together(sets={"set": statistics_of(queries, documents, pairs)})
    layout = BlockLayout((block,), (width,))
    return add_pair_blocks(None, layout=layout, together=together, settings=FromPairs(**settings))


def first_ranks(queries: np.ndarray, documents: np.ndarray) -> float:
    """How often the document of the pair is the nearest."""
    scores = unit(queries) @ unit(documents).T
    return float((scores.argmax(axis=1) == np.arange(len(queries))).mean())


@pytest.mark.parametrize("block", [MATCH, ANSWER])
def test_pairs_never_seen_find_each_other_and_did_not_before(block):
    queries, documents, pairs = world(400)
    settings = {"block": block, "shrinkage": 0.05}
    learned = learn(queries, documents, pairs, **settings)
    new_queries, new_documents, _ = world(seed=1)
    known = first_ranks(new_queries[:, SHARED], new_documents[:, SHARED])
    assert first_ranks(new_queries, new_documents) < 0.2
    assert first_ranks(learned.queries(new_queries), learned(new_documents)) > 0.8 * known
    # Counter-check: wrong pairs teach nothing.
    wrong = pairs.copy()
    wrong[:, 1] = np.roll(wrong[:, 1], 1)
    misled = learn(queries, documents, wrong, **settings)
    assert first_ranks(misled.queries(new_queries), misled(new_documents)) < 0.2


def test_answer_finds_documents_that_share_nothing_with_their_queries_and_match_cannot():
    queries, documents, pairs = world(400)
    turned = documents[:, ::-1].copy()  # what is shared stands elsewhere
    new_queries, new_documents, _ = world(seed=1)
    new_turned = new_documents[:, ::-1].copy()
    found = {
        block: first_ranks(learned.queries(new_queries), learned(new_turned))
        for block in (MATCH, ANSWER)
        for learned in [learn(queries, turned, pairs, block=block)]
    }
    assert found[ANSWER] > 0.6
    assert found[MATCH] < 0.2


def test_the_rows_of_match_are_the_leading_directions_of_the_definition():
    queries, documents, pairs = world(60)
    learned = learn(queries, documents, pairs, width=DIM, shrinkage=0.3)
    q = queries.astype(np.float64) - queries.mean(axis=0)
    d = documents.astype(np.float64) - documents.mean(axis=0)
    within = np.zeros((DIM, DIM))
    for i, j in pairs:
        within += np.outer(q[i] - d[j], q[i] - d[j]) / 2 / len(pairs)
    within = 0.7 * within + 0.3 * np.trace(within) / DIM * np.eye(DIM)
    total = (q.T @ q + d.T @ d) / (len(q) + len(d))
    values, _ = eigh(total, within)
    w = learned.weight.astype(np.float64)
    np.testing.assert_allclose(w @ within @ w.T, np.eye(DIM), atol=1e-4)
    np.testing.assert_allclose(np.diag(w @ total @ w.T), values[::-1], rtol=1e-3)


@pytest.mark.parametrize("width", [DIM, 5])
def test_answer_is_the_ridge_regression_of_relevance_on_both_texts(width):
    """Against the regression solved in its other form, over texts instead of dimensions."""
    queries, documents, pairs = world(30)
    documents = documents[:20]
    pairs = pairs[:20]
    learned = learn(queries, documents, pairs, block=ANSWER, width=width, query_ridge=2.0)
    q = queries.astype(np.float64) - queries.mean(axis=0)
    d = documents.astype(np.float64) - documents.mean(axis=0)
    relevant = np.zeros((30, 20))
    relevant[pairs[:, 0], pairs[:, 1]] = 1
    left, right = 2.0 * (q**2).sum() / 30, 0.1 * (d**2).sum() / 20
    inner = np.linalg.solve(q @ q.T + left * np.eye(30), relevant)
    dual = q.T @ inner @ np.linalg.solve(d @ d.T + right * np.eye(20), d)
    assert learned.query is not None
    found = learned.query.weight.astype(np.float64).T @ learned.weight
    u, s, v = np.linalg.svd(dual)
    wanted = (u[:, :width] * s[:width]) @ v[:width]
    scale = np.linalg.norm(found) / np.linalg.norm(wanted)
    np.testing.assert_allclose(found, scale * wanted, atol=1e-4 * np.abs(found).max())


def test_each_side_is_centred_on_its_own_texts():
    queries, documents, pairs = world()
    learned = learn(queries, documents, pairs)
    moved = learn(queries + 5, documents - 7, pairs)
    np.testing.assert_allclose(moved.queries(queries + 5), learned.queries(queries), atol=2e-3)
    np.testing.assert_allclose(moved(documents - 7), learned(documents), atol=2e-3)


def test_parallel_texts_teach_what_does_not_count():
    """Few pairs say little of the loud dimensions; groups that differ in them say it."""
    queries, documents, pairs = world(6)
    new_queries, new_documents, _ = world(seed=1)
    nuisance = np.diag([0.0] * 4 + [1.0] * 8)
    layout = BlockLayout((MATCH,), (4,))
    together = Together(sets={"set": statistics_of(queries, documents, pairs)})

    def found(known: Together) -> float:
        learned = add_pair_blocks(
            None, layout=layout, together=known, settings=FromPairs(shrinkage=0.02, groups=3.0)
        )
        return first_ranks(learned.queries(new_queries), learned(new_documents))

    assert found(replace(together, groups=[nuisance])) > found(together) + 0.1


def test_the_other_blocks_stay_as_they_are_to_the_bit():
    queries, documents, pairs = world()
    rng = np.random.default_rng(3)
    factors = Projection(
        weight=rng.normal(size=(5, DIM)).astype(np.float32),
        mean=rng.normal(size=DIM).astype(np.float32),
        layout=BlockLayout(("topic", "style"), (3, 2)),
    )
    layout = BlockLayout((MATCH, "topic", ANSWER, "style"), (4, 3, 6, 2))
    together = Together(sets={"set": statistics_of(queries, documents, pairs)})
    both = add_pair_blocks(factors, layout=layout, together=together, settings=FromPairs())
    for project in (both, both.queries):
        found = layout.split(project(queries))
        wanted = factors.layout.split(factors(queries))
        for block in factors.layout:
            np.testing.assert_allclose(found[block], wanted[block], atol=1e-6)
    assert factor_layout(layout) == factors.layout
    np.testing.assert_array_equal(both.weight[layout.slice("topic")], factors.weight[:3])


def test_wrong_settings_are_refused():
    queries, documents, pairs = world(20)
    with pytest.raises(ConfigError, match="13 wide, but an embedding has 12"):
        learn(queries, documents, pairs, width=13)
    with pytest.raises(ConfigError, match=r"queries of data\.pairs all have the same embedding"):
        learn(np.ones_like(queries), documents, pairs)
    with pytest.raises(ConfigError, match="shrinkage"):
        FromPairs(shrinkage=0)
    with pytest.raises(ConfigError, match=r"pairs\.groups must be 0 or more, got -1"):
        FromPairs(groups=-1)
    with pytest.raises(ConfigError, match=r"pairs\.query_ridge must be above 0, got nan"):
        FromPairs(query_ridge=float("nan"))


@pytest.mark.parametrize("block", [MATCH, ANSWER])
def test_every_set_counts_the_same_however_large_and_each_counts(block):
    """Two sets that teach different things: the result is the same when they change places."""
    first, second = (statistics_of(*world(count, seed=seed)) for count, seed in ((200, 1), (40, 2)))
    layout = BlockLayout((block,), (4,))

    def solve(**sets: PairStatistics) -> np.ndarray:
        together = Together(sets=sets)
        return add_pair_blocks(None, layout=layout, together=together, settings=FromPairs()).weight

    def scatter(weight: np.ndarray) -> np.ndarray:
        return weight.T @ weight

    both = scatter(solve(a=first, b=second))
    np.testing.assert_allclose(both, scatter(solve(a=second, b=first)), atol=1e-4 * both.max())
    for alone in (first, second):
        assert np.abs(scatter(solve(a=alone)) - both).max() > 1e-2 * both.max()


def test_halves_count_as_much_as_is_said():
    queries, documents, pairs = world()
    loud = np.diag(np.r_[np.zeros(8), np.ones(4) * 50])
    together = Together(sets={"set": statistics_of(queries, documents, pairs)}, halves=[loud])
    layout = BlockLayout((MATCH,), (4,))

    def share(halves: float) -> float:
        learned = add_pair_blocks(
            None, layout=layout, together=together, settings=FromPairs(halves=halves)
        )
        return float(np.abs(learned.weight[:, 8:]).sum() / np.abs(learned.weight).sum())

    assert share(0.0) == share(0.0)
    assert share(50.0) < 0.5 * share(0.0), "what varies within a text tells no texts apart"


def test_queries_that_say_what_their_documents_say_teach_nothing():
    queries, _, pairs = world()
    with pytest.raises(ConfigError, match="the same embedding as its relevant documents"):
        learn(queries, queries, pairs)
