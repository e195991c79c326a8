"""The model that comes with the package, on texts that are read as it reads them."""

import numpy as np
import pytest
from command_line import ROOT

import subspace
from subspace.encoder.cached_encoder import CachedEncoder

FACTORS = ("topic", "style", "complexity", "specificity")


@pytest.fixture(scope="module")
def model() -> subspace.Model:
    return subspace.load("minilm")


@pytest.fixture(scope="module")
def corpus(model, tmp_path_factory):
    """Some records of the project's own corpus, and their blocks."""
    encoder = CachedEncoder.open(model.encoder, root=tmp_path_factory.mktemp("store"))
    records = subspace.read_records(ROOT / "data" / "factorial")
    records = [record for record in records if record.split == "test"]
    return records, model.project(encoder.encode([record.text for record in records]))


def test_it_has_four_wide_blocks_and_searches_by_topic(model):
    assert model.layout.to_widths() == dict.fromkeys(FACTORS, 256)
    assert model.default_weights == {name: float(name == "topic") for name in FACTORS}
    assert all(0.01 < spread < 1 for spread in model.score_spreads.values())


def share_alike(records, z, *, factor, k=5):
    """Share of the k nearest texts of other content with the same label."""
    groups = np.array([record.group for record in records])
    labels = np.array([str(record.factors[factor]) for record in records])
    cosines = np.where(groups[:, None] == groups[None], -np.inf, z @ z.T)
    nearest = np.argsort(-cosines, axis=1)[:, :k]
    return float((labels[nearest] == labels[:, None]).mean())


def test_style_gathers_style_more_than_topic_does_and_the_other_way_round(corpus):
    records, blocks = corpus
    for own, other in (("style", "topic"), ("topic", "style")):
        mine = share_alike(records, blocks[own], factor=own)
        assert mine > share_alike(records, blocks[other], factor=own) + 0.1, own


@pytest.mark.parametrize("factor", ["complexity", "specificity"])
def test_directions_order_texts(factor, model, corpus):
    records, blocks = corpus
    scores = blocks.array @ model.direction(factor)
    labels = np.array([record.factors[factor] for record in records])
    means = [scores[labels == level].mean() for level in sorted(set(labels))]
    assert means == sorted(means)


@pytest.mark.parametrize("name", ["minilm", "minilm-last"])
def test_the_card_says_what_it_was_fitted_on_and_what_it_moves(name):
    model = subspace.load(name)
    card = (ROOT / "checkpoints" / name / "README.md").read_text(encoding="utf-8")
    for source in model.data:
        assert f"| {source} |" in card
    for factor in ("style", "complexity", "specificity"):
        assert f"| {factor} | " in card.split("How far a weight moves the hits")[1]


def test_the_model_of_the_last_layer_takes_vectors_of_the_last_layer(model):
    last = subspace.load("minilm-last")
    assert last.layout == model.layout
    raw = model.open_encoder().encode(["a text", "another one, which is longer"])
    own = last.open_encoder().encode(["a text", "another one, which is longer"])
    np.testing.assert_allclose(raw[:, model.fingerprint.last_layer], own, atol=1e-5)
    # Topic reads the last layer alone in both; the signs of its dimensions are arbitrary.
    cosines = [z @ z.T for z in (model.project(raw)["topic"], last.project(own)["topic"])]
    np.testing.assert_allclose(*cosines, atol=1e-5)
