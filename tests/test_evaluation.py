"""The instruments are tried on worlds whose answer is known."""

import json
import math

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from subspace.blocks import BlockLayout
from subspace.evaluation import measure_separation, rank_score, write_report
from subspace.evaluation.probes import can_probe, linear_probe
from subspace.labels import label_source
from subspace.projection import Projection
from subspace.records import Record
from subspace.retrieval_sets import Document, RetrievalSet

COUNT, DIM = 900, 12
LAYOUT = BlockLayout.from_widths({"topic": 5, "complexity": 3})


@pytest.fixture(scope="module")
def world():
    """Topic lies in dimensions 0 to 3, complexity in dimension 6; the rest is noise."""
    rng = np.random.default_rng(0)
    topics, levels = rng.integers(4, size=COUNT), rng.normal(size=COUNT)
    x = rng.normal(size=(COUNT, DIM)).astype(np.float32) * 0.3
    x[np.arange(COUNT), topics] += 2
    x[:, 6] += levels
    splits = ["train", "train", "train", "validation", "test"]
    records = [
        Record(str(n), "t", "s", {"topic": f"t{t}", "complexity": float(c)}, splits[n % 5])
        for n, (t, c) in enumerate(zip(topics, levels, strict=True))
    ]
    return x, label_source("s", records)


def separation_of(world, rows: np.ndarray):
    x, labels = world
    projection = Projection(rows.astype(np.float32), np.zeros(DIM, dtype=np.float32), LAYOUT)
    return measure_separation(
        projection, embeddings={"s": x}, labels={"s": labels}, raw=slice(0, DIM)
    )


def select(*dimensions: int) -> np.ndarray:
    return np.eye(DIM)[list(dimensions)]


def test_planted_factors_are_found_where_they_are_and_nowhere_else(world):
    # Noise beside the number: a block of one dimension would be a sign after scaling.
    found = separation_of(world, select(0, 1, 2, 3, 8, 6, 9, 10))
    assert found.factors == ("topic", "complexity")
    matrix = found.matrix()
    np.testing.assert_allclose(np.diag(matrix), 1.0, atol=0.15)
    assert matrix[0, 1] < 0.2
    assert matrix[1, 0] < 0.2
    assert found.selectivity() > 0.75


def test_constant_vectors_hold_nothing(world):
    found = separation_of(world, np.zeros((LAYOUT.dim, DIM)))
    assert found.matrix().tolist() == [[0, 0], [0, 0]]
    assert found.selectivity() == 0


def test_blocks_that_leak_are_caught(world):
    rng = np.random.default_rng(1)
    wide = BlockLayout.from_widths({"topic": 12, "complexity": 12})
    rotation = np.linalg.qr(rng.normal(size=(DIM, DIM)))[0]
    projection = Projection(
        np.vstack([rotation, rotation[::-1]]).astype(np.float32),
        np.zeros(DIM, dtype=np.float32),
        wide,
    )
    x, labels = world
    found = measure_separation(
        projection, embeddings={"s": x}, labels={"s": labels}, raw=slice(0, DIM)
    )
    np.testing.assert_allclose(found.matrix(), 1.0, atol=0.1)
    assert found.selectivity() == pytest.approx(0, abs=0.1)


def test_a_probe_of_numbers_is_ridge_regression(world):
    from scipy.stats import spearmanr

    x, labels = world
    column = labels.columns["complexity"]
    score = linear_probe(x, column=column, labels=labels).score
    train, test = labels.positions("train"), labels.positions("test")
    scale = x[train].std(axis=0)
    reference = Ridge(alpha=1e-2 * len(train)).fit(x[train] / scale, column.values[train])
    expected = spearmanr(reference.predict(x[test] / scale), column.values[test]).statistic
    assert score == pytest.approx(expected, abs=0.01)


def test_a_probe_does_not_see_scale_or_offset(world):
    x, labels = world
    column = labels.columns["topic"]
    moved = x * np.logspace(-3, 3, DIM, dtype=np.float32) + 5
    assert linear_probe(moved, column=column, labels=labels).score == pytest.approx(
        linear_probe(x, column=column, labels=labels).score, abs=0.01
    )


def test_shuffled_labels_cannot_be_read(world):
    x, labels = world
    shuffled = np.random.default_rng(3).permutation(COUNT)
    for column in labels.columns.values():
        probe = linear_probe(x, column=column.take(shuffled), labels=labels)
        assert probe.score - probe.chance < 0.15


def test_classes_that_do_not_cross_splits_are_left_out_with_the_reason():
    splits = ["train", "validation", "test"]
    records = [
        Record(str(n), "t", "s", {"article": f"{splits[n % 3]} {n % 2}"}, splits[n % 3])
        for n in range(300)
    ]
    labels = label_source("s", records)
    assert not can_probe(labels.columns["article"], labels=labels)
    x = np.random.default_rng(0).normal(size=(300, DIM)).astype(np.float32)
    projection = Projection(np.eye(DIM, dtype=np.float32)[:8], np.zeros(DIM, np.float32), LAYOUT)
    found = measure_separation(
        projection, embeddings={"s": x}, labels={"s": labels}, raw=slice(0, DIM)
    )
    assert found.readings == ()
    assert found.left_out[0].startswith("s/article")
    assert found.to_json()["selectivity"] is None


def slow_ranking(scores, gains, k):
    ndcg, mrr = [], []
    for row, gain in zip(scores, gains, strict=True):
        order = sorted(range(len(row)), key=lambda d: -row[d])
        ranked = [gain[d] for d in order]
        ideal = sorted(gain, reverse=True)
        dcg, best = (
            sum(g / math.log2(rank + 2) for rank, g in enumerate(listed[:k]))
            for listed in (ranked, ideal)
        )
        ndcg.append(dcg / best)
        mrr.append(1 / (ranked.index(1) + 1))
    return np.mean(ndcg), np.mean(mrr)


def test_ranking_scores_equal_the_definition_with_relevant_or_not():
    rng = np.random.default_rng(0)
    gains = (rng.random((20, 30)) < 0.1) * rng.integers(1, 3, size=(20, 30))
    gains[:, 0] |= ~gains.any(axis=1)
    scores = rng.normal(size=(20, 30))
    queries = [f"q{n}" for n in range(20)]
    data = RetrievalSet(
        documents=tuple(Document(f"d{n}", "t") for n in range(30)),
        queries=dict.fromkeys([*queries, "unjudged"], "t"),
        relevance={
            query: {f"d{d}": float(g) for d, g in enumerate(row)}
            for query, row in zip(queries, gains, strict=True)
        },
    )
    with_unjudged = np.vstack([scores, rng.normal(size=(1, 30))])
    found = rank_score(with_unjudged, query_ids=[*queries, "unjudged"], data=data, k=5)
    ndcg, mrr = slow_ranking(scores, (gains > 0).astype(int).tolist(), k=5)
    assert found.ndcg == pytest.approx(ndcg)
    assert found.mrr == pytest.approx(mrr)
    assert found.queries == 20
    with pytest.raises(ValueError, match="no query"):
        rank_score(scores[:1], query_ids=["unjudged"], data=data, k=5)


def test_the_same_numbers_give_the_same_report_byte_for_byte(world, tmp_path):
    found = separation_of(world, select(0, 1, 2, 3, 8, 6, 9, 10))
    for name in ("one", "two"):
        write_report(found, folder=tmp_path / name, about={"checkpoint": "k"})
    names = ["separation.json", "separation.md", "separation.png"]
    assert sorted(path.name for path in (tmp_path / "one").iterdir()) == names
    for name in names:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    report = json.loads(
        (tmp_path / "one" / "separation.json").read_text(),
        parse_constant=lambda name: pytest.fail(f"{name} is not JSON"),
    )
    assert report["about"] == {"checkpoint": "k"}
    assert len(report["readings"]) == 2 * 3
    page = (tmp_path / "one" / "separation.md").read_text()
    assert "| s | topic | balanced accuracy | 0.250 |" in page
    assert "| s | complexity | Spearman | 0.000 |" in page
