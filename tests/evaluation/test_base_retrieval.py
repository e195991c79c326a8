"""Base retrieval: an orthonormal cut ranks like the raw embedding; a block of noise does not."""

from dataclasses import replace

import numpy as np
import pytest
from models import FINGERPRINT
from worlds import DIM, RAW, cut, turned

from subspace.data.records import Record
from subspace.data.retrieval_sets import RetrievalSet
from subspace.encoder import EncoderSpec
from subspace.evaluation.base_retrieval import measure_base_retrieval
from subspace.model import Model, Projection

HALVES = cut({"one": slice(0, 1), "rest": slice(1, DIM)})


@pytest.fixture(scope="module")
def world():
    rng = np.random.default_rng(0)
    documents = rng.normal(size=(200, DIM)).astype(np.float32)
    queries = (documents[:40] + 0.7 * rng.normal(size=(40, DIM))).astype(np.float32)
    data = RetrievalSet(
        documents=tuple(Record(id=str(n), text="t") for n in range(200)),
        queries={f"q{n}": "t" for n in range(40)},
        relevance={f"q{n}": {str(n): 1.0} for n in range(40)},
    )
    return {"name": "set", "data": data, "documents": documents, "queries": queries}


def model(projection: Projection, **weights: float) -> Model:
    return Model(
        projection=projection,
        encoder=EncoderSpec(),
        fingerprint=replace(FINGERPRINT, layers=(0,), dim=DIM),
        default_weights=weights,
    )


def test_one_block_of_everything_is_the_raw_embedding(world):
    found = measure_base_retrieval(model(cut({"all of it": RAW})), **world)
    assert found.ndcg == pytest.approx(found.raw_ndcg)
    assert found.relative == pytest.approx(1)
    assert found.correlation == pytest.approx(1, abs=1e-4)
    assert found.queries == 40
    assert found.raw_ndcg > 0.7


def test_a_block_that_drowns_the_others_costs_what_it_hides(world):
    found = measure_base_retrieval(model(HALVES), **world)
    assert found.ndcg < found.raw_ndcg
    assert found.by_block["one"] < found.by_block["rest"]
    assert found.correlation < 0.9


def test_default_weights_choose_what_is_searched_by(world):
    equal = measure_base_retrieval(model(HALVES), **world)
    rest = measure_base_retrieval(model(HALVES, one=0.0, rest=1.0), **world)
    assert rest.ndcg == rest.by_block["rest"] > equal.ndcg


def test_queries_are_projected_as_queries(world):
    straight = cut({"one": slice(0, 4), "rest": slice(4, DIM)})
    projection, rotation = turned(straight)
    there = world | {"queries": world["queries"] @ rotation.T}
    found, wanted = (
        measure_base_retrieval(model(one), **data)
        for one, data in ((projection, there), (straight, world))
    )
    assert found.ndcg == pytest.approx(wanted.ndcg, abs=1e-6)
    assert found.by_block == pytest.approx(wanted.by_block, abs=1e-6)
    assert measure_base_retrieval(model(straight), **there).ndcg < 0.5 * wanted.ndcg
