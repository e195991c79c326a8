"""What few dimensions hold is learned from training texts alone, and averaged over choices."""

import numpy as np
import pytest
from worlds import make_labels, plant

from subspace.errors import ConfigError
from subspace.evaluation.retained_share import Measure, learned_directions, principal_components
from subspace.evaluation.tasks import ProbeTask, make_tasks


@pytest.fixture(scope="module")
def world() -> tuple[np.ndarray, ProbeTask]:
    labels = make_labels(count=600)
    (task,) = make_tasks(labels, factor="topic", seeds=1)
    return plant(labels), task


@pytest.mark.parametrize("space", ["learned", "principal"])
def test_other_texts_than_those_of_training_do_not_move_the_directions(world, space):
    x, task = world

    def directions(x: np.ndarray) -> np.ndarray:
        if space == "learned":
            return learned_directions(x, task)
        return principal_components(x, train=task.train)

    changed = x.copy()
    others = np.setdiff1d(np.arange(len(x)), task.train)
    changed[others] += 10 * np.random.default_rng(0).normal(size=(len(others), x.shape[1]))
    np.testing.assert_allclose(
        directions(changed)[task.train], directions(x)[task.train], atol=1e-4
    )
    # Counter-check: what training texts are like does.
    changed = x.copy()
    changed[task.train[::2]] *= -1
    assert not np.allclose(directions(changed)[task.train[1::2]], directions(x)[task.train[1::2]])


def test_several_choices_count_by_their_mean(world):
    x, task = world
    measure = Measure(x, task, rng=np.random.default_rng(0))
    good, bad = x, np.random.default_rng(1).normal(size=x.shape).astype(np.float32)
    one, other, both = (
        measure(choices, space="random", count=4).score for choices in ([good], [bad], [good, bad])
    )
    assert one > other + 0.1
    assert both == pytest.approx((one + other) / 2)


def test_texts_that_all_have_the_same_embedding_are_refused(world):
    x, task = world
    with pytest.raises(ConfigError, match="all have the same embedding"):
        learned_directions(np.ones_like(x), task)
