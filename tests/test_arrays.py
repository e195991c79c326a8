"""A file of an array is read as it was written, or refused."""

import contextlib

import numpy as np
import pytest

from subspace.arrays import map_array


def test_an_array_is_read_as_it_was_written(tmp_path):
    written = np.arange(6, dtype=np.float32).reshape(2, 3)
    np.save(tmp_path / "a.npy", written)
    np.testing.assert_array_equal(map_array(tmp_path / "a.npy"), written)


@pytest.mark.parametrize("bit", range(8))
def test_a_header_with_a_flipped_bit_is_a_value_error_or_an_array(bit, tmp_path):
    path = tmp_path / "a.npy"
    np.save(path, np.arange(6, dtype=np.float32).reshape(2, 3))
    sound = path.read_bytes()
    for place in range(len(sound) - 24):
        content = bytearray(sound)
        content[place] ^= 1 << bit
        path.write_bytes(content)
        with contextlib.suppress(ValueError):
            map_array(path)


def test_an_open_bracket_in_a_header_is_said(tmp_path):
    path = tmp_path / "a.npy"
    np.save(path, np.zeros((2, 3), np.float32))
    path.write_bytes(path.read_bytes().replace(b"(2, 3)", b"((2, 3"))
    with pytest.raises(ValueError, match=r"a\.npy"):
        map_array(path)
