"""A model over a real encoder and its store, and protocols made from them."""

import pytest
from protocol_world import TEXTS, WEIGHTS, make_model

from subspace.bench.protocol import Setting
from subspace.encoder import EncoderSpec
from subspace.encoder.cached_encoder import CachedEncoder
from subspace.model import Model


@pytest.fixture(scope="session")
def encoder(tiny_qwen, tmp_path_factory) -> CachedEncoder:
    spec = EncoderSpec(model=str(tiny_qwen), layers=(1, 2), device="cpu")
    return CachedEncoder.open(spec, root=tmp_path_factory.mktemp("store"))


@pytest.fixture(scope="session")
def model(encoder) -> Model:
    return make_model(encoder.encoder)


@pytest.fixture(scope="session")
def setting(model) -> Setting:
    return Setting(
        model=model,
        documents=len(TEXTS),
        weights=WEIGHTS,
        levels={"document": 0.5, "paragraph": 0.3, "sentence": 0.2},
    )
