"""The replay is the search it stands for, and what it writes can be read."""

import json

import numpy as np
import pytest
from worlds import turned

from subspace.bench.replay import Fixed, replay
from subspace.bench.riv import BANDIT, RELEVANCE, run_riv
from subspace.bench.riv_tables import riv_markdown, write_riv
from subspace.bench.spaces import Space, Variant, make_variants, relevance_matrix
from subspace.blocks import BlockLayout, unit_blocks
from subspace.data.retrieval_sets import Document, RetrievalSet
from subspace.errors import ConfigError
from subspace.model.projection import Projection
from subspace.retrieval import BlockIndex, UsageLog
from subspace.retrieval.engines import NumpyEngine
from subspace.retrieval.weights import Weights

LAYOUT = BlockLayout.from_widths({"topic": 6, "style": 4})
TASKS, DOCUMENTS = 24, 18


def make_world(seed: int = 0) -> tuple[Variant, np.ndarray]:
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(TASKS + DOCUMENTS, LAYOUT.dim)).astype(np.float32)
    z = unit_blocks(z, layout=LAYOUT)
    space = Space(documents=z[:DOCUMENTS], queries=z[DOCUMENTS:])
    relevant = np.zeros((TASKS, DOCUMENTS), dtype=bool)
    relevant[np.arange(TASKS), rng.integers(0, DOCUMENTS, TASKS)] = True
    return Variant("world", LAYOUT, (space,), np.zeros(TASKS, dtype=np.int64)), relevant


@pytest.mark.parametrize("scope", ["block", "item"])
def test_a_replay_is_searching_using_and_logging_one_by_one(scope, tmp_path):
    variant, relevant = make_world()
    weights = Weights.make(layout=LAYOUT, preset="balanced")
    order = np.random.default_rng(1).permutation(TASKS)
    run = replay(
        variant,
        relevant=relevant,
        order=order,
        policy=Fixed(weights),
        scope=scope,
    )
    engine = NumpyEngine(layout=LAYOUT, projection_digest="0")
    documents = [Document(id=str(n), text="text") for n in range(DOCUMENTS)]
    engine.upsert(documents, variant.spaces[0].documents)
    ever: set[str] = set()
    with UsageLog.open(tmp_path / "usage.db", clock="steps") as log:
        index = BlockIndex(engine, usage=log)
        for step, task in enumerate(order):
            query = variant.spaces[0].queries[task]
            hits = index.search(query, weights=weights, scope=scope, k=5)
            success = {hit.id: float(relevant[task, int(hit.id)]) for hit in hits}
            assert run.hit[task] == any(success.values())
            gains = [success[hit.id] / np.log2(rank + 2) for rank, hit in enumerate(hits)]
            assert run.ndcg[task] == pytest.approx(sum(gains))
            ever |= set(success)
            assert run.shown[step] == len(ever)
            log.add(success.items())


def test_what_was_used_changes_what_comes_after_and_relevance_alone_does_not():
    variant, relevant = make_world()
    order = np.arange(TASKS)

    def ranks(order: np.ndarray, weights: Weights) -> np.ndarray:
        run = replay(variant, relevant=relevant, order=order, policy=Fixed(weights), scope="block")
        return run.reciprocal_rank

    alone, mixed = Weights.equal(LAYOUT), Weights.make(layout=LAYOUT, preset="balanced")
    assert (ranks(order, alone) == ranks(order[::-1], alone)).all()
    assert (ranks(order, mixed) != ranks(order[::-1], mixed)).any()


def test_the_learned_block_never_saw_the_tasks_that_are_searched_in_it():
    """With judgements of a fold changed, the vectors of that fold stay; the others change."""
    rng = np.random.default_rng(0)
    documents = rng.normal(size=(DOCUMENTS, 12)).astype(np.float32)
    queries = rng.normal(size=(TASKS, 12)).astype(np.float32)
    _, relevant = make_world()
    projection = Projection(
        weight=rng.normal(size=(LAYOUT.dim, 12)).astype(np.float32),
        mean=np.zeros(12, np.float32),
        layout=LAYOUT,
    )
    settings = {"projection": projection, "raw": slice(4, 12), "folds": 3, "seed": 0}
    before = make_variants(documents=documents, queries=queries, relevant=relevant, **settings)[-1]
    changed = relevant.copy()
    changed[before.fold == 0] = np.roll(relevant[before.fold == 0], 1, axis=1)
    after = make_variants(documents=documents, queries=queries, relevant=changed, **settings)[-1]
    assert (before.fold == after.fold).all()
    np.testing.assert_array_equal(before.spaces[0].queries, after.spaces[0].queries)
    assert not np.allclose(before.spaces[1].queries, after.spaces[1].queries)
    assert before.layout.names == ("topic", "style", "match")


@pytest.mark.parametrize("folds", [1, -1, TASKS + 1])
def test_folds_that_cannot_be_are_refused(folds):
    _, relevant = make_world()
    x = np.ones((TASKS, 3), np.float32)
    projection = Projection(
        weight=np.ones((LAYOUT.dim, 3), np.float32), mean=np.zeros(3, np.float32), layout=LAYOUT
    )
    with pytest.raises(ConfigError, match="folds must be 0 or between 2 and 24"):
        make_variants(
            documents=x,
            queries=x,
            relevant=relevant,
            projection=projection,
            raw=slice(0, 3),
            folds=folds,
            seed=0,
        )


def test_a_task_without_a_relevant_document_is_named():
    data = RetrievalSet(
        documents=(Document(id="d", text="text"),), queries={"q": "text"}, relevance={}
    )
    with pytest.raises(ConfigError, match="query 'q' has no relevant document"):
        relevance_matrix(data)


def test_the_bench_is_written_for_people_and_machines_and_is_the_same_again(tmp_path):
    variant, relevant = make_world()
    pages = []
    for name in ("one", "two"):
        bench = run_riv([variant], relevant=relevant, orders=2, seed=3)
        (tmp_path / name).mkdir()
        write_riv(bench, folder=tmp_path / name)
        files = [tmp_path / name / f"riv.{kind}" for kind in ("json", "md", "png")]
        pages.append([file.read_bytes() for file in files])
    assert pages[0] == pages[1]
    written = json.loads(pages[0][0])
    assert (written["tasks"], written["documents"], written["orders"]) == (TASKS, DOCUMENTS, 2)
    assert "| balanced |" in riv_markdown(bench)
    assert pages[0][2].startswith(b"\x89PNG")
    low, high = bench.find("world", "balanced").interval()
    assert low < bench.find("world", "balanced").ndcg < high
    assert len(bench.find("world", BANDIT).arms) == 8
    assert bench.find("world", RELEVANCE).ndcg > 0


def test_no_order_is_refused():
    variant, relevant = make_world()
    with pytest.raises(ConfigError, match="orders must be 1 or more"):
        run_riv([variant], relevant=relevant, orders=0)


@pytest.mark.parametrize("names", [("topic", "style"), ("match", "answer")])
def test_queries_are_projected_as_queries_and_a_block_of_that_name_may_be_there(names):
    rng = np.random.default_rng(0)
    documents = rng.normal(size=(DOCUMENTS, 12)).astype(np.float32)
    queries = rng.normal(size=(TASKS, 12)).astype(np.float32)
    _, relevant = make_world()
    plain = Projection(
        weight=rng.normal(size=(LAYOUT.dim, 12)).astype(np.float32),
        mean=rng.normal(size=12).astype(np.float32),
        layout=BlockLayout(names, LAYOUT.widths),
    )
    projection, _ = turned(plain)
    _, blocks, learned = make_variants(
        documents=documents, queries=queries, relevant=relevant,
        projection=projection, raw=slice(0, 12), folds=3, seed=0,
    )  # fmt: skip
    np.testing.assert_array_equal(blocks.spaces[0].queries, projection.queries(queries))
    assert not np.allclose(blocks.spaces[0].queries, projection(queries))
    assert learned.layout.names[:2] == names
    assert len(set(learned.layout.names)) == 3
