"""Vectors by row over an array that is never written: a list of vectors, whatever is changed."""

from pathlib import Path

import numpy as np
import pytest
from engine_world import unit_vectors
from hypothesis import given
from hypothesis import strategies as st

from subspace.retrieval.engines import vector_rows
from subspace.retrieval.engines.vector_rows import VectorRows


def assert_holds(rows: VectorRows, wanted: list[np.ndarray], data: st.DataObject) -> None:
    """In every way in which vectors are read."""
    array = np.array(wanted, dtype=rows.dtype).reshape(len(wanted), 10)
    assert len(rows) == len(wanted)
    np.testing.assert_array_equal(rows.whole(), array)
    pieces = np.concatenate(list(rows.pieces()))
    np.testing.assert_array_equal(pieces if rows.places is None else pieces[rows.places], array)
    some = data.draw(st.lists(st.integers(0, max(0, len(wanted) - 1)), max_size=9 if wanted else 0))
    np.testing.assert_array_equal(rows.take(np.array(some, dtype=np.int64)), array[some])
    first, last = sorted(data.draw(st.tuples(*[st.integers(0, len(wanted))] * 2)))
    for chosen in (np.arange(first, last), np.unique(some).astype(np.int64)):
        np.testing.assert_array_equal(rows.read(chosen), array[chosen])


@given(data=st.data(), unused=st.sampled_from([2, 1000]), dtype=st.sampled_from(["f4", "f2"]))
def test_after_any_changes_the_rows_are_those_of_a_list(data, unused, dtype):
    count = data.draw(st.integers(0, 8))
    fixed = unit_vectors(count).astype(dtype)
    fixed.flags.writeable = False
    rows, wanted = VectorRows(fixed), list(fixed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(vector_rows, "_UNUSED", unused)
        for step in range(data.draw(st.integers(0, 8))):
            kind = data.draw(st.sampled_from(["append", "replace", "delete"]))
            if kind == "append":
                new = unit_vectors(data.draw(st.integers(1, 4)), seed=step + 1).astype(dtype)
                rows.append(new)
                wanted += list(new)
            elif wanted:
                drawn = data.draw(st.sets(st.integers(0, len(wanted) - 1), min_size=1))
                some = np.array(sorted(drawn))
                new = unit_vectors(len(some), seed=step + 1).astype(dtype)
                if kind == "replace":
                    rows.replace(some, new)
                    for row, vector in zip(some, new, strict=True):
                        wanted[row] = vector
                else:
                    rows.delete(some)
                    wanted = [vector for row, vector in enumerate(wanted) if row not in drawn]
            assert_holds(rows, wanted, data)
    np.testing.assert_array_equal(fixed, unit_vectors(count).astype(dtype))


def test_a_change_of_a_mapped_file_copies_what_was_changed_and_not_the_file(tmp_path: Path):
    np.save(tmp_path / "v.npy", unit_vectors(5000))
    rows = VectorRows(np.load(tmp_path / "v.npy", mmap_mode="r"))
    assert rows.is_mapped
    rows.append(unit_vectors(3, seed=1))
    rows.replace(np.array([7, 5001]), unit_vectors(2, seed=2))
    rows.delete(np.array([0, 5002]))
    fixed, added = rows.pieces()
    assert isinstance(fixed, np.memmap) and len(fixed) == 5000
    assert len(added) == 4  # three that were added, one in the place of row 7
    assert len(rows) == 5001


def test_once_most_rows_are_gone_what_is_left_is_moved_together():
    rows = VectorRows(unit_vectors(4000))
    rows.delete(np.arange(1000))
    assert rows.places is not None
    rows.delete(np.arange(1500))
    assert rows.places is None
    assert sum(map(len, rows.pieces())) == 1500
    np.testing.assert_array_equal(rows.whole(), unit_vectors(4000)[2500:])
