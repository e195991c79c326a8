"""Batches of pairs hold what is relevant, what is hard, and nothing that is both."""

import numpy as np
import pytest
import torch

from subspace.blocks import unit
from subspace.training.pair_batches import PairPlan


def make_plan(*, size: int = 24, seed: int = 0) -> PairPlan:
    rng = np.random.default_rng(1)
    pairs = np.array([(q, d) for q in range(30) for d in rng.permutation(50)[: 1 + q % 3]])
    return PairPlan(
        queries=rng.normal(size=(40, 6)).astype(np.float32),
        documents=rng.normal(size=(50, 6)).astype(np.float32),
        pairs=pairs,
        size=size,
        seed=seed,
        raw=slice(2, 6),
    )


def position(rows: np.ndarray, row: torch.Tensor) -> int:
    return int(np.flatnonzero((rows == row.numpy()).all(axis=1))[0])


@pytest.mark.parametrize("step", range(5))
def test_relevance_is_that_of_the_judgements(step):
    plan = make_plan()
    judged = set(map(tuple, plan.pairs))
    batch = plan.draw(step)
    asked = [position(plan.queries, q) for q in batch.queries]
    found = [position(plan.documents, d) for d in batch.documents]
    assert len(set(asked)) == len(asked) == 6
    assert len(set(found)) == len(found) <= 18
    for i, q in enumerate(asked):
        for j, d in enumerate(found):
            assert bool(batch.relevant[i, j]) == ((q, d) in judged)
        assert batch.relevant[i].any()


def test_negatives_are_the_nearest_that_are_not_relevant():
    plan = make_plan(size=4)
    batch = plan.draw(0)
    query = position(plan.queries, batch.queries[0])
    relevant = plan.pairs[plan.pairs[:, 0] == query, 1]
    scores = unit(plan.documents[:, 2:]) @ unit(plan.queries[query, 2:])
    scores[relevant] = -np.inf
    found = [position(plan.documents, d) for d in batch.documents]
    assert found[0] in relevant, "one that is relevant comes first"
    negatives = [d for d in found if d not in relevant]
    assert negatives == np.argsort(-scores)[: len(negatives)].tolist()
    assert len(found) == 3
    assert negatives


def test_a_step_and_a_seed_decide_the_batch():
    def drawn(step: int, seed: int) -> torch.Tensor:
        return make_plan(seed=seed).draw(step).queries

    assert torch.equal(drawn(3, 0), drawn(3, 0))
    assert not torch.equal(drawn(3, 0), drawn(4, 0))
    assert not torch.equal(drawn(3, 0), drawn(3, 1))


def test_with_many_relevant_documents_every_query_still_has_one_and_a_hard_negative():
    rng = np.random.default_rng(0)
    relevant = [(q, d) for q in range(40) for d in rng.permutation(400)[:30]]
    plan = PairPlan(
        queries=rng.normal(size=(40, 6)).astype(np.float32),
        documents=rng.normal(size=(400, 6)).astype(np.float32),
        pairs=np.array(relevant),
        size=64,
        seed=0,
        raw=slice(0, 6),
    )
    for step in range(5):
        found = plan.draw(step).relevant.numpy()
        assert found.any(axis=1).all()
        assert (~found).any(axis=1).all()
        assert len(found.T) == 48
