"""A block changes a ranking by what its scores differ between items."""

import numpy as np
import pytest

from subspace.blocks import BlockLayout, unit_blocks
from subspace.model.score_spread import SPREAD_SAMPLE, measure_score_spread

LAYOUT = BlockLayout.from_widths({"topic": 4, "style": 3})


def vectors(count: int = 300) -> np.ndarray:
    z = np.random.default_rng(0).normal(size=(count, LAYOUT.dim)).astype(np.float32)
    z[:, 4] += 20  # texts hardly differ in style
    return unit_blocks(z, layout=LAYOUT)


def test_the_spread_equals_the_loop_of_its_definition():
    z = vectors(40)
    found = measure_score_spread(z, layout=LAYOUT)
    for name, block in LAYOUT.split(z).items():
        cosines = [block[i] @ block[j] for i in range(40) for j in range(i)]
        assert found.blocks[name] == pytest.approx(np.std(cosines), rel=1e-4)
    assert found.items == 40


def test_a_block_in_which_texts_differ_little_has_a_small_spread():
    found = measure_score_spread(vectors(), layout=LAYOUT)
    assert found.blocks["style"] < 0.02 < 0.3 < found.blocks["topic"]


def test_of_many_items_a_sample_is_looked_at_and_of_two_nothing_is_said():
    assert measure_score_spread(vectors(SPREAD_SAMPLE + 9), layout=LAYOUT).items == SPREAD_SAMPLE
    assert set(measure_score_spread(vectors(2), layout=LAYOUT).blocks.values()) == {0.0}
