"""Labelled texts are encoded once, and a model is solved from what was collected of them."""

from dataclasses import replace

import numpy as np
import pytest

from subspace.data.records import read_sources
from subspace.encoder import EncoderSpec
from subspace.errors import ConfigError
from subspace.fitting.block_spec import BlockSpec
from subspace.fitting.fitting_data import FittingData, encoder_spec
from subspace.fitting.recipe import Recipe
from subspace.fitting.weak.weak_supervision import WeakSupervision

BLOCKS = {
    "topic": BlockSpec(width=6, layers=(2,), signal_power=0.0, noise_power=0.0),
    "complexity": BlockSpec(width=4),
}


@pytest.fixture(scope="module")
def arguments(tiny_qwen, tmp_path_factory) -> dict:
    return {
        "encoder": EncoderSpec(model=str(tiny_qwen), layers=(1, 2)),
        "weak": WeakSupervision(features=0.3, rewrites=5, rules=2),
        "store": tmp_path_factory.mktemp("store"),
    }


@pytest.fixture(scope="module")
def data(labelled_folder, arguments) -> FittingData:
    return FittingData.encode(read_sources([labelled_folder]), **arguments)


def test_rewrites_are_sources_of_their_own_and_count_in_the_moments(data):
    made = {f"{name} (rewrites)" for name in data.sources}
    assert set(data.rewrites) <= made
    assert data.rewrites
    assert set(data.moments) == {*data.sources, *data.rewrites}
    for name in data.rewrites:
        for factor in data.moments[name].factors.values():
            assert factor.within_groups is not None
    assert set(data.factors) == {"topic", "style", "complexity", "specificity"}


def test_a_factor_that_cannot_be_learned_has_no_block_by_default(data, caplog):
    assert "specificity" in data.default_blocks()
    caplog.clear()
    moments = {n: one for n, one in data.moments.items() if "specificity" not in one.factors}
    assert set(replace(data, moments=moments).default_blocks()) == {"topic", "style", "complexity"}
    assert "there is no block of 'specificity'" in caplog.text
    assert "'style'" not in caplog.text


def numbered(data, labels, *, name: str = "graded"):
    """The texts of a source, the first of them with these labels of complexity."""
    records = data.sources[name].records[: len(labels)]
    return {
        name: tuple(
            replace(record, factors={"complexity": label}, split="train")
            for record, label in zip(records, labels, strict=True)
        )
    }


def fit_on(records, arguments):
    data = FittingData.encode(records, **{**arguments, "weak": WeakSupervision()})
    blocks = {name: BLOCKS[name] for name in data.default_blocks()}
    return data.solve(Recipe(blocks=blocks))


@pytest.mark.parametrize("change", [(1, 1.7e9), (1, 1e15), (1e-300, 0), (1e300, 0)])
def test_a_direction_does_not_hang_on_the_offset_and_the_unit_of_numbers(data, arguments, change):
    labels = [float(n % 3 + 1) for n in range(60)]
    scale, offset = change
    before = fit_on(numbered(data, labels), arguments).heads["complexity"].weight
    moved = numbered(data, [label * scale + offset for label in labels])
    after = fit_on(moved, arguments).heads["complexity"].weight
    np.testing.assert_allclose(after, before, rtol=1e-3, atol=1e-5)


def test_labels_that_teach_nothing_are_said_at_the_fit(data, arguments, caplog):
    fit_on(numbered(data, [float(n % 3) for n in range(60)]), arguments)
    assert not caplog.text
    fit_on(numbered(data, [0.3, 0.1 + 0.2] * 10), arguments)
    assert "source 'graded': all 20 labels of 'complexity' are 0.3 up to rounding" in caplog.text
    fit_on(numbered(data, [1.0, 2.0]), arguments)
    assert "the block of 'complexity' is learned from 2 labelled texts ('graded')" in caplog.text
    assert "no direction" not in caplog.text
    words = [np.log(len(one.text.split())) for one in data.sources["parallel"].records[:60]]
    fit_on(numbered(data, words, name="parallel"), arguments)
    assert "'complexity' has no direction to search toward: without what follows" in caplog.text


def test_a_source_is_left_out_with_its_rewrites(data):
    part = data.without("parallel")
    assert not any("parallel" in name for name in (*part.sources, *part.rewrites, *part.moments))
    assert set(part.sources) == {"graded", "detailed"}
    assert set(data.only("parallel").sources) == {"parallel"}
    assert part.encoder is data.encoder


def test_a_model_has_heads_spreads_weights_and_what_it_was_made_of(data):
    recipe = Recipe(blocks=BLOCKS, weak=WeakSupervision(features=0.3))
    model = data.solve(recipe)
    assert model.default_weights == {"topic": 1.0, "complexity": 0.0}
    assert set(model.heads) == {"topic", "complexity"}
    assert all(0 < spread < 1 for spread in model.score_spreads.values())
    assert model.data == {name: source.sha256 for name, source in data.sources.items()}
    assert Recipe.from_json(model.recipe) == recipe
    # Features teach beside the labels.
    plain = data.solve(Recipe(blocks=BLOCKS))
    np.testing.assert_array_equal(plain.projection.weight, model.projection.weight)
    mine, theirs = (m.heads["complexity"].weight for m in (model, plain))
    assert not np.allclose(mine, theirs)


def test_where_there_is_no_topic_the_first_block_is_searched(data):
    model = data.solve(Recipe(blocks={"complexity": BlockSpec(width=4)}))
    assert model.default_weights == {"complexity": 1.0}


def test_texts_are_encoded_once(data, arguments, labelled_folder):
    before = len(data.vectors)
    again = FittingData.encode(read_sources([labelled_folder]), **arguments)
    assert len(again.vectors) == before
    for name, source in data.sources.items():
        np.testing.assert_array_equal(source.rows, again.sources[name].rows)


def test_without_training_texts_there_is_nothing_to_fit(arguments, labelled_folder):
    records = read_sources([labelled_folder / "graded"])
    unseen = {n: tuple(r for r in one if r.split == "test") for n, one in records.items()}
    with pytest.raises(ConfigError, match="no texts in the split 'train'"):
        FittingData.encode(unseen, **arguments)


def test_an_encoder_by_name_is_read_at_several_layers(tiny_qwen):
    assert encoder_spec("minilm").layers == (0, 1, 3, 6)
    assert encoder_spec(str(tiny_qwen)).layers == (0, 1, 2)
    given = EncoderSpec(model="minilm", layers=(5,))
    assert encoder_spec(given) is given
