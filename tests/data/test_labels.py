"""Labels become classes, levels and positions."""

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from subspace.data.labels import LEVELS, control_labels, label_source, standardise
from subspace.data.records import Record


def record(number: int, *, group=None, split="train", **factors) -> Record:
    return Record(id=str(number), text="t", source="s", factors=factors, split=split, group=group)


def test_classes_are_numbered_and_missing_labels_are_minus_one():
    labels = label_source(
        "s",
        [record(0, topic="b"), record(1, style="x"), record(2, topic="a"), record(3, topic="b")],
    )
    assert labels.columns["topic"].codes.tolist() == [0, -1, 1, 0]
    assert labels.columns["topic"].class_count == 2
    assert labels.columns["style"].labelled.tolist() == [1]
    assert not labels.columns["topic"].ordered


def test_few_numbers_are_a_level_each():
    column = label_source("s", [record(n, c=float(n % 3)) for n in range(9)]).columns["c"]
    assert column.ordered
    assert column.codes.tolist() == [0, 1, 2] * 3
    assert column.class_count == 3


@given(st.lists(st.floats(-1e6, 1e6), min_size=LEVELS + 1, max_size=60))
def test_levels_rise_with_the_number(values):
    column = label_source("s", [record(n, c=v) for n, v in enumerate(values)]).columns["c"]
    order = np.argsort(values, kind="stable")
    assert (np.diff(column.codes[order]) >= 0).all()
    assert column.codes.min() >= 0
    assert column.codes.max() < column.class_count <= LEVELS


def levels(values) -> np.ndarray:
    column = label_source("s", [record(n, c=float(v)) for n, v in enumerate(values)]).columns["c"]
    assert column.class_count == column.codes.max() + 1, "every level has texts"
    return column.codes


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9, 0.99])
def test_numbers_that_pile_up_at_an_end_are_told_from_the_rest(share):
    """At the top as at the bottom; a scale from 0 to 10 with most texts at 10 is common."""
    rest = 1000 - int(1000 * share)
    values = np.concatenate([np.arange(rest) % 10, np.full(1000 - rest, 10)])
    top, bottom = levels(values), levels(-values)
    assert top.max() >= 1
    np.testing.assert_array_equal(bottom, top.max() - top)
    np.testing.assert_array_equal(top == top.max(), values == 10)


@given(st.lists(st.integers(0, 30), min_size=LEVELS + 1, max_size=60))
def test_mirrored_numbers_get_mirrored_levels(values):
    middle = sorted(values)[(len(values) - 1) // 2 : len(values) // 2 + 1]
    assume(len(set(middle)) == 2)  # a number at the median itself may be as near to either side
    codes = levels(values)
    mirrored = levels([-value for value in values])
    np.testing.assert_array_equal(mirrored, codes.max() - codes)


def test_levels_of_distinct_numbers_are_as_large_as_each_other():
    for count in range(LEVELS + 1, 100):
        sizes = np.bincount(levels(np.random.default_rng(count).permutation(count)))
        assert len(sizes) == LEVELS
        assert sizes.max() - sizes.min() <= 2


def test_neighbouring_floats_and_the_largest_ones_are_levels_of_their_own():
    one = np.nextafter(1, 2)
    assert levels([1, one, np.nextafter(one, 2), 5]).tolist() == [0, 1, 2, 3]
    assert levels([-1.7e308, 1.6e308, 1.7e308]).tolist() == [0, 1, 2]


def test_quantiles_come_from_the_training_texts_alone():
    train = [record(n, c=float(n)) for n in range(80)]
    test = [record(100 + n, split="test", c=1e6 + n) for n in range(80)]
    with_test = label_source("s", train + test).columns["c"].codes[:80]
    np.testing.assert_array_equal(with_test, label_source("s", train).columns["c"].codes)


def test_taking_positions_keeps_labels_together():
    labels = label_source(
        "s",
        [
            record(n, group=f"g{n // 2}", split="test" if n > 3 else "train", c=float(n))
            for n in range(6)
        ],
    )
    part = labels.take(np.array([5, 0]))
    assert part.columns["c"].values.tolist() == [5.0, 0.0]
    assert part.groups.tolist() == [2, 0]
    assert labels.positions("test").tolist() == [4, 5]
    assert part.positions("test").tolist() == [0]
    assert len(part) == 2


@given(
    st.lists(st.integers(-9, 9), min_size=2, max_size=30),
    st.floats(-200, 200),
    st.sampled_from([0.0, 1.0, 1e9, 1.7e9, 1e14]),
)
def test_offset_and_unit_leave_standard_scores_as_they_are(numbers, power, offset):
    assume(len(set(numbers)) > 1)
    plain = standardise(np.array(numbers, dtype=float))
    assert plain.mean() == pytest.approx(0, abs=1e-9)
    assert plain.std() == pytest.approx(1)
    unit = 2.0 ** round(power)  # powers of two round nothing
    np.testing.assert_allclose(
        standardise((np.array(numbers) + offset) * unit), plain, rtol=1e-9, atol=1e-9
    )


def test_numbers_that_are_equal_up_to_rounding_are_one_number():
    for numbers in ([0.3, 0.1 + 0.2], [1e17, 1e17 + 1], [5.0, 5.0], [0.0, 0.0]):
        assert not standardise(np.array(numbers)).any()
        assert not control_labels(np.array(numbers), [np.arange(2.0)]).any()
        column = label_source(
            "s", [record(n, complexity=x) for n, x in enumerate(numbers)]
        ).columns["complexity"]
        assert (column.class_count, np.ptp(column.values)) == (1, 0)
    assert standardise(np.array([1e15, 1e15 + 2])).any()  # counter-check: this is no rounding


def test_numbers_that_single_precision_cannot_carry_are_standardised_and_others_stay():
    usual = [2001.0, 2002.0, 2020.0]
    kept = label_source("s", [record(n, complexity=x) for n, x in enumerate(usual)]).columns[
        "complexity"
    ]
    np.testing.assert_array_equal(kept.values, usual)
    for extreme in ([1.7e9, 1.7e9 + 1, 1.7e9 + 2], [1e-300, 2e-300, 3e-300], [1e200, 2e200, 3e200]):
        column = label_source(
            "s", [record(n, complexity=x) for n, x in enumerate(extreme)]
        ).columns["complexity"]
        np.testing.assert_allclose(column.values, standardise(np.arange(3.0)), rtol=1e-9)
        assert column.class_count == 3
        assert np.isfinite(np.float32(column.values) ** 2).all()
