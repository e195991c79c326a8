"""A layout cuts vectors into named blocks, loses nothing, and refuses what does not fit."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from subspace.blocks import BlockLayout, unit, unit_blocks
from subspace.errors import LayoutError

LAYOUT = BlockLayout.from_widths({"topic": 3, "style": 2})

# Reports use two words for themselves.
names = st.text(min_size=1, max_size=8).filter(
    lambda name: name == name.strip() and name not in ("raw", "all") and not set(name) & set("=,")
)
widths = st.dictionaries(names, st.integers(1, 6), min_size=1, max_size=5)


def vectors(dim: int, *, shape: tuple[int, ...] = (4,)) -> np.ndarray:
    return np.random.default_rng(dim).normal(size=(*shape, dim)).astype(np.float32)


@given(widths=widths)
def test_from_widths_and_to_widths_are_inverse_and_keep_the_order(widths):
    layout = BlockLayout.from_widths(widths)
    assert list(layout.to_widths().items()) == list(widths.items())
    assert BlockLayout.from_widths(layout.to_widths()) == layout
    assert list(layout) == list(widths)
    assert (len(layout), layout.dim) == (len(widths), sum(widths.values()))


@given(widths=widths)
def test_the_blocks_cover_every_dimension_exactly_once_and_in_order(widths):
    layout = BlockLayout.from_widths(widths)
    covered = [d for name in layout for d in range(layout.dim)[layout.slice(name)]]
    assert covered == list(range(layout.dim))
    assert layout.starts == tuple(layout.slice(name).start for name in layout)


@given(widths=widths, shape=st.sampled_from([(), (1,), (5,), (2, 3), (0,)]))
def test_join_undoes_split_for_any_layout(widths, shape):
    layout = BlockLayout.from_widths(widths)
    z = vectors(layout.dim, shape=shape)
    np.testing.assert_array_equal(layout.join(layout.split(z)), z)


@given(widths=widths)
def test_join_does_not_depend_on_the_order_of_the_parts(widths):
    layout = BlockLayout.from_widths(widths)
    z = vectors(layout.dim)
    backwards = dict(reversed(layout.split(z).items()))
    np.testing.assert_array_equal(layout.join(backwards), z)


@given(widths=widths)
def test_tensors_are_split_like_arrays(widths):
    layout = BlockLayout.from_widths(widths)
    z = vectors(layout.dim)
    parts = layout.split(torch.from_numpy(z))
    assert torch.equal(torch.cat(list(parts.values()), dim=-1), torch.from_numpy(z))
    for name, block in layout.split(z).items():
        np.testing.assert_array_equal(parts[name].numpy(), block)


def test_split_of_tensors_lets_gradients_through_to_the_own_dimensions_only():
    z = torch.ones(2, LAYOUT.dim, requires_grad=True)
    LAYOUT.split(z)["style"].sum().backward()
    assert z.grad.tolist() == [[0, 0, 0, 1, 1]] * 2


def test_split_gives_views_not_copies():
    z = vectors(LAYOUT.dim)
    LAYOUT.split(z)["style"][:] = 7
    assert (z[:, 3:] == 7).all()
    assert not (z[:, :3] == 7).any()


@given(
    x=hnp.arrays(
        np.float32,
        hnp.array_shapes(min_dims=1, max_dims=3, max_side=5),
        elements=st.one_of(
            st.just(0.0), st.floats(0.0009765625, 1024, width=32), st.floats(-1024, -1, width=32)
        ),
    )
)
def test_unit_scales_to_length_one_keeps_the_direction_and_leaves_zero_alone(x):
    norms = np.linalg.norm(x, axis=-1, keepdims=True)
    scaled = unit(x)
    np.testing.assert_allclose(np.linalg.norm(scaled, axis=-1), norms[..., 0] > 0, atol=1e-5)
    np.testing.assert_allclose(scaled * norms, x, rtol=1e-5)


def test_every_block_becomes_a_unit_vector_of_its_own():
    z = vectors(LAYOUT.dim)
    for name, block in LAYOUT.split(unit_blocks(z, layout=LAYOUT)).items():
        np.testing.assert_allclose(np.linalg.norm(block, axis=-1), 1, rtol=1e-6)
        np.testing.assert_allclose(block, unit(LAYOUT.split(z)[name]), rtol=1e-6)


def test_a_block_of_zeros_stays_zero_and_does_not_touch_its_neighbour():
    z = vectors(LAYOUT.dim)
    z[:, LAYOUT.slice("topic")] = 0
    blocks = LAYOUT.split(unit_blocks(z, layout=LAYOUT))
    assert (blocks["topic"] == 0).all()
    np.testing.assert_allclose(np.linalg.norm(blocks["style"], axis=-1), 1, rtol=1e-6)


@given(scales=st.tuples(st.floats(0.01, 100), st.floats(0.01, 100)))
def test_unit_blocks_do_not_depend_on_the_scale_of_any_block(scales):
    z = vectors(LAYOUT.dim).astype(np.float64)
    scaled = z * np.repeat(scales, LAYOUT.widths)
    np.testing.assert_allclose(
        unit_blocks(scaled, layout=LAYOUT), unit_blocks(z, layout=LAYOUT), rtol=1e-12
    )


@pytest.mark.parametrize("name", ["", " ", "\t", "a=b", "a,b", 3, None])
def test_a_wrong_name_is_refused_and_named(name):
    with pytest.raises(LayoutError) as caught:
        BlockLayout(names=("topic", name), widths=(2, 2))
    assert repr(name) in str(caught.value)


@pytest.mark.parametrize("width", [0, -1, 2.0, "2", None, True, False])
def test_a_wrong_width_is_refused_with_the_block_and_the_value(width):
    with pytest.raises(LayoutError) as caught:
        BlockLayout.from_widths({"topic": 2, "style": width})
    assert "'style'" in str(caught.value)
    assert repr(width) in str(caught.value)
    assert "'topic'" not in str(caught.value)


def test_a_name_used_twice_is_refused():
    with pytest.raises(LayoutError, match=r"must differ.*'style', 'style'"):
        BlockLayout(names=("style", "style"), widths=(1, 2))


@pytest.mark.parametrize(("names", "widths"), [((), ()), (("a",), ()), (("a",), (1, 2))])
def test_a_layout_needs_one_width_per_block(names, widths):
    with pytest.raises(LayoutError, match="one width per block"):
        BlockLayout(names=names, widths=widths)


def test_an_unknown_block_is_refused_with_the_known_ones():
    with pytest.raises(LayoutError, match=r"no block 'tone'.*topic, style"):
        LAYOUT.slice("tone")


def test_vectors_of_another_dimension_are_refused_with_every_width():
    with pytest.raises(LayoutError, match=r"4 dimensions.*needs 5 \(topic=3, style=2\)"):
        LAYOUT.split(vectors(4))


@pytest.mark.parametrize(
    "parts",
    [
        {"topic": vectors(3)},
        {"topic": vectors(3), "style": vectors(2), "tone": vectors(1)},
        {"topic": vectors(2), "style": vectors(3)},
    ],
    ids=["missing", "unknown", "wrong widths"],
)
def test_parts_that_do_not_fit_are_not_joined(parts):
    with pytest.raises(LayoutError, match=r"topic"):
        LAYOUT.join(parts)
