"""The exact scan in half precision, and of vectors that nobody may have checked."""

from itertools import product

import numpy as np
import pytest
from engine_world import (
    ABOUT,
    LAYOUT,
    SlowScan,
    assert_finds,
    fill,
    make_engine,
    make_records,
    unit_vectors,
)

from subspace.errors import ConfigError
from subspace.retrieval.engines import NumpyEngine
from subspace.retrieval.engines.numpy_engine import widen


def test_half_precision_halves_the_memory_and_rounds_by_less_than_a_thousandth():
    vectors = unit_vectors(300)
    full, half = make_engine(vectors), make_engine(vectors, dtype="float16")
    assert half.vectors.nbytes * 2 == full.vectors.nbytes
    np.testing.assert_allclose(half.vectors, full.vectors, atol=5e-4)
    assert (half.vectors != full.vectors).any()


def test_a_search_in_half_precision_is_exact_on_the_vectors_that_are_kept():
    """More rows than are widened at once, so that the last piece is a part of one."""
    engine, scan = NumpyEngine(**ABOUT, dtype="float16"), SlowScan("float16")
    fill(engine, scan, documents=make_records(5000), vectors=unit_vectors(5000))
    assert_finds(engine, scan, unit_vectors(3, seed=1), k=10)


def test_float16_is_widened_exactly():
    every = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    finite = every[np.isfinite(every)]
    widened = widen(finite)
    assert widened.dtype == np.float32
    np.testing.assert_array_equal(widened, finite.astype(np.float32))
    np.testing.assert_array_equal(np.signbit(widened), np.signbit(finite))


@pytest.mark.parametrize("dtype", ["float64", "int8", "half", "", None])
def test_another_precision_is_refused_with_those_there_are(dtype):
    with pytest.raises(ConfigError, match="kept as float32 or float16"):
        NumpyEngine(**ABOUT, dtype=dtype)


def test_a_batch_larger_than_is_scored_at_once_is_scored_whole():
    engine, scan = NumpyEngine(**ABOUT), SlowScan()
    fill(engine, scan, documents=make_records(50), vectors=unit_vectors(50))
    assert_finds(engine, scan, unit_vectors(150, seed=1), k=3)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("asked", list(product((0.0, 1.0), repeat=len(LAYOUT))))
def test_blocks_without_a_weight_change_no_score_whichever_they_are(asked, dtype):
    """Some are not read at all; those between two that are asked for are."""
    engine, scan = NumpyEngine(**ABOUT, dtype=dtype), SlowScan(dtype)
    fill(engine, scan, documents=make_records(60), vectors=unit_vectors(60))
    more = make_records(7, first=60)
    fill(engine, scan, documents=more, vectors=unit_vectors(7, seed=2))
    weights = np.repeat(asked, LAYOUT.widths).astype(np.float32)
    assert_finds(engine, scan, unit_vectors(3, seed=1) * weights, k=5)
