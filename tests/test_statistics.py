"""Streamed statistics equal what a slow, direct computation gives."""

import numpy as np
import pytest

from subspace import statistics
from subspace.labels import label_source
from subspace.records import Record
from subspace.statistics import collect_statistics

DIM = 6


@pytest.fixture
def world():
    """Groups of uneven size, a class that is missing in some, and a large common offset."""
    rng = np.random.default_rng(0)
    records, rows = [], []
    for group in range(70):
        content = rng.normal(size=DIM) * 3
        for style in rng.permutation(["a", "b", "c"])[: rng.integers(1, 4)]:
            for _ in range(rng.integers(1, 3)):
                records.append(
                    Record(
                        id=str(len(records)),
                        text="t",
                        source="s",
                        factors={"style": str(style), "c": float(rng.normal())},
                        split="train",
                        group=f"g{group}" if group % 7 else None,
                    )
                )
                rows.append(1000 + content + {"a": 0, "b": 1, "c": -1}[style])
    vectors = np.array(rows, dtype=np.float32)
    order = rng.permutation(len(records))
    return vectors, order, label_source("s", [records[position] for position in order])


@pytest.mark.parametrize("chunk", [1, 7, 64, 10_000])
def test_streaming_equals_a_direct_computation(world, monkeypatch, chunk):
    monkeypatch.setattr(statistics, "_CHUNK", chunk)
    vectors, rows, labels = world
    found = collect_statistics(vectors, rows=rows, labels=labels)

    x = vectors[rows].astype(np.float64)
    np.testing.assert_allclose(found.mean, x.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(found.covariance, np.cov(x.T, bias=True), atol=1e-6)
    codes = labels.columns["style"].codes
    means = np.array([x[codes == code].mean(axis=0) for code in range(3)])
    counts = np.bincount(codes)
    np.testing.assert_allclose(found.factors["style"].means, means - x.mean(axis=0), atol=1e-9)
    np.testing.assert_array_equal(found.factors["style"].counts, counts)
    expected = sum(
        n / len(x) * np.outer(m - x.mean(axis=0), m - x.mean(axis=0))
        for n, m in zip(counts, means, strict=True)
    )
    np.testing.assert_allclose(found.factors["style"].between, expected, atol=1e-9)


@pytest.mark.parametrize("chunk", [1, 10_000])
def test_paired_means_equal_a_slow_loop_over_groups(world, monkeypatch, chunk):
    monkeypatch.setattr(statistics, "_CHUNK", chunk)
    vectors, rows, labels = world
    x, codes = vectors[rows].astype(np.float64), labels.columns["style"].codes
    sums, counts = np.zeros((3, DIM)), np.zeros(3)
    for group in set(labels.groups) - {-1}:
        members = np.flatnonzero(labels.groups == group)
        present = sorted(set(codes[members]))
        if len(present) < 2:
            continue
        centre = np.mean(
            [x[members[codes[members] == code]].mean(axis=0) for code in present], axis=0
        )
        for member in members:
            sums[codes[member]] += x[member] - centre
            counts[codes[member]] += 1
    found = collect_statistics(vectors, rows=rows, labels=labels).factors["style"]
    np.testing.assert_array_equal(found.paired_counts, counts)
    np.testing.assert_allclose(found.paired_means, sums / counts[:, None], atol=1e-6)


def test_pairs_hold_content_constant_where_plain_means_do_not():
    """Content that goes with the style misleads the plain means and not the paired ones."""
    rng = np.random.default_rng(1)
    effect = np.eye(DIM)[0]
    records, rows = [], []
    for group in range(300):
        content = rng.normal(size=DIM) * 5
        for style in ("a", "b"):
            copies = 1 + 3 * ((content[1] > 0) == (style == "b"))
            for _ in range(copies):
                rows.append(content + effect * (style == "b"))
                records.append(
                    Record(str(len(records)), "t", "s", {"style": style}, "train", str(group))
                )
    vectors = np.array(rows, dtype=np.float32)
    labels = label_source("s", records)
    found = collect_statistics(vectors, rows=np.arange(len(rows)), labels=labels).factors["style"]
    paired = found.paired_means[1] / found.counts[1] - found.paired_means[0] / found.counts[0]
    plain = found.means[1] - found.means[0]
    assert abs(plain[1]) > 1, "the content leaks into the plain difference"
    difference = found.paired_means[1] - found.paired_means[0]
    np.testing.assert_allclose(difference, effect, atol=1e-5)
    assert np.isfinite(paired).all()


def test_the_order_of_the_texts_does_not_matter(world):
    vectors, rows, labels = world
    order = np.random.default_rng(2).permutation(len(rows))
    first = collect_statistics(vectors, rows=rows, labels=labels)
    again = collect_statistics(vectors, rows=rows[order], labels=labels.take(order))
    np.testing.assert_allclose(first.covariance, again.covariance, atol=1e-9)
    np.testing.assert_allclose(
        first.factors["c"].paired_means, again.factors["c"].paired_means, atol=1e-9
    )


def test_a_class_without_texts_counts_nothing(world):
    vectors, rows, labels = world
    kept = np.flatnonzero(labels.columns["style"].codes != 1)
    found = collect_statistics(vectors, rows=rows[kept], labels=labels.take(kept))
    assert found.factors["style"].counts[1] == 0
    assert not found.factors["style"].means[1].any()
    assert np.isfinite(found.factors["style"].between).all()


def test_without_groups_there_are_no_pairs(world):
    vectors, rows, labels = world
    kept = np.flatnonzero(labels.groups < 0)
    found = collect_statistics(vectors, rows=rows[kept], labels=labels.take(kept))
    assert found.factors["style"].paired_between is None


def test_an_empty_source_is_refused(world):
    vectors, rows, labels = world
    with pytest.raises(ValueError, match="no texts"):
        collect_statistics(vectors, rows=rows[:0], labels=labels.take(rows[:0]))
