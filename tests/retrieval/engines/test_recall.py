"""Recall is measured under the hardest weights, and a low one is not passed over in silence."""

import json
import logging
from functools import partial

import engine_world
import numpy as np
import pytest

from subspace.blocks import BlockLayout
from subspace.data.records import Record
from subspace.retrieval.engines import NumpyEngine
from subspace.retrieval.engines.recall import (
    KindRecall,
    RecallReport,
    measure_recall,
    warn_if_low,
)

LAYOUT = BlockLayout.from_widths({"topic": 8, "style": 8, "tone": 4})
COUNT = 400


unit_vectors = partial(engine_world.unit_vectors, layout=LAYOUT)
make_engine = partial(engine_world.make_engine, layout=LAYOUT)


def without_block(vectors: np.ndarray, name: str) -> np.ndarray:
    """An engine of these has never heard of that block."""
    coarse = vectors.copy()
    coarse[:, LAYOUT.slice(name)] = 0.1
    return coarse


def warnings(caplog) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


def test_the_exact_scan_has_recall_one_and_nobody_is_told(caplog):
    exact = make_engine(unit_vectors(COUNT))
    report = measure_recall(exact, exact, layout=LAYOUT)
    assert set(report.kinds) == {"one block", "uniform", "dirichlet"}
    assert all(kind.worst == kind.mean == 1 for kind in report.kinds.values())
    assert (report.k, report.queries) == (10, 200)
    warn_if_low(report)
    assert not warnings(caplog)


def test_an_engine_blind_to_one_block_is_worst_under_that_block_alone_and_it_is_said(caplog):
    vectors = unit_vectors(COUNT)
    engine, exact = make_engine(without_block(vectors, "style")), make_engine(vectors)
    report = measure_recall(engine, exact, layout=LAYOUT)
    # All 400 tie in the block that it does not know, so that all are given: a hit all the same.
    assert report.kinds["one block"].worst == 1
    coarse = without_block(vectors, "style")
    coarse[:, LAYOUT.slice("style")] = np.random.default_rng(1).normal(size=(COUNT, 8))
    report = measure_recall(make_engine(coarse), exact, layout=LAYOUT)
    assert report.worst is report.kinds["one block"]
    assert report.worst.weights == {"topic": 0, "style": 1, "tone": 0}
    assert report.worst.worst < 0.2
    # The other two blocks alone are found as they are.
    assert report.worst.mean == pytest.approx((2 + report.worst.worst) / 3)
    warn_if_low(report)
    (message,) = warnings(caplog)
    assert "style=1" in message
    assert f"{report.worst.worst:.2f}" in message
    assert "rescore" in message and "'pq'" in message


def test_recall_is_the_share_of_the_exact_best_that_is_found():
    vectors = unit_vectors(COUNT)
    kept = np.random.default_rng(2).random(COUNT) < 0.6
    half = NumpyEngine(layout=LAYOUT, projection_digest="0" * 64)
    half.upsert([Record(id=f"d{n}", text="a text") for n in np.flatnonzero(kept)], vectors[kept])
    report = measure_recall(half, make_engine(vectors), layout=LAYOUT, queries=COUNT)
    scores = vectors @ vectors.T / 3
    best = np.argsort(-scores, axis=1)[:, :10]
    assert report.kinds["uniform"].mean == pytest.approx(kept[best].mean())


def test_of_documents_that_score_alike_any_will_do():
    vectors = np.repeat(unit_vectors(20), 20, axis=0)
    exact = make_engine(vectors)
    few = NumpyEngine(layout=LAYOUT, projection_digest="0" * 64)
    # Half of the copies of each, where an exact scan finds all.
    some = [n for n in range(COUNT) if n % 20 >= 10]
    few.upsert([Record(id=f"d{n}", text="a text") for n in some], vectors[some])
    report = measure_recall(few, exact, layout=LAYOUT)
    assert report.worst.worst == 1


def test_the_same_seed_measures_the_same():
    exact = make_engine(unit_vectors(COUNT))
    coarse = make_engine(np.sign(unit_vectors(COUNT)))
    first = measure_recall(coarse, exact, layout=LAYOUT, queries=50, seed=3)
    assert first == measure_recall(coarse, exact, layout=LAYOUT, queries=50, seed=3)
    assert first != measure_recall(coarse, exact, layout=LAYOUT, queries=50, seed=4)


def test_fewer_documents_than_hits_are_all_found():
    exact = make_engine(unit_vectors(4))
    report = measure_recall(exact, exact, layout=LAYOUT)
    assert report.queries == 4
    assert report.worst.worst == 1
    empty = make_engine(unit_vectors(0))
    assert measure_recall(empty, empty, layout=LAYOUT).queries == 0


def test_the_report_survives_json():
    exact = make_engine(unit_vectors(COUNT))
    report = measure_recall(make_engine(np.sign(unit_vectors(COUNT))), exact, layout=LAYOUT)
    assert RecallReport.from_json(json.loads(json.dumps(report.to_json()))) == report


@pytest.mark.parametrize(
    "content", [{}, {"k": 10, "queries": 2, "kinds": {}}, {"k": 1, "queries": 2, "kinds": {"a": 3}}]
)
def test_what_is_no_report_is_refused(content):
    with pytest.raises((KeyError, TypeError, ValueError)):
        RecallReport.from_json(content)


def test_the_limit_is_drawn_where_it_is_said(caplog):
    kind = KindRecall(mean=0.97, worst=0.95, weights={"topic": 1.0, "style": 0.0})
    report = RecallReport(k=10, queries=5, kinds={"one block": kind})
    warn_if_low(report)
    assert not warnings(caplog)
    warn_if_low(report, limit=0.951)
    assert len(warnings(caplog)) == 1
