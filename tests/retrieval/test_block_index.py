"""Search: the score is the formula, its parts sum to it, and weights act exactly."""

import itertools
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from engine_world import DIGEST, LAYOUT, make_engine, make_records, unit_vectors, write_index
from hypothesis import given, settings
from hypothesis import strategies as st
from worlds import turned

from subspace.blocks import BlockLayout
from subspace.data.records import Record
from subspace.errors import (
    ConfigError,
    EngineError,
    IndexFolderError,
    LayoutError,
    QueryError,
    WeightsError,
)
from subspace.model.projection import Projection
from subspace.model.score_spread import measure_score_spread
from subspace.retrieval import PRESETS, BlockIndex, Hit, SearchOptions, UsageLog, Weights
from subspace.retrieval.engines import NumpyEngine
from subspace.retrieval.engines.index_folder import Stored

ONE_BLOCK = BlockLayout.from_widths({"all of it": 6})
SCOPES = ("block", "item")


def make_index(vectors: np.ndarray, *, layout: BlockLayout = LAYOUT, **options) -> BlockIndex:
    """Documents d0, d1, ..., of one colour in three."""
    engine = make_engine(
        vectors, layout=layout, metadata=lambda n: {"colour": ("red", "blue", "green")[n % 3]}
    )
    return BlockIndex(engine, **options)


def make_weights(*, layout: BlockLayout = LAYOUT, **values: float) -> Weights:
    return Weights.make(layout=layout, blocks=values)


def ids(hits: Sequence[Hit]) -> list[str]:
    return [hit.id for hit in hits]


def row(hit: Hit) -> int:
    return int(hit.id[1:])


def cosines(vector: np.ndarray, query: np.ndarray) -> dict[str, float]:
    parts = LAYOUT.split(vector.astype(np.float64)), LAYOUT.split(query.astype(np.float64))
    return {name: float(parts[0][name] @ parts[1][name]) for name in LAYOUT}


def random_uses(*, seed: int = 3) -> list[dict]:
    """Sixty steps that used 12 of 30 items, with all sorts of success."""
    rng = np.random.default_rng(seed)
    return [
        {
            "item": f"d{rng.integers(12)}",
            "time": step,
            "success": [None, 0.0, 1.0, 0.3][rng.integers(4)],
        }
        for step in range(60)
    ]


@contextmanager
def open_log(path: Path, uses: list[dict]) -> Iterator[UsageLog]:
    lines = path.with_suffix(".jsonl")
    lines.write_text("".join(json.dumps(use) + "\n" for use in uses))
    with UsageLog.open(path, clock="steps") as log:
        log.import_jsonl(lines)
        yield log


@pytest.fixture
def log(tmp_path):
    with open_log(tmp_path / "usage.db", random_uses()) as log:
        yield log


# The score.


def score_slowly(
    query: np.ndarray,
    vector: np.ndarray,
    *,
    item: str,
    weights: Weights,
    log: UsageLog,
    vectors: np.ndarray,
    scope: str,
    floors: tuple[float, float],
) -> dict[str, dict[str, float]]:
    """The definition, by loops: sum over b of w[V,b] <q_b, d_b> + w[R,b] R_b + w[I,b] I_b."""
    recency_floor, kept = floors
    layout, table = weights.layout, weights.as_dict()
    uses = [use for _, use in log.since()]
    now = max(use.time for use in uses) + 1
    own = [use for use in uses if use.item == item]
    rated = [use.success for use in own if use.success is not None]
    recency = max(0.0, 1 - (now - max(u.time for u in own)) / 50) if own else 0.5
    importance = (sum(rated) + 1) / (len(rated) + 2)
    if importance > 0.5:
        recency = max(recency, recency_floor)
    parts = {}
    for name in layout:
        place = layout.slice(name)
        d = vector[place].astype(np.float64)
        r, m = np.zeros(len(d)), np.zeros(len(d))
        for use in uses:
            share, own_block = 2.0 ** (-(now - use.time) / 50), vectors[int(use.item[1:])][place]
            r += share * own_block
            if use.success is not None:
                m += (kept + (1 - kept) * share) * (2 * use.success - 1) * own_block
        in_block = {"recency": r @ d / np.linalg.norm(r), "importance": m @ d / np.linalg.norm(m)}
        value = in_block if scope == "block" else {"recency": recency, "importance": importance}
        value = {**value, "relevance": query[place].astype(np.float64) @ d}
        parts[name] = {part: table[part][name] * float(value[part]) for part in value}
    return parts


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("layout", [LAYOUT, ONE_BLOCK], ids=["three blocks", "one block"])
@pytest.mark.parametrize(("seed", "floors"), [(0, (0.0, 0.0)), (1, (0.0, 0.0)), (0, (0.5, 0.3))])
def test_the_score_is_the_formula_and_its_parts_sum_to_it(scope, layout, seed, floors, log):
    vectors = unit_vectors(30, layout=layout)
    named = dict(zip(("recency_floor", "importance_floor"), floors, strict=True))
    index = make_index(vectors, layout=layout, usage=log, **named)
    query = unit_vectors(1, layout=layout, seed=seed + 9)[0]
    table = np.random.default_rng(seed).uniform(0, 2, size=(3, len(layout))).tolist()
    weights = Weights(layout, *map(tuple, table))
    found = index.search(query, weights=weights, scope=scope, k=30)
    assert len(found) == 30
    assert found.scope == scope and found.weights == weights
    scores = []
    for hit in found:
        wanted = score_slowly(
            query,
            vectors[row(hit)],
            item=hit.id,
            weights=weights,
            log=log,
            vectors=vectors,
            scope=scope,
            floors=floors,
        )
        for name in layout:
            assert dict(hit.parts[name]) == pytest.approx(wanted[name], abs=1e-6)
        total = sum(value for of_block in wanted.values() for value in of_block.values())
        assert hit.score == pytest.approx(total, abs=1e-6)
        assert hit.score == sum(v for parts in hit.parts.values() for v in parts.values())
        assert sum(hit.by_block().values()) == pytest.approx(hit.score, abs=1e-12)
        assert sum(hit.by_part().values()) == pytest.approx(hit.score, abs=1e-12)
        scores.append(total)
    assert (np.diff(scores) <= 1e-6).all()


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("scope", SCOPES)
def test_the_first_hits_of_every_preset_are_those_of_sorting_everything(preset, scope, log):
    index = make_index(unit_vectors(30), usage=log)
    query = unit_vectors(1, seed=9)[0]
    weights = Weights.make(layout=LAYOUT, preset=preset)
    everything = index.search(query, weights=weights, scope=scope, k=30)
    assert [hit.score for hit in everything] == sorted((h.score for h in everything), reverse=True)
    for k in (1, 5, 12):
        assert index.search(query, weights=weights, scope=scope, k=k).hits == everything[:k]


def test_the_two_scopes_differ_where_history_counts_and_only_there(log):
    index, query = make_index(unit_vectors(30), usage=log), unit_vectors(1, seed=9)[0]
    found = {
        preset: [
            index.search(query, weights=f"preset={preset}", scope=scope, k=30).hits
            for scope in SCOPES
        ]
        for preset in ("balanced", "pure_relevance")
    }
    assert found["balanced"][0] != found["balanced"][1]
    alone = [index.search(query, scope=scope, k=30).hits for scope in SCOPES]
    assert alone[0] == alone[1]


def test_comparing_is_searching_in_both_scopes(log):
    index, query = make_index(unit_vectors(30), usage=log), unit_vectors(1, seed=9)[0]
    options = {"weights": "preset=balanced", "k": 7, "exclude": ["d3"], "where": {"colour": "red"}}
    both = index.compare(query, **options)
    assert set(both) == set(SCOPES)
    for scope, found in both.items():
        assert found.scope == scope
        assert found.hits == index.search(query, scope=scope, **options).hits


def test_what_is_logged_between_two_searches_counts_in_the_second(log):
    index, query = make_index(unit_vectors(30), usage=log), unit_vectors(1, seed=9)[0]
    for scope, item in zip(SCOPES, ("d28", "d29"), strict=True):
        before = index.search(query, weights="riv=1,1,1", scope=scope, k=30)
        with UsageLog.open(log.path) as other:
            other.add([(item, 1.0)])
        after = index.search(query, weights="riv=1,1,1", scope=scope, k=30)
        places = [ids(found).index(item) for found in (before, after)]
        shares = [
            found[place].by_part() for found, place in zip((before, after), places, strict=True)
        ]
        assert shares[1]["recency"] > shares[0]["recency"]
        assert shares[1]["importance"] > shares[0]["importance"]
        assert shares[1]["relevance"] == shares[0]["relevance"]


@pytest.mark.parametrize("scope", SCOPES)
def test_an_empty_log_prefers_no_item(scope, tmp_path):
    query, vectors = unit_vectors(1, seed=1)[0], unit_vectors(20)
    with UsageLog.open(tmp_path / "usage.db", clock="steps") as empty:
        index = make_index(vectors, usage=empty)
        hits = index.search(query, weights="riv=1,1,1", scope=scope, k=20)
        assert ids(hits) == ids(make_index(vectors).search(query, k=20))
        for part in ("recency", "importance"):
            shares = [hit.by_part()[part] for hit in hits]
            assert shares == pytest.approx([0.0 if scope == "block" else 0.5] * 20)


def test_history_that_counts_needs_a_usage_log():
    index, query = make_index(unit_vectors(5)), unit_vectors(1, seed=1)[0]
    for scope in SCOPES:
        for weights in ("preset=balanced", "riv=1,0,1", "riv=0,1,0"):
            with pytest.raises(ConfigError, match=r"no usage log .*usage=.*--usage") as caught:
                index.search(query, weights=weights, scope=scope)
            assert "weights of relevance alone" in str(caught.value)
        assert len(index.search(query, weights="riv=0,0,1", scope=scope)) == 5


def test_an_unknown_scope_is_refused_with_the_known_ones():
    with pytest.raises(ConfigError, match="scope is one of block, item, not 'both'"):
        make_index(unit_vectors(3)).search(unit_vectors(1)[0], scope="both")


# What weights do.


@pytest.mark.parametrize("block", LAYOUT.names)
def test_weight_zero_removes_a_blocks_influence_exactly(block):
    query, vectors = unit_vectors(1, seed=1)[0], unit_vectors(50)
    changed = vectors.copy()
    changed[:, LAYOUT.slice(block)] = 1000 * np.random.default_rng(2).normal(
        size=(50, LAYOUT.to_widths()[block])
    )
    without = make_weights(**{name: 0.5 for name in LAYOUT if name != block})
    first = make_index(vectors).search(query, weights=without, k=50).hits
    other = make_index(changed).search(query, weights=without, k=50).hits
    assert first == other  # ids, scores and parts, to the bit
    assert all(hit.by_block()[block] == 0 for hit in other)
    # Counter-check: with any weight at all it does count.
    some = make_weights(**dict.fromkeys(LAYOUT, 0.5))
    assert (
        make_index(vectors).search(query, weights=some, k=50).hits
        != make_index(changed).search(query, weights=some, k=50).hits
    )


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("part", ["recency", "importance", "relevance"])
def test_weight_zero_removes_a_parts_influence_exactly(part, scope, log, tmp_path):
    """More uses that nobody rated, other ratings, another query: what does not count is nothing."""
    query, uses = unit_vectors(1, seed=9)[0], random_uses()
    if part == "recency":
        uses += [{"item": f"d{n}", "time": 60 + n} for n in range(30)]
    elif part == "importance":
        uses = [{**use, "success": 0.9} for use in uses]
    changed = unit_vectors(1, seed=7)[0] if part == "relevance" else query
    with open_log(tmp_path / "other.db", uses) as other:
        for without in (True, False):
            mix = {"recency": 0.5, "importance": 0.3, "relevance": 0.7}
            if without:
                mix[part] = 0.0
            weights = Weights.make(layout=LAYOUT, riv=tuple(mix.values()))
            first, second = (
                # With a floor, the step of an unrated use is one by which ratings are older.
                make_index(unit_vectors(30), usage=usage, importance_floor=0).search(
                    asked, weights=weights, scope=scope, k=30
                )
                for usage, asked in ((log, query), (other, changed))
            )
            assert (first.hits == second.hits) == without


def test_a_block_of_the_query_counts_for_nothing_where_its_weight_is_zero():
    query, vectors = unit_vectors(1, seed=1)[0], unit_vectors(50)
    other = query.copy()
    other[LAYOUT.slice("style")] *= -1
    index, weights = make_index(vectors), make_weights(topic=1, tone=0.5)
    assert index.search(query, weights=weights).hits == index.search(other, weights=weights).hits
    assert index.search(query).hits != index.search(other).hits


def test_equal_weights_give_the_mean_of_the_blocks_cosines():
    query, vectors = unit_vectors(1, seed=1)[0], unit_vectors(20)
    for hit in make_index(vectors).search(query, k=20):
        expected = np.mean(list(cosines(vectors[row(hit)], query).values()))
        assert hit.score == pytest.approx(expected, abs=1e-6)


def test_left_out_weights_are_equal_weights():
    query, index = unit_vectors(1, seed=1)[0], make_index(unit_vectors(20))
    assert index.search(query).hits == index.search(query, weights=Weights.equal(LAYOUT)).hits
    assert index.search(query).hits != index.search(query, weights=make_weights(style=1)).hits


weight_values = st.tuples(*[st.just(0.0) | st.floats(2.0**-100, 10, width=32)] * 3).filter(any)


@settings(max_examples=40, deadline=None)
@given(values=weight_values, seed=st.integers(0, 100))
def test_the_parts_are_weighted_cosines_and_sum_to_the_score(values, seed):
    query, vectors = unit_vectors(1, seed=seed + 1)[0], unit_vectors(8, seed=seed)
    weights = make_weights(**dict(zip(LAYOUT, values, strict=True)))
    for hit in make_index(vectors).search(query, weights=weights):
        assert hit.score == sum(v for parts in hit.parts.values() for v in parts.values())
        for block, cosine in cosines(vectors[row(hit)], query).items():
            expected = weights.as_dict()["relevance"][block] * cosine
            assert hit.parts[block]["relevance"] == pytest.approx(expected, abs=1e-5)
            assert hit.parts[block]["recency"] == hit.parts[block]["importance"] == 0


def test_one_block_alone_ranks_by_that_block():
    query, vectors = unit_vectors(1, seed=1)[0], unit_vectors(30)
    for block in LAYOUT:
        hits = make_index(vectors).search(query, weights=make_weights(**{block: 2.0}), k=30)
        by_cosine = [cosines(vectors[row(hit)], query)[block] for hit in hits]
        assert (np.diff(by_cosine) <= 1e-7).all()


@pytest.mark.parametrize("factor", [1e-30, 1e-3, 1e30])
@pytest.mark.parametrize("scope", SCOPES)
def test_scaling_all_weights_changes_no_ranking(factor, scope, log):
    query, index = unit_vectors(1, seed=1)[0], make_index(unit_vectors(30), usage=log)
    values = {"topic": 0.7, "style": 0.2, "tone": 0.1}
    scaled = {name: factor * value for name, value in values.items()}
    first, other = (
        index.search(
            query,
            weights=Weights.make(layout=LAYOUT, blocks=blocks, preset="balanced"),
            scope=scope,
            k=30,
        )
        for blocks in (values, scaled)
    )
    assert ids(first) == ids(other)


@pytest.mark.parametrize("value", [2e-32, 3e32])
def test_the_smallest_and_largest_weights_rank_like_any_other(value):
    query, index = unit_vectors(1, seed=1)[0], make_index(unit_vectors(200))
    hits = index.search(query, weights=dict.fromkeys(LAYOUT, value), k=200)
    assert ids(hits) == ids(index.search(query, weights=dict.fromkeys(LAYOUT, 1.0), k=200))
    assert all(np.isfinite(hit.score) and hit.score != 0 for hit in hits)


def test_weights_may_be_a_mapping_or_a_text():
    query, index = unit_vectors(1, seed=1)[0], make_index(unit_vectors(20))
    hits = index.search(query, weights=make_weights(topic=0.7, tone=0.3)).hits
    assert index.search(query, weights={"topic": 0.7, "tone": 0.3}).hits == hits
    assert index.search(query, weights="topic=0.7,tone=0.3").hits == hits
    for wrong in ({"mood": 1.0}, "mood=1"):
        with pytest.raises(WeightsError, match="no block 'mood'"):
            index.search(query, weights=wrong)


def test_an_empty_mapping_is_no_weight_at_all_and_not_equal_weights():
    with pytest.raises(WeightsError, match="at least one weight must be above 0"):
        make_index(unit_vectors(3)).search(unit_vectors(1)[0], weights={})


@pytest.mark.parametrize(
    "widths", [{"style": 5, "topic": 3, "tone": 2}, {"topic": 4, "style": 4, "tone": 2}]
)
def test_weights_for_another_layout_are_refused_with_both(widths):
    other = Weights.equal(BlockLayout.from_widths(widths))
    with pytest.raises(WeightsError) as caught:
        make_index(unit_vectors(3)).search(unit_vectors(1)[0], weights=other)
    assert str(widths) in str(caught.value)
    assert str(LAYOUT.to_widths()) in str(caught.value)


# Which documents are found.

# Coordinates in halves: products and sums are exact, so that equal documents have equal scores.
exact_vectors = st.lists(
    st.lists(st.sampled_from([-1.0, -0.5, 0.0, 0.5, 1.0]), min_size=4, max_size=4),
    min_size=1,
    max_size=25,
)


@settings(max_examples=100, deadline=None)
@given(rows=exact_vectors, k=st.integers(1, 30), data=st.data())
def test_search_equals_sorting_everything_with_ties_in_index_order(rows, k, data):
    layout = BlockLayout.from_widths({"a": 1, "b": 3})
    query = np.array(data.draw(exact_vectors)[0], dtype=np.float32)
    values = data.draw(st.sampled_from([(1.0, 1.0), (0.5, 0.0), (0.0, 2.0), (0.25, 1.0)]))
    index = make_index(np.array(rows, dtype=np.float32), layout=layout)
    weighted = [values[0], values[1], values[1], values[1]]
    scores = [
        sum(w * q * entry for w, q, entry in zip(weighted, query, row, strict=True)) for row in rows
    ]
    wanted = sorted(range(len(rows)), key=lambda position: (-scores[position], position))[:k]
    weights = make_weights(layout=layout, a=values[0], b=values[1])
    hits = index.search(query, weights=weights, k=k)
    assert ids(hits) == [f"d{position}" for position in wanted]
    assert [hit.score for hit in hits] == [scores[position] for position in wanted]


@pytest.mark.parametrize("count", [2, 3, 5, 8, 13, 31])
@pytest.mark.parametrize("width", [7, 33, 384])
def test_copies_of_one_document_stand_in_index_order(count, width):
    """The same vector has the same score wherever in the index it stands."""
    layout = BlockLayout.from_widths({"topic": width, "style": 20})
    index = make_index(np.repeat(unit_vectors(1, layout=layout), count, axis=0), layout=layout)
    for seed in range(5):
        query = unit_vectors(1, layout=layout, seed=seed + 1)[0]
        hits = index.search(query, k=count)
        assert len({hit.score for hit in hits}) == 1
        assert ids(hits) == [f"d{position}" for position in range(count)]
        assert ids(index.search(query, k=1)) == ["d0"]


def test_hits_stand_in_the_order_of_the_scores_they_show():
    index = make_index(unit_vectors(5000))
    for seed in range(3):
        scores = [hit.score for hit in index.search(unit_vectors(1, seed=seed + 1)[0], k=5000)]
        assert scores == sorted(scores, reverse=True)


def test_the_first_hits_do_not_depend_on_how_many_are_asked_for():
    query, index = unit_vectors(1, seed=1)[0], make_index(unit_vectors(40))
    everything = index.search(query, k=40)
    for k in range(1, 40):
        assert index.search(query, k=k).hits == everything[:k]


@pytest.mark.parametrize("k", [6, 7, 10**9, 10**30])
def test_asking_for_more_than_there_is_gives_all(k):
    hits = make_index(unit_vectors(6)).search(unit_vectors(1, seed=1)[0], k=k)
    assert sorted(ids(hits)) == [f"d{n}" for n in range(6)]


@pytest.mark.parametrize("scope", SCOPES)
def test_an_empty_index_finds_nothing(scope, log):
    index = make_index(unit_vectors(0), usage=log)
    assert len(index) == 0
    for weights in (None, "preset=balanced"):
        for options in ({}, {"candidates": 3}, {"where": {"colour": "red"}}):
            query = unit_vectors(1)[0]
            assert index.search(query, weights=weights, scope=scope, **options).hits == ()


def test_a_hit_carries_the_documents_id_text_and_metadata():
    vectors = unit_vectors(6)
    hit = make_index(vectors).search(vectors[4], k=1)[0]
    assert (hit.id, hit.text, hit.metadata) == ("d4", "text 4", {"colour": "blue"})
    assert hit.score == pytest.approx(1, abs=1e-6)


def test_every_search_has_an_id_of_its_own():
    index = make_index(unit_vectors(6))
    found = [index.search(unit_vectors(1)[0]) for _ in range(3)]
    found += index.search_batch(unit_vectors(2))
    assert len({results.query_id for results in found}) == 5


def test_results_are_a_sequence_of_hits():
    results = make_index(unit_vectors(6)).search(unit_vectors(1)[0], k=4)
    assert len(results) == 4
    assert list(results) == [results[n] for n in range(4)] == list(results.hits)
    assert results[1:3] == results.hits[1:3]
    assert results[-1] == results.hits[-1]


# The gate, filters and what is left out.


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 50), count=st.integers(1, 35), k=st.integers(1, 35))
def test_only_the_best_by_relevance_can_be_hits_of_a_gated_search(seed, count, k):
    query, vectors = unit_vectors(1, seed=seed + 100)[0], unit_vectors(30, seed=seed)
    used = [f"d{n}" for n in range(0, 30, 2)]
    with UsageLog.open(":memory:", clock="steps") as log:
        log.add([(item, 1.0) for item in used])
        index = make_index(vectors, usage=log)
        relevance = {"topic": 0.2, "style": 0.5}
        gate = set(ids(index.search(query, weights=relevance, k=count)))
        weights = Weights.make(layout=LAYOUT, riv=(1, 1, 1), blocks=relevance)
        for scope in SCOPES:
            hits = index.search(query, weights=weights, scope=scope, candidates=count, k=k)
            everything = index.search(query, weights=weights, scope=scope, k=30)
            assert hits.hits == tuple(hit for hit in everything if hit.id in gate)[:k]


def test_without_a_gate_others_win():
    """Counter-check: the gate above keeps something out."""
    query, vectors = unit_vectors(1, seed=100)[0], unit_vectors(30)
    with UsageLog.open(":memory:", clock="steps") as log:
        index = make_index(vectors, usage=log)
        nearest = ids(index.search(query, k=5))
        log.add([(f"d{n}", 1.0) for n in range(30) if f"d{n}" not in nearest])
        weights = "riv=1,1,0.1"
        free = index.search(query, weights=weights, scope="item", k=5)
        gated = index.search(query, weights=weights, scope="item", k=5, candidates=5)
        assert not set(ids(free)) & set(nearest)
        assert set(ids(gated)) == set(nearest)


def test_a_gate_without_relevance_is_refused(log):
    index, query = make_index(unit_vectors(30), usage=log), unit_vectors(1)[0]
    with pytest.raises(WeightsError, match="best by relevance, which has no weight"):
        index.search(query, weights="riv=1,1,0", candidates=5)
    assert len(index.search(query, weights="riv=1,1,0")) == 10


def test_copies_at_the_gate_are_let_in_in_index_order():
    vectors = np.repeat(unit_vectors(1), 9, axis=0)
    hits = make_index(vectors).search(unit_vectors(1, seed=1)[0], candidates=4)
    assert ids(hits) == ["d0", "d1", "d2", "d3"]


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("candidates", [None, 8])
def test_filtering_is_searching_among_those_alone(scope, candidates, log):
    index, query = make_index(unit_vectors(30), usage=log), unit_vectors(1, seed=1)[0]
    options = {"weights": "preset=balanced", "scope": scope}
    found = index.search(query, where={"colour": "red"}, k=4, candidates=candidates, **options).hits
    everything = index.search(query, k=30, **options)
    red = {f"d{n}" for n in range(0, 30, 3)}
    nearest = [h.id for h in index.search(query, k=30) if h.id in red][:candidates]
    assert found == tuple(hit for hit in everything if hit.id in nearest)[:4]
    assert len(found) == 4
    two = index.search(query, where={"colour": ["red", "blue"]}, k=30, **options)
    assert {hit.metadata["colour"] for hit in two} == {"red", "blue"}
    assert index.search(query, where={"colour": "mauve"}, **options).hits == ()
    with pytest.raises(QueryError, match="no item has metadata 'taste'; there is 'colour'"):
        index.search(query, where={"taste": "red"}, **options)
    with pytest.raises(QueryError, match="'colour' is a text here, never a number"):
        index.search(query, where={"colour": 3}, **options)


@pytest.mark.parametrize("candidates", [None, 1, 4, 30, 99])
def test_what_is_excluded_is_as_if_it_were_not_there(candidates):
    query, vectors = unit_vectors(1, seed=1)[0], unit_vectors(30)
    index = make_index(vectors)
    best = ids(index.search(query, k=3))
    found = index.search(query, exclude=best, k=6, candidates=candidates)
    without = make_index(vectors)
    without.engine.delete(best)
    assert found.hits == without.search(query, k=6, candidates=candidates).hits
    assert len(found) == min(6, candidates or 6)
    assert index.search(query, exclude=["nowhere"]).hits == index.search(query).hits


# Batches.


@pytest.mark.parametrize("scope", SCOPES)
@pytest.mark.parametrize("options", [{}, {"candidates": 7}, {"where": {"colour": "red"}}])
def test_a_batch_finds_what_its_queries_find_one_by_one(scope, options, log):
    index, queries = make_index(unit_vectors(300), usage=log), unit_vectors(70, seed=1)
    options = {**options, "weights": "preset=balanced,topic=2,tone=1", "scope": scope}
    for exclude in ([], ["d3", "d4", "d7"]):
        batch = index.search_batch(queries, exclude=exclude, **options)
        for query, found in zip(queries, batch, strict=True):
            assert index.search(query, exclude=exclude, **options).hits == found.hits
            assert not {"d3", "d4", "d7"} & set(ids(found)) or not exclude


@pytest.mark.parametrize("candidates", [None, 7])
def test_each_query_of_a_batch_may_leave_out_items_of_its_own(candidates):
    """Beside those that are excluded from all."""
    index, queries = make_index(unit_vectors(30)), unit_vectors(9, seed=1)
    best = [ids(found)[:3] for found in index.search_batch(queries)]
    own = [names[: n % 3] for n, names in enumerate(best)]
    options = SearchOptions(k=5, candidates=candidates, exclude=["d1", "d2"])
    found = index.search_each(queries, weights=Weights.equal(LAYOUT), options=options, own=own)
    for query, names, results in zip(queries, own, found, strict=True):
        without = ["d1", "d2", *names]
        alone = index.search(query, k=5, candidates=candidates, exclude=without)
        assert results.hits == alone.hits
        assert len(results) == 5 and not set(without) & set(ids(results))


def test_a_batch_of_no_queries_finds_nothing():
    assert make_index(unit_vectors(5)).search_batch(unit_vectors(0)) == []


# What is refused.


@pytest.mark.parametrize("k", [0, -1, 2.5, "3", None, np.float32(2)], ids=repr)
def test_asking_for_nothing_is_refused(k):
    with pytest.raises(ConfigError, match="k must be a whole number, 1 or more") as caught:
        make_index(unit_vectors(3)).search(unit_vectors(1)[0], k=k)
    assert isinstance(caught.value, ValueError)
    assert repr(k) in str(caught.value)


@pytest.mark.parametrize("candidates", [0, -1, 2.5, "3"], ids=repr)
def test_a_gate_that_lets_nothing_in_is_refused(candidates):
    with pytest.raises(ConfigError, match="candidates must be a whole number, 1 or more"):
        make_index(unit_vectors(3)).search(unit_vectors(1)[0], candidates=candidates)


def test_a_number_of_numpy_is_a_number_of_hits():
    index, query = make_index(unit_vectors(3)), unit_vectors(1)[0]
    assert index.search(query, k=np.int64(2)).hits == index.search(query, k=2).hits


@pytest.mark.parametrize("width", [0, 1, 9, 11])
def test_a_query_of_another_dimension_is_refused_with_both(width):
    index, query = make_index(unit_vectors(3)), np.ones(width, dtype=np.float32)
    for weights in (None, {"topic": 1.0}):
        with pytest.raises(LayoutError, match=r"shape .*needs \((Q, )?10,?\)"):
            index.search(query, weights=weights)
        with pytest.raises(LayoutError, match=r"shape .*needs \(Q, 10\)"):
            index.search_batch(query[None], weights=weights)
        with pytest.raises(LayoutError, match=r"shape .*needs \(Q, 10\)"):
            index.search_batch(query[None], weights=weights, candidates=2)


def test_a_query_of_another_shape_is_refused_with_both():
    index = make_index(unit_vectors(3))
    with pytest.raises(LayoutError, match=r"the query has shape \(1, 10\).*needs \(10,\)"):
        index.search(unit_vectors(1))
    for queries in (unit_vectors(1)[0], unit_vectors(4).reshape(2, 2, 10)):
        with pytest.raises(LayoutError, match=r"queries have shape .*needs \(Q, 10\)"):
            index.search_batch(queries)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_query_that_is_not_finite_is_refused_even_at_weight_zero(value):
    query = unit_vectors(1)[0]
    query[7] = value
    for weights in (None, {"topic": 1.0}):
        for candidates in (None, 2):
            with pytest.raises(LayoutError, match="the query holds NaN or infinity"):
                make_index(unit_vectors(3)).search(query, weights=weights, candidates=candidates)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_no_hit_is_a_vector_that_is_not_finite_even_at_weight_zero(value, tmp_path):
    """Whoever wrote the folder; `upsert` takes no such vector."""
    vectors = unit_vectors(30)
    vectors[17, LAYOUT.slice("style").start] = value
    write_index(tmp_path / "index", Stored(make_records(30), vectors, LAYOUT, DIGEST, "numpy"))
    index = BlockIndex.open(tmp_path / "index")
    for weights in (None, {"style": 1.0}):
        with pytest.raises(IndexFolderError, match="the vector of 'd17' holds NaN or infinity"):
            index.search(unit_vectors(1)[0], weights=weights)
    # What has no weight is read of hits alone.
    near, far = vectors[17], vectors[:17][vectors[:17, :4] @ vectors[17, :4] < 0][0]
    with pytest.raises(IndexFolderError, match="the vector of 'd17' holds NaN or infinity"):
        index.search(np.where(np.isfinite(near), near, 0), weights={"topic": 1.0}, k=1)
    assert "d17" not in [hit.id for hit in index.search(far, weights={"topic": 1.0}, k=5)]


# What is added, removed and kept.


def test_records_are_added_in_the_place_of_those_with_their_ids_and_removed(tmp_path):
    index = make_index(unit_vectors(3))
    changed = [Record(id="d1", text="another text"), Record(id="new", text="a new one")]
    index.add(changed, unit_vectors(2, seed=1))
    assert index.delete(["d0", "nowhere"]) == 1
    with pytest.raises(ConfigError, match="which folder"):
        index.save()
    index.engine.save(tmp_path / "index")
    with BlockIndex.open(tmp_path / "index") as again:
        assert (len(again), again.layout) == (3, LAYOUT)
        found = again.engine.fetch(["d0", "d1", "d2", "new"])
        assert [d.text for d in found.documents] == ["another text", "text 2", "a new one"]
        np.testing.assert_array_equal(found.vectors[[0, 2]], unit_vectors(2, seed=1))
        again.delete(["d2"])
        again.save()
    with BlockIndex.open(tmp_path / "index") as third:
        assert len(third) == 2


def test_what_cannot_be_added_is_refused_and_nothing_beside_it_added():
    index = make_index(unit_vectors(3))
    same = [Record(id="a", text="1"), Record(id="b", text="2"), Record(id="a", text="3")]
    with pytest.raises(EngineError, match=r"used more than once: a$"):
        index.add(same, unit_vectors(3))
    with pytest.raises(LayoutError, match=r"of shape \(3, 10\)"):
        index.add(make_records(3), unit_vectors(2))
    assert len(index) == 3


def make_projection(*, seed: int = 0) -> Projection:
    rng = np.random.default_rng(seed)
    return Projection(
        weight=rng.normal(size=(LAYOUT.dim, 6)).astype(np.float32),
        mean=rng.normal(size=6).astype(np.float32),
        layout=LAYOUT,
    )


def test_the_projection_that_made_the_index_is_accepted_and_any_other_refused():
    engine = NumpyEngine(layout=LAYOUT, projection_digest=make_projection().digest)
    index = BlockIndex(engine)
    index.check_projection(make_projection())
    one_bit = make_projection()
    one_bit.mean[0] = np.nextafter(one_bit.mean[0], np.float32(9))
    renamed = replace(
        make_projection(), layout=BlockLayout.from_widths({"topic": 5, "style": 3, "mood": 2})
    )
    apart, _ = turned(make_projection())
    moved = replace(apart, offset=np.ones(LAYOUT.dim, np.float32))
    asked = replace(apart, query=replace(apart.query, offset=np.ones(LAYOUT.dim, np.float32)))
    others = (make_projection(seed=1), one_bit, renamed, apart, moved, asked)
    for other in others:
        with pytest.raises(IndexFolderError, match="built with another checkpoint"):
            index.check_projection(other)
    assert len({other.digest for other in others}) == len(others)


def test_spreads_are_of_the_items_as_they_are_now():
    """Although there are as many as before."""
    index, query = make_index(unit_vectors(20)), unit_vectors(1, seed=1)[0]
    before, sample = index.score_spread, index.sample
    assert index.score_spread is before and index.sample is sample  # measured once
    index.search(query)
    index.delete([f"d{n}" for n in range(10)])
    narrow = np.repeat(unit_vectors(1, seed=2), 10, axis=0)
    index.add(make_records(10), narrow)
    assert len(index) == 20
    vectors = np.concatenate([unit_vectors(20)[10:], narrow])
    wanted = measure_score_spread(vectors, layout=LAYOUT)
    assert index.score_spread.blocks == pytest.approx(wanted.blocks)
    assert index.score_spread.blocks != before.blocks
    index.add(make_records(20), np.repeat(narrow, 2, axis=0))  # in their places
    assert index.score_spread.blocks == pytest.approx(dict.fromkeys(LAYOUT, 0.0), abs=1e-6)


def test_items_that_another_added_are_measured_too():
    index = make_index(unit_vectors(20))
    before = index.score_spread
    index.engine.upsert(make_records(5, first=20), unit_vectors(5, seed=4))
    assert index.score_spread.items == before.items + 5


def test_indexes_can_be_told_apart_but_not_compared():
    first, second = make_index(unit_vectors(3)), make_index(unit_vectors(3))
    assert first != second
    assert len({first, second}) == 2


def test_changing_the_items_needs_no_new_index():
    """Weights, history and items change; the index is built once."""
    query, vectors = unit_vectors(1, seed=1)[0], unit_vectors(30)
    index = make_index(vectors[:20])
    for count in (5, 12):
        index.search(query, weights="topic=1")
        changed = [Record(id=f"d{n}", text="new") for n in range(count, count + 15)]
        index.engine.upsert(changed, vectors[count : count + 15])
    index.engine.delete(["d3", "d25", "nowhere"])
    kept = [n for n in range(27) if n not in (3, 25)]
    for name, weights in itertools.product(LAYOUT, (1.0, 3.0)):
        hits = index.search(query, weights={name: weights}, k=99)
        wanted = sorted(kept, key=lambda n: -cosines(vectors[n], query)[name])
        assert ids(hits) == [f"d{n}" for n in wanted]
