"""Layouts cut vectors apart and put them together again."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from subspace.blocks import BlockLayout, unit_blocks
from subspace.errors import LayoutError

names = st.text("abcdefgh", min_size=1, max_size=4)
layouts = st.dictionaries(names, st.integers(1, 7), min_size=1, max_size=5).map(
    BlockLayout.from_widths
)


@given(layout=layouts, seed=st.integers(0, 99))
def test_joining_what_was_split_gives_the_same_vector(layout, seed):
    z = np.random.default_rng(seed).normal(size=(3, layout.dim))
    parts = layout.split(z)
    np.testing.assert_array_equal(layout.join(dict(reversed(parts.items()))), z)
    tensors = layout.split(torch.from_numpy(z))
    assert all(np.array_equal(tensors[name].numpy(), parts[name]) for name in layout)


@given(layout=layouts)
def test_blocks_are_contiguous_and_cover_every_dimension_once(layout):
    covered = [d for name in layout for d in range(layout.dim)[layout.slice(name)]]
    assert covered == list(range(layout.dim))
    assert BlockLayout.from_widths(layout.to_widths()) == layout


@given(layout=layouts, seed=st.integers(0, 99))
def test_unit_blocks_have_length_one_and_zero_blocks_stay_zero(layout, seed):
    z = np.random.default_rng(seed).normal(size=(2, layout.dim))
    first = layout.names[0]
    z[0, layout.slice(first)] = 0
    for name, block in layout.split(unit_blocks(z, layout=layout)).items():
        lengths = np.linalg.norm(block, axis=1)
        np.testing.assert_allclose(lengths, [0.0 if name == first else 1.0, 1.0])


@pytest.mark.parametrize("width", [0, -1, 1.5, True, "8", None])
def test_a_wrong_width_names_its_block(width):
    with pytest.raises(LayoutError, match="style"):
        BlockLayout.from_widths({"topic": 4, "style": width})


@pytest.mark.parametrize("name", ["", " ", "a=b", "a,b", 3])
def test_a_wrong_name_is_refused(name):
    with pytest.raises(LayoutError, match="block name"):
        BlockLayout.from_widths({name: 4})


def test_a_name_used_twice_and_an_empty_layout_are_refused():
    with pytest.raises(LayoutError, match="must differ"):
        BlockLayout(names=("a", "a"), widths=(1, 1))
    with pytest.raises(LayoutError, match="one width per block"):
        BlockLayout(names=(), widths=())


def test_vectors_of_another_dimension_are_refused_with_all_widths():
    layout = BlockLayout.from_widths({"topic": 4, "style": 2})
    with pytest.raises(LayoutError, match=r"7 dimensions.*needs 6 \(topic=4, style=2\)"):
        layout.split(np.zeros(7))
    with pytest.raises(LayoutError, match="'style' has 3"):
        layout.join({"topic": np.zeros(4), "style": np.zeros(3)})
    with pytest.raises(LayoutError, match="mood"):
        layout.join({"topic": np.zeros(4), "mood": np.zeros(2)})
    with pytest.raises(LayoutError, match="no block 'mood'"):
        layout.slice("mood")
