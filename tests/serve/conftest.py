"""One memory and one server for the tests of a file."""

import pytest
from retrieval_world import make_model
from serve_world import make_memory, serving


@pytest.fixture(scope="session")
def model(tiny_qwen):
    return make_model(tiny_qwen)


@pytest.fixture
def memory(tmp_path, model):
    memory = make_memory(tmp_path, model)
    yield memory
    memory.close()


@pytest.fixture(scope="module")
def client(tmp_path_factory, model):
    memory = make_memory(tmp_path_factory.mktemp("served"), model)
    with serving(memory) as client:
        yield client
    memory.close()
