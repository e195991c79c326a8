"""Records are listed page by page and a folder is followed in every engine alike."""

from contextlib import closing

import numpy as np
import pytest
from engine_world import ABOUT, LAYOUT, STRANGE, colours, make_records, unit_vectors
from models import DIM, make_model

from subspace.data.records import Record
from subspace.errors import ConfigError, QueryError
from subspace.retrieval import Index, create_engine, follow_folder
from subspace.retrieval.listing import get_records, list_records

KINDS = ("numpy", "faiss", "pgvector", "milvus")


@pytest.fixture(params=KINDS)
def target(request, tmp_path) -> str:
    """Where nothing is yet."""
    if request.param in ("pgvector", "milvus"):
        fixture = {"pgvector": "table", "milvus": "collection"}[request.param]
        return request.getfixturevalue(fixture)
    return str(tmp_path / "index")


@pytest.fixture
def engine(target, request):
    kind = request.node.callspec.params["target"]
    with closing(create_engine(target, **ABOUT, engine=kind)) as engine:
        yield engine


def test_pages_are_by_rising_id_and_together_everything(engine):
    records = make_records(30, metadata=colours)
    records += [Record(id=name, text="strange") for name in STRANGE]
    engine.upsert(records, unit_vectors(len(records), layout=LAYOUT))
    whole = list_records(engine, limit=None)
    assert whole == sorted(records, key=lambda record: record.id)
    assert get_records(engine, STRANGE) == records[30:]
    pages, after = [], None
    while page := list_records(engine, after=after, limit=7):
        pages += page
        after = page[-1].id
        engine.delete([after])  # what others change shifts no page
    assert pages == whole
    reds = list_records(engine, where={"colour": "red", "size": {">=": 2}}, limit=None)
    gone = whole[6::7] + whole[-1:]
    assert reds == [
        record
        for record in whole
        if record.metadata.get("colour") == "red"
        and record.metadata["size"] >= 2
        and record not in gone
    ]
    assert list_records(engine, where={"colour": "red", "size": 99}, limit=None) == []


def test_what_is_not_there_is_said(engine):
    assert list_records(engine, where={"x": 1}, limit=None) == []  # of nothing
    engine.upsert(make_records(2, metadata=colours), unit_vectors(2, layout=LAYOUT))
    with pytest.raises(QueryError, match=r"not in the index: x, y$"):
        get_records(engine, ["d0", "x", "y"])
    with pytest.raises(QueryError, match="ids are a list"):
        get_records(engine, "d0")
    with pytest.raises(QueryError, match="where: no item has metadata 'x'"):
        list_records(engine, where={"x": 1}, limit=None)
    with pytest.raises(ConfigError, match="limit must be a whole number"):
        list_records(engine, limit=0)


def test_a_folder_is_followed(target, tmp_path):
    notes = tmp_path / "notes"
    notes.mkdir()
    for name in "abc":
        (notes / f"{name}.md").write_text(f"---\nrated: 4.0\ntags: [x, y]\n---\n# {name}")
    encoded = []

    def encode(texts):
        encoded.extend(texts)
        return np.ones((len(texts), DIM), dtype=np.float32)

    with Index.create(target, make_model()) as index:
        assert follow_folder(index, notes, encode=encode).encoded == 3
        assert not follow_folder(index, notes, encode=encode)
        (notes / "a.md").unlink()
        (notes / "b.md").write_text("# b")  # the same text
        changes = follow_folder(index, notes, encode=encode)
        assert (changes.changed, changes.removed, changes.unchanged) == (("b",), ("a",), 1)
        assert not follow_folder(index, notes, encode=encode)
        assert len(encoded) == 3
        assert [record.id for record in index.list()] == ["b", "c"]
