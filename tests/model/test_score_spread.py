"""Which blocks and dimensions make any difference among one's own items."""

import numpy as np
import pytest

from subspace.blocks import BlockLayout, unit_blocks
from subspace.model.score_spread import LOW, STEERING_SAMPLE, measure_steering

LAYOUT = BlockLayout.from_widths({"topic": 6, "style": 3})


def vectors(count: int = 200, *, still: float = 0.0) -> np.ndarray:
    """Unit blocks; the larger `still`, the less the style block varies."""
    z = np.random.default_rng(0).normal(size=(count, LAYOUT.dim)).astype(np.float32)
    z[:, LAYOUT.slice("style").start] += still
    return unit_blocks(z, layout=LAYOUT)


def test_the_spread_is_the_standard_deviation_of_the_cosines_of_all_pairs():
    z = vectors(40)
    found = measure_steering(z, layout=LAYOUT)
    for name, block in LAYOUT.split(z.astype(np.float64)).items():
        cosines = [block[i] @ block[j] for i in range(40) for j in range(i)]
        assert found.blocks[name] == pytest.approx(np.std(cosines), rel=1e-6)
    assert found.items == 40


def test_a_block_that_hardly_varies_is_named_and_one_that_varies_is_not():
    assert measure_steering(vectors(), layout=LAYOUT).warning() == ""
    still = measure_steering(vectors(still=100), layout=LAYOUT)
    assert still.blocks["topic"] > LOW > still.blocks["style"] > 0
    assert "style" in still.warning()
    assert "topic" not in still.warning().partition("next to")[0]
    assert "--standardize" in still.warning()


def test_a_block_without_any_difference_changes_nothing_at_any_weight():
    z = vectors()
    z[:, LAYOUT.slice("style")] = (1, 0, 0)
    assert "no ranking at any weight" in measure_steering(z, layout=LAYOUT).warning()


def test_a_dimension_that_stands_still_is_counted():
    z = vectors()
    assert measure_steering(z, layout=LAYOUT).idle_dimensions(LAYOUT) == {"topic": 0, "style": 0}
    z[:, 2] = 0.1
    assert measure_steering(z, layout=LAYOUT).idle_dimensions(LAYOUT) == {"topic": 1, "style": 0}


@pytest.mark.parametrize("count", [0, 1, 2])
def test_too_few_items_vary_in_nothing(count):
    found = measure_steering(vectors(count), layout=LAYOUT)
    assert found.blocks == {"topic": 0.0, "style": 0.0}
    assert len(found.dimensions) == LAYOUT.dim


def test_a_large_index_is_measured_on_a_sample():
    many = np.repeat(vectors(100), 30, axis=0)
    found = measure_steering(many, layout=LAYOUT)
    assert found.items == STEERING_SAMPLE
    assert found.blocks["topic"] == pytest.approx(
        measure_steering(vectors(100), layout=LAYOUT).blocks["topic"], abs=0.02
    )
