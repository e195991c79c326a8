"""An index of texts, each with a label, over a model whose blocks differ in scale and weight."""

from dataclasses import replace
from pathlib import Path

import pytest
from retrieval_world import LAYOUT, TEXTS, make_model

from subspace.data.records import Record
from subspace.explore.session import Session
from subspace.model import Model
from subspace.retrieval import Index, UsageLog

MARKUP = "<img src=x onerror=\"document.title='taken over'\"><b>bold</b> bread, bread and bread"
DEFAULT = {**dict.fromkeys(LAYOUT, 0.0), "topic": 2.0, "style": 0.5}


@pytest.fixture(scope="session")
def model(tiny_qwen) -> Model:
    spreads = {name: 0.1 * number for number, name in enumerate(LAYOUT, start=1)}
    return replace(make_model(tiny_qwen), default_weights=DEFAULT, score_spreads=spreads)


@pytest.fixture(scope="session")
def checkpoint(model, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("explore") / "checkpoint"
    model.save(folder)
    return folder


@pytest.fixture(scope="session")
def folder(model, checkpoint) -> Path:
    """The saved index of all texts and of one that is markup; not to be changed."""
    folder = checkpoint.with_name("index")
    with Index.create(folder, model) as index:
        index.add(
            Record(id=name, text=text, factors={"style": "loud" if "!!!" in text else "calm"})
            for name, text in {**TEXTS, "markup": MARKUP}.items()
        )
    return folder


@pytest.fixture(scope="session")
def usage(checkpoint) -> Path:
    """A usage log in which one text did well and one badly; not to be changed."""
    path = checkpoint.with_name("usage.db")
    with UsageLog.open(path, clock="steps") as log:
        log.add({"tennis": 1.0, "tax": 0.0}.items())
    return path


@pytest.fixture
def session(model, folder, usage):
    """With a usage log, which can be read only in the thread that opened it."""
    with Session(lambda: Index.open(folder, model, usage=usage)) as session:
        yield session


@pytest.fixture(scope="session")
def index(model, folder, usage):
    """The same index, as another program opens it."""
    with Index.open(folder, model, usage=usage) as index:
        yield index
