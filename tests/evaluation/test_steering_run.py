"""Which blocks a source is measured with: none that were fitted on it, where others are left."""

from dataclasses import replace

import pytest

from subspace.data.records import read_sources
from subspace.data.retrieval_sets import query_key
from subspace.encoder import EncoderSpec
from subspace.errors import ConfigError
from subspace.evaluation.steering_run import BLOCKS, UNCENTRED, _choose, measure_steering
from subspace.fitting import Recipe, WeakSupervision
from subspace.fitting.block_spec import read_blocks
from subspace.fitting.fitting_data import FittingData

BLOCKS_OF = {"topic": 8, "style": 4, "complexity": 4}


@pytest.fixture(scope="module")
def data(labelled_folder, tiny_qwen, tmp_path_factory) -> FittingData:
    return FittingData.encode(
        read_sources([labelled_folder]),
        encoder=EncoderSpec(model=str(tiny_qwen), layers=(1, 2)),
        weak=WeakSupervision(),
        store=tmp_path_factory.mktemp("store"),
    )


@pytest.fixture(scope="module")
def fitted(data):
    """A model of all sources, and one that has not seen `graded`."""
    recipe = Recipe(blocks=read_blocks(BLOCKS_OF))
    style = Recipe(blocks=read_blocks({"topic": 8, "style": 4}))
    return data.solve(recipe), data.without("graded").solve(style)


def rows_of(model, data, **options) -> dict[tuple[str, str], list]:
    found: dict[tuple[str, str], list] = {}
    for row in measure_steering(model, data, queries=20, **options):
        found.setdefault((row.source, row.factor), []).append(row)
    return found


def curve_of(rows) -> list[float]:
    (curve,) = (row.curve.gained.tolist() for row in rows if row.contender == BLOCKS)
    return curve


def test_a_source_that_was_not_seen_is_measured_with_the_model_as_it_is(data, fitted):
    _, model = fitted
    found = rows_of(model, data, seen=["parallel", "detailed"])
    again = rows_of(model, data.only("graded"))
    assert curve_of(found["graded", "topic"]) == curve_of(again["graded", "topic"])
    assert not any(row.in_corpus for row in found["graded", "topic"])


def test_a_source_that_was_seen_is_measured_with_blocks_that_were_not_fitted_on_it(data, fitted):
    model, _ = fitted
    seen = list(data.sources)
    found = rows_of(model, data, seen=seen)
    itself = rows_of(model, data, seen=seen, solve_again=False)
    assert not any(row.in_corpus for row in found["parallel", "topic"])
    assert all(row.in_corpus for row in itself["parallel", "topic"])
    # Style is labelled in one source alone: without it, no block of style is left to measure.
    assert ("parallel", "style") in itself
    assert ("parallel", "style") not in found


def test_blocks_are_centred_as_an_index_of_the_texts_centres_them(data, fitted):
    """All but topic, which a search without weights uses."""
    model, _ = fitted
    assert [name for name, weight in model.default_weights.items() if weight] == ["topic"]
    rows = rows_of(model, data, seen=list(data.sources), solve_again=False)
    for factor in ("topic", "style"):
        curves = {row.contender: row.curve.kept.tolist() for row in rows["parallel", factor]}
        assert (UNCENTRED in curves) == (factor == "style")
    assert curves[BLOCKS] != curves[UNCENTRED]
    vectors = data.encoder.store.read(data.sources["parallel"].rows)
    centred = model.centred_on(vectors)
    again = rows_of(centred, data.only("parallel"))["parallel", "style"]
    curves_again = {row.contender: row.curve.kept.tolist() for row in again}
    assert curves_again[UNCENTRED] == pytest.approx(curves[BLOCKS])


def test_what_moves_off_target_is_length_and_other_numbers_and_never_the_factor_itself(
    data, fitted
):
    model, _ = fitted
    rows = rows_of(model, data, seen=list(data.sources), solve_again=False)
    ordered = [row for of_one in rows.values() for row in of_one if row.kind == "toward"]
    assert ordered
    for row in ordered:
        assert "length (words)" in row.curve.off_target
        assert row.factor not in row.curve.off_target


def test_a_source_of_one_class_has_nothing_to_move(data, fitted, tmp_path):
    records = data.sources["parallel"].records
    same = tuple(replace(record, factors={"style": "same"}) for record in records)
    encoder = data.encoder.encoder.spec
    weak = WeakSupervision()
    alone = FittingData.encode({"same": same}, encoder=encoder, weak=weak, store=tmp_path)
    with pytest.raises(ConfigError, match="no source has 100 texts labelled with"):
        rows_of(fitted[0], alone)


def test_the_only_source_is_measured_in_corpus_and_says_so(data, fitted):
    model, _ = fitted
    found = rows_of(model, data.only("parallel"), seen=["parallel"])
    assert all(row.in_corpus for rows in found.values() for row in rows)


def test_kin_that_was_seen_is_left_out_for_a_source_that_was_not(data, fitted):
    """`graded` is measured without `parallel`, which is all that has topics besides it."""
    _, model = fitted
    options = {"seen": ["parallel", "detailed"], "kin": [["graded", "parallel"]]}
    alone = rows_of(model, data, seen=["parallel", "detailed"])
    kin = rows_of(model, data, **options)
    assert curve_of(kin["graded", "topic"]) != curve_of(alone["graded", "topic"])


def test_texts_that_a_model_was_adapted_to_are_neither_queries_nor_hits(data, fitted):
    _, model = fitted
    (source,) = data.only("graded").sources.values()
    keys = [query_key(record.text) for record in source.records]
    chosen = _choose(source, left_out=keys[:3])
    groups = {source.records[n].group for n in range(3)} - {None}
    kept = [source.records[n] for n in chosen]
    assert {query_key(record.text) for record in kept}.isdisjoint(keys[:3])
    assert groups.isdisjoint({record.group for record in kept})
    assert len(kept) >= len(keys) - 3 * 8
    with pytest.raises(ConfigError, match="no source has"):
        measure_steering(model, data.only("graded"), queries=20, left_out=keys)
