"""Weights act inside the vector, exactly; an index is written whole and read with care."""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from subspace.blocks import BlockLayout, unit_blocks
from subspace.errors import ConfigError, IndexFolderError, LayoutError, WeightsError
from subspace.projection import Projection
from subspace.retrieval import BlockIndex, BlockWeights, Hit
from subspace.retrieval_sets import Document

LAYOUT = BlockLayout.from_widths({"topic": 5, "style": 3, "tone": 2})
FILES = ["items.jsonl", "manifest.json", "vectors.npy"]


def unit_vectors(count: int, *, layout: BlockLayout = LAYOUT, seed: int = 0) -> np.ndarray:
    z = np.random.default_rng(seed).normal(size=(count, layout.dim)).astype(np.float32)
    return unit_blocks(z, layout=layout)


def make_index(vectors: np.ndarray, *, layout: BlockLayout = LAYOUT) -> BlockIndex:
    documents = tuple(Document(id=f"d{n}", text=f"text {n}") for n in range(len(vectors)))
    return BlockIndex(
        documents=documents, vectors=vectors, layout=layout, projection_digest="0" * 64
    )


def make_weights(*, layout: BlockLayout = LAYOUT, **values: float) -> BlockWeights:
    return BlockWeights.from_mapping(values, layout=layout)


def ids(hits: list[Hit]) -> list[str]:
    return [hit.id for hit in hits]


def cosines(vector: np.ndarray, query: np.ndarray) -> dict[str, float]:
    parts = LAYOUT.split(vector.astype(np.float64)), LAYOUT.split(query.astype(np.float64))
    return {name: float(parts[0][name] @ parts[1][name]) for name in LAYOUT}


# What weights do.


@pytest.mark.parametrize("block", LAYOUT.names)
def test_weight_zero_removes_a_blocks_influence_exactly(block):
    query, vectors = unit_vectors(1, seed=1)[0], unit_vectors(50)
    changed = vectors.copy()
    changed[:, LAYOUT.slice(block)] = 1000 * np.random.default_rng(2).normal(
        size=(50, LAYOUT.to_widths()[block])
    )
    without = make_weights(**{name: 0.5 for name in LAYOUT if name != block})
    first = make_index(vectors).search(query, weights=without, k=50)
    other = make_index(changed).search(query, weights=without, k=50)
    assert first == other  # ids, scores and parts, to the bit
    assert all(hit.parts[block] == 0 for hit in other)
    # Counter-check: with any weight at all it does count.
    some = make_weights(**dict.fromkeys(LAYOUT, 0.5))
    assert make_index(vectors).search(query, weights=some, k=50) != make_index(changed).search(
        query, weights=some, k=50
    )


def test_a_block_of_the_query_counts_for_nothing_where_its_weight_is_zero():
    query, vectors = unit_vectors(1, seed=1)[0], unit_vectors(50)
    other = query.copy()
    other[LAYOUT.slice("style")] *= -1
    index, weights = make_index(vectors), make_weights(topic=1, tone=0.5)
    assert index.search(query, weights=weights) == index.search(other, weights=weights)
    assert index.search(query) != index.search(other)


def test_equal_weights_give_the_mean_of_the_blocks_cosines():
    query, vectors = unit_vectors(1, seed=1)[0], unit_vectors(20)
    for hit in make_index(vectors).search(query, k=20):
        expected = np.mean(list(cosines(vectors[int(hit.id[1:])], query).values()))
        assert hit.score == pytest.approx(expected, abs=1e-6)


def test_left_out_weights_are_equal_weights():
    query, index = unit_vectors(1, seed=1)[0], make_index(unit_vectors(20))
    assert index.search(query) == index.search(query, weights=BlockWeights.equal(LAYOUT))
    assert index.search(query) != index.search(query, weights=make_weights(style=1))


weight_values = st.tuples(*[st.just(0.0) | st.floats(2.0**-100, 10, width=32)] * 3).filter(any)


@settings(max_examples=40, deadline=None)
@given(values=weight_values, seed=st.integers(0, 100))
def test_the_parts_are_weighted_cosines_and_sum_to_the_score(values, seed):
    query, vectors = unit_vectors(1, seed=seed + 1)[0], unit_vectors(8, seed=seed)
    weights = BlockWeights(layout=LAYOUT, values=values)
    for hit in make_index(vectors).search(query, weights=weights):
        assert hit.score == sum(hit.parts.values())
        for block, cosine in cosines(vectors[int(hit.id[1:])], query).items():
            assert hit.parts[block] == pytest.approx(weights.as_dict()[block] * cosine, abs=1e-5)


def test_one_block_alone_ranks_by_that_block():
    query, vectors = unit_vectors(1, seed=1)[0], unit_vectors(30)
    for block in LAYOUT:
        hits = make_index(vectors).search(query, weights=make_weights(**{block: 2.0}), k=30)
        by_cosine = [cosines(vectors[int(hit.id[1:])], query)[block] for hit in hits]
        assert (np.diff(by_cosine) <= 1e-7).all()


@pytest.mark.parametrize("factor", [1e-30, 1e-3, 1e30])
def test_scaling_all_weights_changes_no_ranking(factor):
    query, index = unit_vectors(1, seed=1)[0], make_index(unit_vectors(30))
    values = {"topic": 0.7, "style": 0.2, "tone": 0.1}
    scaled = {name: factor * value for name, value in values.items()}
    first = index.search(query, weights=make_weights(**values), k=30)
    assert ids(index.search(query, weights=make_weights(**scaled), k=30)) == ids(first)


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
    hits = index.search(query, weights=BlockWeights(layout=layout, values=values), k=k)
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
    for seed in range(5):
        scores = [hit.score for hit in index.search(unit_vectors(1, seed=seed + 1)[0], k=5000)]
        assert scores == sorted(scores, reverse=True)


def test_the_first_hits_do_not_depend_on_how_many_are_asked_for():
    query, index = unit_vectors(1, seed=1)[0], make_index(unit_vectors(40))
    everything = index.search(query, k=40)
    for k in range(1, 40):
        assert index.search(query, k=k) == everything[:k]


@pytest.mark.parametrize("k", [6, 7, 10**9])
def test_asking_for_more_than_there_is_gives_all(k):
    hits = make_index(unit_vectors(6)).search(unit_vectors(1, seed=1)[0], k=k)
    assert sorted(ids(hits)) == [f"d{n}" for n in range(6)]


def test_a_hit_carries_the_documents_id_and_text():
    vectors = unit_vectors(6)
    hit = make_index(vectors).search(vectors[4], k=1)[0]
    assert (hit.id, hit.text) == ("d4", "text 4")
    assert hit.score == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("k", [0, -1, 2.5, "3", None, np.float32(2)], ids=repr)
def test_asking_for_nothing_is_refused(k):
    with pytest.raises(ConfigError, match="k must be a whole number, 1 or more") as caught:
        make_index(unit_vectors(3)).search(unit_vectors(1)[0], k=k)
    assert isinstance(caught.value, ValueError)
    assert repr(k) in str(caught.value)


def test_a_number_of_numpy_is_a_number_of_hits():
    index, query = make_index(unit_vectors(3)), unit_vectors(1)[0]
    assert index.search(query, k=np.int64(2)) == index.search(query, k=2)


def test_a_query_of_another_shape_is_refused_with_both_shapes():
    for query in (unit_vectors(1), unit_vectors(1)[0][:9]):
        with pytest.raises(LayoutError, match=r"the query has shape .*needs \(10,\)"):
            make_index(unit_vectors(3)).search(query)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_query_that_is_not_finite_is_refused(value):
    query = unit_vectors(1)[0]
    query[7] = value
    with pytest.raises(LayoutError, match="the query holds NaN or infinity"):
        make_index(unit_vectors(3)).search(query)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_vector_that_is_not_finite_is_refused_by_its_document_even_at_weight_zero(value):
    vectors = unit_vectors(30)
    vectors[17, LAYOUT.slice("style").start] = value
    for weights in (None, {"topic": 1.0}):
        with pytest.raises(IndexFolderError, match="the vector of 'd17' holds NaN or infinity"):
            make_index(vectors).search(unit_vectors(1)[0], weights=weights)


def test_weights_may_be_given_by_block_name():
    query, index = unit_vectors(1, seed=1)[0], make_index(unit_vectors(20))
    named = {"topic": 0.7, "tone": 0.3}
    assert index.search(query, weights=named) == index.search(query, weights=make_weights(**named))
    with pytest.raises(WeightsError, match="no block 'mood'"):
        index.search(query, weights={"mood": 1.0})


def test_an_empty_mapping_is_no_weight_at_all_and_not_equal_weights():
    with pytest.raises(WeightsError, match="at least one weight must be above 0"):
        make_index(unit_vectors(3)).search(unit_vectors(1)[0], weights={})


@pytest.mark.parametrize(
    "widths", [{"style": 5, "topic": 3, "tone": 2}, {"topic": 4, "style": 4, "tone": 2}]
)
def test_weights_for_another_layout_are_refused_with_both(widths):
    other = BlockWeights.equal(BlockLayout.from_widths(widths))
    with pytest.raises(WeightsError) as caught:
        make_index(unit_vectors(3)).search(unit_vectors(1)[0], weights=other)
    assert str(widths) in str(caught.value)
    assert str(LAYOUT.to_widths()) in str(caught.value)


# Which weights are refused.


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), -0.1, 1e39])
def test_a_weight_that_cannot_count_is_refused_with_its_block_and_value(value):
    """1e39 is finite, but not in the precision that vectors have."""
    with pytest.raises(WeightsError) as caught:
        make_weights(topic=0.5, style=value)
    assert "'style'" in str(caught.value)
    assert str(value) in str(caught.value)
    assert "'topic'" not in str(caught.value)


@pytest.mark.parametrize("value", [3e38, 1e33, 1e-33, 1e-50, 5e-324])
def test_a_weight_that_float32_cannot_search_with_is_refused_with_its_block_and_value(value):
    """3e38 overflows in a sum of blocks; 1e-50 is 0 in float32, and all scores with it."""
    with pytest.raises(WeightsError, match=r"'style' must be 0 or between 1e-32 and 3e\+32"):
        make_weights(topic=0.5, style=value)


@pytest.mark.parametrize("value", [2e-32, 3e32])
def test_the_smallest_and_largest_weights_rank_like_any_other(value):
    query, index = unit_vectors(1, seed=1)[0], make_index(unit_vectors(200))
    hits = index.search(query, weights=dict.fromkeys(LAYOUT, value), k=200)
    assert ids(hits) == ids(index.search(query, weights=dict.fromkeys(LAYOUT, 1.0), k=200))
    assert all(np.isfinite(hit.score) and hit.score != 0 for hit in hits)


@pytest.mark.parametrize(
    "value", ["high", None, [1, 2], 10**400], ids=["text", "None", "list", "huge"]
)
def test_a_weight_that_is_no_number_is_refused_with_its_block_and_value(value):
    with pytest.raises(
        WeightsError, match="the weight of block 'style' must be a number"
    ) as caught:
        BlockWeights.from_mapping({"topic": 1.0, "style": value}, layout=LAYOUT)
    assert repr(value)[:50] in str(caught.value)


def test_weights_that_are_all_zero_are_refused_with_the_blocks():
    for values in ({}, {"topic": 0.0}, {"topic": 0.0, "style": -0.0, "tone": 0.0}):
        with pytest.raises(WeightsError, match="above 0; the blocks are topic, style, tone"):
            make_weights(**values)


def test_an_unknown_block_is_refused_with_the_known_ones():
    with pytest.raises(WeightsError, match="no block 'mood'; the blocks are topic, style, tone"):
        make_weights(topic=1, mood=0.5)
    with pytest.raises(WeightsError, match="no block 'mood'"):
        BlockWeights.parse("mood=0", layout=LAYOUT)


@pytest.mark.parametrize("values", [(1.0,), (1.0, 1.0), (1.0, 1.0, 1.0, 1.0), ()])
def test_another_number_of_weights_than_blocks_is_refused(values):
    with pytest.raises(WeightsError):
        BlockWeights(layout=LAYOUT, values=values)


def test_weights_are_read_from_text_with_blanks_and_in_any_order():
    weights = BlockWeights.parse(" style = 0.5,topic=1e-1 ", layout=LAYOUT)
    assert weights.as_dict() == {"topic": 0.1, "style": 0.5, "tone": 0.0}


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("", "''"),
        ("topic", "'topic'"),
        ("topic=", "'topic='"),
        ("topic=high", "'topic=high'"),
        ("topic=1,,style=1", "''"),
        ("topic=1;style=2", "'topic=1;style=2'"),
        ("topic=1=2", "'topic=1=2'"),
        ("topic=0,5", "'5'"),
    ],
)
def test_text_that_cannot_be_read_is_refused_with_the_part_that_cannot(text, named):
    with pytest.raises(WeightsError, match=r"must read like topic=0\.7,style=0\.1") as caught:
        BlockWeights.parse(text, layout=LAYOUT)
    assert f"cannot read {named}" in str(caught.value)


@pytest.mark.parametrize("value", ["nan", "inf", "-1"])
def test_text_with_a_weight_that_cannot_count_is_refused(value):
    with pytest.raises(WeightsError, match=f"'style' must be finite and 0 or more, got {value}"):
        BlockWeights.parse(f"topic=1,style={value}", layout=LAYOUT)


def test_a_block_with_two_weights_is_refused_by_its_name():
    with pytest.raises(WeightsError, match="'topic' has two weights"):
        BlockWeights.parse("topic=1,style=1,topic=1", layout=LAYOUT)


@given(name=st.text(min_size=1, max_size=5), value=st.floats(0.001, 1000))
@example(name=" topic", value=1.0)
@example(name="topic\n", value=1.0)
def test_every_block_that_a_layout_allows_can_be_given_a_weight_as_text(name, value):
    try:
        layout = BlockLayout.from_widths({"other": 1, name: 1})
    except LayoutError:
        return
    if name == "other":
        return
    assert BlockWeights.parse(f"{name}={value!r}", layout=layout).as_dict()[name] == value


# On disk.


def make_projection(*, seed: int = 0) -> Projection:
    rng = np.random.default_rng(seed)
    return Projection(
        weight=rng.normal(size=(LAYOUT.dim, 6)).astype(np.float32),
        mean=rng.normal(size=6).astype(np.float32),
        layout=LAYOUT,
    )


DOCUMENTS = (
    Document(id="plain", text="a text"),
    Document(id="lines", text='two\nlines, a "quote", a \\ and a\ttab\r\n'),
    Document(id="über/世界 \u2028", text="not ASCII: ß 世界 \u2028 \x85 🙂"),
)


def build(*, seed: int = 0, count: int = len(DOCUMENTS)) -> BlockIndex:
    x = np.random.default_rng(seed).normal(size=(count, 6)).astype(np.float32)
    return BlockIndex.build(DOCUMENTS[:count], x, projection=make_projection(seed=seed))


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    build().save(tmp_path / "index")
    return tmp_path / "index"


def refusal(folder: Path) -> str:
    with pytest.raises(IndexFolderError) as caught:
        BlockIndex.load(folder)
    assert str(folder) in str(caught.value)
    return str(caught.value)


def assert_equal(found: BlockIndex, wanted: BlockIndex) -> None:
    assert found.documents == wanted.documents
    np.testing.assert_array_equal(found.vectors, wanted.vectors)
    assert (found.layout, found.projection_digest) == (wanted.layout, wanted.projection_digest)


def change_manifest(folder: Path, change: Callable[[dict], object]) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    change(manifest)
    (folder / "manifest.json").write_text(json.dumps(manifest))


def test_building_projects_every_document():
    x = np.random.default_rng(0).normal(size=(3, 6)).astype(np.float32)
    index = BlockIndex.build(DOCUMENTS, x, projection=make_projection())
    np.testing.assert_array_equal(index.vectors, make_projection()(x))
    assert index.documents == DOCUMENTS


def test_embeddings_for_other_documents_are_not_built_into_an_index():
    x = np.zeros((2, 6), dtype=np.float32)
    with pytest.raises((IndexFolderError, ValueError)):
        BlockIndex.build(DOCUMENTS, x, projection=make_projection())


def test_documents_with_one_id_are_not_built_into_an_index():
    same = [Document(id="a", text="1"), Document(id="b", text="2"), Document(id="a", text="3")]
    with pytest.raises(ValueError, match=r"used more than once: a$"):
        BlockIndex.build(same, np.ones((3, 6), np.float32), projection=make_projection())


@pytest.mark.parametrize("value", [np.nan, np.inf, 3e38])
def test_an_embedding_that_is_not_finite_is_refused_by_its_document(value):
    x = np.ones((3, 6), dtype=np.float32)
    x[1, 2:4] = value, -value
    with pytest.raises(ValueError, match="the embedding of document 'lines'"):
        BlockIndex.build(DOCUMENTS, x, projection=make_projection())


def test_indexes_can_be_told_apart_but_not_compared():
    assert build() != build()
    assert len({build(), build()}) == 2


def test_a_saved_index_loads_as_it_was_and_is_memory_mapped(saved):
    found = BlockIndex.load(str(saved))
    assert_equal(found, build())
    assert isinstance(found.vectors, np.memmap)
    assert sorted(path.name for path in saved.iterdir()) == FILES
    assert [path.name for path in saved.parent.iterdir()] == ["index"]


def test_a_loaded_index_finds_the_same_to_the_bit(saved):
    query = unit_vectors(1, seed=5)[0]
    assert BlockIndex.load(saved).search(query) == build().search(query)


def test_saving_over_an_index_replaces_it_and_leaves_nothing_beside_it(saved):
    opened = BlockIndex.load(saved)
    build(seed=1, count=2).save(saved)
    assert_equal(BlockIndex.load(saved), build(seed=1, count=2))
    assert [path.name for path in saved.parent.iterdir()] == ["index"]
    assert_equal(opened, build())  # who has the old one open can go on


def test_saving_into_an_empty_folder_or_a_new_one_below_a_new_one_works(tmp_path):
    (tmp_path / "empty").mkdir()
    for folder in (tmp_path / "empty", tmp_path / "new" / "below"):
        build().save(folder)
        assert_equal(BlockIndex.load(folder), build())


def test_other_users_may_read_a_saved_index(saved):
    assert saved.stat().st_mode & 0o055 == 0o055
    assert all(path.stat().st_mode & 0o044 == 0o044 for path in saved.iterdir())


@pytest.mark.parametrize("name", ["thesis.txt", "manifest.json"])
def test_saving_into_a_folder_with_something_else_is_refused_and_leaves_it(name, tmp_path):
    """Web applications call a file of theirs manifest.json too."""
    (tmp_path / name).write_text('{"name": "mine"}')
    (tmp_path / "more").mkdir()
    with pytest.raises(IndexFolderError, match=str(tmp_path)):
        build().save(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([name, "more"])
    assert (tmp_path / name).read_text() == '{"name": "mine"}'


def test_saving_over_an_index_does_not_take_other_files_with_it(saved):
    (saved / "notes.txt").write_text("mine")
    try:
        build(seed=1).save(saved)
    except IndexFolderError:
        assert_equal(BlockIndex.load(saved), build())
    assert (saved / "notes.txt").read_text() == "mine"


def test_saving_to_the_path_of_a_file_is_refused_and_leaves_the_file(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("mine")
    for target in (path / "below", path):
        with pytest.raises(IndexFolderError, match=r"notes\.txt"):
            build().save(target)
        assert path.read_text() == "mine"
        assert [p.name for p in tmp_path.iterdir()] == ["notes.txt"]


@contextmanager
def full_disk() -> Iterator[None]:
    """The system refuses to write more than 20 bytes to a file, as a full disk does."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_is_reported_and_leaves_the_old_index(saved):
    with full_disk(), pytest.raises(IndexFolderError, match="cannot write the index"):
        build(seed=1).save(saved)
    assert_equal(BlockIndex.load(saved), build())
    assert [path.name for path in saved.parent.iterdir()] == ["index"]


@pytest.mark.parametrize("error", [OSError("no"), KeyboardInterrupt()], ids=["OSError", "Ctrl-C"])
def test_an_index_that_cannot_be_put_in_place_leaves_the_old_one(error, saved, monkeypatch):
    """The second of two renames fails; the real ones do the rest."""
    replace, calls = os.replace, []

    def failing(source, target):
        calls.append(target)
        if len(calls) == 2:
            raise error
        replace(source, target)

    monkeypatch.setattr(os, "replace", failing)
    with pytest.raises(IndexFolderError if isinstance(error, OSError) else KeyboardInterrupt):
        build(seed=1).save(saved)
    assert_equal(BlockIndex.load(saved), build())
    assert [path.name for path in saved.parent.iterdir()] == ["index"]


def test_saving_through_a_link_writes_where_it_points_and_keeps_the_link(saved, tmp_path):
    link, dangling = tmp_path / "link", tmp_path / "dangling"
    link.symlink_to(saved)
    dangling.symlink_to(tmp_path / "elsewhere" / "index")
    for path in (link, dangling):
        build(seed=1).save(path)
        assert path.is_symlink()
        assert_equal(BlockIndex.load(path), build(seed=1))
    assert_equal(BlockIndex.load(saved), build(seed=1))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["dangling", "elsewhere", "index", "link"]


def test_whether_an_index_can_be_written_is_said_without_writing(saved, tmp_path):
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "thesis.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    for free in (saved, tmp_path / "new", tmp_path / "deep" / "new"):
        BlockIndex.check_target(free)
    for taken in (tmp_path / "notes", tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(IndexFolderError, match=str(taken)):
            BlockIndex.check_target(taken)
    assert_equal(BlockIndex.load(saved), build())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["deep", "file", "index", "notes"]


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere"
)
def test_a_folder_that_may_not_be_written_is_said_before_the_work(tmp_path):
    tmp_path.chmod(0o555)
    with pytest.raises(IndexFolderError, match="cannot write the index"):
        BlockIndex.check_target(tmp_path / "index")
    tmp_path.chmod(0o755)


def test_a_missing_index_is_refused_with_what_to_do(tmp_path):
    assert "subspace index" in refusal(tmp_path / "nothing")
    (tmp_path / "file").write_text("")
    refusal(tmp_path / "file")


@pytest.mark.parametrize("name", FILES)
def test_an_index_without_one_of_its_files_is_refused(name, saved):
    (saved / name).unlink()
    refusal(saved)


@pytest.mark.parametrize("name", FILES)
def test_a_truncated_file_is_refused_wherever_it_is_cut(name, saved):
    content = (saved / name).read_bytes()
    for length in range(0, len(content) - 1, 7):
        (saved / name).write_bytes(content[:length])
        assert "damaged" in refusal(saved)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize(
    "content", [b"[]", b"1", b"\xff\xfe\n", b"PK\x03\x04 damaged", b"[" * 100_000]
)
def test_a_file_with_other_content_is_refused(name, content, saved):
    (saved / name).write_bytes(content)
    assert "damaged" in refusal(saved)


@pytest.mark.parametrize("key", ["projection", "blocks", "count"])
def test_a_manifest_without_a_key_is_refused_by_its_name(key, saved):
    change_manifest(saved, lambda manifest: manifest.pop(key))
    assert key in refusal(saved)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("count", 2),
        ("count", "3"),
        ("blocks", {"topic": 5}),
        ("blocks", {"topic": 0}),
        ("blocks", 1),
    ],
)
def test_a_manifest_that_does_not_fit_the_files_is_refused(key, value, saved):
    change_manifest(saved, lambda manifest: manifest.update({key: value}))
    assert "damaged" in refusal(saved)


@pytest.mark.parametrize("version", [0, 2, "1", None])
def test_another_format_version_is_refused_with_both_versions(version, saved):
    change_manifest(saved, lambda manifest: manifest.update(format_version=version))
    message = refusal(saved)
    assert f"format version {version!r}" in message
    assert "reads 1" in message


def test_items_of_another_index_are_refused(saved, tmp_path):
    build(count=2).save(tmp_path / "other")
    shutil.copy(tmp_path / "other" / "items.jsonl", saved)
    assert "3 documents are promised, there are 2" in refusal(saved)


def test_a_flipped_bit_in_texts_or_vectors_is_refused_wherever_it_is(saved):
    for name in ("items.jsonl", "vectors.npy"):
        content = (saved / name).read_bytes()
        for position in range(0, len(content), 7):
            flipped = bytearray(content)
            flipped[position] ^= 1
            (saved / name).write_bytes(flipped)
            assert "damaged" in refusal(saved)
        (saved / name).write_bytes(content)
    assert_equal(BlockIndex.load(saved), build())


def test_an_index_from_before_there_were_sums_is_read(saved):
    for key in ("items_sha256", "vectors_crc32"):
        change_manifest(saved, lambda manifest, key=key: manifest.pop(key))
    assert_equal(BlockIndex.load(saved), build())


@pytest.mark.parametrize("kind", ["float64", "float16", "int32", ">f4"])
def test_vectors_of_another_kind_are_refused(kind, saved):
    for key in ("items_sha256", "vectors_crc32"):
        change_manifest(saved, lambda manifest, key=key: manifest.pop(key))
    np.save(saved / "vectors.npy", build().vectors.astype(kind))
    assert "not float32" in refusal(saved)


def test_vectors_that_would_run_code_are_refused(saved):
    np.save(saved / "vectors.npy", np.array([[{}]], dtype=object), allow_pickle=True)
    assert "damaged" in refusal(saved)


def test_the_projection_that_made_the_index_is_accepted_and_any_other_refused(saved):
    index = BlockIndex.load(saved)
    index.check_projection(make_projection())
    one_bit = make_projection()
    one_bit.mean[0] = np.nextafter(one_bit.mean[0], np.float32(9))
    renamed = Projection(
        weight=make_projection().weight,
        mean=make_projection().mean,
        layout=BlockLayout.from_widths({"topic": 5, "style": 3, "mood": 2}),
    )
    for other in (make_projection(seed=1), one_bit, renamed):
        with pytest.raises(IndexFolderError, match="built with another checkpoint"):
            index.check_projection(other)
