"""An explanation adds up, and the change that it names lets a hit pass, and no smaller one does."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from retrieval_world import QUERY, RECORDS, ids

from subspace.errors import QueryError
from subspace.retrieval import Hit, Index, UsageLog, Weights, explain
from subspace.retrieval.explanation import Passing
from subspace.retrieval.weights import PARTS


@pytest.fixture(scope="module")
def index(tiny_qwen, tmp_path_factory):
    from retrieval_world import make_model

    folder = tmp_path_factory.mktemp("explained")
    with UsageLog.open(folder / "usage.db", clock="steps") as log:
        log.add([("bread", 1.0), ("soup", 0.0)])
        log.add([("piano", 1.0)])
    with Index.create(
        folder / "index", make_model(tiny_qwen), RECORDS, usage=folder / "usage.db"
    ) as index:
        yield index


WEIGHTS = "topic=0.6,style=0.3,complexity=0.4"


def test_the_numbers_add_up_and_are_those_of_the_hit(index):
    found = index.search(QUERY, weights=WEIGHTS, preset="balanced")
    for place, hit in enumerate(found):
        told = explain(found, hit.id)
        assert (told.rank, told.of, told.score) == (place + 1, len(found), hit.score)
        assert sum(told.by_block.values()) == pytest.approx(hit.score)
        assert sum(told.by_part.values()) == pytest.approx(hit.score)
        above = found[place - 1] if place else None
        assert told.above == (above.id if above else None)
        assert told.behind == pytest.approx(above.score - hit.score if above else 0)


def changed(weights: Weights, what: str, factor: float) -> Weights:
    """The table with all weights of one block, or of one part, multiplied."""
    if what in PARTS:
        return replace(weights, **{what: tuple(w * factor for w in getattr(weights, what))})
    place = list(weights.layout).index(what)
    return replace(
        weights,
        **{
            part: tuple(
                w * factor if n == place else w for n, w in enumerate(getattr(weights, part))
            )
            for part in PARTS
        },
    )


GRID = np.geomspace(1, 1100, 4001)


def nearest_ways(hit: Hit, above: Hit) -> dict[str, float]:
    """By block and part, the factor nearest to 1, on a grid, with which the hit has the more."""
    mine, theirs = (
        np.array([[one.parts[block][part] for part in PARTS] for block in one.parts])
        for one in (hit, above)
    )
    behind = theirs - mine
    cells = {block: behind[row].sum() for row, block in enumerate(hit.parts)}
    cells |= {part: behind[:, column].sum() for column, part in enumerate(PARTS)}
    found = {}
    for what, own in cells.items():
        rest = behind.sum() - own
        for factor in (f for pair in zip(GRID, 1 / GRID, strict=True) for f in pair):
            if rest + factor * own < -1e-12:
                found[what] = float(factor)
                break
    return found


def size(factor: float) -> float:
    return max(factor, 1 / factor)


def assert_names_the_nearest(passing: Sequence[Passing], ways: Mapping[str, float]) -> None:
    """No way is missing except those beyond the third, or beyond a thousandfold."""
    told = {way.what: way.factor for way in passing}
    assert told.keys() <= ways.keys()
    for what, factor in told.items():
        assert factor == pytest.approx(ways[what], rel=3e-3)
    left = [size(factor) for what, factor in ways.items() if what not in told]
    most = max(map(size, told.values()), default=1)
    assert all(one > 990 or (len(told) == 3 and one > most * 0.997) for one in left)


def test_the_ways_that_there_are_are_named(index):
    """Counter-check: somewhere there is one, elsewhere none, and elsewhere more than are named."""
    counts = set()
    for weights in (WEIGHTS, "topic=1", "topic=0.2,style=1,complexity=0.05"):
        for preset in (None, "balanced", "importance_heavy"):
            found = index.search(QUERY, weights=weights, preset=preset, k=len(RECORDS))
            for hit, above in zip(found.hits[1:], found.hits, strict=False):
                if above.score - hit.score > 1e-9:
                    ways = nearest_ways(hit, above)
                    assert_names_the_nearest(explain(found, hit.id).passing, ways)
                    counts.add(min(len(ways), 4))
    assert {0, 4} <= counts


@settings(max_examples=8, deadline=None)
@given(
    numbers=st.lists(st.floats(0.05, 2), min_size=3, max_size=3),
    preset=st.sampled_from([None, "balanced", "exploration"]),
    scope=st.sampled_from(["block", "item"]),
)
def test_the_change_that_is_named_is_enough_and_a_smaller_one_is_not(index, numbers, preset, scope):
    blocks = dict(zip(("topic", "style", "complexity"), numbers, strict=True))
    weights = Weights.make(layout=index.layout, blocks=blocks, preset=preset)
    found = index.search(QUERY, weights=weights, scope=scope, k=len(RECORDS))
    for hit, above in zip(found.hits[1:], found.hits, strict=False):
        passing = explain(found, hit.id).passing
        if above.score - hit.score > 1e-9:
            assert_names_the_nearest(passing, nearest_ways(hit, above))
        for way in passing:
            beyond = 1 + 1e-3 if way.factor > 1 else 1 - 1e-3
            for share, passes in ((beyond, True), (1 / beyond, False)):
                table = changed(weights, way.what, way.factor * share)
                again = ids(index.search(QUERY, weights=table, scope=scope, k=len(RECORDS)))
                assert (again.index(hit.id) < again.index(above.id)) == passes


def test_a_hit_that_is_behind_in_all_that_counts_cannot_pass(index):
    found = index.search(QUERY, weights="topic=1", k=3)
    told = explain(found, found[2].id)
    assert told.passing == ()
    assert "No change of one weight" in told.text


def test_the_words_name_the_hit_above_the_blocks_and_the_change(index):
    found = index.search(QUERY, weights=WEIGHTS, preset="balanced", scope="item", k=len(RECORDS))
    told = next(t for t in (explain(found, hit.id) for hit in found) if t.passing)
    way = told.passing[0]
    assert f"'{told.id}' is hit {told.rank} of {len(found)}" in told.text
    assert f"'{told.above}'" in told.text
    assert f"{way.factor:.3g} times the weight of {way.what}" in told.text
    assert "of the item itself" in told.text
    assert str(told) == told.text


def test_the_first_hit_is_told_by_how_much_it_leads(index):
    found = index.search(QUERY, k=2)
    assert f"{found[0].score - found[1].score:.4f} before '{found[1].id}'" in (
        explain(found, found[0].id).text
    )
    assert "the only hit" in explain(index.search(QUERY, k=1), found[0].id).text


def test_what_toward_adds_is_said_and_no_change_of_weights_is_promised(index):
    found = index.search(QUERY, toward="complexity=-2", k=len(RECORDS))
    told = explain(found, found[3].id)
    assert "toward (complexity=-2)" in told.text
    assert told.passing == ()


def test_equal_scores_are_called_equal(index):
    found = index.search(QUERY, k=2)
    twice = replace(found, hits=(found[0], replace(found[0], id="twin")))
    told = explain(twice, "twin")
    assert "equal; their order is the engine's" in told.text
    assert np.isclose(told.behind, 0)


def test_no_way_past_a_hit_of_the_same_score_is_promised(index):
    """Though the two differ in their blocks, so that a change of weights would part them."""
    found = index.search(QUERY, weights=WEIGHTS, k=2)
    parts = {name: dict(found[0].parts[name]) for name in found[0].parts}
    parts["topic"]["relevance"] += 0.1
    parts["style"]["relevance"] -= 0.1
    twin = replace(found[0], id="twin", parts=parts)
    told = explain(replace(found, hits=(found[0], twin)), "twin")
    assert told.passing == ()
    assert "equal" in told.text and "To pass it" not in told.text


def test_an_item_that_is_no_hit_is_refused(index):
    with pytest.raises(QueryError, match="'nobody' is not among the 2 hits"):
        explain(index.search(QUERY, k=2), "nobody")
