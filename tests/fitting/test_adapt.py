"""Adapting a search: what its queries have in common is undone, and nothing else changes."""

from dataclasses import replace

import numpy as np
import pytest
from models import model_of, with_heads

from subspace.blocks import BlockLayout
from subspace.data.records import Record
from subspace.data.retrieval_sets import RetrievalSet, query_key
from subspace.encoder import Encoder, EncoderSpec
from subspace.errors import ConfigError, IndexFolderError
from subspace.fitting import Recipe, adapt
from subspace.fitting.adapt import hold_down
from subspace.fitting.block_spec import read_blocks
from subspace.model import Projection, load
from subspace.retrieval import Index

DIM, COUNT = 24, 200
LAYOUT = BlockLayout.from_widths({"topic": 12, "style": 8})


def make_projection() -> Projection:
    rng = np.random.default_rng(3)
    return Projection(
        weight=np.concatenate([np.eye(DIM)[:12], rng.normal(size=(8, DIM))]).astype(np.float32),
        mean=rng.normal(size=DIM).astype(np.float32),
        layout=LAYOUT,
    )


def make_world(*, shift: float = 0.0, nuisance: float = 0.0, seed: int = 0):
    """Query n asks for document n: the same content, plus what only queries or documents have."""
    rng = np.random.default_rng(seed)
    content = rng.normal(size=(COUNT, DIM))
    sides = []
    for sign in (1, -1):
        x = content + 0.4 * rng.normal(size=(COUNT, DIM))
        x[:, :3] += nuisance * rng.normal(size=(COUNT, 3))
        x[:, 5] += sign * shift
        sides.append(x.astype(np.float32))
    return (*sides, np.stack([np.arange(COUNT)] * 2, axis=1))


def share_found(projection: Projection, queries, documents, *, block: str = "topic") -> float:
    """Share of the queries whose own document is the best."""
    place = projection.layout.slice(block)
    scores = projection.queries(queries)[:, place] @ projection(documents)[:, place].T
    return float((scores.argmax(axis=1) == np.arange(len(queries))).mean())


def centred(projection: Projection, world) -> Projection:
    queries, documents = (side.mean(axis=0) for side in world[:2])
    return projection.centred(["topic"], documents=documents, queries=queries)


def held_down(world, *, pairs=None, start: Projection | None = None) -> Projection:
    queries, documents, own = world
    start = start or make_projection()
    pairs = own if pairs is None else pairs
    return centred(
        hold_down(start, blocks=["topic"], queries=queries, documents=documents, pairs=pairs),
        world,
    )


def test_means_of_their_own_undo_what_all_queries_have_in_common():
    unseen = make_world(shift=4.0, seed=1)[:2]
    before = share_found(make_projection(), *unseen)
    after = share_found(centred(make_projection(), make_world(shift=4.0)), *unseen)
    assert after > before + 0.3
    # Counter-check: where the two sides have the same mean, nothing is gained.
    alike = make_world(seed=1)[:2]
    found = share_found(centred(make_projection(), make_world()), *alike)
    assert found == pytest.approx(share_found(make_projection(), *alike), abs=0.1)


def test_pairs_hold_down_directions_in_which_query_and_document_differ():
    unseen = make_world(nuisance=3.0, seed=1)[:2]
    means = share_found(centred(make_projection(), make_world(nuisance=3.0)), *unseen)
    pairs = share_found(held_down(make_world(nuisance=3.0)), *unseen)
    assert pairs > means + 0.15
    # Counter-check: pairs drawn at random say nothing, and cost next to nothing.
    drawn = np.random.default_rng(0).permutation(COUNT)
    random = np.stack([np.arange(COUNT), drawn], axis=1)
    assert share_found(held_down(make_world(nuisance=3.0), pairs=random), *unseen) > 0.9 * means


def kept_along(projection: Projection, direction: np.ndarray) -> float:
    """How much the block scales a direction that it reads, relative to the mean over all others."""
    lengths = np.linalg.norm(projection.weight[:12] @ np.eye(DIM)[:, :12], axis=0)
    own = np.linalg.norm(projection.weight[:12] @ direction)
    return float(own / np.median(lengths))


def test_a_single_pair_says_less_of_its_direction_than_many():
    queries, documents, _ = make_world()
    direction = np.eye(DIM)[4]
    apart = (documents[:1] + 5 * direction).astype(np.float32)
    one = (np.concatenate([queries, apart]), documents, np.array([[COUNT, 0]]))
    many = ((documents + 5 * direction * np.tile([1, -1], COUNT // 2)[:, None]).astype(np.float32),)
    every = np.stack([np.arange(COUNT)] * 2, axis=1)
    assert kept_along(held_down(one), direction) > 0.55
    assert kept_along(held_down((*many, documents, every)), direction) < 0.45


def test_other_blocks_stay_to_the_bit():
    world = make_world(shift=4.0, nuisance=3.0)
    before, after = make_projection(), held_down(world)
    place = LAYOUT.slice("style")
    for side in (Projection.__call__, Projection.queries):
        np.testing.assert_array_equal(side(after, world[0])[:, place], before(world[0])[:, place])


def test_a_block_of_few_texts_keeps_the_directions_that_they_do_not_tell():
    """Three pairs tell four directions; the other eight stay those of the block, of all 24."""
    rng = np.random.default_rng(0)
    content = rng.normal(size=(COUNT, 12))
    sides = [rng.normal(size=(COUNT, DIM)).astype(np.float32) for _ in range(2)]
    for side in sides:
        side[:, :12] = content + 0.2 * side[:, :12]
    rows = np.eye(DIM)[:12] + 1e-3 * rng.normal(size=(12, DIM))  # it reads all, most of it faintly
    start = Projection(
        weight=rows.astype(np.float32),
        mean=np.zeros(DIM, np.float32),
        layout=BlockLayout.from_widths({"topic": 12}),
    )
    after = hold_down(
        start,
        blocks=["topic"],
        queries=sides[0][:3],
        documents=sides[1][:3],
        pairs=np.array([[0, 0], [1, 1], [2, 2]]),
    )
    found = np.linalg.svd(after.weight / np.linalg.norm(after.weight, axis=1, keepdims=True))[2]
    kept = np.linalg.norm(found[:12, :12]) ** 2  # how many of its twelve directions are of content
    assert kept > 8.5


def test_a_query_side_of_its_own_gets_the_same_directions():
    world = make_world(nuisance=3.0)
    once = held_down(world)
    twice = held_down(world, start=once)
    assert once.query is not None
    place = LAYOUT.slice("topic")
    np.testing.assert_array_equal(twice.query.weight[place], twice.weight[place])
    np.testing.assert_array_equal(twice.query.weight[LAYOUT.slice("style")], once.query.weight[12:])


# Of a model, by texts.


@pytest.fixture(scope="module")
def model(tiny_qwen):
    widths = {"topic": 8, "style": 4}
    made = with_heads(model_of(Encoder(EncoderSpec(model=str(tiny_qwen))), widths=widths))
    recipe = Recipe(blocks=read_blocks(widths)).to_json()
    return replace(made, recipe=recipe, default_weights={"topic": 1.0, "style": 0.0})


def make_set(*, queries: int = 12, splits=None, judged: bool = True) -> RetrievalSet:
    words = ("rose", "slug", "bread", "goal", "drum", "star")
    texts = [f"{words[n % 6]} and {words[(n * 5 + 1) % 6]} number {n}" for n in range(12)]
    return RetrievalSet(
        documents=tuple(Record(id=str(n), text=f"About {t}.") for n, t in enumerate(texts)),
        queries={f"q{n}": f"how to {texts[n]}" for n in range(queries)},
        relevance={f"q{n}": {str(n): 1.0} for n in range(queries)} if judged else {},
        splits=splits or {},
    )


def test_a_model_is_adapted_saved_and_read(model, tmp_path):
    data = make_set()
    found = adapt(model, data, name="mine", store=tmp_path / "store")
    assert found.recipe["queries"] == {"mine": [query_key(text) for text in data.queries.values()]}
    assert list(found.heads) == ["style"]
    assert set(found.score_spreads) == {"topic", "style"}
    unjudged = adapt(model, make_set(judged=False), store=tmp_path / "store")
    assert not np.allclose(found.projection.weight[:8], unjudged.projection.weight[:8])
    found.save(tmp_path / "checkpoint")
    again = load(tmp_path / "checkpoint")
    assert again.projection.digest == found.projection.digest != model.projection.digest
    asked = again.encode_query(["how to rose"]).array
    np.testing.assert_array_equal(asked, found.encode_query(["how to rose"]).array)


def test_judgements_that_tell_nothing_are_said(model, tmp_path, caplog):
    data = make_set()
    adapt(model, data, store=tmp_path)
    assert "relevant" not in caplog.text
    one = {query: {"7": 1.0} for query in data.queries}
    adapt(model, replace(data, relevance=one), name="mine", store=tmp_path)
    assert "'mine': all 12 relevant pairs are of one document, '7'" in caplog.text
    none = {query: {"7": -1.0} for query in data.queries}
    adapt(model, replace(data, relevance=none), name="mine", store=tmp_path)
    assert "'mine': the judgements of 12 queries are all 0 or below" in caplog.text


def test_pairs_are_the_judged_ones(model, tmp_path):
    data = replace(make_set(), relevance={"q3": {"5": 1.0, "7": 0.0}, "q8": {"2": 2.0}})
    encoder = model.open_encoder()
    expected = hold_down(
        model.projection,
        blocks=["topic"],
        queries=encoder.encode(list(data.queries.values()), kind="query"),
        documents=encoder.encode([document.text for document in data.documents]),
        pairs=np.array([[3, 5], [8, 2]]),
    )
    found = adapt(model, data, store=tmp_path).projection
    np.testing.assert_allclose(np.abs(found.weight), np.abs(expected.weight), atol=1e-4)


def test_an_index_of_the_model_before_is_refused(model, tmp_path):
    data = make_set()
    with Index.create(tmp_path / "index", model) as index:
        index.add(data.documents)
    with pytest.raises(IndexFolderError, match="another checkpoint"):
        Index.open(tmp_path / "index", adapt(model, data, store=tmp_path / "store"))


def test_queries_of_other_splits_teach_nothing(model, tmp_path):
    splits = {f"q{n}": "test" for n in range(6, 12)}
    first = adapt(model, make_set(splits=splits), store=tmp_path)
    fewer = adapt(model, make_set(queries=6), store=tmp_path)
    assert first.projection.digest == fewer.projection.digest
    assert first.recipe == fewer.recipe


def test_queries_of_two_runs_are_both_remembered(model, tmp_path):
    first = adapt(model, make_set(queries=6), store=tmp_path)
    both = adapt(first, make_set(), store=tmp_path)
    assert both.recipe["queries"]["queries"] == [*map(query_key, make_set().queries.values())]


def test_a_block_learned_from_labels_keeps_its_directions(model, tmp_path):
    other = replace(model, default_weights={"topic": 0.0, "style": 1.0})
    found = adapt(other, make_set(), store=tmp_path).projection
    np.testing.assert_array_equal(found.weight, model.projection.weight)
    assert found.offset[8:].any()
    assert not found.offset[:8].any()


@pytest.mark.parametrize("grade", [None, 0.0, -1.0])
def test_without_judgements_the_matrix_stays(grade, model, tmp_path):
    data = make_set(judged=False)
    if grade is not None:
        data = replace(data, relevance={query: {"1": grade} for query in data.queries})
    found = adapt(model, data, store=tmp_path).projection
    np.testing.assert_array_equal(found.weight, model.projection.weight)
    assert found.digest != model.projection.digest


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"queries": 4}, "'queries' has 4 queries in the split 'train', needs 5 or more"),
        ({"splits": {f"q{n}": "test" for n in range(12)}}, "has 0 queries in the split 'train'"),
    ],
)
def test_too_little_to_learn_from_is_refused(change, message, model, tmp_path):
    with pytest.raises(ConfigError, match=message):
        adapt(model, make_set(**change), store=tmp_path)


def test_queries_that_are_all_the_same_are_refused(model, tmp_path):
    data = make_set()
    same = RetrievalSet(data.documents, dict.fromkeys(data.queries, "the same"), data.relevance)
    with pytest.raises(ConfigError, match="all queries of 'queries' have the same embedding"):
        adapt(model, same, store=tmp_path)
