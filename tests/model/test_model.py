"""A model encodes with the encoder that it was fitted on, and with no other."""

from dataclasses import replace

import numpy as np
import pytest
from models import make_model, model_of, with_heads, with_queries

from subspace.encoder import Encoder, EncoderSpec
from subspace.errors import CheckpointError, EncoderError, LayoutError, QueryError
from subspace.model import LinearHead, Model
from subspace.model.score_spread import measure_score_spread

TEXTS = ["a dog", "The quick brown fox jumps over the lazy dog, twice."]


@pytest.fixture(scope="module")
def encoder(tiny_qwen) -> Encoder:
    return Encoder(EncoderSpec(model=str(tiny_qwen)))


@pytest.fixture(scope="module")
def model(encoder) -> Model:
    """With queries of their own and heads, for the tiny encoder."""
    return with_heads(with_queries(model_of(encoder)))


def test_texts_get_the_blocks_of_their_vectors(model, encoder):
    documents, queries = model.encode_document(TEXTS), model.encode_query(TEXTS)
    raw = encoder.encode(TEXTS)
    np.testing.assert_allclose(documents.array, model.projection(raw), atol=1e-6)
    asked = encoder.encode(TEXTS, kind="query")
    np.testing.assert_allclose(queries.array, model.projection.queries(asked), atol=1e-6)
    assert not np.allclose(documents.array, queries.array)
    assert list(documents) == ["style", "topic"]
    np.testing.assert_allclose(np.linalg.norm(documents["topic"], axis=1), 1, atol=1e-6)


def test_the_encoder_is_opened_once(model):
    assert model.open_encoder() is model.open_encoder()


def test_another_encoder_is_refused_before_a_text_is_encoded(model, encoder, tiny_qwen):
    other = replace(model, encoder=replace(model.encoder, pooling="mean"))
    with pytest.raises(CheckpointError, match="pooling: 'lasttoken', not 'mean'"):
        other.encode_document(TEXTS)
    nowhere = replace(model, encoder=replace(model.encoder, model="no/such/folder"))
    with pytest.raises(EncoderError, match="no/such/folder"):
        nowhere.encode_query(TEXTS)


def test_heads_read_their_own_block(model):
    blocks = model.encode_document(TEXTS)
    predicted = model.predict(blocks)
    style, topic = model.heads["style"], model.heads["topic"]
    scores = blocks["style"] @ style.weight.T + style.bias
    assert predicted["style"] == [style.classes[row] for row in scores.argmax(axis=1)]
    values = blocks["topic"] @ topic.weight[0] + topic.bias[0]
    np.testing.assert_allclose(predicted["topic"], values, atol=1e-6)


def test_a_direction_orders_as_the_head_does_and_stays_in_its_block(model):
    blocks = model.encode_document(TEXTS)
    direction = model.direction("topic")
    assert not direction[model.layout.slice("style")].any()
    toward = blocks.array @ direction
    assert (np.argsort(toward) == np.argsort(model.predict(blocks)["topic"])).all()
    for factor in ("style", "mood"):
        with pytest.raises(QueryError, match=f"no direction for '{factor}': .* for "):
            model.direction(factor)
    with pytest.raises(QueryError, match="directions for nothing"):
        make_model().direction("topic")


def test_vectors_of_another_encoder_are_refused(model):
    with pytest.raises(LayoutError, match="have 7 dimensions"):
        model.project(np.ones((2, 7), np.float32))


# Centring on given texts.


def means(model: Model, x: np.ndarray) -> dict[str, float]:
    """How far the mean of every block is from zero, before unit length."""
    p = model.projection
    z = (x - p.mean) @ p.weight.T - (0 if p.offset is None else p.offset)
    return {
        name: float(np.abs(part.mean(axis=0)).max()) for name, part in p.layout.split(z).items()
    }


def test_blocks_are_centred_on_texts_but_for_those_that_search_uses():
    x = 3 + np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
    before = replace(make_model(), default_weights={"topic": 1.0, "style": 0.0})
    assert means(before, x)["style"] > 0.5
    # The training mean counts as five texts, so one text moves the centre by a sixth.
    for count in (1, 50):
        moved, there = before.centred_on(x[:count]), means(before, x[:count])["style"]
        assert means(moved, x[:count])["style"] == pytest.approx(there * 5 / (count + 5), rel=1e-4)
    after = before.centred_on(x)
    place = before.layout.slice("topic")
    for side in ("__call__", "queries"):
        old, new = (getattr(one.projection, side)(x) for one in (before, after))
        np.testing.assert_array_equal(new[:, place], old[:, place])
        assert not np.allclose(new, old)
    again = before.centred_at(before.centre_of(x))
    assert again.projection.digest == after.projection.digest != before.projection.digest
    whole = make_model()  # which searches by every block
    assert whole.centred_on(x).projection is whole.projection


def test_a_weight_means_as_much_after_centring_as_before():
    x = 3 + np.random.default_rng(0).normal(size=(200, 4)).astype(np.float32)
    before = replace(
        make_model(),
        default_weights={"topic": 1.0, "style": 0.0},
        score_spreads={"topic": 1e-3, "style": 1e-3},
    )
    after = before.centred_on(x)
    own = measure_score_spread(after.project(x).array, layout=after.layout).blocks
    for name, spread in after.score_spreads.items():
        assert spread == pytest.approx(own[name] * np.sqrt(200 / 205), rel=1e-3)
    # Two texts have no spread to measure: what the checkpoint says counts.
    few = before.centred_on(x[:2]).score_spreads
    assert few == pytest.approx({"topic": 1e-3 * np.sqrt(5 / 7), "style": 1e-3 * np.sqrt(5 / 7)})


def test_heads_of_a_centred_block_give_directions_and_no_classes():
    x = 3 + np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
    model = with_heads(make_model())  # style has classes, topic has a direction
    for weights, told in (((0.0, 1.0), {"topic", "style"}), ((1.0, 0.0), {"topic"})):
        mine = replace(model, default_weights=dict(zip(("topic", "style"), weights, strict=True)))
        after = mine.centred_on(x)
        assert set(after.predict(after.project(x))) == told
        for name in ("topic", "style:formal"):
            np.testing.assert_array_equal(after.direction(name), mine.direction(name))


def test_a_class_has_a_direction_away_from_the_others():
    model = with_heads(make_model())
    weight = dict(zip(model.heads["style"].classes, model.heads["style"].weight, strict=True))
    away = weight["formal"] - (weight["casual"] + weight["ünïcode"]) / 2
    direction = model.direction("style:formal")
    np.testing.assert_allclose(direction[model.layout.slice("style")], away, rtol=1e-5)
    assert not direction[model.layout.slice("topic")].any()
    with pytest.raises(QueryError, match="has directions for style:casual, style:formal, style:ü"):
        model.direction("style")  # which of the three?


def test_two_classes_have_one_direction_from_the_first_to_the_second():
    model = make_model()
    two = LinearHead(
        weight=np.array([[1, 0], [0, 1]], dtype=np.float32),
        bias=np.zeros(2, dtype=np.float32),
        classes=("casual", "formal"),
    )
    model = replace(model, heads={"style": two})
    np.testing.assert_array_equal(model.direction("style"), model.direction("style:formal"))
    np.testing.assert_array_equal(model.direction("style"), -model.direction("style:casual"))


def test_a_factor_without_a_block_is_read_from_all_blocks():
    model = make_model()
    head = LinearHead(
        weight=np.arange(model.layout.dim, dtype=np.float32)[None], bias=None, classes=None
    )
    model = replace(model, heads={"mood": head})
    np.testing.assert_array_equal(model.direction("mood"), np.arange(model.layout.dim))
    with pytest.raises(LayoutError, match=r"the head of 'mood' has shapes \(1, 2\)"):
        replace(model, heads={"mood": replace(head, weight=head.weight[:, :2])})


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_text_that_cannot_be_averaged_is_named(bad):
    x = np.ones((5, 4), dtype=np.float32)
    x[3, 1] = bad
    with pytest.raises(LayoutError, match="NaN or infinity, the first at position 3"):
        make_model().centred_on(x)


def test_texts_of_another_encoder_are_no_centre():
    with pytest.raises(LayoutError, match="takes 4 dimensions"):
        make_model().centred_on(np.ones((5, 3), dtype=np.float32))
