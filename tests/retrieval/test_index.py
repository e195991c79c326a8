"""Index: texts in, weighted hits out; what is made, changed and left is there again."""

import json
import shutil
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from retrieval_world import LAYOUT, OTHER, QUERY, RECORDS, TEXTS, ids, make_model
from worlds import turned

from subspace.arrays import to_base64
from subspace.blocks import BlockLayout
from subspace.data.records import Record
from subspace.encoder import EncoderSpec
from subspace.errors import (
    BanditError,
    CheckpointError,
    ConfigError,
    EncoderError,
    EngineError,
    IndexFolderError,
    LayoutError,
    QueryError,
    UsageLogError,
    WeightsError,
)
from subspace.model import Model, Projection
from subspace.model.score_spread import measure_score_spread
from subspace.retrieval import (
    PRESETS,
    Index,
    Like,
    Results,
    SearchOptions,
    UsageLog,
    Weights,
)
from subspace.retrieval.engines.index_folder import seal
from subspace.retrieval.usage.bandit import WeightBandit


def make_index(folder: Path, model: Model, records=RECORDS, **options) -> Path:
    """The saved index of some records."""
    with Index.create(folder, model) as index:
        index.add(records, **options)
    return folder


@pytest.fixture(scope="module")
def folder(model, tmp_path_factory) -> Path:
    """The saved index of all texts; not to be changed."""
    return make_index(tmp_path_factory.mktemp("index") / "index", model)


@pytest.fixture
def bandit():
    """Draws from all presets, without priors."""
    arms = list(PRESETS)
    with closing(WeightBandit(":memory:", arms=arms, priors=None, seed=0)) as bandit:
        yield bandit


@pytest.fixture
def index(model, folder, log, bandit):
    """With a usage log and a bandit."""
    with Index.open(folder, model, usage=log.path, bandit=bandit) as index:
        yield index


@pytest.fixture
def plain(model, folder):
    """Without them."""
    with Index.open(folder, model) as index:
        yield index


@pytest.fixture(scope="module")
def real(tmp_path_factory):
    """Of an encoder that was trained, which knows what texts are about."""
    model = make_model("minilm", layers=(-1,))
    layout = BlockLayout.from_widths({"topic": 384})
    whole = replace(model.projection, weight=np.eye(384, dtype=np.float32), layout=layout)
    usage = tmp_path_factory.mktemp("real") / "usage.db"
    UsageLog.open(usage, clock="steps").close()
    model = Model(projection=whole, encoder=model.encoder, fingerprint=model.fingerprint)
    with Index.create(usage.with_name("index"), model, usage=usage) as index:
        index.add(RECORDS)
        yield index


def parts(results: Results, *, block: str) -> dict[str, float]:
    return {hit.id: hit.parts[block]["relevance"] for hit in results}


# What can be asked.


def test_a_text_finds_what_is_about_it(real):
    assert ids(real.search(QUERY, k=3))[:2] == ["bread", "cake"]
    assert ids(real.search(OTHER, k=2)) == ["concert", "drums"]
    assert len(real.search(QUERY, k=99)) == len(real) == len(TEXTS)


def test_a_hit_has_the_text_of_its_record(plain):
    hit = plain.search(QUERY, k=1)[0]
    assert hit.text == TEXTS[hit.id]
    assert hit.metadata == {"loud": "!!!" in hit.text}


def test_a_query_is_scored_by_the_blocks_of_its_encoded_text(plain, model):
    encoder = model.open_encoder()
    vector = model.projection(encoder.encode([QUERY], kind="query"))[0]
    np.testing.assert_array_equal(plain.embed([QUERY])[0], vector)
    assert plain.search(QUERY).hits == plain.blocks.search(vector).hits
    # Counter-check: a query has a prompt that a document has not.
    assert not np.allclose(vector, model.projection(encoder.encode([QUERY]))[0], atol=0.01)
    assert plain.layout == plain.blocks.layout == LAYOUT


def test_queries_are_projected_as_queries(model, tmp_path):
    """Same blocks, but queries are given turned: what finds them is the matrix for queries."""
    projection, _ = turned(model.projection)
    texts, encoder = list(TEXTS.values()), model.open_encoder()
    asked = projection.queries(encoder.encode([QUERY], kind="query"))
    scores = asked @ projection(encoder.encode(texts)).T / len(LAYOUT)
    with Index.create(tmp_path / "index", replace(model, projection=projection)) as index:
        index.add(RECORDS)
        found = {hit.id: hit.score for hit in index.search(QUERY, k=99)}
    assert found == pytest.approx(dict(zip(TEXTS, scores[0], strict=True)), abs=1e-5)
    other = projection(encoder.encode([QUERY], kind="query")) @ projection(encoder.encode(texts)).T
    assert not np.allclose(other / len(LAYOUT), scores, atol=0.05)


def test_more_like_an_item_is_by_its_own_vector_and_without_itself(plain):
    for name in TEXTS:
        found = plain.search(Like(name), weights="topic=1", k=99)
        assert sorted([*ids(found), name]) == sorted(TEXTS)
        vector = plain.blocks.engine.fetch([name]).vectors[0]
        assert found.hits == plain.blocks.search(vector, weights="topic=1", k=99).hits[1:]


def test_items_of_a_query_are_never_among_its_own_hits_and_may_be_among_those_of_others(plain):
    asked = [
        Like("race"),
        QUERY,
        {"topic": Like("tax"), "style": Like("race")},
        {"topic": QUERY, "style": Like("soup")},
    ]
    own = [{"race"}, set(), {"tax", "race"}, {"soup"}]
    for candidates in (None, 4, 50):
        options = {"k": 99, "candidates": candidates}
        batch = plain.search_batch(asked, **options)
        for query, found, items in zip(asked, batch, own, strict=True):
            assert ids(found) == ids(plain.search(query, **options))
            assert len(found) == min(len(TEXTS) - len(items), candidates or 99)
            assert not items & set(ids(found))
    for toward in ("complexity=1", "complexity=-9"):
        for found, items in zip(plain.search_batch(asked, k=99, toward=toward), own, strict=True):
            assert set(ids(found)) == set(TEXTS) - items


def test_what_is_excluded_is_in_no_hits_of_a_batch_beside_the_items_of_each_query(plain):
    asked = [QUERY, Like("race"), OTHER]
    for exclude in (["soup", "tax"], {"soup", "tax"}, ("soup", "tax", "nowhere")):
        found = plain.search_batch(asked, k=99, exclude=exclude)
        left = set(TEXTS) - {"soup", "tax"}
        assert [set(ids(results)) for results in found] == [left, left - {"race"}, left]
    assert len(plain.search(QUERY, k=3, exclude=ids(plain.search(QUERY, k=3)))) == 3


@pytest.mark.parametrize("exclude", ["ab", "", b"ab", 7, None, ["a", 7], [["a"], ["b"]]])
def test_what_is_no_collection_of_ids_cannot_be_excluded(exclude, plain):
    for search in (plain.search, plain.blocks.search):
        query = QUERY if search == plain.search else plain.embed([QUERY])[0]
        with pytest.raises(ConfigError, match="exclude is a collection of ids, got "):
            search(query, exclude=exclude)


def test_an_option_that_there_is_none_of_is_refused_with_those_there_are(plain):
    for search in (plain.search, plain.blocks.search):
        with pytest.raises(ConfigError, match="no option 'best'; it has candidates, exclude, k,"):
            search(QUERY if search == plain.search else plain.embed([QUERY])[0], best=3)


@pytest.mark.parametrize("candidates", [1, 3, 50])
def test_a_gate_lets_in_as_many_as_it_says_beside_the_item_itself(candidates, plain):
    found = plain.search(Like("drums"), weights="topic=1", candidates=candidates)
    assert ids(found) == ids(plain.search(Like("drums"), weights="topic=1"))[:candidates]


def test_the_parts_of_a_composed_query_are_those_of_its_queries(plain):
    """Topic of one text, style of another or of an item: each block as in the query it is from."""
    composed = plain.search({"topic": QUERY, "style": Like("race")}, k=99)
    topic, style = plain.search(QUERY, k=99), plain.search(Like("race"), k=99)
    assert "race" not in ids(composed)  # what is asked for more of is not an answer
    assert parts(composed, block="topic") == {
        name: value for name, value in parts(topic, block="topic").items() if name != "race"
    }
    assert parts(composed, block="style") == parts(style, block="style")
    for block in set(plain.layout) - {"topic", "style"}:
        assert set(parts(composed, block=block).values()) == {0.0}
    # Counter-check: neither is the composed query by itself.
    assert parts(composed, block="style") != parts(topic, block="style")


def test_blocks_that_a_composed_query_names_count_without_weights_too(model, folder):
    """Where the default weights are topic alone; each query of a batch has its own."""
    topic = {**dict.fromkeys(LAYOUT, 0.0), "topic": 2.0}
    queries = [QUERY, {"topic": QUERY, "style": OTHER}, {"style": OTHER}]
    with Index.open(folder, replace(model, default_weights=topic)) as index:
        batch = index.search_batch(queries, k=99)
        both = {"topic": 2.0, "style": 2.0}
        for query, found, weights in zip(queries, batch, (topic, both, both), strict=True):
            again = index.search(query, weights=weights, k=99)
            assert (ids(found), found.weights) == (ids(again), again.weights)
            assert index.search(query, k=99).hits == again.hits
        # Weights that are given are the weights.
        assert index.search(queries[1], weights="topic=1", k=99).weights.relevance[0] == 1
        assert sum(index.search(queries[1], weights="topic=1", k=99).weights.relevance) == 1


def test_a_preset_alone_goes_with_the_default_weights_however_it_is_given(index, model):
    by_name = index.search(QUERY, preset="balanced", k=99)
    for weights in ("preset=balanced", "riv=0.33,0.33,0.34", {"preset": "balanced"}):
        assert index.search(QUERY, weights=weights, k=99).hits == by_name.hits
    relevance = dict(zip(LAYOUT, by_name.weights.relevance, strict=True))
    wanted = {name: 0.34 * weight for name, weight in model.default_weights.items()}
    assert relevance == pytest.approx(wanted)
    equal = index.search(QUERY, weights={"preset": "balanced", "blocks": dict.fromkeys(LAYOUT, 1)})
    assert len(set(equal.weights.relevance)) == 1


def test_an_index_says_in_one_line_what_it_is(plain, model):
    said = repr(plain)
    assert said.startswith(f"Index({len(TEXTS)} records, NumpyEngine, Model(topic ")
    assert "\n" not in said
    assert repr(model.projection).startswith("Projection(64 -> {'topic': ")


def test_a_composed_query_with_weights_is_the_weighted_sum(plain):
    composed = plain.search({"topic": QUERY, "style": OTHER}, weights="topic=2,style=0.5", k=99)
    topic = plain.search(QUERY, weights="topic=1", k=99)
    style = plain.search(OTHER, weights="style=1", k=99)
    one, two = ({hit.id: hit.score for hit in found} for found in (topic, style))
    for hit in composed:
        assert hit.score == pytest.approx(2 * one[hit.id] + 0.5 * two[hit.id], abs=1e-6)


def test_a_batch_finds_what_its_queries_find_one_by_one(index):
    index.use({"soup": 1.0, "tax": 0.0, "race": None})
    queries = [QUERY, Like("race"), {"topic": OTHER, "style": Like("tax")}, OTHER, QUERY]
    for options in (
        {},
        {"weights": "topic=1,style=2", "preset": "balanced", "scope": "item"},
        {"preset": "recency_heavy", "candidates": 4},
        {"where": {"loud": True}, "k": 2},
    ):
        batch = index.search_batch(queries, **options)
        assert len(batch) == len(queries)
        for query, found in zip(queries, batch, strict=True):
            one = index.search(query, **options)
            assert ids(found) == ids(one)
            scores = [hit.score for hit in one]
            assert [hit.score for hit in found] == pytest.approx(scores, abs=1e-5)


def test_a_batch_of_no_queries_finds_nothing(index):
    assert index.search_batch([]) == []
    assert index.search_batch([], preset="auto") == []


@pytest.mark.parametrize(
    ("query", "error", "message"),
    [
        ("", EncoderError, "empty"),
        ("  \n", EncoderError, "empty"),
        (Like("nowhere"), QueryError, "not in the index: nowhere"),
        (Like(""), QueryError, "not in the index"),
        ({"mood": QUERY}, QueryError, "no block 'mood'; the blocks are topic, style"),
        ({"topic": Like("nowhere")}, QueryError, "not in the index: nowhere"),
        ({}, QueryError, "needs a text or an item for one block at least"),
        (None, QueryError, "a text, .*Like.* got None"),
        (7, QueryError, "a text, .*Like.* got 7"),
        (["bread"], QueryError, "a text, .*Like.*"),
        ({"topic": None}, QueryError, "a text, .*Like.* got None"),
        ({"topic": {"style": QUERY}}, QueryError, "a text, .*Like.*"),
        (Like(7), QueryError, r"a text, .* got Like\(id=7\)"),
    ],
)
def test_a_query_that_cannot_be_asked_is_refused(query, error, message, plain):
    with pytest.raises(error, match=message):
        plain.search(query)
    with pytest.raises(error, match=message):
        plain.search_batch([QUERY, query])


def test_one_text_is_not_several_queries(plain):
    with pytest.raises(QueryError, match="several queries are a list"):
        plain.search_batch(QUERY)


# Presets and weights.


def test_a_preset_counts_for_the_blocks_that_the_weights_name(index):
    index.use({"soup": 1.0, "court": 0.0})
    for preset in PRESETS:
        named = index.search(QUERY, weights="topic=0.7,style=0.1", preset=preset)
        assert named.weights == Weights.make(
            layout=LAYOUT, preset=preset, blocks={"topic": 0.7, "style": 0.1}
        )
        alone = index.search(QUERY, preset=preset)
        assert alone.weights == Weights.make(layout=LAYOUT, preset=preset)
        mapping = index.search(QUERY, weights={"topic": 0.7, "style": 0.1}, preset=preset)
        assert mapping.hits == named.hits


def test_a_search_that_names_no_weights_has_those_of_the_model(model, folder, plain):
    weights = {"topic": 1.0, "style": 0.5, "complexity": 0.0, "specificity": 0.0, "residual": 2.0}
    with Index.open(folder, replace(model, default_weights=weights)) as index:
        found = index.search(QUERY)
        assert found.hits == plain.search(QUERY, weights=weights).hits
        assert found.weights == Weights.make(layout=LAYOUT, blocks=weights)
    assert plain.search(QUERY).weights == Weights.equal(LAYOUT)
    assert plain.search(QUERY).hits != found.hits


@pytest.mark.parametrize(
    ("weights", "preset", "message"),
    [
        ("riv=0.1,0.2,0.7", "balanced", "give a preset, or weights of recency and importance"),
        ("preset=balanced", "balanced", "give a preset, or weights of recency and importance"),
        (None, "unbalanced", "no preset 'unbalanced'"),
        ("mood=1", None, "no block 'mood'"),
        ("topic=1", "auto", "'auto' chooses the weights: give none beside it"),
    ],
)
def test_weights_and_presets_that_do_not_go_together_are_refused(weights, preset, message, index):
    with pytest.raises(WeightsError, match=message):
        index.search(QUERY, weights=weights, preset=preset)


def test_comparing_is_searching_in_both_scopes(index):
    index.use({"soup": 1.0, "court": 0.0})
    for query in (QUERY, Like("bread"), {"topic": Like("bread")}):
        both = index.compare(query, preset="balanced", k=5)
        assert list(both) == ["block", "item"]
        for scope, found in both.items():
            assert found.hits == index.search(query, preset="balanced", scope=scope, k=5).hits
        assert both["block"].hits != both["item"].hits
    with pytest.raises(WeightsError, match="auto"):
        index.compare(QUERY, preset="auto")


# Scores of all blocks are brought to one deviation.


@pytest.fixture(scope="module")
def narrow(model, tmp_path_factory):
    """Sixty items whose styles lie within a degree of each other, and models without and with it.

    Their raw vectors are given, and the projection takes them as they are.
    """
    layout = BlockLayout.from_widths({"topic": 40, "style": 24})
    whole = Projection(np.eye(64, dtype=np.float32), np.zeros(64, np.float32), layout)
    raw = np.random.default_rng(0).normal(size=(60, 64)).astype(np.float32)
    raw[:, 40:] = np.eye(1, 24) + 0.003 * raw[:, 40:]
    spread = measure_score_spread(whole(raw), layout=layout).blocks
    without = replace(model, projection=whole, heads={}, default_weights={}, score_spreads={})
    target = tmp_path_factory.mktemp("narrow") / "index"
    records = [Record(id=f"d{n}", text="a text") for n in range(60)]
    make_index(target, without, records, vectors=raw)
    return target, without, replace(without, score_spreads=spread)


def test_a_block_of_little_spread_counts_as_much_as_one_of_a_large_one(narrow):
    """Its scores are brought to the deviation of the first block's; left as they are, topic
    alone decides."""
    target, without, scaled = narrow
    assert scaled.score_scales["topic"] == 1 and scaled.score_scales["style"] > 100
    found, deviations = {}, {}
    for name, model in (("without", without), ("scaled", scaled)):
        with Index.open(target, model) as index:
            found[name] = index.search(Like("d0"), weights="topic=1,style=1", k=60)
        deviations[name] = [
            np.std([hit.by_block()[block] for hit in found[name]]) for block in ("topic", "style")
        ]
    assert deviations["without"][0] > 100 * deviations["without"][1]
    assert 0.4 < deviations["scaled"][0] / deviations["scaled"][1] < 2.5
    assert ids(found["without"]) != ids(found["scaled"])
    # What results name are the weights that were asked for.
    assert found["without"].weights == found["scaled"].weights
    for hit in found["scaled"]:  # still a sum of its parts
        assert hit.score == sum(v for part in hit.parts.values() for v in part.values())


def test_every_part_of_a_block_is_scaled_alike(narrow, tmp_path):
    target, without, scaled = narrow
    usage = tmp_path / "usage.db"
    with UsageLog.open(usage, clock="steps") as log:
        log.add([("d3", 1.0), ("d4", 0.0), ("d5", None)])
    for scope in ("block", "item"):
        options = {"weights": "riv=0.2,0.3,0.5;topic=1,style=0.5", "scope": scope, "k": 60}
        hits = []
        for model in (without, scaled):
            with Index.open(target, model, usage=usage) as index:
                hits.append({hit.id: hit for hit in index.search(Like("d0"), **options)})
        for name, hit in hits[0].items():
            for block, scale in scaled.score_scales.items():
                for part, value in hit.parts[block].items():
                    other = hits[1][name].parts[block][part]
                    assert other == pytest.approx(scale * value, rel=1e-4, abs=1e-6)


# Use.


def test_what_was_used_with_success_comes_first_where_that_counts(real):
    """In item scope for itself, in block scope for what is alike as well."""
    before = ids(real.search(OTHER, preset="balanced", k=99))
    assert before.index("court") > 3
    for _ in range(3):
        real.use({"court": 1.0})
    options = {"preset": "recency_importance", "k": 99}
    assert ids(real.search(OTHER, scope="item", **options))[0] == "court"
    gained = {
        hit.id: hit.by_part()["importance"] for hit in real.search(OTHER, scope="block", **options)
    }
    assert gained["tax"] > max(gained[name] for name in ("bread", "drums", "race"))


def test_uses_are_logged_with_their_success_and_query(index, log):
    found = index.search(QUERY)
    index.use({"bread": 1.0, "cake": None}, query_id=found.query_id)
    index.use(["soup"])
    logged = [(use.item, use.time, use.success, use.query) for _, use in log.since()]
    assert logged == [
        ("bread", 0, 1.0, found.query_id),
        ("cake", 0, None, found.query_id),
        ("soup", 1, None, None),
    ]


def test_a_use_of_a_query_is_logged_once_and_says_how_much_was_new(index, log):
    found = index.search(QUERY)
    assert index.use(["bread", "cake"], query_id=found.query_id) == 2
    assert index.use({"bread": 1.0, "cake": None, "soup": 0.0}, query_id=found.query_id) == 2
    assert index.use({"bread": 0.0, "soup": 1.0}, query_id=found.query_id) == 0
    assert index.use(["bread"]) == index.use(["bread"]) == 1  # without a query: every time
    logged = {use.item: use.success for _, use in log.since() if use.query is not None}
    assert logged == {"bread": 1.0, "cake": None, "soup": 0.0}


@pytest.mark.parametrize("scope", ["block", "item"])
def test_what_an_agent_used_and_pinned_counts_in_its_own_searches_alone(scope, real):
    options = {"preset": "recency_importance", "scope": scope, "k": 99}
    before = real.search(OTHER, namespace="bob", **options).hits
    for _ in range(3):
        assert real.use({"loan": 1.0}, namespace="alice") == 1
    assert real.pin(["soup"], namespace="alice") == 1
    assert real.pins(namespace="alice") == ("soup",) and real.pins(namespace="bob") == ()
    assert real.search(OTHER, namespace="bob", **options).hits == before
    found = real.search(OTHER, namespace="alice", **options)
    assert found.namespace == "alice"
    assert set(ids(found)[:2]) == {"loan", "soup"}
    both = real.compare(OTHER, preset="recency_importance", k=99, namespace="alice")
    assert both[scope].hits == found.hits
    batch = real.search_batch([OTHER], namespace="alice", **options)
    assert batch[0].hits == found.hits
    assert real.unpin(["soup"], namespace="alice") == 1


def test_what_is_pinned_must_be_there_and_can_be_unpinned_when_it_is_gone(model, tmp_path):
    make_index(tmp_path / "index", model)
    with Index.open(tmp_path / "index", model, usage=tmp_path / "usage.db") as index:
        for wrong in (["bread", "nowhere"], [""], [7]):
            for ask in (index.pin, index.unpin):
                with pytest.raises(QueryError, match="not in the index"):
                    ask(wrong)
        for ask in (index.pin, index.unpin):
            with pytest.raises(QueryError, match="a list of ids"):
                ask("bread")
        assert index.pins() == ()
        assert index.pin(["bread", "bread", "cake"]) == 2
        index.delete(["bread"])
        index.search(QUERY, preset="balanced")
        assert index.unpin(["bread", "soup"]) == 1
        assert index.pins() == ("cake",)
    with Index.open(tmp_path / "index", model, usage=tmp_path / "usage.db") as index:
        assert index.pins() == ("cake",)
    with Index.open(tmp_path / "index", model) as index:
        for ask in (lambda: index.pin(["cake"]), lambda: index.unpin(["cake"]), index.pins):
            with pytest.raises(ConfigError, match="no usage log"):
                ask()


def test_the_floors_are_those_that_the_index_was_opened_with(model, folder, log):
    log.add([("bread", 1.0)])
    for _ in range(60):
        log.add([("soup", None)])
    for floor in (0.0, 0.3, 0.5):
        with Index.open(folder, model, usage=log.path, recency_floor=floor) as index:
            assert index.blocks.history_of("").item_values(["bread"])[0] == [floor]
    for wrong in ({"recency_floor": 2}, {"importance_floor": -1}):
        with pytest.raises(ConfigError, match="floor must be between 0 and 1"):
            Index.open(folder, model, usage=log.path, **wrong)


@pytest.mark.parametrize(
    ("items", "error", "message"),
    [
        (["bread", "nowhere"], QueryError, "not in the index: nowhere"),
        ({"bread": 1.0, "nowhere": 1.0}, QueryError, "not in the index: nowhere"),
        ([""], QueryError, "not in the index"),
        ([7, None], QueryError, "not in the index: 7, None"),
        ("bread", QueryError, "a list of ids"),
        ({"soup": 1.0, "bread": 1.1}, UsageLogError, "success of 'bread' must be between 0 and 1"),
        ({"soup": 1.0, "bread": "yes"}, UsageLogError, "success of 'bread'"),
        ({"bread": float("nan")}, UsageLogError, "success of 'bread'"),
    ],
)
def test_uses_that_cannot_be_are_refused_and_none_beside_them_logged(
    items, error, message, index, log
):
    with pytest.raises(error, match=message):
        index.use(items)
    assert len(log) == 0


def test_without_a_usage_log_nothing_can_be_logged_or_learned(plain, model, folder, bandit):
    with pytest.raises(ConfigError, match="no usage log"):
        plain.use(["bread"])
    with pytest.raises(ConfigError, match=r"no usage log .*relevance alone"):
        plain.search(QUERY, preset="balanced")
    with pytest.raises(ConfigError, match="no bandit"):
        plain.search(QUERY, preset="auto")
    with pytest.raises(ConfigError, match="no bandit"):
        plain.feedback("q", 1.0)
    with Index.open(folder, model, bandit=bandit) as learner:
        with pytest.raises(ConfigError, match="no usage log"):
            learner.search(QUERY, preset="auto")
        with pytest.raises(ConfigError, match="no usage log"):
            learner.feedback("q", 1.0)


# The bandit.


def test_auto_searches_with_the_weights_of_the_arm_that_it_names(index):
    arms = set()
    for _ in range(15):
        found = index.search(QUERY, preset="auto", k=4)
        assert found.weights == Weights.make(layout=LAYOUT, preset=found.arm)
        assert found.hits == index.search(QUERY, preset=found.arm, k=4).hits
        arms.add(found.arm)
    assert len(arms) > 3
    assert index.search(QUERY, preset="balanced").arm is None


def test_every_query_of_a_batch_has_an_arm_of_its_own(index):
    batch = index.search_batch([QUERY] * 15, preset="auto")
    assert len({found.arm for found in batch}) > 3
    for found in batch:
        index.feedback(found.query_id, 1.0)
    totals = [a - 1 for a, _ in index.bandit.posteriors().values()]
    assert sum(totals) == 15


def test_feedback_is_learned_once_for_the_arm_of_the_query(index):
    found = index.search(QUERY, preset="auto")
    index.feedback(found.query_id, {"recency": 5, "relevance": 3})
    assert index.bandit.posteriors()[found.arm] == (1.75, 1.25)
    with pytest.raises(UsageLogError, match="rated before"):
        index.feedback(found.query_id, 1.0)
    again = index.search(QUERY, preset="auto")
    index.feedback(again.query_id, {"importance": 0.5}, scale=(0, 1))
    assert sum(map(sum, index.bandit.posteriors().values())) == 2 * len(PRESETS) + 2


def test_all_arms_learn_from_the_success_of_the_hits_of_one_search(model, folder, log, tmp_path):
    """A use of bread makes what is like it important; every arm would order the hits by it."""
    with (
        closing(WeightBandit(tmp_path / "arms.db", seed=0)) as bandit,
        Index.open(folder, model, usage=log.path, bandit=bandit) as index,
    ):
        index.use({"bread": 1.0})
        found = index.search(QUERY, preset="auto", k=5)
        assert found.weights.relevance_alone().as_dict()["relevance"] == pytest.approx(
            {
                name: weight * sum(found.weights.relevance)
                for name, weight in model.default_weights.items()
            }
        )
        with pytest.raises(ConfigError, match="ratings of the search, or the success of its hits"):
            index.feedback(found.query_id)
        for wrong in ({"nowhere": 1.0}, {found[0].id: 2}, {}, {found[0].id: "yes"}):
            with pytest.raises(BanditError, match=r"among the hits|must be between|by a succ"):
                index.feedback(found.query_id, hits=wrong)
        index.feedback(found.query_id, hits={found[-1].id: 1.0})
        with pytest.raises(UsageLogError, match="rated before"):
            index.feedback(found.query_id, hits={found[-1].id: 1.0})
        compared = dict(
            sqlite3.connect(tmp_path / "arms.db").execute(
                "SELECT arm_id, searches FROM bandit_arms_compared"
            )
        )
        assert compared == dict.fromkeys(bandit.arms, 1.0)
        assert set(bandit.posteriors().values()) == {(1.0, 1.0)}


@pytest.mark.parametrize("scope", ["block", "item"])
def test_the_same_hits_are_ordered_as_each_arm_would_find_them(index, scope):
    index.use({"bread": 1.0, "soup": 0.0})
    found = index.search(QUERY, k=99)
    (vector,) = index.embed([QUERY])
    tables = {name: Weights.make(layout=LAYOUT, preset=name) for name in PRESETS}
    scaled = {name: one.scaled(index.model.score_scales) for name, one in tables.items()}
    orders = index.blocks.orders(
        vector, ids(found), weights=scaled, options=SearchOptions(scope=scope)
    )
    for name, one in tables.items():
        assert list(orders[name]) == ids(index.search(QUERY, weights=one, scope=scope, k=99))
    assert len(set(orders.values())) > 2
    assert index.blocks.orders(vector, [], weights=scaled) == dict.fromkeys(PRESETS, ())


def test_feedback_that_cannot_be_is_refused_and_can_be_given_again(index):
    found = index.search(QUERY, preset="auto")
    for ratings in ({"recency": 6}, {"mood": 3}, 5, {}):
        with pytest.raises(BanditError):
            index.feedback(found.query_id, ratings)
    for query in (index.search(QUERY).query_id, "nowhere"):
        with pytest.raises(UsageLogError, match=f"no query '{query}'"):
            index.feedback(query, 1.0)
    index.feedback(found.query_id, 1.0)


def test_what_the_bandit_chose_is_noted_of_a_search_that_found_something_alone(index, log):
    def noted() -> list[tuple[str, str]]:
        with closing(sqlite3.connect(log.path)) as connection:
            return connection.execute("SELECT id, arm FROM queries").fetchall()

    for wrong in ({"k": 0}, {"scope": "both"}, {"where": {"": 1}}):
        with pytest.raises((ConfigError, QueryError)):
            index.search(QUERY, preset="auto", **wrong)
    index.search(QUERY, preset="balanced")
    assert noted() == []
    found = index.search(QUERY, preset="auto")
    assert noted() == [(found.query_id, found.arm)]


# What is made, changed and left.


def test_what_was_added_is_there_again_although_nobody_saved_it(model, tmp_path, plain):
    index = Index.create(tmp_path / "index", model)
    assert len(index) == 0
    index.add(RECORDS[:5])
    index.add(iter(RECORDS[3:]))  # two of them again
    assert not (tmp_path / "index").exists()
    index.close()
    with Index.open(tmp_path / "index", model) as again:
        assert len(again) == len(TEXTS)
        found = again.blocks.engine.fetch(list(TEXTS))
        assert found.documents == RECORDS
        wanted = model.encode_document(list(TEXTS.values())).array
        np.testing.assert_allclose(found.vectors, wanted, atol=1e-5)
        assert ids(again.search(QUERY, k=99)) == ids(plain.search(QUERY, k=99))
        assert again.delete(["soup", "nowhere"]) == 1
    with Index.open(tmp_path / "index", model) as third:
        assert len(third) == len(TEXTS) - 1


def test_closing_writes_nothing_where_nothing_was_changed(model, tmp_path):
    folder = make_index(tmp_path / "index", model)

    def stamps() -> dict[str, tuple[int, int, int]]:
        found = {path.name: path.stat() for path in folder.iterdir() if path.name != ".lock"}
        return {name: (one.st_ino, one.st_size, one.st_mtime_ns) for name, one in found.items()}

    before = stamps()
    with Index.open(folder, model) as index:
        index.search(QUERY)
        index.delete(["nowhere"])
    index.close()  # once more does no harm
    assert stamps() == before
    with Index.open(folder, model) as index:
        index.delete(["soup"])
        index.save()
        saved = stamps()
    assert before != saved == stamps()


def test_an_empty_index_is_an_index(model, tmp_path):
    Index.create(tmp_path / "index", model, settings={"dtype": "float16"}).close()
    with Index.open(tmp_path / "index", model) as index:
        assert len(index) == 0
        assert index.search(QUERY).hits == ()
        index.add([])
        assert len(index) == 0
        assert index.blocks.engine.vectors.dtype == np.float16


def test_the_index_that_is_replaced_stays_until_the_new_one_is_saved(model, tmp_path):
    target = make_index(tmp_path / "index", model)
    new = Index.create(target, model)
    new.add(RECORDS[:2])
    with Index.open(target, model) as old:
        assert len(old) == len(TEXTS)
        new.save()
        with Index.open(target, model) as saved:
            assert len(saved) == 2
        assert len(old.search(QUERY, k=99)) == len(TEXTS)  # who has the old one open can go on
    new.close()


def test_an_index_of_records_is_centred_on_them_but_for_the_blocks_of_a_plain_search(
    model, tmp_path
):
    elsewhere = replace(model.projection, mean=np.zeros(64, dtype=np.float32))
    weights = {**dict.fromkeys(LAYOUT, 0.0), "topic": 1.0}
    model = replace(model, projection=elsewhere, default_weights=weights)
    raw = model.open_encoder().encode(list(TEXTS.values()))
    with Index.create(tmp_path / "index", model, iter(RECORDS)) as index:
        index.add([Record(id="later", text=OTHER)])
        hits = index.search(QUERY, weights="style=1", k=99).hits
    centred = model.centred_on(raw)
    # The model that comes back from disk is not centred, the index knows on what it was.
    with Index.open(tmp_path / "index", model) as again:
        assert again.model.projection.digest == centred.projection.digest
        assert again.model.score_spreads == centred.score_spreads
        assert again.search(QUERY, weights="style=1", k=99).hits == hits
        found = again.blocks.engine.fetch(["later", *TEXTS])
        wanted = centred.encode_document([OTHER, *TEXTS.values()]).array
        np.testing.assert_allclose(found.vectors, wanted, atol=1e-6)
    plain = model.project(raw)
    np.testing.assert_array_equal(centred.project(raw)["topic"], plain["topic"])
    assert not np.allclose(centred.project(raw)["style"], plain["style"], atol=0.01)
    # Encoded before, it is the same; added to an empty index, nothing is centred.
    with Index.create(tmp_path / "raw", model, RECORDS, vectors=raw) as index:
        assert index.model.projection.digest == centred.projection.digest
    with Index.create(tmp_path / "later", model, centre_on=raw) as index:
        assert (len(index), index.model.score_spreads) == (0, centred.score_spreads)
    make_index(tmp_path / "added", model)
    with Index.open(tmp_path / "added", model) as index:
        assert index.blocks.engine.centre is None
        assert index.model is model


def change_manifest(folder: Path, change) -> None:
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(seal(manifest)))


def test_an_index_from_before_there_were_centres_is_opened(model, tmp_path):
    target = make_index(tmp_path / "index", model)
    change_manifest(target, lambda manifest: manifest.pop("centre"))
    with Index.open(target, model) as index:
        assert index.model is model


HUGE = to_base64(np.full(64, 3e38, dtype=np.float32))


@pytest.mark.parametrize(
    "damage",
    [
        {"embedding": "no base64"},
        {"embedding": "AAAA"},
        {"embedding": to_base64(np.full(64, np.nan, dtype=np.float32))},
        {"embedding": to_base64(np.zeros(63, dtype=np.float32))},
        {"embedding": HUGE},
        {"embedding": None},
        {"score_spreads": {"topic": 0.1}},
        {"score_spreads": dict.fromkeys(LAYOUT, -1.0)},
        {"score_spreads": [0.1]},
    ],
)
def test_a_damaged_centre_is_one_sentence(model, tmp_path, damage):
    weights = {**dict.fromkeys(LAYOUT, 0.0), "topic": 1.0}
    model = replace(model, default_weights=weights)
    Index.create(tmp_path / "index", model, RECORDS).close()
    change_manifest(tmp_path / "index", lambda manifest: manifest["centre"].update(damage))
    with pytest.raises(IndexFolderError, match="damaged"):
        Index.open(tmp_path / "index", model)


def test_records_that_cannot_be_added_leave_the_index_that_they_were_to_replace(model, tmp_path):
    target = tmp_path / "index"
    Index.create(target, model, RECORDS).close()
    bad = Record(id="bad", text="")
    for records, error in (([*RECORDS, bad], EncoderError), ([*RECORDS, RECORDS[0]], EngineError)):
        with pytest.raises(error):
            Index.create(target, model, records)
    with pytest.raises(LayoutError, match="12 records, 2 vectors"):
        Index.create(target, model, RECORDS, vectors=np.ones((2, 64), np.float32))
    with Index.open(target, model) as index:
        assert len(index) == len(RECORDS)


def test_an_error_on_the_way_leaves_what_was_there(model, tmp_path):
    """All or nothing: neither an empty index in its place, nor half of the changes."""
    target = make_index(tmp_path / "index", model)
    for make in (Index.create, Index.open):
        with pytest.raises(EncoderError, match="empty"), make(target, model) as index:
            index.add(RECORDS[:2])
            index.delete(["soup"])
            index.add([Record(id="good", text="a text"), Record(id="bad", text="")])
        with Index.open(target, model) as index:
            assert len(index) == len(TEXTS)


def test_raw_vectors_are_added_as_if_their_texts_were_encoded(model, tmp_path, plain):
    raw = model.open_encoder().encode(list(TEXTS.values()))
    make_index(tmp_path / "index", model, vectors=raw)
    with Index.open(tmp_path / "index", model) as index:
        assert index.search(QUERY, k=99).hits == plain.search(QUERY, k=99).hits
        for wrong, message in (
            (raw[1:], "12 records, 11 vectors"),
            (raw[:, 1:], "63 dimensions, the projection takes 64"),
            (np.full_like(raw, np.nan), "NaN or infinity"),
        ):
            with pytest.raises(LayoutError, match=message):
                index.add(RECORDS, vectors=wrong)
        assert index.search(QUERY, k=99).hits == plain.search(QUERY, k=99).hits


def test_a_search_filters_by_metadata_and_by_factors(model, tmp_path):
    records = [
        Record(id="a", text="one", factors={"style": "loud", "year": 1999.0}),
        Record(id="b", text="two", factors={"style": "loud"}, metadata={"style": "calm"}),
        Record(id="c", text="three", metadata={"style": "loud", "year": 1999}),
    ]
    make_index(tmp_path / "index", model, records)
    with Index.open(tmp_path / "index", model) as index:
        for where, names in (
            ({"style": "loud"}, {"a", "c"}),
            ({"style": "calm"}, {"b"}),  # of two of one name, metadata counts
            ({"year": 1999, "style": ["loud", "calm"]}, {"a", "c"}),
        ):
            assert set(ids(index.search(QUERY, where=where))) == names


@pytest.mark.parametrize(
    ("records", "error", "message"),
    [
        ([Record(id="x", text="")], EncoderError, "empty"),
        ([Record(id="", text="a text")], EngineError, "the id of a document"),
        ([Record(id="x", text="a"), Record(id="x", text="b")], EngineError, "more than once: x"),
        ([("x", "a text")], QueryError, "records are given as Record"),
        (["a text"], QueryError, "records are given as Record"),
    ],
)
def test_records_that_cannot_be_added_are_refused_and_none_beside_them_added(
    records, error, message, model, tmp_path
):
    with Index.create(tmp_path / "index", model) as index:
        with pytest.raises(error, match=message):
            index.add([*RECORDS[:2], *records])
        assert len(index) == 0


def test_what_changes_is_what_is_searched(model, tmp_path):
    with Index.create(tmp_path / "index", model) as index:
        index.add(RECORDS)
        index.add([Record(id="new", text=TEXTS["soup"]), Record(id="bread", text=OTHER)])
        assert ids(index.search(Like("soup"), k=1)) == ["new"]
        assert {hit.id: hit.text for hit in index.search(QUERY, k=99)}["bread"] == OTHER
        index.delete(["soup"])
        with pytest.raises(QueryError, match="not in the index: soup"):
            index.search(Like("soup"))


# What belongs together.


def test_an_index_of_another_model_is_refused(model, folder):
    moved = replace(model.projection, mean=model.projection.mean + 1)
    asked = turned(model.projection)[0]
    for projection in (moved, asked):
        with pytest.raises(IndexFolderError, match="built with another checkpoint"):
            Index.open(folder, replace(model, projection=projection))


def test_another_encoder_than_the_models_is_refused(model, folder):
    other = replace(model, encoder=EncoderSpec(layers=(-1,)))
    with (
        Index.open(folder, other) as index,
        pytest.raises(CheckpointError, match="made for another encoder"),
    ):
        index.search(QUERY)


def test_an_arm_for_blocks_that_are_not_there_is_refused_by_their_name(model, folder, tmp_path):
    """And before anything is done to what is there."""
    (tmp_path / "thesis.txt").write_text("mine")
    with closing(WeightBandit(":memory:", arms={"theirs": {"mood": 1}})) as bandit:
        for make, target in ((Index.open, folder), (Index.create, tmp_path)):
            with pytest.raises(WeightsError, match="no block 'mood'"):
                make(target, model, bandit=bandit)
    with pytest.raises(ConfigError, match="half-life must be above 0"):
        Index.create(tmp_path, model, half_life=0, usage=tmp_path / "usage.db")
    with pytest.raises(ConfigError, match="recency floor"):
        Index.create(tmp_path, model, recency_floor=2, usage=tmp_path / "usage.db")


def test_all_is_opened_by_path(model, folder, tmp_path):
    model.save(tmp_path / "model")
    with Index.open(folder, tmp_path / "model", usage=tmp_path / "new" / "usage.db") as index:
        index.use({"soup": 1.0})
        assert len(index.search(QUERY, preset="balanced", k=3)) == 3
        assert index.layout == LAYOUT
    with UsageLog.open(tmp_path / "new" / "usage.db") as log:
        assert len(log) == 1
    for target, of in ((tmp_path, tmp_path / "model"), (folder, tmp_path), (tmp_path, tmp_path)):
        with pytest.raises((CheckpointError, IndexFolderError)):
            Index.open(target, of)


def test_a_model_is_read_once_and_not_at_every_search(model, folder, tmp_path):
    """Neither its blocks nor its directions."""
    shutil.copytree(folder, tmp_path / "index")
    model.save(tmp_path / "model")
    with Index.open(tmp_path / "index", tmp_path / "model") as index:
        shutil.rmtree(tmp_path / "model")
        found = [index.search(QUERY, toward="complexity=-2") for _ in range(2)]
    assert found[0].hits == found[1].hits
    with Index.open(folder, model) as index:
        assert found[0].hits == index.search(QUERY, toward="complexity=-2").hits


# What is loaded.

LOADED = """
import sys

import subspace.retrieval
from subspace.retrieval.engines.index_folder import seal
from subspace.retrieval.engines import faiss_engine, milvus_engine, pgvector_engine

heavy = ["torch", "transformers"]
unwanted = ["pytorch_lightning", "wandb", "jsonargparse", "faiss", "psycopg", "pgvector",
            "pymilvus", "milvus_lite", "grpc", "thompson_bandits", "matplotlib"]
assert not [name for name in unwanted + heavy if name in sys.modules], "importing"
with subspace.retrieval.Index.open(sys.argv[1], sys.argv[2], usage=sys.argv[3]) as index:
    index.use({"soup": 1.0})
    assert len(index.search("a text", preset="balanced")) == 10
assert not [name for name in unwanted if name in sys.modules], "searching"
assert all(name in sys.modules for name in heavy)
"""


@pytest.mark.slow
def test_nothing_is_loaded_that_is_not_needed(model, folder, tmp_path):
    """Neither by importing, nor by searching a folder."""
    model.save(tmp_path / "model")
    arguments = [folder, tmp_path / "model", tmp_path / "usage.db"]
    result = subprocess.run(
        [sys.executable, "-c", LOADED, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-2000:]


# Many threads.


def test_threads_may_share_one_index_with_its_log_and_its_bandit(model, tmp_path):
    """They search, use, rate, add, remove and save at once; nothing of it is lost."""
    make_index(tmp_path / "index", model)
    bandit = WeightBandit(tmp_path / "arms.db", seed=0)
    raw = model.open_encoder().encode(["a new text"])
    with Index.open(tmp_path / "index", model, usage=tmp_path / "usage.db", bandit=bandit) as index:

        def work(number: int) -> None:
            for step in range(4):
                name = f"{number}-{step}"
                index.add([Record(id=name, text="a new text")], vectors=raw)
                index.use({name: 1.0, "bread": 0.5})
                index.search(Like("bread"), preset="balanced", scope=("block", "item")[step % 2])
                index.search("a text of many words " * (1 + 60 * number), toward="complexity=-1")
                found = index.search(Like(name), preset="auto", candidates=5)
                index.feedback(found.query_id, 0.5)
                if step % 2:
                    assert index.delete([name]) == 1
                if number == 1:
                    index.save()

        with ThreadPoolExecutor(6) as threads:
            for done in [threads.submit(work, number) for number in range(6)]:
                done.result()
        assert len(index.blocks.history.log) == 6 * 4 * 2
        assert sum(alpha + beta - 2 for alpha, beta in bandit.posteriors().values()) == 24
    with Index.open(tmp_path / "index", model) as index:
        kept = {f"{number}-{step}" for number in range(6) for step in (0, 2)}
        assert {document.id for document in index.blocks.engine.documents} == kept | set(TEXTS)
    bandit.close()


def test_an_index_that_was_built_again_takes_no_changes_of_one_opened_before(model, tmp_path):
    """They are of other vectors, centred elsewhere. What is refused is said, the rebuild stays."""
    folder = tmp_path / "index"
    Index.create(folder, model, RECORDS[:6]).close()
    searcher = Index.open(folder, model)
    searcher.add(RECORDS[6:7])
    Index.create(folder, model, RECORDS[7:]).close()
    with pytest.raises(IndexFolderError, match=r"built again since .*: open it again"):
        searcher.close()
    with Index.open(folder, model) as index:
        assert len(index) == len(RECORDS) - 7


def test_what_another_has_saved_is_found_after_refresh_and_not_before(model, tmp_path):
    make_index(tmp_path / "index", model, RECORDS[:6])
    with (
        Index.open(tmp_path / "index", model) as one,
        Index.open(tmp_path / "index", model) as other,
    ):
        one.add(RECORDS[6:8])
        assert not other.refresh()
        one.save()
        assert RECORDS[6].id not in {hit.id for hit in other.search(RECORDS[6].text, k=8)}
        assert len(other.blocks.sample.documents) == 6
        assert other.refresh()
        assert not other.refresh()
        assert RECORDS[6].id in {hit.id for hit in other.search(RECORDS[6].text, k=8)}
        assert len(other.blocks.sample.documents) == 8  # what is measured is of the new state
        assert not one.refresh()


def test_of_two_that_have_one_index_open_each_keeps_what_the_other_saved(model, tmp_path):
    make_index(tmp_path / "index", model, RECORDS[:6])
    one, other = (Index.open(tmp_path / "index", model) for _ in range(2))
    one.add(RECORDS[6:7])
    one.close()
    other.add(RECORDS[7:8])
    other.close()
    with Index.open(tmp_path / "index", model) as index:
        assert len(index) == 8


def test_one_id_alone_is_no_list_of_ids(model, tmp_path):
    """Its letters may be ids of others."""
    records = [Record(id=str(n), text=f"text {n}") for n in range(13)]
    with Index.create(tmp_path / "index", model, records) as index:
        for wrong in ("12", 12, ["1", 2], None):
            with pytest.raises(QueryError, match="a list of texts"):
                index.delete(wrong)
        assert len(index) == 13
        assert index.delete(["12"]) == 1


def test_a_closed_index_takes_no_change_that_it_would_not_save(model, tmp_path):
    index = Index.create(tmp_path / "index", model, RECORDS)
    index.close()
    changes = [
        lambda: index.add([Record(id="late", text="late")]),
        lambda: index.update([RECORDS[0]]),
        lambda: index.delete([RECORDS[0].id]),
        index.save,
    ]
    for change in changes:
        with pytest.raises(EngineError, match="closed; open it again"):
            change()
    index.close()  # once more does nothing
    with Index.open(tmp_path / "index", model) as again:
        assert len(again) == len(RECORDS)
