"""Leave one out: what is solved for a source has not seen it."""

from dataclasses import replace

import numpy as np
import pytest
from worlds import make_labels, plant

from subspace.evaluation.cross_corpus import leave_one_out
from subspace.fitting.block_spec import BlockSpec
from subspace.fitting.closed_form import solve_closed_form
from subspace.fitting.fitting_data import FittingData
from subspace.fitting.moments import collect_moments

PLAIN = BlockSpec(width=4, signal_power=0.0, noise_power=0.0)
BLOCKS = {"topic": PLAIN, "style": BlockSpec(width=3)}
SETTINGS = {"blocks": BLOCKS, "layers": (0,)}


def moments_of(seed: int, *factors: str):
    labels = make_labels(seed=seed, count=1200)
    kept = {factor: labels.columns[factor] for factor in factors}
    labels = replace(labels, columns=kept or labels.columns)
    rows = labels.positions("train")
    x = plant(make_labels(seed=seed, count=1200)) * (1 + seed)
    return collect_moments(x, rows=rows, labels=labels.take(rows))


def as_data(moments) -> FittingData:
    sources = {name: None for name in moments if not name.endswith("(rewrites)")}
    return FittingData(sources=sources, rewrites={}, moments=moments, encoder=None)


@pytest.fixture(scope="module")
def moments():
    return {"a": moments_of(0), "b": moments_of(1), "c": moments_of(2, "topic")}


def test_a_fold_is_the_closed_form_of_the_other_sources(moments):
    folds = leave_one_out(as_data(moments), **SETTINGS)
    assert set(folds) == set(moments)
    others = {name: part for name, part in moments.items() if name != "b"}
    expected = solve_closed_form(others, **SETTINGS)
    assert (folds["b"].weight == expected.weight).all()
    assert (folds["b"].mean == expected.mean).all()


def test_changing_a_source_does_not_change_its_own_fold_but_the_others(moments):
    first = leave_one_out(as_data(moments), **SETTINGS)
    second = leave_one_out(as_data({**moments, "a": moments_of(7)}), **SETTINGS)
    assert (first["a"].weight == second["a"].weight).all()
    assert not np.allclose(first["b"].weight, second["b"].weight)


def test_a_block_that_no_other_source_labels_is_left_out():
    moments = {"a": moments_of(0), "c": moments_of(2, "topic")}
    folds = leave_one_out(as_data(moments), **SETTINGS)
    assert folds["a"].layout.names == ("topic",)
    assert folds["c"].layout.names == ("topic", "style")
    alone = {"a": moments_of(0, "topic"), "c": moments_of(2, "style")}
    folds = leave_one_out(as_data(alone), blocks={"style": BlockSpec(width=3)}, layers=(0,))
    assert set(folds) == {"a"}


@pytest.mark.parametrize("kin", [[], [["a", "c"]]])
def test_a_fold_has_neither_the_rewrites_of_its_source_nor_its_kin(moments, kin):
    given = {**moments, "a (rewrites)": moments_of(3), "b (rewrites)": moments_of(4)}
    folds = leave_one_out(as_data(given), kin=kin, **SETTINGS)
    assert set(folds) == {"a", "b", "c"}
    others = ("b", "b (rewrites)") if kin else ("b", "c", "b (rewrites)")
    expected = solve_closed_form({name: given[name] for name in others}, **SETTINGS)
    np.testing.assert_allclose(folds["a"].weight, expected.weight, atol=1e-5)
