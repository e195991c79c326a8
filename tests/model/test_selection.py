"""What is exported of a projection is what the whole projection would give."""

import numpy as np
import pytest
from models import make_model

from subspace.bench.reductions import truncate_blocks
from subspace.blocks import BlockLayout
from subspace.errors import ConfigError
from subspace.model.export.selection import Selection
from subspace.model.projection import Projection, QuerySide

WIDTHS = {"topic": 4, "style": 3, "complexity": 2}
LAYOUT = BlockLayout.from_widths(WIDTHS)
DIM = 6


@pytest.fixture
def projection() -> Projection:
    rng = np.random.default_rng(0)

    def draw(*shape):
        return rng.normal(size=shape).astype(np.float32)

    weight, query = draw(LAYOUT.dim, DIM), draw(LAYOUT.dim, DIM)
    return Projection(
        weight=weight,
        mean=draw(DIM),
        layout=LAYOUT,
        offset=draw(LAYOUT.dim),
        query=QuerySide(weight=query, offset=draw(LAYOUT.dim)),
    )


@pytest.fixture
def x() -> np.ndarray:
    return np.random.default_rng(1).normal(size=(5, DIM)).astype(np.float32)


def test_without_a_choice_nothing_changes(projection, x):
    selection = Selection.make(projection)
    np.testing.assert_array_equal(selection(x, queries=False), projection(x))
    np.testing.assert_array_equal(selection(x, queries=True), projection.queries(x))


def test_the_leading_dimensions_of_a_block_are_those_of_the_block_cut_afterwards(projection, x):
    kept = BlockLayout.from_widths({**WIDTHS, "topic": 2, "style": 1})
    found = Selection.make(projection, dims={"topic": 2, "style": 1})(x, queries=False)
    wanted = truncate_blocks(projection(x), layout=LAYOUT, kept=kept)
    np.testing.assert_allclose(found, wanted, atol=1e-6)


def test_inner_products_are_the_weighted_mean_of_the_blocks_cosines(projection, x):
    weights = {"topic": 2.0, "complexity": 6.0}
    selection = Selection.make(projection, weights=weights)
    documents, queries = selection(x, queries=False), selection(x, queries=True)
    assert list(selection.projection.layout) == ["topic", "complexity"]
    np.testing.assert_allclose(np.linalg.norm(documents, axis=1), 1, atol=1e-6)
    whole, asked = LAYOUT.split(projection(x)), LAYOUT.split(projection.queries(x))
    for i in range(len(x)):
        for j in range(len(x)):
            cosines = {name: float(asked[name][i] @ whole[name][j]) for name in weights}
            mean = sum(weights[name] * cosines[name] for name in weights) / 8
            assert float(queries[i] @ documents[j]) == pytest.approx(mean, abs=1e-6)


def test_a_single_block_is_that_block(projection, x):
    found = Selection.make(projection, weights={"style": 5.0})(x, queries=False)
    np.testing.assert_allclose(found, LAYOUT.split(projection(x))["style"], atol=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weights": {"mood": 1.0}}, "weights: no block mood; the blocks are topic"),
        ({"weights": {"topic": 0.0}}, "one of them above 0"),
        ({"weights": {"topic": -1.0, "style": 2.0}}, "0 or more"),
        ({"weights": {"topic": float("nan")}}, "finite"),
        ({"weights": {"topic": float("inf")}}, "finite"),
        ({"dims": {"mood": 1}}, "dims: no block mood"),
        ({"dims": {"topic": 0}}, "'topic' must be .* 1 to 4"),
        ({"dims": {"topic": 5}}, "'topic' must be .* 1 to 4"),
        ({"weights": {"topic": 1.0}, "dims": {"style": 2}}, "'style' must be a block that is kept"),
    ],
)
def test_what_cannot_be_chosen_is_refused(options, message, projection):
    with pytest.raises(ConfigError, match=message):
        Selection.make(projection, **options)


def test_a_projection_without_offset_or_queries_stays_without():
    cut = Selection.make(make_model().projection, dims={"topic": 1}).projection
    assert cut.offset is None
    assert cut.query is None
