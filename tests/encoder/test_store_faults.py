"""A store that is killed, cut short, flipped, shared or refused by the disk never gives a wrong
vector, and goes on."""

import contextlib
import ctypes
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from subspace.encoder.embedding_store import EmbeddingStore
from subspace.encoder.store_entries import checksums
from subspace.errors import StoreError

DIM = 5
FILES = ["vectors.f32", "rows.bin"]


def open_store(root: Path, dim: int = DIM) -> EmbeddingStore:
    return EmbeddingStore.open(root, digest="d" * 64, fingerprint={"model": "test"}, dim=dim)


def numbered(start: int, stop: int) -> list[str]:
    return [f"text {number}" for number in range(start, stop)]


def vectors_for(texts: list[str], dim: int = DIM) -> np.ndarray:
    """A vector that says which text it belongs to."""
    numbers = np.array([int(text.split()[1]) for text in texts], dtype=np.float32)
    return (1 + numbers[:, None]) * np.linspace(1, 2, dim, dtype=np.float32)


def filled(root: Path, count: int, *, sealed: bool = True) -> EmbeddingStore:
    """A store of so many texts; without checksums it is one of an earlier version."""
    store = open_store(root)
    store.append(numbered(0, count), vectors_for(numbered(0, count)))
    if not sealed:
        entries = np.fromfile(store.folder / "rows.bin", dtype="<u4").reshape(-1, 6)
        entries[:, 5] = 0
        entries.tofile(store.folder / "rows.bin")
    return open_store(root)


def assert_right_or_missing(store: EmbeddingStore, texts: list[str]) -> np.ndarray:
    """The texts' rows; those that are found hold their vectors."""
    rows = store.find(texts)
    found = np.flatnonzero(rows >= 0)
    wanted = vectors_for(texts)[found]
    np.testing.assert_array_equal(store.read(rows[found]), wanted)
    np.testing.assert_array_equal(store.vectors[rows[found]], wanted)
    fetched = EmbeddingStore(store.folder, dim=DIM).fetch(texts)
    assert fetched is not None or (rows < 0).any()
    if fetched is not None:
        np.testing.assert_array_equal(fetched, vectors_for(texts))
    return rows


def assert_goes_on(root: Path, count: int) -> None:
    """What is missing can be stored again, and then everything is there."""
    store, texts = open_store(root), numbered(0, count)
    missing = [t for t, row in zip(texts, store.find(texts), strict=True) if row < 0]
    store.append(missing, vectors_for(missing))
    for again in (store, open_store(root)):
        assert (assert_right_or_missing(again, texts) >= 0).all()


# Disk and rights.


@contextlib.contextmanager
def largest_file(size: int) -> Iterator[None]:
    """No file of this process may grow beyond `size` bytes: like a full disk, for one process."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


# Of 20 rows 480 bytes are entries: of five dimensions 400 are vectors, of nine 720.
@pytest.mark.parametrize(("dim", "size"), [(5, 300), (5, 450), (9, 500)])
def test_a_full_disk_is_one_sentence_and_loses_nothing(tmp_path, dim, size):
    store, texts = open_store(tmp_path, dim), numbered(0, 20)
    store.append(texts[:10], vectors_for(texts[:10], dim))
    with (
        largest_file(size),
        pytest.raises(StoreError, match=f"cannot write to {store.folder}.*too large"),
    ):
        store.append(texts[10:], vectors_for(texts[10:], dim))
    for again in (store, open_store(tmp_path, dim)):
        rows = again.find(texts)
        assert (rows[:10] >= 0).all()
        kept = [text for text, row in zip(texts, rows, strict=True) if row >= 0]
        np.testing.assert_array_equal(again.read(rows[rows >= 0]), vectors_for(kept, dim))
    store.append(texts[10:], vectors_for(texts[10:], dim))
    np.testing.assert_array_equal(store.read(store.find(texts)), vectors_for(texts, dim))


@contextlib.contextmanager
def without_override() -> Iterator[None]:
    """Modes of files count for root, too: its right to override them is laid down (Linux)."""
    if os.geteuid() != 0:
        yield
        return
    library = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    rights = (ctypes.c_uint32 * 6)()  # twice: effective, permitted, inheritable
    assert library.capget(header, rights) == 0
    before = rights[0]
    rights[0] = before & ~0b110  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
    assert library.capset(header, rights) == 0
    try:
        yield
    finally:
        rights[0] = before
        assert library.capset(header, rights) == 0


def test_a_read_only_store_is_read_and_says_that_it_cannot_be_written(tmp_path):
    store = filled(tmp_path, 10)
    for path in (*store.folder.iterdir(), store.folder):
        path.chmod(0o555 if path.is_dir() else 0o444)
    with without_override():
        again = open_store(tmp_path)
        assert (assert_right_or_missing(again, numbered(0, 10)) >= 0).all()
        with pytest.raises(StoreError, match="cannot write to"):
            again.append(["text 10"], vectors_for(["text 10"]))
        assert len(again) == 10
    for path in (store.folder, *store.folder.iterdir()):
        path.chmod(0o755 if path.is_dir() else 0o644)
    assert_goes_on(tmp_path, 12)


def test_a_new_store_in_a_read_only_folder_is_one_sentence(tmp_path):
    tmp_path.chmod(0o555)
    with without_override(), pytest.raises(StoreError, match="cannot be opened"):
        open_store(tmp_path / "store")
    tmp_path.chmod(0o755)
    assert len(open_store(tmp_path / "store")) == 0


# Killed, and shared.

KILL = """
import os, random, signal, sys, time
sys.path.insert(0, sys.argv[1])
from test_store_faults import *
store, texts = open_store(Path(sys.argv[2])), numbered(0, 10_000)
random.seed(0)
for _ in range(20):
    before = len(store)
    child = os.fork()
    if not child:
        store = open_store(Path(sys.argv[2]))
        for text, row in zip(texts, store.find(texts)):
            if row < 0:
                store.append([text], vectors_for([text]))
        os._exit(0)
    while len(store) == before:  # until it is at work
        time.sleep(0.0005)
    time.sleep(0.01 * random.random())
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    print(os.waitstatus_to_exitcode(status), len(store), flush=True)
"""


def test_twenty_kills_lose_nothing_and_store_nothing_twice(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", KILL, Path(__file__).parent, tmp_path],
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    codes, counts = np.array([line.split() for line in done.stdout.splitlines()], dtype=int).T
    assert (codes == -9).all(), "all were killed at work"
    assert (np.diff(counts) >= 0).all(), "nothing that was stored is lost"
    assert 0 < counts[-1] < 10_000
    texts = numbered(0, 10_000)
    assert_right_or_missing(open_store(tmp_path), texts)
    assert_goes_on(tmp_path, 10_000)
    whole = filled(tmp_path / "whole", 10_000)
    resumed = open_store(tmp_path)
    assert len(resumed) == 10_000, "every vector is there once"
    rows, whole_rows = resumed.find(texts), whole.find(texts)
    np.testing.assert_array_equal(resumed.read(rows), whole.read(whole_rows))


WRITE = """
import sys
sys.path.insert(0, sys.argv[1])
from test_store_faults import *
store, first = open_store(Path(sys.argv[2])), int(sys.argv[3])
for start in range(first, first + 300, 3):
    store.append(numbered(start, start + 3), vectors_for(numbered(start, start + 3)))
"""


def test_a_reader_beside_two_writers_sees_whole_entries_only(tmp_path, caplog):
    arguments = [sys.executable, "-c", WRITE, str(Path(__file__).parent), str(tmp_path)]
    writers = [subprocess.Popen([*arguments, str(first)]) for first in (0, 300)]
    store, texts, seen = open_store(tmp_path), numbered(0, 600), []
    while any(writer.poll() is None for writer in writers):
        seen.append(int((assert_right_or_missing(store, texts) >= 0).sum()))
    assert [writer.returncode for writer in writers] == [0, 0]
    assert (assert_right_or_missing(store, texts) >= 0).all()
    assert seen == sorted(seen)
    assert len(set(seen)) > 1, "it read while they wrote"
    assert not caplog.text
    assert len(store) == 600


# Damaged.


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("kept", [0.0, 0.33, 0.5, 0.99])
def test_a_file_that_is_cut_short_is_named_and_the_rest_goes_on(tmp_path, caplog, name, kept):
    store = filled(tmp_path, 30)
    path = store.folder / name
    os.truncate(path, int(kept * path.stat().st_size))
    for again in (store, open_store(tmp_path)):  # one that was open, and one that was not
        rows = assert_right_or_missing(again, numbered(0, 30))
        assert (rows[: int(kept * 30)] >= 0).all()
        assert (rows[int(kept * 30) :] == -1).all()
    assert_goes_on(tmp_path, 30)
    assert str(store.folder) in caplog.text
    assert name in caplog.text
    assert "cut short" in caplog.text


def test_a_file_that_is_gone_is_named_and_made_again(tmp_path, caplog):
    (filled(tmp_path, 30).folder / "vectors.f32").unlink()
    assert (open_store(tmp_path).find(numbered(0, 30)) == -1).all()
    assert "vectors.f32 is cut short: it holds 0 of 30 rows" in caplog.text
    assert_goes_on(tmp_path, 30)


@pytest.mark.parametrize("sealed", [True, False])
@pytest.mark.parametrize("name", FILES)
def test_no_flipped_bit_gives_a_wrong_vector(tmp_path, caplog, name, sealed):
    path = filled(tmp_path, 6, sealed=sealed).folder / name
    whole = path.read_bytes()
    for bit in range(0, 8 * len(whole), 3):
        data = bytearray(whole)
        data[bit // 8] ^= 1 << bit % 8
        path.write_bytes(data)
        caplog.clear()
        rows = assert_right_or_missing(open_store(tmp_path), numbered(0, 6))
        of = bit // 8 * 6 // len(whole)
        assert (np.delete(rows, of) >= 0).all(), "the other rows are whole"
        if name == "vectors.f32":
            assert rows[of] == -1
            assert f"{path}: 1 of 6 rows are damaged (first: row {of})" in caplog.text
    assert_goes_on(tmp_path, 6)


def test_any_single_bit_has_another_seal():
    rng = np.random.default_rng(0)
    for dtype in ("<f4", "<f2"):
        for dim in (1, 2, 3, 4):
            block = rng.normal(size=(1, dim)).astype(dtype)
            keys = rng.integers(0, 2**64, size=(1, 2), dtype=np.uint64)
            bits = np.unpackbits(block.view(np.uint8))
            flipped = np.packbits(bits ^ np.eye(bits.size, dtype=np.uint8), axis=1)
            many = np.repeat(keys, bits.size, axis=0)
            assert (checksums(flipped.view(dtype), keys=many) != checksums(block, keys=keys)).all()
