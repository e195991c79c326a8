"""A projection's digest tells apart whatever projects otherwise."""

from dataclasses import replace

import numpy as np
import pytest
from models import make_model, with_queries

from subspace.blocks import BlockLayout
from subspace.errors import LayoutError
from subspace.model import Projection, QuerySide

PLAIN = make_model().projection
PAIRED = with_queries(make_model()).projection


def moved(array: np.ndarray) -> np.ndarray:
    """The same array but for its last number."""
    changed = array.copy()
    changed.flat[-1] += 1
    return changed


CHANGES = {
    "weight": lambda p: replace(p, weight=moved(p.weight)),
    "mean": lambda p: replace(p, mean=moved(p.mean)),
    "offset": lambda p: replace(p, offset=moved(p.offset)),
    "query weight": lambda p: replace(p, query=replace(p.query, weight=moved(p.query.weight))),
    "query offset": lambda p: replace(p, query=replace(p.query, offset=moved(p.query.offset))),
    "no queries": lambda p: replace(p, offset=None, query=None),
    "names": lambda p: replace(p, layout=BlockLayout(("style", "mood"), p.layout.widths)),
    "widths": lambda p: replace(p, layout=BlockLayout(p.layout.names, (3, 2))),
    "order": lambda p: replace(p, layout=BlockLayout(p.layout.names[::-1], p.layout.widths)),
}


@pytest.mark.parametrize("change", CHANGES)
def test_every_array_and_the_layout_is_in_the_digest(change):
    assert CHANGES[change](PAIRED).digest != PAIRED.digest


@pytest.mark.parametrize("projection", [PLAIN, PAIRED], ids=["plain", "of pairs"])
def test_equal_projections_have_equal_digests_however_they_lie_in_memory(projection):
    other = replace(projection, weight=np.asfortranarray(projection.weight))
    assert other.digest == projection.digest
    assert len(projection.digest) == 64


def test_documents_are_z_and_queries_have_their_own():
    x = np.random.default_rng(1).normal(size=(5, PAIRED.input_dim)).astype(np.float32)
    for z, weight, offset in (
        (PAIRED(x), PAIRED.weight, PAIRED.offset),
        (PAIRED.queries(x), PAIRED.query.weight, PAIRED.query.offset),
        (PLAIN.queries(x), PLAIN.weight, 0),
    ):
        wanted = PAIRED.layout.split((x - PAIRED.mean) @ weight.T - offset)
        for name, block in PAIRED.layout.split(z).items():
            lengths = np.linalg.norm(wanted[name], axis=1, keepdims=True)
            np.testing.assert_allclose(block, wanted[name] / lengths, atol=1e-6)


def test_vectors_that_cannot_be_projected_are_refused():
    x = np.ones((3, PLAIN.input_dim), np.float32)
    with pytest.raises(LayoutError, match="have 5 dimensions, the projection takes 4"):
        PLAIN(np.ones((3, 5), np.float32))
    x[1, 0] = np.nan
    with pytest.raises(LayoutError, match=r"1 of the embeddings hold NaN.* first at position 1"):
        PLAIN.queries(x)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weight": np.zeros((4, 4), np.float32)}, "has 4 rows, the layout needs 5"),
        ({"mean": np.zeros(3, np.float32)}, "mean has shape"),
        ({"offset": np.zeros(4, np.float32)}, "offset has shape"),
        ({"query": None}, "go together"),
        ({"query": QuerySide(PLAIN.weight[:, :2], PLAIN.weight[:, 0])}, "query weight has shape"),
        ({"query": QuerySide(PLAIN.weight, PLAIN.weight[:2, 0])}, "query offset has shape"),
        ({"mean": np.full(4, np.inf, np.float32)}, "NaN or infinity"),
    ],
)
def test_arrays_that_do_not_fit_make_no_projection(change, message):
    with pytest.raises(LayoutError, match=message):
        replace(PAIRED, **change)


@pytest.mark.parametrize("start", [PLAIN, PAIRED])
def test_a_dimension_takes_the_place_of_one_and_is_0_at_its_centre(start):
    rng = np.random.default_rng(3)
    vector, centre = rng.normal(size=(2, 4))
    row = start.layout.dim - 1
    other = start.with_row(row, vector, centre=centre)
    x = rng.normal(size=(6, 4)).astype(np.float32)
    for before, after in ((start(x), other(x)), (start.queries(x), other.queries(x))):
        first = start.layout.slice(start.layout.names[0])
        np.testing.assert_array_equal(before[:, first], after[:, first])
        signs = np.sign((x - centre) @ vector)
        np.testing.assert_array_equal(np.sign(after[:, row]), signs)
    assert other.digest != start.digest
    assert abs(float(other(centre[None].astype(np.float32))[0, row])) < 1e-4


def test_a_projection_of_one_block_is_a_plain_affine_map():
    one = Projection(PLAIN.weight, PLAIN.mean, BlockLayout(("all of it",), (5,)))
    x = np.random.default_rng(2).normal(size=(2, 4)).astype(np.float32)
    z = (x - one.mean) @ one.weight.T
    np.testing.assert_allclose(one(x), z / np.linalg.norm(z, axis=1, keepdims=True), atol=1e-6)


def test_one_block_alone_is_what_it_is_among_all():
    rng = np.random.default_rng(0)
    layout = BlockLayout.from_widths({"a": 3, "b": 2})
    start = Projection(
        weight=rng.normal(size=(5, 4)).astype(np.float32),
        mean=rng.normal(size=4).astype(np.float32),
        layout=layout,
    )
    x = rng.normal(size=(6, 4)).astype(np.float32)
    centred = start.centred(["b"], documents=x.mean(axis=0), queries=x[0])
    for whole in (start, centred):
        alone = whole.block("b")
        np.testing.assert_allclose(alone(x), whole(x)[:, 3:], atol=1e-6)
        np.testing.assert_allclose(alone.queries(x[1:]), whole.queries(x[1:])[:, 3:], atol=1e-6)
    with pytest.raises(LayoutError):
        start.block("c")
