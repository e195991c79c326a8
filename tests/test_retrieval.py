"""Weights steer exactly, parts add up, and an index is read as it was written."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from subspace.blocks import BlockLayout, unit_blocks
from subspace.errors import IndexFolderError, WeightsError
from subspace.projection import Projection
from subspace.retrieval import BlockIndex, BlockWeights
from subspace.retrieval_sets import Document

LAYOUT = BlockLayout.from_widths({"topic": 4, "style": 3, "mood": 2})


def random_blocks(count: int, seed: int) -> np.ndarray:
    z = np.random.default_rng(seed).normal(size=(count, LAYOUT.dim)).astype(np.float32)
    return unit_blocks(z, layout=LAYOUT)


def make_index(vectors: np.ndarray) -> BlockIndex:
    documents = tuple(Document(id=f"d{n}", text=f"text {n}") for n in range(len(vectors)))
    return BlockIndex(documents, vectors, LAYOUT, projection_digest="digest")


weights = st.tuples(*[st.floats(0, 10, allow_subnormal=False)] * 3).filter(any)


@given(values=weights, seed=st.integers(0, 50), k=st.integers(1, 60))
def test_a_search_is_a_sorted_sum_over_blocks(values, seed, k):
    vectors, query = random_blocks(50, seed), random_blocks(1, seed + 1000)[0]
    chosen = BlockWeights(LAYOUT, values)
    hits = make_index(vectors).search(query, weights=chosen, k=k)
    expected = [
        {
            name: weight * float(vectors[n, LAYOUT.slice(name)] @ query[LAYOUT.slice(name)])
            for name, weight in chosen.as_dict().items()
        }
        for n in range(50)
    ]
    totals = np.array([sum(parts.values()) for parts in expected])
    assert len(hits) == min(k, 50)
    np.testing.assert_allclose([hit.score for hit in hits], np.sort(totals)[::-1][:k], atol=1e-4)
    for hit in hits:
        assert hit.score == pytest.approx(sum(hit.parts.values()))
        assert hit.parts == pytest.approx(expected[int(hit.id[1:])], abs=1e-4)


@given(seed=st.integers(0, 50))
def test_a_block_of_weight_zero_has_no_influence_at_all(seed):
    vectors, query = random_blocks(30, seed), random_blocks(1, seed + 1)[0]
    changed = vectors.copy()
    changed[:, LAYOUT.slice("style")] = random_blocks(30, seed + 2)[:, LAYOUT.slice("style")]
    without = BlockWeights.from_mapping({"topic": 1, "mood": 2}, layout=LAYOUT)
    find = [make_index(v).search(query, weights=without, k=30) for v in (vectors, changed)]
    assert find[0] == find[1]
    with_it = BlockWeights.equal(LAYOUT)
    assert make_index(vectors).search(query, weights=with_it) != make_index(changed).search(
        query, weights=with_it
    )


def test_left_out_weights_are_equal_and_give_the_mean_of_the_cosines():
    vectors, query = random_blocks(20, 0), random_blocks(1, 1)[0]
    hits = make_index(vectors).search(query, k=20)
    assert hits == make_index(vectors).search(query, weights=BlockWeights.equal(LAYOUT), k=20)
    for hit in hits:
        cosines = [
            vectors[int(hit.id[1:])][LAYOUT.slice(name)] @ query[LAYOUT.slice(name)]
            for name in LAYOUT
        ]
        assert hit.score == pytest.approx(np.mean(cosines), abs=1e-6)


@pytest.mark.parametrize("k", [1, 3, 7])
def test_ties_are_cut_in_the_order_of_the_index(k):
    vectors = np.repeat(random_blocks(1, 0), 7, axis=0)
    hits = make_index(vectors).search(vectors[0], k=k)
    assert [hit.id for hit in hits] == [f"d{n}" for n in range(k)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "topic=0.7,style=0.1"),
        ("topic", "cannot read 'topic'"),
        ("topic=", "cannot read 'topic='"),
        ("topic=much", "cannot read 'topic=much'"),
        ("topic=1,,style=1", "cannot read ''"),
        ("colour=1", "no block 'colour'; the blocks are topic, style, mood"),
        ("topic=1,topic=2", "'topic' has two weights"),
        ("topic=-0.1", "'topic' must be finite and 0 or more"),
        ("topic=nan", "'topic' must be finite"),
        ("mood=inf", "'mood' must be finite"),
        ("topic=0,style=0", "at least one weight"),
    ],
)
def test_wrong_weights_are_refused_by_name(text, message):
    with pytest.raises(WeightsError, match=message):
        BlockWeights.parse(text, layout=LAYOUT)


def test_weights_are_parsed_with_spaces_and_in_any_order():
    parsed = BlockWeights.parse(" mood = 2, topic=1e-1", layout=LAYOUT)
    assert parsed.as_dict() == {"topic": 0.1, "style": 0.0, "mood": 2.0}


def test_weights_of_another_layout_are_refused():
    other = BlockWeights.equal(BlockLayout.from_widths({"topic": 9}))
    with pytest.raises(WeightsError, match="are for the blocks"):
        make_index(random_blocks(3, 0)).search(random_blocks(1, 1)[0], weights=other)


@pytest.mark.parametrize(("query", "k"), [(np.zeros(9), 0), (np.zeros(9), -1), (np.zeros(8), 1)])
def test_a_wrong_k_or_query_is_refused(query, k):
    with pytest.raises(IndexFolderError, match=r"k must be|shape"):
        make_index(random_blocks(3, 0)).search(query.astype(np.float32), k=k)


@pytest.fixture
def built(tmp_path) -> tuple[BlockIndex, Projection, Path]:
    rng = np.random.default_rng(0)
    projection = Projection(
        rng.normal(size=(9, 6)).astype(np.float32), np.zeros(6, dtype=np.float32), LAYOUT
    )
    documents = [Document("d'1; drop", "one"), Document("ü", "two\nlines")]
    index = BlockIndex.build(
        documents, rng.normal(size=(2, 6)).astype(np.float32), projection=projection
    )
    index.save(tmp_path / "index")
    return index, projection, tmp_path / "index"


def test_an_index_is_read_as_it_was_written(built):
    index, projection, folder = built
    found = BlockIndex.load(folder)
    assert found.documents == index.documents
    assert isinstance(found.vectors, np.memmap)
    np.testing.assert_array_equal(found.vectors, index.vectors)
    found.check_projection(projection)
    assert [path.name for path in folder.parent.iterdir()] == ["index"], "nothing left over"


def test_an_index_can_be_built_again_in_its_place(built):
    index, _, folder = built
    smaller = BlockIndex(index.documents[:1], index.vectors[:1], LAYOUT, index.projection_digest)
    smaller.save(folder)
    assert len(BlockIndex.load(folder).documents) == 1


def test_a_folder_with_something_else_is_left_alone(tmp_path, built):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("years of work")
    with pytest.raises(IndexFolderError, match="not empty and no index"):
        built[0].save(tmp_path / "mine")
    assert (tmp_path / "mine" / "thesis.tex").exists()


def test_another_projection_is_refused(built):
    index, projection, _ = built
    other = Projection(projection.weight * 2, projection.mean, LAYOUT)
    with pytest.raises(IndexFolderError, match="another checkpoint"):
        index.check_projection(other)


def change(folder: Path, **changes) -> None:
    path = folder / "manifest.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda f: (f / "manifest.json").unlink(), "there is no index"),
        (lambda f: (f / "manifest.json").write_text("{"), "damaged"),
        (lambda f: (f / "manifest.json").write_text("[]"), "damaged"),
        (lambda f: change(f, format_version=9), "format version 9"),
        (lambda f: change(f, count=3), "3 documents are promised"),
        (lambda f: change(f, count=None), "damaged"),
        (lambda f: (f / "vectors.npy").write_bytes(b"x"), "damaged"),
        (lambda f: (f / "vectors.npy").unlink(), "damaged"),
        (lambda f: (f / "items.jsonl").write_text('{"id": "a"}\n'), "damaged"),
        (lambda f: (f / "items.jsonl").write_text(""), "damaged"),
    ],
)
def test_damage_to_an_index_is_named(built, damage, message):
    damage(built[2])
    with pytest.raises(IndexFolderError, match=message):
        BlockIndex.load(built[2])
