"""Precision@10 against a loop, with the own group barred."""

import numpy as np
import pytest
from worlds import cut, make_labels, plant

from subspace.data.labels import Column, Labels
from subspace.evaluation.neighbours import precision_at_ten


def slow_precision(z: np.ndarray, codes: np.ndarray, groups: np.ndarray) -> float:
    directions = z / np.linalg.norm(z, axis=1, keepdims=True)
    shares = []
    for query in range(len(z)):
        others = [
            n for n in range(len(z)) if n != query and (groups[n] < 0 or groups[n] != groups[query])
        ]
        others.sort(key=lambda n: -directions[query] @ directions[n])
        shares.append(np.mean([codes[n] == codes[query] for n in others[:10]]))
    return float(np.mean(shares))


@pytest.mark.parametrize("grouped", [False, True])
def test_precision_is_that_of_a_loop(grouped):
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 3, 90)
    groups = np.arange(90) // 3 if grouped else np.full(90, -1)
    z = rng.normal(size=(90, 5)) + np.eye(5)[codes]
    labels = Labels("test", {"topic": Column(codes, class_count=3)}, groups, np.full(90, 2))
    found = precision_at_ten(z, labels, factor="topic")
    assert found.precision == pytest.approx(slow_precision(z, codes, groups))
    assert 0.2 < found.chance < 0.45 < found.precision


def test_a_planted_block_finds_its_own_factor_and_only_that():
    labels = make_labels()
    z = cut({"topic": slice(0, 4)})(plant(labels))
    own = precision_at_ten(z, labels, factor="topic")
    other = precision_at_ten(z, labels, factor="style")
    assert own.precision > 0.8 > 0.3 > own.chance
    assert other.precision == pytest.approx(other.chance, abs=0.05)


def test_too_few_texts_have_no_precision():
    labels = make_labels(count=60)
    assert precision_at_ten(plant(labels), labels, factor="topic") is None
