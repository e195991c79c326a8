"""Which engine an index has is told from where it is; what is shown of it holds no password."""

import pytest
from engine_world import ABOUT

from subspace.errors import ConfigError, EngineError, IndexFolderError
from subspace.retrieval.engines import NumpyEngine, create_engine, open_engine, show_target

SECRET = "postgresql://me:secret@host:1/db?password=secret#table"


@pytest.mark.parametrize(
    ("target", "shown"),
    [
        ("runs/index", "runs/index"),
        (SECRET, "postgresql://host:1/db#table"),
        ("postgresql://host/db#table", "postgresql://host/db#table"),
        ("postgresql://me:secret@host/db", "postgresql://host/db"),
        ("postgresql://me:se#secret@host/db", "postgresql://host/db"),
        ("http://me:secret@host", "http://host"),
        ("http://host:19530#items", "http://host:19530#items"),
        ("file.db#items", "file.db#items"),
    ],
)
def test_what_is_shown_of_an_address_is_no_secret(target, shown):
    assert show_target(target) == shown


@pytest.mark.parametrize(
    ("target", "engine", "settings"),
    [
        (SECRET, "faiss", {}),
        (SECRET, None, {"dtype": "float16"}),
        ("ftp://me:secret@host/index#x", None, {}),
        ("runs/index", "milvus", {}),
        ("file.db#items", "numpy", {}),
    ],
)
def test_engine_and_address_that_do_not_go_together_are_refused(target, engine, settings):
    with pytest.raises(ConfigError) as caught:
        create_engine(target, engine=engine, settings=settings, **ABOUT)
    assert "secret" not in str(caught.value)


def test_a_folder_is_numpys_unless_it_says_otherwise(tmp_path):
    create_engine(tmp_path / "plain", **ABOUT).save()
    create_engine(tmp_path / "fast", engine="faiss", **ABOUT).save()
    assert type(open_engine(tmp_path / "plain")) is NumpyEngine
    assert open_engine(tmp_path / "fast").name == "faiss"


def test_what_is_not_there_is_said():
    with pytest.raises(IndexFolderError, match="there is no index nowhere"):
        open_engine("nowhere")
    with pytest.raises(EngineError, match=r"there is no index nowhere\.db"):
        open_engine("nowhere.db#items")
    with pytest.raises(EngineError, match="has a table"):
        open_engine("postgresql://host/db")


def test_a_folder_that_holds_something_else_is_refused_before_any_work(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(IndexFolderError, match="is no index and no empty folder"):
        create_engine(tmp_path, **ABOUT)
