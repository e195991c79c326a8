"""A model over a real encoder, and a usage log that counts steps."""

import pytest
from retrieval_world import make_model

from subspace.model import Model
from subspace.retrieval import UsageLog


@pytest.fixture(scope="session")
def model(tiny_qwen) -> Model:
    return make_model(tiny_qwen)


@pytest.fixture
def log(tmp_path):
    with UsageLog.open(tmp_path / "usage.db", clock="steps") as log:
        yield log
