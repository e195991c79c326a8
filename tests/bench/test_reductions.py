"""Fewer dimensions: scikit-learn's components, a slice, blocks cut one by one."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.decomposition import PCA

from subspace.bench.reductions import (
    divide_widths,
    fit_pca,
    fit_random,
    share_dimensions,
    truncate,
    truncate_blocks,
)
from subspace.blocks import BlockLayout, unit
from subspace.errors import ConfigError

LAYOUT = BlockLayout.from_widths({"topic": 6, "style": 3, "complexity": 11})


def make_vectors(count: int, dim: int = 12, *, seed: int = 0) -> np.ndarray:
    return unit(np.random.default_rng(seed).normal(size=(count, dim)).astype(np.float32))


@pytest.mark.parametrize("k", [1, 5, 12])
def test_pca_is_scikit_learns_fitted_on_documents_alone(k):
    documents, queries = make_vectors(40), make_vectors(7, seed=1)
    reference = PCA(n_components=k).fit(documents)
    found = fit_pca(documents, k=k)(queries)
    np.testing.assert_allclose(found, unit(reference.transform(queries)), atol=1e-5)
    assert found.dtype == np.float32


def test_as_many_components_as_documents_are_enough_for_them():
    documents = make_vectors(5)
    assert fit_pca(documents, k=5)(documents).shape == (5, 5)


def test_a_random_projection_nearly_keeps_cosines_and_is_the_same_again():
    documents = make_vectors(30, 400)
    found = fit_random(documents, k=300)(documents)
    np.testing.assert_array_equal(found, fit_random(documents, k=300)(documents))
    assert np.abs(found @ found.T - documents @ documents.T).max() < 0.3
    few = fit_random(documents, k=4)(documents)
    assert np.abs(few @ few.T - documents @ documents.T).max() > 0.5


@pytest.mark.parametrize("k", [1, 5, 12])
def test_truncation_is_a_slice_of_unit_length(k):
    x = make_vectors(9)
    wanted = [row[:k] / np.linalg.norm(row[:k]) for row in x]
    np.testing.assert_allclose(truncate(x, k=k), wanted, atol=1e-6)


def test_blocks_are_cut_one_by_one():
    z, kept = make_vectors(9, LAYOUT.dim), divide_widths(LAYOUT, by=2)
    assert kept.to_widths() == {"topic": 3, "style": 2, "complexity": 6}
    found = truncate_blocks(z, layout=LAYOUT, kept=kept)
    assert found.shape == (9, kept.dim)
    for name, block in kept.split(found).items():
        start = LAYOUT.slice(name).start
        whole = z[:, start : start + block.shape[1]]
        np.testing.assert_allclose(block, [row / np.linalg.norm(row) for row in whole], atol=1e-6)


@given(st.lists(st.integers(1, 300), min_size=1, max_size=6), st.data())
def test_dimensions_are_shared_out_by_width(widths, data):
    layout = BlockLayout(tuple(f"b{n}" for n in range(len(widths))), tuple(widths))
    k = data.draw(st.integers(len(widths), sum(widths)))
    kept = share_dimensions(layout, k=k)
    assert kept.dim == k
    assert all(1 <= part <= width for part, width in zip(kept.widths, widths, strict=True))
    for part, width in zip(kept.widths, widths, strict=True):
        share = 1 + (width - 1) * (k - len(widths)) / max(1, sum(widths) - len(widths))
        assert abs(part - share) < 1 + 1e-6


@pytest.mark.parametrize("k", [0, 2, 21])
def test_what_cannot_be_shared_out_is_refused(k):
    with pytest.raises(ConfigError, match="give 3 to 20"):
        share_dimensions(LAYOUT, k=k)
