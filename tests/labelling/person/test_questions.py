"""Pairs are a tournament: every two texts meet once, and each text comes once per round."""

from itertools import combinations

import pytest

from subspace.data.records import Record
from subspace.labelling.person.questions import ask_each, ask_pairs


def make(count: int) -> list[Record]:
    return [Record(id=f"t{place}", text=f"text {place}") for place in range(count)]


def ids(questions) -> list[tuple[str, ...]]:
    return [tuple(record.id for record in question.records) for question in questions]


@pytest.mark.parametrize("count", [0, 1, 2, 3, 6, 7, 20])
def test_every_two_texts_meet_once(count):
    records = make(count)
    found = [frozenset(pair) for pair in ids(ask_pairs(records, factors=["f"], seed=0))]
    assert len(found) == len(set(found)) == count * (count - 1) // 2
    assert set(found) == {frozenset((a.id, b.id)) for a, b in combinations(records, 2)}


@pytest.mark.parametrize("count", [8, 9])
def test_each_text_comes_once_per_round(count):
    pairs = ids(ask_pairs(make(count), factors=["f"], seed=1))
    for start in range(0, len(pairs), count // 2):
        of_round = [name for pair in pairs[start : start + count // 2] for name in pair]
        assert len(of_round) == len(set(of_round))


def test_the_seed_decides_the_order_and_either_text_can_come_first():
    first, same, other = (ids(ask_pairs(make(9), factors=["f"], seed=s)) for s in (0, 0, 1))
    assert first == same
    assert first != other
    assert 0 < sum(one < two for one, two in first) < len(first)


def test_equal_texts_are_not_compared():
    records = [*make(2), Record(id="copy", text="text 0")]
    pairs = {frozenset(pair) for pair in ids(ask_pairs(records, factors=["f"], seed=0))}
    assert pairs == {frozenset(("t0", "t1")), frozenset(("copy", "t1"))}


def test_factors_are_asked_in_turn():
    assert [(q.factor, q.records[0].id) for q in ask_each(make(2), factors=["a", "b"])] == [
        *(("a", "t0"), ("b", "t0"), ("a", "t1"), ("b", "t1"))
    ]
    pairs = list(ask_pairs(make(3), factors=["a", "b"], seed=0))
    assert [q.factor for q in pairs] == ["a", "b"] * 3
    assert pairs[0].records == pairs[1].records
