"""The guard makes a probe useless, and it was useful before."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from subspace.blocks import BlockLayout
from subspace.closed_form import ClosedForm, guard_directions, solve_closed_form
from subspace.errors import ConfigError
from subspace.labels import label_source
from subspace.records import Record
from subspace.statistics import collect_statistics

DIM = 24
LAYOUT = BlockLayout.from_widths({"topic": 6, "style": 4})
WHOLE = slice(0, DIM)


@pytest.fixture(scope="module")
def world():
    """Two sources in a rotated space, where topic and style move vectors in planes of their own."""
    rng = np.random.default_rng(0)
    rotation = np.linalg.qr(rng.normal(size=(DIM, DIM)))[0]
    x, codes, statistics = {}, {}, {}
    for source in ("one", "two"):
        topics, styles = rng.integers(4, size=1500), rng.integers(3, size=1500)
        planted = rng.normal(size=(1500, DIM)) * 0.3
        planted[np.arange(1500), topics] += 2
        planted[np.arange(1500), 10 + styles] += 1
        x[source] = (planted @ rotation + rng.normal(size=DIM)).astype(np.float32)
        codes[source] = {"topic": topics, "style": styles}
        records = [
            Record(str(n), "t", source, {"topic": f"t{t}", "style": f"s{s}"}, "train")
            for n, (t, s) in enumerate(zip(topics, styles, strict=True))
        ]
        labels = label_source(source, records)
        statistics[source] = collect_statistics(x[source], rows=np.arange(1500), labels=labels)
    return x, codes, statistics


def solve(statistics, layout=LAYOUT, **settings):
    return solve_closed_form(statistics, layout=layout, settings=ClosedForm(**settings), raw=WHOLE)


def accuracy(z: np.ndarray, codes: np.ndarray) -> float:
    """Of a logistic probe trained on the first two thirds."""
    probe = LogisticRegression(max_iter=1000).fit(z[:1000], codes[:1000])
    return probe.score(z[1000:], codes[1000:])


def test_a_block_keeps_its_factor_and_nothing_linear_reads_the_other(world):
    x, codes, statistics = world
    projection = solve(statistics).projection
    for source in x:
        z = LAYOUT.split(projection(x[source]))
        for own, other, chance in (("topic", "style", 1 / 3), ("style", "topic", 1 / 4)):
            assert accuracy(x[source], codes[source][other]) > 0.8, "it was readable before"
            assert accuracy(z[own], codes[source][own]) > 0.8
            assert accuracy(z[own], codes[source][other]) < chance + 0.08


def test_the_rows_are_orthogonal_to_the_guard_and_to_all_class_means(world):
    _, _, statistics = world
    solution = solve(statistics, guard=1.0)
    for block in LAYOUT:
        rows = solution.projection.weight[LAYOUT.slice(block)]
        assert np.abs(rows @ solution.guards[block]).max() < 1e-4
        assert np.abs(rows @ guard_directions(statistics, block=block)).max() < 1e-4


def test_without_guard_the_other_factor_stays_readable(world):
    x, codes, statistics = world
    wide = BlockLayout.from_widths({"topic": 12, "style": 12})
    z = wide.split(
        solve(statistics, layout=wide, guard=0.0, energy=0.0, content="").projection(x["one"])
    )
    assert accuracy(z["style"], codes["one"]["topic"]) > 0.6, "chance is 0.25"


def test_the_guards_penalty_equals_a_slow_loop(world):
    _, _, statistics = world
    weight = np.random.default_rng(3).normal(size=(5, DIM))
    expected = 0.0
    for source in statistics.values():
        style = source.factors["style"]
        for mean, count in zip(style.means, style.counts, strict=True):
            share = count / style.counts.sum()
            expected += share * ((weight @ mean) ** 2).sum() / np.trace(source.covariance) / 2
    directions = guard_directions(statistics, block="topic")
    np.testing.assert_allclose(((weight @ directions) ** 2).sum(), expected)


def test_more_classes_than_dimensions_give_the_same_penalty_in_fewer_columns():
    rng = np.random.default_rng(4)
    records = [
        Record(str(n), "t", "s", {"a": f"a{n % 30}", "b": f"b{n % 2}"}, "train") for n in range(600)
    ]
    x = rng.normal(size=(600, 8)).astype(np.float32)
    statistics = {
        "s": collect_statistics(x, rows=np.arange(600), labels=label_source("s", records))
    }
    directions = guard_directions(statistics, block="b")
    a = statistics["s"].factors["a"]
    expected = a.between / np.trace(statistics["s"].covariance)
    assert directions.shape[1] <= 8
    np.testing.assert_allclose(directions @ directions.T, expected, atol=1e-9)


def test_rows_come_in_order_of_what_they_hold(world):
    _, _, statistics = world
    rows = solve(statistics, content="").projection.weight[LAYOUT.slice("style")]
    between = statistics["one"].factors["style"].between
    held = np.einsum("id,de,ie->i", rows, between, rows)
    assert (np.diff(held) <= 1e-6).all()


def test_the_content_block_ranks_like_the_raw_embedding(world):
    x, _, statistics = world
    wide = BlockLayout.from_widths({"topic": 18, "style": 4})
    centred = x["one"][:200] - x["one"][:200].mean(axis=0)
    raw = centred @ centred.T

    def agreement(**settings) -> float:
        z = solve(statistics, layout=wide, **settings).projection(x["one"][:200])
        topic = wide.split(z)["topic"]
        return float(np.corrcoef((topic @ topic.T).ravel(), raw.ravel())[0, 1])

    assert agreement(content_share=1.0) > agreement(content="")


def test_the_same_statistics_give_the_same_solution(world):
    _, _, statistics = world
    first, again = solve(statistics).projection, solve(statistics).projection
    np.testing.assert_array_equal(first.weight, again.weight)


def test_a_block_without_labels_or_without_room_says_what_to_change(world):
    _, _, statistics = world
    with pytest.raises(ConfigError, match=r"'mood'.*style, topic"):
        solve(statistics, layout=BlockLayout.from_widths({"mood": 2}))
    with pytest.raises(ConfigError, match=r"'style' is 23 wide.*narrower"):
        solve(statistics, layout=BlockLayout.from_widths({"style": 23}))


@pytest.mark.parametrize(
    "settings",
    [
        {"shrinkage": 0.0},
        {"shrinkage": 1.1},
        {"guard": -0.1},
        {"guard": 1.1},
        {"energy": -1.0},
        {"content_share": 2.0},
    ],
)
def test_settings_out_of_range_are_refused_by_name(settings):
    with pytest.raises(ConfigError, match=next(iter(settings))):
        ClosedForm(**settings)
