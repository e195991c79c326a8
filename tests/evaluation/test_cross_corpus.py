"""Leave one out: what is solved for a source has not seen it."""

from dataclasses import replace

import numpy as np
import pytest
from worlds import DIM, RAW, make_labels, plant

from subspace.blocks import BlockLayout
from subspace.evaluation.cross_corpus import leave_one_out
from subspace.fitting.closed_form import ClosedForm, solve_closed_form
from subspace.fitting.moments import collect_statistics

LAYOUT = BlockLayout.from_widths({"topic": 3, "style": 1, "residual": 4})
SETTINGS = ClosedForm(content="", ranks={"topic": 2}, caution={"style": 1.0})


def statistics_of(seed: int, *factors: str):
    labels = make_labels(seed=seed, count=1200)
    kept = {factor: labels.columns[factor] for factor in factors}
    labels = replace(labels, columns=kept or labels.columns)
    rows = labels.positions("train")
    x = plant(make_labels(seed=seed, count=1200)) * (1 + seed)
    return collect_statistics(x, rows=rows, labels=labels.take(rows))


@pytest.fixture(scope="module")
def statistics():
    return {"a": statistics_of(0), "b": statistics_of(1), "c": statistics_of(2, "topic")}


def test_a_fold_is_the_closed_form_of_the_other_sources(statistics):
    folds = leave_one_out(statistics, layout=LAYOUT, settings=SETTINGS, raw=RAW)
    assert set(folds) == set(statistics)
    others = {name: part for name, part in statistics.items() if name != "b"}
    expected = solve_closed_form(others, layout=LAYOUT, settings=SETTINGS, raw=RAW).projection
    assert (folds["b"].weight == expected.weight).all()
    assert (folds["b"].mean == expected.mean).all()


def test_changing_a_source_does_not_change_its_own_fold_but_the_others(statistics):
    first = leave_one_out(statistics, layout=LAYOUT, settings=SETTINGS, raw=RAW)
    changed = {**statistics, "a": statistics_of(7)}
    second = leave_one_out(changed, layout=LAYOUT, settings=SETTINGS, raw=RAW)
    assert (first["a"].weight == second["a"].weight).all()
    assert not np.allclose(first["b"].weight, second["b"].weight)


def test_a_block_that_no_other_source_labels_is_left_out():
    statistics = {"a": statistics_of(0), "c": statistics_of(2, "topic")}
    folds = leave_one_out(statistics, layout=LAYOUT, settings=SETTINGS, raw=RAW)
    assert folds["a"].layout.names == ("topic", "residual")
    assert folds["c"].layout.names == ("topic", "style", "residual")
    alone = {"a": statistics_of(0, "topic"), "c": statistics_of(2, "style")}
    layout = BlockLayout.from_widths({"topic": 3})
    plain = ClosedForm(content="")
    folds = leave_one_out(alone, layout=layout, settings=plain, raw=slice(0, DIM))
    assert set(folds) == {"c"}
