"""Streamed moments equal the loop of their definition; groups take the content away."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from subspace.data.labels import Column, Labels
from subspace.fitting import moments
from subspace.fitting.moments import SourceMoments, collect_moments

DIM = 6
CHUNKS = [1, 7, 64, 10_000]


def make_labels(*, groups: np.ndarray | None = None, **codes: np.ndarray) -> Labels:
    count = len(next(iter(codes.values())))
    return Labels(
        source="test",
        columns={
            name: Column(codes=np.asarray(c, dtype=np.int64), class_count=int(max(c)) + 1)
            for name, c in codes.items()
        },
        groups=np.full(count, -1) if groups is None else np.asarray(groups, dtype=np.int64),
        splits=np.zeros(count, dtype=np.int64),
    )


def collect(x: np.ndarray, labels: Labels) -> SourceMoments:
    return collect_moments(x, rows=np.arange(len(x)), labels=labels)


def random_world(*, count: int, offset: float, seed: int = 0) -> tuple[np.ndarray, Labels]:
    """Groups of one to four texts, some texts without group, some without label."""
    rng = np.random.default_rng(seed)
    groups = rng.permutation(np.repeat(np.arange(count), rng.integers(1, 5, count))[:count])
    groups[rng.random(count) < 0.2] = -1
    topic, style = rng.integers(0, 5, count), rng.integers(-1, 3, count)
    x = rng.normal(size=(count, DIM)) + rng.normal(size=(5, DIM))[topic] + offset
    labels = make_labels(groups=groups, topic=topic, style=style)
    return x.astype(np.float32), labels


def slow_within_groups(x: np.ndarray, codes: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Mean, over the classes of groups that hold several, of (mean of the class - their mean)^2."""
    parts = []
    for group in sorted(set(groups[groups >= 0])):
        members = [i for i in range(len(x)) if groups[i] == group and codes[i] >= 0]
        classes = sorted({codes[i] for i in members})
        if len(classes) < 2:
            continue
        means = [np.mean([x[i] for i in members if codes[i] == c], axis=0) for c in classes]
        for mean in means:
            distance = mean - np.mean(means, axis=0)
            parts.append(np.outer(distance, distance))
    return np.mean(parts, axis=0)


@pytest.mark.parametrize("chunk", CHUNKS)
def test_streamed_moments_equal_a_direct_computation_in_spite_of_a_large_offset(chunk, monkeypatch):
    monkeypatch.setattr(moments, "_CHUNK", chunk)
    x, labels = random_world(count=300, offset=1e6)
    found = collect(x, labels)
    exact = x.astype(np.float64)
    assert found.count == 300
    np.testing.assert_allclose(found.mean, exact.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(found.covariance, np.cov(exact.T, bias=True), atol=1e-6)
    # Counter-check: squares that are summed without an origin lose these digits.
    naive = exact.T @ exact / 300 - np.outer(exact.mean(axis=0), exact.mean(axis=0))
    assert np.abs(naive - np.cov(exact.T, bias=True)).max() > 1e-5


@pytest.mark.parametrize("chunk", CHUNKS)
def test_class_means_and_between_class_covariance_follow_their_definition(chunk, monkeypatch):
    monkeypatch.setattr(moments, "_CHUNK", chunk)
    x, labels = random_world(count=300, offset=1e3)
    exact = x.astype(np.float64)
    for name, found in collect(x, labels).factors.items():
        codes = labels.columns[name].codes
        centre = exact[codes >= 0].mean(axis=0)
        between = np.zeros((DIM, DIM))
        for code in range(labels.columns[name].class_count):
            members = exact[codes == code]
            assert found.counts[code] == len(members)
            distance = members.mean(axis=0) - centre
            np.testing.assert_allclose(found.means[code], distance, atol=1e-6)
            between += np.outer(distance, distance) * len(members) / (codes >= 0).sum()
        np.testing.assert_allclose(found.between, between, atol=1e-6)


@pytest.mark.parametrize("chunk", CHUNKS)
def test_within_groups_follows_its_definition(chunk, monkeypatch):
    monkeypatch.setattr(moments, "_CHUNK", chunk)
    x, labels = random_world(count=200, offset=1e3)
    found = collect(x, labels)
    for name, factor in found.factors.items():
        codes = labels.columns[name].codes
        slow = slow_within_groups(x.astype(np.float64), codes, labels.groups)
        np.testing.assert_allclose(factor.within_groups, slow, atol=1e-6)


def test_labels_that_weigh_are_counted_by_their_weight():
    x, labels = random_world(count=60, offset=1)
    weights = np.random.default_rng(3).uniform(0.1, 2, 60)
    column = replace(labels.columns["topic"], weights=weights)
    found = collect(x, replace(labels, columns={"topic": column})).factors["topic"]
    exact = x.astype(np.float64)
    centre = np.average(exact, axis=0, weights=weights)
    for code in range(5):
        members = column.codes == code
        assert found.counts[code] == pytest.approx(weights[members].sum())
        mean = np.average(exact[members], axis=0, weights=weights[members])
        np.testing.assert_allclose(found.means[code], mean - centre, atol=1e-6)
    assert found.weight == pytest.approx(weights.mean())
    assert collect(x, labels).factors["topic"].weight == 1


def test_a_pass_over_a_mapped_file_reads_every_row_once_and_leaves_none_in_memory(
    tmp_path, monkeypatch
):
    """Rows that are neighbours, rows that are not, and one row for two equal texts."""
    monkeypatch.setattr(moments, "_CHUNK", 512)
    path, rng = tmp_path / "vectors.f32", np.random.default_rng(0)
    rng.normal(size=(20_000, 256)).astype("<f4").tofile(path)
    mapped = np.memmap(path, dtype="<f4", mode="r", shape=(20_000, 256))
    for rows in (np.arange(20_000), rng.permutation(20_000)[:5000], np.array([3, 5, 5, 4, 3])):
        positions, chunks = zip(*moments._stream(mapped, rows), strict=True)
        # A chunk may be a view of the file; what is kept here of it is read again.
        assert sorted(np.concatenate(positions)) == list(range(len(rows)))
        np.testing.assert_array_equal(
            np.concatenate(chunks), mapped[rows[np.concatenate(positions)]]
        )
    collect(mapped, make_labels(topic=np.arange(20_000) % 3))
    assert resident(path) < 2**20
    # Counter-check: that is seen.
    mapped.sum()
    assert resident(path) > 15 * 2**20


def resident(path: Path) -> int:
    """Bytes of a mapped file in this process's memory (Linux)."""
    lines = Path("/proc/self/smaps").read_text().splitlines()
    start = next(n for n, line in enumerate(lines) if line.endswith(str(path)))
    rss = next(line for line in lines[start:] if line.startswith("Rss:"))
    return 1024 * int(rss.split()[1])


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_products_in_float32_are_off_by_less_than_a_millionth(scale):
    """Of the standard deviations' product, entry by entry; two dimensions are a thousandfold."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(20_000, 64)) * scale + scale
    x[:, :2] *= 1e3
    x = x.astype(np.float32)
    found = collect(x, make_labels(topic=rng.integers(0, 5, len(x)))).covariance
    exact = np.cov(x.astype(np.float64).T, bias=True)
    spread = np.sqrt(np.diag(exact))
    assert (np.abs(found - exact) / np.outer(spread, spread)).max() < 1e-6
    # Counter-check: float32 throughout, without a point near the mean, is off by more.
    plain = x.T @ x / len(x) - np.outer(x.mean(axis=0), x.mean(axis=0))
    assert (np.abs(plain - exact) / np.outer(spread, spread)).max() > 1e-6


def test_vectors_in_float16_are_read_as_what_they_are():
    x, labels = random_world(count=300, offset=1)
    half = x.astype(np.float16)
    found, wanted = collect(half, labels), collect(half.astype(np.float32), labels)
    np.testing.assert_array_equal(found.covariance, wanted.covariance)


def test_content_vanishes_within_groups_while_plain_class_means_see_it():
    """Style moves every text by the same step; class 1 is rarer in groups far from zero."""
    step = np.zeros(DIM)
    step[0] = 2
    groups = np.array([0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5])
    style = np.array([0, 1, 0, 1, 0, 1, 0, 1, 0, 0, 0])  # two groups do not cross the classes
    content = np.random.default_rng(0).integers(-99, 99, size=(6, DIM))
    x = (content[groups] + np.outer(style, step)).astype(np.float32)
    found = collect(x, make_labels(groups=groups, style=style)).factors["style"]
    np.testing.assert_allclose(found.within_groups, np.outer(step, step) / 4, atol=1e-12)
    plain = found.means[1] - found.means[0]
    assert np.abs(plain - step).max() > 1


def test_a_class_with_two_versions_in_a_group_does_not_pull_the_groups_mean():
    groups, style = np.array([0, 0, 0, 1, 1]), np.array([0, 0, 1, 0, 1])
    step = np.eye(DIM)[0] * 2
    x = (10 * groups[:, None] + np.outer(style, step)).astype(np.float32)
    found = collect(x, make_labels(groups=groups, style=style)).factors["style"]
    np.testing.assert_allclose(found.within_groups, np.outer(step, step) / 4, atol=1e-12)


@pytest.mark.parametrize("groups", [[-1] * 6, [0, 0, 0, 1, 1, 1], [0, 1, 2, 3, 4, 5]])
def test_without_groups_that_cross_classes_there_is_nothing_within_groups(groups):
    x = np.random.default_rng(0).normal(size=(6, DIM)).astype(np.float32)
    style = np.array([0, 0, 0, 1, 1, 1])
    found = collect(x, make_labels(groups=np.array(groups), style=style)).factors["style"]
    assert found.within_groups is None
    assert found.between.any()


def test_a_class_without_texts_has_zeros_and_adds_nothing():
    x = np.random.default_rng(0).normal(size=(9, DIM)).astype(np.float32) + 5
    codes = np.tile([0, 1, 3], 3)  # nothing has class 2
    with_gap = collect(x, make_labels(style=codes)).factors["style"]
    without = collect(x, make_labels(style=np.tile([0, 1, 2], 3))).factors["style"]
    assert with_gap.counts[2] == 0
    assert not with_gap.means[2].any()
    np.testing.assert_allclose(with_gap.between, without.between, atol=1e-12)


def test_a_factor_that_no_text_is_labelled_with_is_all_zeros():
    x = np.random.default_rng(0).normal(size=(9, DIM)).astype(np.float32)
    found = collect(x, make_labels(topic=np.arange(9) % 3, style=np.full(9, -1)))
    assert not found.factors["style"].between.any()
    assert found.factors["style"].within_groups is None
    assert found.factors["topic"].between.any()


@given(seed=st.integers(0, 1000))
@settings(max_examples=10)
def test_nothing_depends_on_the_order_of_the_texts(seed):
    x, labels = random_world(count=120, offset=100)
    order = np.random.default_rng(seed).permutation(120)
    first, other = collect(x, labels), collect(x[order], labels.take(order))
    np.testing.assert_allclose(first.mean, other.mean, atol=1e-9)
    np.testing.assert_allclose(first.covariance, other.covariance, atol=2e-6)  # float32
    for name in labels.columns:
        one, two = first.factors[name], other.factors[name]
        for field, off in (("counts", 1e-9), ("means", 1e-9), ("within_groups", 2e-6)):
            np.testing.assert_allclose(getattr(one, field), getattr(two, field), atol=off)


def test_rows_say_where_the_texts_vectors_lie():
    x, labels = random_world(count=50, offset=0)
    rows = np.random.default_rng(1).permutation(80)[:50]
    stored = np.full((80, DIM), np.nan, dtype=np.float32)  # other rows must not be read
    stored[rows] = x
    found = collect_moments(stored, rows=rows, labels=labels)
    np.testing.assert_allclose(found.covariance, collect(x, labels).covariance, atol=2e-6)


def test_a_source_without_texts_is_refused_by_name():
    empty = make_labels(style=np.array([0])).take(np.array([], dtype=np.int64))
    with pytest.raises(ValueError, match="'test' has no texts"):
        collect_moments(np.zeros((3, DIM), np.float32), rows=np.arange(0), labels=empty)
