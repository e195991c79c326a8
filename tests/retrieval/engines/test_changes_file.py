"""The file that an index's changes are appended to: each save is there as a whole or not at all."""

import os
import resource
import zlib
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
from engine_world import make_records, unit_vectors
from hypothesis import given
from hypothesis import strategies as st

from subspace.data.records import Record
from subspace.retrieval.engines.changes_file import (
    Change,
    ChangesError,
    Kind,
    Position,
    append,
    collapse,
    decode,
    encode,
    read,
)

KIND = Kind("float32", 10)
VECTORS = unit_vectors(9)
SAVES = (
    [
        Change(
            "d0", Record("d0", "two\nlines, ß 世界 \u2028", metadata={"n": [1, None]}), VECTORS[0]
        )
    ],
    [Change("d0"), Change("d1", Record("d1", "a text"), VECTORS[1]), Change("gone")],
    [Change("d2", Record("d2", "the last"), VECTORS[2])],
)


def content_of(*saves: list[Change]) -> tuple[bytes, list[Position]]:
    """The file after all of the saves, and where each of them ends, from none on."""
    content, ends = b"", [Position()]
    for save in saves:
        lines, end = encode(save, at=ends[-1])
        content, ends = content + lines, [*ends, end]
    return content, ends


def as_values(changes: list[Change]) -> list:
    return [(c.id, c.document, None if c.vector is None else c.vector.tobytes()) for c in changes]


def assert_reads(content: bytes, *saves: list[Change]) -> None:
    """These saves, whole, and nothing else."""
    changes, end = decode(content, at=Position(), kind=KIND)
    assert as_values(changes) == as_values(list(chain(*saves)))
    assert end == content_of(*saves)[1][-1]


def line(text: str, *, after: int = 0) -> bytes:
    return f"{zlib.crc32(text.encode(), after):08x} {text}\n".encode()


texts = st.text(
    st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=9
)
values = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | texts
kinds = st.sampled_from(["float32", "float16"])


@st.composite
def changes_of(draw, dtype: str) -> Change:
    name = draw(texts)
    if draw(st.booleans()):
        return Change(name)
    vector = VECTORS[draw(st.integers(0, 8))].astype(dtype)
    return Change(
        name, Record(name, draw(texts), metadata=draw(st.dictionaries(texts, values))), vector
    )


@given(data=st.data(), dtype=kinds)
def test_what_is_saved_is_read_from_the_beginning_and_from_every_save_on(data, dtype):
    saves = data.draw(st.lists(st.lists(changes_of(dtype), min_size=1, max_size=3), max_size=4))
    content, ends = content_of(*saves)
    for number, end in enumerate(ends):
        found, position = decode(content[end.offset :], at=end, kind=Kind(dtype, 10))
        assert as_values(found) == as_values(list(chain(*saves[number:])))
        assert position == ends[-1]
        for change in found:
            assert change.vector is None or change.vector.dtype == dtype


def test_positions_count_bytes_lines_and_changes():
    content, ends = content_of(*SAVES)
    assert [end.changes for end in ends] == [0, 1, 4, 5]
    assert [end.lines for end in ends] == [0, 2, 6, 8]
    assert ends[-1].offset == len(content)


def test_a_file_that_is_cut_anywhere_has_the_saves_that_are_whole():
    content, ends = content_of(*SAVES)
    for length in range(len(content) + 1):
        whole = sum(end.offset <= length for end in ends) - 1
        assert_reads(content[:length], *SAVES[:whole])


def test_a_flipped_bit_is_said_wherever_it_is():
    content, _ = content_of(*SAVES)
    for position in range(len(content)):
        for bit in range(8):
            flipped = bytearray(content)
            flipped[position] ^= 1 << bit
            with pytest.raises(ChangesError, match=r"^\d+ is not as it was written"):
                decode(bytes(flipped), at=Position(), kind=KIND)


def test_a_changed_line_is_said_by_its_number():
    content, ends = content_of(*SAVES)
    lines = content.split(b"\n")
    lines[6] = lines[6].replace(b"the last", b"the best")
    for at in (ends[0], ends[2]):
        with pytest.raises(ChangesError, match=r"^7 is not as it was written"):
            decode(b"\n".join(lines)[at.offset :], at=at, kind=KIND)


def test_lines_that_are_missing_moved_or_twice_are_said():
    """Each is valid where it was written."""
    content, _ = content_of(*SAVES)
    lines = content.splitlines(keepends=True)
    wrong = [lines[:n] + lines[n + 1 :] for n in range(len(lines) - 1)]
    wrong += [[*lines[:n], lines[n], *lines[n:]] for n in range(len(lines))]
    wrong += [[*lines[:n], lines[n + 1], lines[n], *lines[n + 2 :]] for n in range(len(lines) - 1)]
    for some in wrong:
        with pytest.raises(ChangesError):
            decode(b"".join(some), at=Position(), kind=KIND)


# After a power failure.


def test_zeros_in_the_last_save_are_a_save_that_never_got_to_the_disk():
    content, ends = content_of(*SAVES)
    begin = ends[2].offset
    for start in range(begin, len(content) - 9):
        for stop in (start + 9, len(content)):
            assert_reads(content[:start] + bytes(stop - start) + content[stop:], *SAVES[:2])
    assert_reads(content + bytes(5000), *SAVES)


@pytest.mark.parametrize("zeros", range(1, 9))
def test_a_page_that_was_lost_may_end_or_begin_anywhere_in_the_last_save(zeros):
    """Counter-check: in the midst of a page, so few zeros are damage."""
    content, ends = content_of(*SAVES)
    begin = ends[2].offset
    assert_reads(content[:begin] + bytes(zeros) + content[begin + zeros :], *SAVES[:2])
    assert_reads(content[:-zeros] + bytes(zeros), *SAVES[:2])
    if zeros < 8:
        middle = content[: begin + 5] + bytes(zeros) + content[begin + 5 + zeros :]
        with pytest.raises(ChangesError):
            decode(middle, at=Position(), kind=KIND)
    earlier = ends[1].offset
    with pytest.raises(ChangesError):
        decode(
            content[:earlier] + bytes(zeros) + content[earlier + zeros :], at=Position(), kind=KIND
        )


def test_zeros_before_a_later_save_are_damage():
    """The counter-check: that one was written when these were on disk."""
    content, ends = content_of(*SAVES)
    for start in range(ends[2].offset - 9):
        with pytest.raises(ChangesError):
            decode(content[:start] + bytes(9) + content[start + 9 :], at=Position(), kind=KIND)


# The file.


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "changes.jsonl").touch()
    return tmp_path / "changes.jsonl"


@pytest.mark.parametrize("left", [b"", b"12345678 {", bytes(7000), b"\n\n", content_of(*SAVES)[0]])
def test_a_save_takes_the_place_of_what_a_killed_writer_left(left, path):
    """Whatever it is, also if it is longer than the save."""
    first = append(path, SAVES[0], at=Position())
    with path.open("ab") as stream:
        stream.write(left)
    last = append(path, SAVES[1], at=first)
    changes, end, size = read(path, at=Position(), kind=KIND)
    assert as_values(changes) == as_values(SAVES[0] + SAVES[1])
    assert end == last and size == last.offset == path.stat().st_size


def test_a_save_that_a_full_disk_stops_is_not_there_and_the_next_one_is_whole(path):
    first = append(path, SAVES[0], at=Position())
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    needed = len(encode(SAVES[1], at=first)[0])
    for room in range(needed):
        resource.setrlimit(resource.RLIMIT_FSIZE, (first.offset + room, before[1]))
        try:
            with pytest.raises(OSError):
                append(path, SAVES[1], at=first)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        changes, end, size = read(path, at=Position(), kind=KIND)
        assert as_values(changes) == as_values(SAVES[0])
        assert end == first and size >= end.offset
    append(path, SAVES[1], at=first)
    assert as_values(read(path, at=first, kind=KIND)[0]) == as_values(SAVES[1])


def test_a_file_that_became_shorter_is_said(path):
    end = append(path, SAVES[0], at=Position())
    os.truncate(path, end.offset - 1)
    with pytest.raises(ChangesError, match=rf"{path.name} has {end.offset - 1} bytes"):
        read(path, at=end, kind=KIND)


def test_damage_is_said_with_the_name_of_the_file_and_the_line(path):
    path.write_bytes(content_of(*SAVES)[0].replace(b"a text", b"a test"))
    with pytest.raises(ChangesError, match=f"^{path.name}:4 is not"):
        read(path, at=Position(), kind=KIND)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1",
        "[]",
        "{}",
        "[" * 100_000,
        '{"id": 1}',
        '{"id": "a", "vector": ""}',
        '{"id": "a", "text": "b", "vector": ""}',
        '{"id": "a", "text": "b", "vector": "?"}',
        '{"id": "a", "text": "b", "vector": 1}',
        '{"id": "a", "text": "b", "metadata": 1, "vector": "' + "A" * 54 + '=="}',
        '{"id": "a", "vector": "' + "A" * 54 + '=="}',
        '{"saved": 1, "from": 0}',
        '{"saved": 0, "from": 7}',
    ],
)
def test_what_is_no_change_is_refused_though_its_sum_is_right(text):
    with pytest.raises(ChangesError, match=r"^1 is no change"):
        decode(line(text), at=Position(), kind=KIND)


# Many changes at once.


@given(
    start=st.lists(st.sampled_from("abcdef"), unique=True),
    steps=st.lists(st.tuples(st.sampled_from("abcdef"), st.booleans()), max_size=12),
)
def test_changes_made_at_once_give_what_they_give_one_after_the_other(start, steps):
    record = make_records(1)[0]
    one = dict.fromkeys(start, -1)
    changes = []
    for number, (name, adds) in enumerate(steps):
        changes.append(Change(name, record, np.array([number])) if adds else Change(name))
        if adds:
            one[name] = number
        else:
            one.pop(name, None)
    once = dict.fromkeys(start, -1)
    removed, added = collapse(changes)
    for name in removed:
        once.pop(name, None)
    once.update((change.id, int(change.vector[0])) for change in added)
    assert list(once.items()) == list(one.items())
