"""A folded query has the scores of a search with the same weights as its inner products."""

from dataclasses import replace

import numpy as np
import pytest
from retrieval_world import LAYOUT, OTHER, QUERY, RECORDS, TEXTS, make_model

from subspace.blocks import BlockLayout, Blocks
from subspace.errors import LayoutError, QueryError, WeightsError
from subspace.model import DocumentSample
from subspace.model.class_nearness import ClassNearness
from subspace.retrieval import Index, Like

SPREADS = {"topic": 0.1, "style": 0.4, "complexity": 0.3, "specificity": 0.05, "residual": 0.2}
DEFAULT = {"topic": 1.0, "style": 0.0, "complexity": 0.0, "specificity": 0.0, "residual": 0.5}


@pytest.fixture(scope="module")
def index(tiny_qwen, tmp_path_factory):
    """Centred on its texts; queries prefer styles of their own class, as after `adapt`."""
    rng = np.random.default_rng(5)
    near = ClassNearness(
        weight=rng.normal(size=(2, LAYOUT.to_widths()["style"])).astype(np.float32),
        bias=np.zeros(2, np.float32),
        mean=np.full(2, 0.5, np.float32),
        sharpness=2.0,
        cosine=0.7,
        classes=0.9,
    )
    model = replace(
        make_model(tiny_qwen),
        score_spreads=SPREADS,
        default_weights=DEFAULT,
        nearness={"style": near},
    )
    folder = tmp_path_factory.mktemp("fold") / "index"
    with Index.create(folder, model, RECORDS) as index:
        yield index


@pytest.fixture(scope="module")
def stored(index) -> np.ndarray:
    """What a store of one's own holds: the texts' blocks."""
    return index.model.encode_document(list(TEXTS.values())).array


QUERIES = {
    "a text": QUERY,
    "a text by block": {"topic": QUERY, "style": OTHER},
    "one block alone": {"specificity": OTHER},
}


@pytest.mark.parametrize("query", QUERIES.values(), ids=QUERIES)
@pytest.mark.parametrize("weights", [None, "topic=1,style=0.5", {"complexity": 2}])
def test_inner_products_are_the_scores_of_a_search(index, stored, query, weights):
    folded = index.model.fold(query, weights)
    assert folded.shape == (LAYOUT.dim,)
    assert folded.dtype == np.float32
    scores = dict(zip(TEXTS, (stored @ folded).tolist(), strict=True))
    for hit in index.search(query, weights=weights, k=len(TEXTS)):
        assert scores[hit.id] == pytest.approx(hit.score, abs=1e-5)


def test_another_centre_gives_other_scores(index, stored):
    other = index.model.centred_on(index.model.open_encoder().encode([OTHER] * 50))
    weights = {"style": 1}
    apart = stored @ other.fold(QUERY, weights) - stored @ index.model.fold(QUERY, weights)
    assert np.ptp(apart) > 1e-2


def test_stored_vectors_are_queries_for_more_like_them(index, stored):
    blocks = Blocks(stored[:2], LAYOUT)
    folded = index.model.fold(blocks, "topic=1,style=0.5")
    assert folded.shape == (2, LAYOUT.dim)
    for name, one in zip(TEXTS, folded, strict=False):
        scores = dict(zip(TEXTS, (stored @ one).tolist(), strict=True))
        for hit in index.search(Like(name), weights="topic=1,style=0.5", k=len(TEXTS)):
            assert scores[hit.id] == pytest.approx(hit.score, abs=1e-5)


def test_toward_adds_its_direction_and_a_constant(index, stored):
    sample = DocumentSample(list(TEXTS.values()), Blocks(stored, LAYOUT))
    toward = "complexity=-1,style:loud=0.5"
    folded = index.model.fold(QUERY, "topic=1", toward=toward, sample=sample)
    scores = dict(zip(TEXTS, (stored @ folded).tolist(), strict=True))
    found = index.search(QUERY, weights="topic=1", toward=toward, k=len(TEXTS))
    apart = [scores[hit.id] - hit.score for hit in found]
    assert np.ptp(apart) < 1e-5
    plain = index.model.fold(QUERY, "topic=1")
    assert np.ptp(stored @ (folded - plain)) > 1e-2


def test_folded_queries_can_be_subtracted(index, stored):
    folded = index.model.fold(QUERY) - 0.25 * index.model.fold(OTHER)
    scores = dict(zip(TEXTS, (stored @ folded).tolist(), strict=True))
    for hit in index.search(QUERY, unlike=OTHER, k=len(TEXTS)):
        assert scores[hit.id] == pytest.approx(hit.score, abs=1e-5)


def test_vectors_are_equally_long_so_that_distances_give_the_same_order(index, stored):
    assert np.linalg.norm(stored, axis=1) == pytest.approx(np.sqrt(len(LAYOUT)))
    folded = index.model.fold(QUERY, "topic=1,style=2")
    nearest = np.linalg.norm(stored - folded, axis=1)
    assert np.argsort(nearest).tolist() == np.argsort(-(stored @ folded)).tolist()


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        ({"query": ["a"]}, QueryError, "give a text, texts by block"),
        ({"query": {}}, QueryError, "for one block at least"),
        ({"query": {"tone": "a"}}, QueryError, "no block 'tone'"),
        ({"weights": "topic=-1"}, WeightsError, "0 or more"),
        ({"weights": {"topic": 0}}, WeightsError, "at least one"),
        ({"weights": "riv=1,2,3"}, WeightsError, "topic=0.7,style=0.1; cannot read '2'"),
        ({"toward": "complexity=1"}, QueryError, "DocumentSample"),
        (
            {"query": Blocks(np.ones((1, 2), np.float32), BlockLayout(("a",), (2,)))},
            LayoutError,
            "has the blocks",
        ),
    ],
)
def test_wrong_arguments_are_refused(index, arguments, error, says):
    with pytest.raises(error, match=says):
        index.model.fold(**{"query": QUERY, **arguments})


def test_a_sample_has_one_vector_per_text(stored):
    with pytest.raises(LayoutError, match="1 texts, 12 vectors"):
        DocumentSample(["one"], Blocks(stored, LAYOUT))
