"""Labels become classes, levels and positions."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from subspace.labels import LEVELS, label_source
from subspace.records import Record


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
