"""The searcher: texts in, weighted hits out, on the checkpoint that comes with the repository."""

import itertools
import sqlite3
import subprocess
import sys
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from worlds import turned

from subspace.blocks import BlockLayout
from subspace.data.retrieval_sets import Document
from subspace.encoder import Encoder, EncoderSpec
from subspace.errors import (
    BanditError,
    CheckpointError,
    ConfigError,
    EncoderError,
    IndexFolderError,
    QueryError,
    UsageLogError,
    WeightsError,
)
from subspace.model import load_checkpoint
from subspace.model.projection import Projection
from subspace.retrieval import PRESETS, BlockIndex, Like, Results, Searcher, UsageLog, Weights
from subspace.retrieval.usage.bandit import WeightBandit

CHECKPOINT = Path(__file__).resolve().parents[2] / "checkpoints" / "minilm"
TEXTS = {
    "bread": "knead the dough for ten minutes, let it rise, then bake the loaf",
    "soup": "simmer the carrots and onions in broth until they are soft",
    "cake": "OMG this cake is sooo good!!! you HAVE to bake it, like, now",
    "football": "the striker scored twice and the home team won the match",
    "tennis": "she lost the first set but won the final in straight games",
    "race": "WOW what a race!!! he ran SO fast, totally insane finish",
    "piano": "the sonata is in three movements and ends quietly",
    "drums": "the drummer keeps a steady beat under the guitar solo",
    "concert": "best. concert. EVER!!! the band was sooo loud omg",
    "tax": "pursuant to section 4, the taxpayer shall file a return by 30 April",
    "court": "the court held that the appellant's claim was without merit",
    "loan": "the bank raised its interest rates by a quarter of a percent",
}
QUERY = "how do I bake a loaf of bread"
OTHER = "the band played an amazing gig last night"


@pytest.fixture(scope="module")
def checkpoint():
    return load_checkpoint(CHECKPOINT)


@pytest.fixture(scope="module")
def encoder(checkpoint) -> Encoder:
    return Encoder(checkpoint.encoder_spec())


@pytest.fixture(scope="module")
def folder(checkpoint, encoder, tmp_path_factory) -> Path:
    """The saved index of all texts."""
    documents = [
        Document(id=name, text=text, metadata={"loud": "!!!" in text})
        for name, text in TEXTS.items()
    ]
    embeddings = encoder.encode(list(TEXTS.values()), kind="document")
    folder = tmp_path_factory.mktemp("searcher") / "index"
    BlockIndex.build(documents, embeddings, projection=checkpoint.projection).engine.save(folder)
    return folder


@pytest.fixture
def log(tmp_path):
    with UsageLog.open(tmp_path / "usage.db", clock="steps") as log:
        yield log


@pytest.fixture
def bandit():
    bandit = WeightBandit(":memory:", seed=0)
    yield bandit
    bandit.close()


@pytest.fixture
def searcher(checkpoint, encoder, folder, log, bandit) -> Searcher:
    index = BlockIndex.open(folder, usage=log)
    return Searcher(checkpoint, index, encoder=encoder, bandit=bandit)


@pytest.fixture
def plain(checkpoint, encoder, folder) -> Searcher:
    """Without a usage log and a bandit."""
    return Searcher(checkpoint, BlockIndex.open(folder), encoder=encoder)


def ids(results: Results) -> list[str]:
    return [hit.id for hit in results]


def parts(results: Results, *, block: str) -> dict[str, float]:
    return {hit.id: hit.parts[block]["relevance"] for hit in results}


# What can be asked.


def test_a_text_finds_what_is_about_it(plain):
    assert ids(plain.search(QUERY, weights="topic=1", k=3))[0] == "bread"
    assert set(ids(plain.search(OTHER, weights="topic=1", k=3))) == {"piano", "drums", "concert"}
    assert len(plain.search(QUERY, k=99)) == len(TEXTS)
    assert plain.layout == plain.index.layout


def test_a_hit_has_the_text_of_its_document(plain):
    hit = plain.search(QUERY, k=1)[0]
    assert hit.text == TEXTS[hit.id]
    assert hit.metadata == {"loud": "!!!" in hit.text}


def test_a_query_is_scored_by_the_blocks_of_its_encoded_text(plain, checkpoint, encoder):
    vector = checkpoint.projection(encoder.encode([QUERY], kind="query"))[0]
    np.testing.assert_array_equal(plain.embed([QUERY])[0], vector)
    assert plain.search(QUERY).hits == plain.index.search(vector).hits


def test_more_like_an_item_is_by_its_own_vector_and_without_itself(plain):
    for name in TEXTS:
        found = plain.search(Like(name), weights="topic=1", k=99)
        assert sorted([*ids(found), name]) == sorted(TEXTS)
        vector = plain.index.engine.fetch([name]).vectors[0]
        assert found.hits == plain.index.search(vector, weights="topic=1", k=99).hits[1:]


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


def test_a_composed_query_with_weights_is_the_weighted_sum(plain):
    composed = plain.search({"topic": QUERY, "style": OTHER}, weights="topic=2,style=0.5", k=99)
    topic = plain.search(QUERY, weights="topic=1", k=99)
    style = plain.search(OTHER, weights="style=1", k=99)
    one, two = ({hit.id: hit.score for hit in found} for found in (topic, style))
    for hit in composed:
        assert hit.score == pytest.approx(2 * one[hit.id] + 0.5 * two[hit.id], abs=1e-6)


def test_a_batch_finds_what_its_queries_find_one_by_one(searcher):
    searcher.use({"soup": 1.0, "tax": 0.0, "race": None})
    queries = [QUERY, Like("race"), {"topic": OTHER, "style": Like("tax")}, OTHER, QUERY]
    for options in (
        {},
        {"weights": "topic=1,style=2", "preset": "balanced", "scope": "item"},
        {"preset": "recency_heavy", "candidates": 4},
        {"where": {"loud": True}, "k": 2},
    ):
        batch = searcher.search_batch(queries, **options)
        assert len(batch) == len(queries)
        for query, found in zip(queries, batch, strict=True):
            one = searcher.search(query, **options)
            assert ids(found) == ids(one)
            scores = [hit.score for hit in one]
            assert [hit.score for hit in found] == pytest.approx(scores, abs=1e-5)


def test_a_batch_of_no_queries_finds_nothing(searcher):
    assert searcher.search_batch([]) == []
    assert searcher.search_batch([], preset="auto") == []


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


# Presets and weights.


def test_a_preset_counts_for_the_blocks_that_the_weights_name(searcher):
    searcher.use({"soup": 1.0, "court": 0.0})
    for preset in PRESETS:
        named = searcher.search(QUERY, weights="topic=0.7,style=0.1", preset=preset)
        assert named.weights == Weights.make(
            layout=searcher.layout, preset=preset, blocks={"topic": 0.7, "style": 0.1}
        )
        alone = searcher.search(QUERY, preset=preset)
        assert alone.weights == Weights.make(layout=searcher.layout, preset=preset)
        mapping = searcher.search(QUERY, weights={"topic": 0.7, "style": 0.1}, preset=preset)
        assert mapping.hits == named.hits


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
def test_weights_and_presets_that_do_not_go_together_are_refused(
    weights, preset, message, searcher
):
    with pytest.raises(WeightsError, match=message):
        searcher.search(QUERY, weights=weights, preset=preset)


def test_comparing_is_searching_in_both_scopes(searcher):
    searcher.use({"soup": 1.0, "court": 0.0})
    for query in (QUERY, Like("bread"), {"topic": Like("bread")}):
        both = searcher.compare(query, preset="balanced", k=5)
        assert list(both) == ["block", "item"]
        for scope, found in both.items():
            assert found.hits == searcher.search(query, preset="balanced", scope=scope, k=5).hits
        assert both["block"].hits != both["item"].hits
    with pytest.raises(WeightsError, match="auto"):
        searcher.compare(QUERY, preset="auto")


# Use.


def test_what_was_used_with_success_comes_first_where_that_counts(searcher):
    """In item scope for itself, in block scope for what is alike as well."""
    before = ids(searcher.search(OTHER, weights="topic=1", preset="balanced", k=99))
    assert before.index("court") > 3
    for _ in range(3):
        searcher.use({"court": 1.0})
    options = {"weights": "topic=1", "preset": "recency_importance", "k": 99}
    assert ids(searcher.search(OTHER, scope="item", **options))[0] == "court"
    block = searcher.search(OTHER, scope="block", **options)
    gained = {hit.id: hit.by_part()["importance"] for hit in block}
    assert gained["tax"] > max(gained[name] for name in ("bread", "drums", "race"))


def test_uses_are_logged_with_their_success_and_query(searcher, log):
    found = searcher.search(QUERY)
    searcher.use({"bread": 1.0, "cake": None}, query_id=found.query_id)
    searcher.use(["soup"])
    logged = [(use.item, use.time, use.success, use.query) for _, use in log.since()]
    assert logged == [
        ("bread", 0, 1.0, found.query_id),
        ("cake", 0, None, found.query_id),
        ("soup", 1, None, None),
    ]


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
    items, error, message, searcher, log
):
    with pytest.raises(error, match=message):
        searcher.use(items)
    assert len(log) == 0


def test_without_a_usage_log_nothing_can_be_logged_or_learned(plain, checkpoint, encoder, folder):
    with pytest.raises(ConfigError, match="no usage log"):
        plain.use(["bread"])
    with pytest.raises(ConfigError, match=r"no usage log .*relevance alone"):
        plain.search(QUERY, preset="balanced")
    with pytest.raises(ConfigError, match="no bandit"):
        plain.search(QUERY, preset="auto")
    with pytest.raises(ConfigError, match="no bandit"):
        plain.feedback("q", 1.0)
    bandit = WeightBandit(":memory:")
    learner = Searcher(checkpoint, BlockIndex.open(folder), encoder=encoder, bandit=bandit)
    with pytest.raises(ConfigError, match="no usage log"):
        learner.search(QUERY, preset="auto")
    with pytest.raises(ConfigError, match="no usage log"):
        learner.feedback("q", 1.0)
    bandit.close()


# The bandit.


def test_auto_searches_with_the_weights_of_the_arm_that_it_names(searcher):
    arms = set()
    for _ in range(15):
        found = searcher.search(QUERY, preset="auto", k=4)
        assert found.weights == Weights.make(layout=searcher.layout, preset=found.arm)
        assert found.hits == searcher.search(QUERY, preset=found.arm, k=4).hits
        arms.add(found.arm)
    assert len(arms) > 3
    assert searcher.search(QUERY, preset="balanced").arm is None


def test_every_query_of_a_batch_has_an_arm_of_its_own(searcher):
    batch = searcher.search_batch([QUERY] * 15, preset="auto")
    assert len({found.arm for found in batch}) > 3
    for found in batch:
        searcher.feedback(found.query_id, 1.0)
    totals = [a - 1 for a, _ in searcher.bandit.posteriors().values()]
    assert sum(totals) == 15


def test_feedback_is_learned_once_for_the_arm_of_the_query(searcher):
    found = searcher.search(QUERY, preset="auto")
    searcher.feedback(found.query_id, {"recency": 5, "relevance": 3})
    assert searcher.bandit.posteriors()[found.arm] == (1.75, 1.25)
    with pytest.raises(UsageLogError, match="rated before"):
        searcher.feedback(found.query_id, 1.0)
    again = searcher.search(QUERY, preset="auto")
    searcher.feedback(again.query_id, {"importance": 0.5}, scale=(0, 1))
    assert sum(map(sum, searcher.bandit.posteriors().values())) == 2 * len(PRESETS) + 2


def test_feedback_that_cannot_be_is_refused_and_can_be_given_again(searcher):
    found = searcher.search(QUERY, preset="auto")
    for ratings in ({"recency": 6}, {"mood": 3}, 5, {}):
        with pytest.raises(BanditError):
            searcher.feedback(found.query_id, ratings)
    for query in (searcher.search(QUERY).query_id, "nowhere"):
        with pytest.raises(UsageLogError, match=f"no query '{query}'"):
            searcher.feedback(query, 1.0)
    searcher.feedback(found.query_id, 1.0)


def test_an_arm_for_blocks_that_are_not_there_is_refused_by_their_name(
    checkpoint, encoder, folder, log
):
    bandit = WeightBandit(":memory:", arms={"theirs": {"mood": 1}})
    index = BlockIndex.open(folder, usage=log)
    with pytest.raises(WeightsError, match="no block 'mood'"):
        Searcher(checkpoint, index, encoder=encoder, bandit=bandit).search(QUERY, preset="auto")
    bandit.close()


def test_what_the_bandit_chose_is_noted_of_a_search_that_found_something_alone(searcher, log):
    def noted() -> list[tuple[str, str]]:
        with closing(sqlite3.connect(log.path)) as connection:
            return connection.execute("SELECT id, arm FROM queries").fetchall()

    for wrong in ({"k": 0}, {"scope": "both"}, {"where": {"": 1}}):
        with pytest.raises((ConfigError, QueryError)):
            searcher.search(QUERY, preset="auto", **wrong)
    searcher.search(QUERY, preset="balanced")
    assert noted() == []
    found = searcher.search(QUERY, preset="auto")
    assert noted() == [(found.query_id, found.arm)]


# What belongs together.


def test_an_index_of_another_checkpoint_is_refused(checkpoint, encoder, folder):
    projection = checkpoint.projection
    other = Projection(weight=projection.weight, mean=projection.mean + 1, layout=projection.layout)
    x = np.random.default_rng(0).normal(size=(1, projection.input_dim)).astype(np.float32)
    index = BlockIndex.build([Document(id="a", text="b")], x, projection=other)
    with pytest.raises(IndexFolderError, match="built with another checkpoint"):
        Searcher(checkpoint, index, encoder=encoder)


def test_another_encoder_than_the_checkpoints_is_refused(checkpoint, folder):
    other = Encoder(EncoderSpec(layers=(-1,)))
    with pytest.raises(CheckpointError, match="made for another encoder"):
        Searcher(checkpoint, BlockIndex.open(folder), encoder=other)


def test_all_is_opened_by_path(folder, tmp_path):
    searcher = Searcher.open(CHECKPOINT, folder, usage=tmp_path / "new" / "usage.db")
    searcher.use({"soup": 1.0})
    found = searcher.search(QUERY, preset="balanced", k=3)
    assert len(found) == 3
    assert searcher.layout == BlockLayout.from_widths(searcher.index.layout.to_widths())
    searcher.index.history.log.close()
    with UsageLog.open(tmp_path / "new" / "usage.db") as log:
        assert len(log) == 1
    for checkpoint, index in itertools.product((CHECKPOINT, tmp_path), (folder, tmp_path)):
        if (checkpoint, index) != (CHECKPOINT, folder):
            with pytest.raises((CheckpointError, IndexFolderError)):
                Searcher.open(checkpoint, index)


# What is loaded.

LOADED = """
import sys

import subspace.retrieval

heavy = ["torch", "transformers"]
unwanted = ["pytorch_lightning", "wandb", "jsonargparse", "faiss", "psycopg", "pymilvus",
            "thompson_bandits", "matplotlib"]
assert not [name for name in unwanted + heavy if name in sys.modules]
if len(sys.argv) > 1:
    searcher = subspace.retrieval.Searcher.open(*sys.argv[1:3], usage=sys.argv[3])
    searcher.use({"soup": 1.0})
    assert len(searcher.search("a text", preset="balanced")) == 10
    assert not [name for name in unwanted if name in sys.modules]
    assert all(name in sys.modules for name in heavy)
"""


@pytest.mark.parametrize("searching", [False, True], ids=["importing", "searching"])
def test_nothing_is_loaded_that_is_not_needed(searching, folder, tmp_path):
    arguments = [CHECKPOINT, folder, tmp_path / "usage.db"] if searching else []
    result = subprocess.run(
        [sys.executable, "-c", LOADED, *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-2000:]


def test_queries_are_projected_as_queries(checkpoint, encoder):
    """Same blocks, but queries are given turned: what finds them is the matrix for queries."""
    texts = list(TEXTS.values())
    documents = [Document(id=name, text=text) for name, text in TEXTS.items()]
    projection, _ = turned(checkpoint.projection)
    index = BlockIndex.build(documents, encoder.encode(texts), projection=projection)
    searcher = Searcher(replace(checkpoint, projection=projection), index, encoder=encoder)
    found = searcher.search(QUERY, k=len(TEXTS))
    asked = projection.queries(encoder.encode([QUERY], kind="query"))
    scores = asked @ projection(encoder.encode(texts)).T / len(projection.layout)
    wanted = dict(zip(TEXTS, scores[0], strict=True))
    assert {hit.id: hit.score for hit in found} == pytest.approx(wanted, abs=1e-5)
    other = projection(encoder.encode([QUERY])) @ projection(encoder.encode(texts)).T
    assert not np.allclose(other / len(projection.layout), scores, atol=0.05)
