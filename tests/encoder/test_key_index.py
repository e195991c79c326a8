"""The last row with a key is found, however the index has grown."""

import hashlib

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from subspace.encoder.key_index import KeyIndex, hash_texts

KEYS = st.lists(st.integers(0, 2**64 - 1) | st.integers(0, 5), max_size=8)


@given(parts=st.lists(KEYS, max_size=5), others=KEYS)
def test_an_index_is_a_dictionary_from_key_to_last_row(parts, others):
    index, known = KeyIndex(), {}
    for part in parts:
        known.update({key: len(index) + place for place, key in enumerate(part)})
        index.extend(np.array(part, dtype=np.uint64))
    assert len(index) == sum(map(len, parts))
    asked = [*known, *others]
    found = index.find(np.array(asked, dtype=np.uint64))
    assert found.tolist() == [known.get(key, -1) for key in asked]


def test_keys_are_the_first_half_of_the_sha256():
    first, second = hash_texts(["a", "ü"])[1]
    digest = hashlib.sha256("ü".encode()).digest()
    assert int(first).to_bytes(8, "big") + int(second).to_bytes(8, "big") == digest[:16]


def test_no_texts_have_no_keys():
    assert hash_texts([]).shape == (0, 2)
