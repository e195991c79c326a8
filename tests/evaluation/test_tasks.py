"""Probe tasks: what can be probed, what is tied, what length and first words give away."""

import numpy as np
import pytest
from worlds import COUNT, embedded, make_labels, plant

from subspace.data.labels import Column, Labels
from subspace.evaluation.tasks import (
    MAX_TEXTS,
    Tie,
    association,
    can_probe,
    control_columns,
    find_ties,
    make_tasks,
    partial_out,
    word_counts,
)


def probe_labels(sizes: dict[str, int], **classes: list[int]) -> tuple[Column, Labels]:
    """A column in which each split goes through its own classes."""
    codes = [np.resize(np.array(classes.get(name, [0, 1])), size) for name, size in sizes.items()]
    splits = np.repeat(np.arange(3), list(sizes.values()))
    column = Column(codes=np.concatenate(codes), class_count=9)
    labels = Labels("test", {"f": column}, groups=np.full(len(splits), -1), splits=splits)
    return column, labels


ENOUGH = {"train": 90, "validation": 30, "test": 30}


def test_enough_texts_of_two_classes_in_every_split_can_be_probed():
    column, labels = probe_labels(ENOUGH)
    assert can_probe(column, labels=labels)


@pytest.mark.parametrize("part", ENOUGH)
def test_a_split_with_too_few_labelled_texts_cannot_be_probed(part):
    column, labels = probe_labels({**ENOUGH, part: 29})
    assert not can_probe(column, labels=labels)
    column, labels = probe_labels({**ENOUGH, part: 40}, **{part: [0, 1, -1]})
    assert not can_probe(column, labels=labels)  # a third of 40 has no label


@pytest.mark.parametrize("part", ENOUGH)
def test_a_split_with_one_class_cannot_be_probed(part):
    column, labels = probe_labels(ENOUGH, **{part: [1]})
    assert not can_probe(column, labels=labels)


def test_classes_that_training_has_never_seen_cannot_be_tested_but_numbers_can():
    column, labels = probe_labels(ENOUGH, test=[0, 1, 2])
    assert not can_probe(column, labels=labels)
    numbers = Column(column.codes, class_count=9, values=column.codes.astype(np.float64))
    assert can_probe(numbers, labels=labels)


def test_seeds_draw_other_training_texts_and_the_same_test_texts():
    labels = make_labels()
    (task,) = make_tasks(labels, factor="topic", seeds=3)
    assert task.draws.shape == (3, int(0.8 * 1000))
    assert len({tuple(draw) for draw in task.draws}) == 3
    for positions, split in ((task.train, 0), (task.validation, 1), (task.test, 2)):
        assert (labels.splits[positions] == split).all()
    assert len(task.test) <= MAX_TEXTS["test"]
    again = make_tasks(labels, factor="topic", seeds=3)[0]
    assert (again.draws == task.draws).all()
    assert (again.test == task.test).all()


def test_a_tied_factor_is_read_within_levels_of_the_other():
    labels = make_labels(count=6000)
    tie = Tie("test", "complexity", "style", 0.5)
    tasks = make_tasks(labels, factor="complexity", seeds=1, ties=[tie])
    assert [task.within for task in tasks] == ["style=0", "style=1"]
    for code, task in enumerate(tasks):
        assert (labels.columns["style"].codes[task.test] == code).all()
    other = Tie("test", "style", "complexity", 0.5)
    low, high = make_tasks(labels, factor="style", seeds=1, ties=[other])
    values = labels.columns["complexity"].values
    assert values[low.train].max() <= values[high.train].min()
    assert low.within.startswith("complexity up to 0.5")


def test_association_is_nothing_for_independent_labels_and_all_for_equal_ones():
    columns = make_labels().columns
    for first in columns.values():
        for second in columns.values():
            if first is not second:
                assert association(first, second) < 0.1
    for column in columns.values():
        if not column.ordered:
            assert association(column, column) == pytest.approx(1, abs=0.01)
    number = columns["complexity"]
    assert association(number, number) == pytest.approx(1)
    levels = Column(codes=number.codes, class_count=4)
    assert association(number, levels) == pytest.approx(np.sqrt(15 / 16), abs=0.01)
    assert association(number, levels) == association(levels, number)


def test_ties_are_found_in_both_directions_and_only_where_they_are():
    labels = make_labels()
    rng = np.random.default_rng(0)
    style = np.where(
        rng.random(COUNT) < 0.4,
        labels.columns["topic"].codes // 2,
        labels.columns["style"].codes,
    )
    columns = {**labels.columns, "style": Column(codes=style, class_count=2)}
    tied = Labels("test", columns, groups=labels.groups, splits=labels.splits)
    assert find_ties(labels) == []
    assert {(t.factor, t.other) for t in find_ties(tied)} == {
        ("topic", "style"),
        ("style", "topic"),
    }


def test_what_length_explains_is_gone_and_the_mean_stays():
    labels = make_labels()
    rng = np.random.default_rng(0)
    lengths = rng.integers(5, 400, COUNT)
    nuisance = word_counts(embedded(labels, lengths=lengths).records)
    x = plant(labels)
    loud = x + 3 * (np.log(lengths)[:, None] + 1)
    train = labels.positions("train")
    left = partial_out(loud, nuisance, train=train)
    np.testing.assert_allclose(left[train].mean(axis=0), loud[train].mean(axis=0), atol=1e-3)
    correlation = np.corrcoef(left[train].T, np.log(lengths[train]))[-1, :-1]
    before = np.corrcoef(loud[train].T, np.log(lengths[train]))[-1, :-1]
    assert np.abs(correlation).max() < 1e-3
    assert np.abs(before).min() > 0.9


def test_control_labels_are_the_same_for_the_same_first_word_and_distributed_like_the_labels():
    labels = make_labels()
    words = [record.text.split()[0] for record in embedded(labels).records]
    (task,) = make_tasks(labels, factor="topic", seeds=2)
    first, second = control_columns(task, first_words=words)
    by_word = {}
    for word, code in zip(words, first.codes, strict=True):
        assert by_word.setdefault(word, code) == code
    assert (first.codes != second.codes).any()
    assert (np.bincount(first.codes) / COUNT).max() < 0.35
    assert set(first.codes) == {0, 1, 2, 3}
