"""A small real model and texts for both integrations; tests that are coroutines are run."""

import inspect

import pytest
from integration_world import RECORDS, WIDTHS
from models import model_of, with_heads

from subspace.encoder import Encoder, EncoderSpec
from subspace.model import Model
from subspace.retrieval import Index


@pytest.hookimpl(wrapper=True, trylast=True)  # before pytest-asyncio asks for the mark
def pytest_pycollect_makeitem():
    """Marks coroutines of this folder as tests to run, as LangChain's standard tests are unmarked.

    Its auto mode would do the same to the tests of every folder.
    """
    made = yield
    for item in made if isinstance(made, list) else ():
        if isinstance(item, pytest.Function) and inspect.iscoroutinefunction(item.obj):
            item.add_marker(pytest.mark.asyncio)
    return made


@pytest.fixture(scope="session")
def fitted(tiny_qwen) -> Model:
    """With directions; a query is encoded as a document, so that a text is nearest to itself."""
    spec = EncoderSpec(model=str(tiny_qwen), layers=(1, 2), pooling="mean", query_prompt="")
    return with_heads(model_of(Encoder(spec), widths=WIDTHS))


@pytest.fixture
def empty(fitted, tmp_path):
    """An index without records."""
    with Index.create(tmp_path / "empty", fitted) as index:
        yield index


@pytest.fixture
def index(fitted, tmp_path):
    """Of all records, with a usage log."""
    with Index.create(tmp_path / "index", fitted, RECORDS, usage=tmp_path / "usage.db") as index:
        yield index
