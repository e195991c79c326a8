"""What is picked covers scores and topics, and holds no two texts that say the same."""

import numpy as np
import pytest

from subspace.errors import ConfigError
from subspace.labelling.pick import NEAR, pick


def draw(count: int, *, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scores, topics (five far groups of different size) and raw vectors, all independent."""
    rng = np.random.default_rng(seed)
    topic = rng.choice(5, size=count, p=[0.4, 0.3, 0.15, 0.1, 0.05])
    topics = 5 * np.eye(5)[topic] + 0.1 * rng.normal(size=(count, 5))
    raw = rng.normal(size=(count, 16))
    return rng.normal(size=count), topics.astype(np.float32), raw.astype(np.float32)


def cosines(raw: np.ndarray) -> np.ndarray:
    """Cosines of every two different rows."""
    rows = raw / np.linalg.norm(raw, axis=1, keepdims=True)
    return (rows @ rows.T)[np.triu_indices(len(rows), 1)]


def quantiles(scores: np.ndarray, picked: np.ndarray, *, count: int) -> list[int]:
    """In which of `count` equally filled quantiles of all scores each picked text lies."""
    rank = np.argsort(np.argsort(scores))
    return sorted((rank[picked] * count // len(scores)).tolist())


@pytest.mark.parametrize(("texts", "count"), [(300, 30), (307, 30), (31, 30), (30, 30), (300, 1)])
def test_every_quantile_of_the_score_is_picked_from_once(texts, count):
    scores, topics, raw = draw(texts)
    picked = pick(scores, topics, raw, count=count, groups=[None] * texts)
    assert quantiles(scores, picked, count=count) == list(range(count))
    drawn = np.random.default_rng(0).permutation(texts)[:count]
    assert count in (1, texts) or quantiles(scores, drawn, count=count) != list(range(count))


def test_the_first_few_cover_the_score_too():
    scores, topics, raw = draw(400)
    picked = pick(scores, topics, raw, count=40, groups=[None] * 400)
    for first in (5, 10, 20):
        assert len(set(quantiles(scores, picked[:first], count=5))) == 5


@pytest.mark.parametrize("scored", [True, False])
def test_small_topics_are_picked_from_as_often_as_large_ones(scored):
    scores, topics, raw = draw(1000)
    groups = [None] * 1000
    picked = pick(scores if scored else None, topics, raw, count=25, groups=groups)
    counts = np.bincount(topics[picked].argmax(axis=1), minlength=5)
    drawn = np.bincount(topics[:25].argmax(axis=1), minlength=5)
    assert counts.min() >= 2
    assert counts.std() < drawn.std()


@pytest.mark.parametrize("scored", [True, False])
def test_no_two_are_near_duplicates(scored):
    scores, topics, raw = draw(40)
    copies = np.repeat(raw, 5, axis=0)
    copies += 0.02 * np.random.default_rng(1).normal(size=copies.shape).astype(np.float32)
    scores, topics = np.repeat(scores, 5), np.repeat(topics, 5, axis=0)
    picked = pick(scores if scored else None, topics, copies, count=30, groups=[None] * 200)
    assert len(picked) == 30
    assert cosines(copies[picked]).max() <= NEAR
    assert cosines(copies[:30]).max() > NEAR


def test_copies_leave_fewer_and_each_text_has_one_of_its_kind():
    scores, topics, raw = draw(10)
    copies = np.repeat(raw, 3, axis=0)
    picked = pick(np.repeat(scores, 3), np.repeat(topics, 3, axis=0), copies, count=20,
                  groups=[None] * 30)  # fmt: skip
    assert sorted((picked // 3).tolist()) == list(range(10))


def test_for_a_quantile_of_copies_the_text_with_the_nearest_score_is_picked():
    scores, (_, topics, raw) = np.arange(100.0), draw(100)
    raw[80:] = raw[80]
    picked = pick(scores, topics, raw, count=10, groups=[None] * 100)
    assert [*range(8)] == quantiles(scores, picked[:9], count=10)[:8]
    assert sum(picked >= 80) == 1
    assert picked[9] == (78 if 79 in picked[:9] else 79)


def test_of_a_group_one_at_most_is_picked():
    scores, topics, raw = draw(60)
    groups = [None if place % 3 == 0 else f"g{place % 10}" for place in range(60)]
    picked = pick(scores, topics, raw, count=30, groups=groups)
    of_groups = [groups[place] for place in picked if groups[place] is not None]
    assert len(of_groups) == len(set(of_groups)) == 10
    assert sum(groups[place] is None for place in picked) == 20


def test_the_same_seed_picks_the_same_and_another_does_not():
    scores, topics, raw = draw(200)
    first, same, other = (
        pick(scores, topics, raw, count=20, groups=[None] * 200, seed=seed) for seed in (3, 3, 4)
    )
    assert first.tolist() == same.tolist()
    assert len(set(first.tolist())) == 20
    assert set(first.tolist()) != set(other.tolist())


def test_equal_scores_equal_topics_and_zero_vectors_are_no_obstacle():
    topics, raw = np.ones((9, 2), np.float32), np.zeros((9, 4), np.float32)
    for scores in (np.zeros(9), None):
        picked = pick(scores, topics, raw, count=9, groups=[None] * 9)
        assert sorted(picked.tolist()) == list(range(9))


@pytest.mark.parametrize(
    ("count", "seed", "message"),
    [
        (31, 0, "cannot pick 31 texts, there are 30"),
        (0, 0, "1 text or more"),
        (3, -1, "a seed of 0"),
    ],
)
def test_what_cannot_be_picked_is_said(count, seed, message):
    scores, topics, raw = draw(30)
    with pytest.raises(ConfigError, match=message):
        pick(scores, topics, raw, count=count, groups=[None] * 30, seed=seed)
