"""The scores that the authors of Qwen3-Embedding publish, where their weights are at hand."""

import os

import numpy as np
import pytest

from subspace.encoder import Encoder, EncoderSpec
from subspace.errors import EncoderError

QUERIES = ["What is the capital of China?", "Explain gravity"]
DOCUMENTS = [
    "The capital of China is Beijing.",
    "Gravity is a force that attracts two bodies towards each other. It gives weight to physical "
    "objects and is responsible for the movement of planets around the sun.",
]
# The model card of Qwen/Qwen3-Embedding-0.6B.
PUBLISHED = [[0.7646, 0.1414], [0.1355, 0.6000]]


def test_the_published_scores_are_reproduced():
    model = os.environ.get("SUBSPACE_QWEN3", "Qwen/Qwen3-Embedding-0.6B")
    try:
        encoder = Encoder(EncoderSpec(model=model))
    except EncoderError as error:
        pytest.skip(f"needs the weights (folder in SUBSPACE_QWEN3, or the hub's cache): {error}")
    scores = encoder.encode(QUERIES, kind="query") @ encoder.encode(DOCUMENTS).T
    np.testing.assert_allclose(scores, PUBLISHED, atol=2e-3)
