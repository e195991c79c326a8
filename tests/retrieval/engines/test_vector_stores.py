"""The recipes of docs/how-to-vector-stores.md find in real stores what an index finds."""

import contextlib
import re
import warnings
from pathlib import Path

import numpy as np
import pytest

import subspace
from subspace.blocks import Blocks
from subspace.data.records import Record
from subspace.retrieval import Index, Like

PAGE = Path(__file__).resolve().parents[3] / "docs" / "how-to-vector-stores.md"
BLOCK = re.compile(r"(<!-- not run: [^\n]+ -->\n)?```python\n(.*?)```", re.S)
STORES = {
    "Qdrant": "find_in_qdrant",
    "LanceDB": "find_in_lancedb",
    "pgvector": "find_in_postgres",
    "Milvus": "find_in_milvus",
}
# Each query of the page as an index is asked.
ASKED = {
    "plain": {"query": "how to make tea"},
    "weighted": {"query": "how to make tea", "weights": "topic=0.3,style=1"},
    "style alone": {"query": "Pour the milk into the cup.", "weights": {"style": 1}},
    "composed": {"query": {"topic": "baking", "style": "wow!!! sooo good"}},
    "simpler": {"query": "water", "weights": "topic=1", "toward": "complexity=-1"},
    "unlike": {"query": "baking bread", "unlike": Like("crust"), "unlike_weight": 0.25},
    "more like one": {"query": Like("tea"), "weights": "topic=1,style=0.5"},
}


def sections() -> dict[str, list[str]]:
    """Code that runs, by heading."""
    parts = re.split(r"^## (.+)\n", PAGE.read_text(encoding="utf-8"), flags=re.M)
    return {
        name: [code for skip, code in BLOCK.findall(text) if not skip]
        for name, text in zip(parts[1::2], parts[2::2], strict=True)
    }


def run(name: str, world: dict) -> None:
    for code in sections()[name]:
        exec(compile(code, name, "exec"), world)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Where the examples work."""
    folder = tmp_path_factory.mktemp("stores")
    (folder / "runs").mkdir()
    with contextlib.chdir(folder):
        yield folder


@pytest.fixture(scope="module")
def world(folder):
    """The names of the page, up to its stores."""
    made: dict = {}
    for name in ("The vectors, once", "The query, every time"):
        run(name, made)
    yield made
    for connected in ("client", "connection", "milvus"):
        if connected in made:
            made[connected].close()


@pytest.fixture(scope="module")
def index(world, folder):
    """An index of the same texts, made from the model as it comes."""
    records = [Record(id=name, text=text) for name, text in world["notes"].items()]
    with Index.create(folder / "index", subspace.load("minilm"), records) as index:
        yield index


def test_folded_queries_give_the_order_and_the_scores_of_an_index(world, index):
    assert ASKED.keys() == world["queries"].keys()
    for name, asked in ASKED.items():
        scores = dict(zip(world["notes"], world["vectors"] @ world["queries"][name], strict=True))
        found = index.search(**asked, k=8)
        order = [one for one in sorted(scores, key=lambda one: -scores[one]) if one in ids(found)]
        assert order == ids(found), name
        apart = [scores[hit.id] - hit.score for hit in found]
        assert np.ptp(apart) < 1e-4
        assert max(map(abs, apart)) < 1e-4 or name == "simpler"


def test_a_saved_centre_is_the_centre_of_an_index(world, index):
    again = world["model"]
    assert np.allclose(again.projection.query.offset, index.model.projection.query.offset)
    later = again.encode_document(["Boil the water."]).array
    assert np.allclose(later, index.model.encode_document(["Boil the water."]).array, atol=1e-6)
    plain = subspace.load("minilm").encode_document(["Boil the water."])
    assert not np.allclose(later, plain.array, atol=1e-2)
    assert isinstance(plain, Blocks)


@pytest.mark.parametrize("store", STORES)
def test_a_store_ranks_as_the_index_does_with_every_weight(store, world, index, request):
    if store == "pgvector":
        address = request.getfixturevalue("postgres")
        request.getfixturevalue("monkeypatch").setenv("DATABASE_URL", address)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of the stores' own imports
        run(store, world)
        find = world[STORES[store]]
        found = {name: find(folded, 8) for name, folded in world["queries"].items()}
    for name, asked in ASKED.items():
        hits = index.search(**asked, k=8)
        there = [(one, score) for one, score in found[name] if one in ids(hits)]
        assert [one for one, _ in there] == ids(hits)
        apart = [score - hit.score for (_, score), hit in zip(there, hits, strict=True)]
        assert np.ptp(apart) < 1e-4
    orders = {tuple(one for one, _ in each) for each in found.values()}
    assert len(orders) == len(ASKED)  # other weights, another order


def test_cosine_and_euclidean_distance_rank_alike(world, index):
    table = world["lancedb"].connect("runs/distances").create_table("notes", world["rows"])
    for name, folded in world["queries"].items():
        orders = [
            [row["id"] for row in table.search(folded).distance_type(kind).limit(8).to_list()]
            for kind in ("dot", "cosine", "l2")
        ]
        assert orders[0] == orders[1] == orders[2], name


def ids(found) -> list[str]:
    return [hit.id for hit in found]
