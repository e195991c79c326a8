"""What is stored is never computed again, never lost, and never used if damaged."""

import multiprocessing
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from subspace.encoder import EncoderSpec
from subspace.encoder.cached_encoder import CachedEncoder
from subspace.encoder.embedding_store import EmbeddingStore, StoreDtype
from subspace.errors import StoreError

DIM = 5


def open_store(root: Path, dim: int = DIM, dtype: StoreDtype | None = None) -> EmbeddingStore:
    return EmbeddingStore.open(
        root, digest="d" * 64, fingerprint={"model": "test"}, dim=dim, dtype=dtype
    )


def vectors_for(texts: list[str]) -> np.ndarray:
    """A vector that says which text it belongs to."""
    rows = [np.random.default_rng(list(text.encode())).normal(size=DIM) for text in texts]
    return np.array(rows, dtype=np.float32).reshape(-1, DIM)


def numbered(start: int, stop: int) -> list[str]:
    return [f"text {number}" for number in range(start, stop)]


def test_what_is_stored_is_found_and_what_is_not_is_minus_one(tmp_path):
    store = open_store(tmp_path)
    texts = numbered(0, 50)
    store.append(texts, vectors_for(texts))
    rows = open_store(tmp_path).find([*reversed(texts), "other"])
    assert rows[-1] == -1
    np.testing.assert_array_equal(store.read(rows[:-1]), vectors_for(texts)[::-1])


def test_reading_is_memory_mapped_and_read_only(tmp_path):
    store = open_store(tmp_path)
    store.append(["a"], vectors_for(["a"]))
    store.find(["a"])
    assert isinstance(store.vectors, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        store.vectors[0] = 0


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(batches=st.lists(st.lists(st.text(max_size=3), max_size=5), max_size=6))
def test_a_store_is_a_dictionary(batches, tmp_path_factory):
    root = tmp_path_factory.mktemp("store")
    known: dict[str, np.ndarray] = {}
    for texts in batches:
        fresh = vectors_for(texts) + len(known)
        open_store(root).append(texts, fresh)
        known.update(zip(texts, fresh, strict=True))
    store = open_store(root)
    rows = store.find([*known, "not stored"])
    assert rows[-1] == -1
    for row, vector in zip(rows, known.values(), strict=False):
        np.testing.assert_array_equal(store.read(np.array([row]))[0], vector)


@pytest.mark.parametrize("name", ["vectors.f32", "rows.bin"])
@pytest.mark.parametrize("lost", [1, 7, 25])
def test_a_torn_tail_loses_the_last_batch_alone(tmp_path, name, lost):
    store = open_store(tmp_path)
    first, last = numbered(0, 10), numbered(10, 11)
    store.append(first, vectors_for(first))
    kept = {file.name: file.stat().st_size for file in store.folder.glob("*.*")}
    store.append(last, vectors_for(last))
    file = store.folder / name
    os.truncate(file, max(kept[name], file.stat().st_size - lost))

    again = open_store(tmp_path)
    assert again.find(last)[0] == -1
    assert (again.find(first) >= 0).all()
    again.append(last, vectors_for(last))
    assert np.array_equal(again.read(again.find(first + last)), vectors_for(first + last))


def test_a_flipped_bit_is_noticed_named_and_not_used(tmp_path, caplog):
    store = open_store(tmp_path)
    texts = numbered(0, 10)
    store.append(texts, vectors_for(texts))
    path = store.folder / "vectors.f32"
    data = bytearray(path.read_bytes())
    data[3 * 4 * DIM] ^= 1
    path.write_bytes(data)

    damaged = open_store(tmp_path)
    rows = damaged.find(texts)
    assert np.flatnonzero(rows < 0).tolist() == [3]
    assert str(path) in caplog.text
    assert "row 3" in caplog.text
    damaged.append(texts[3:4], vectors_for(texts[3:4]))
    np.testing.assert_array_equal(damaged.read(damaged.find(texts)), vectors_for(texts))


def test_another_dimension_or_fingerprint_is_refused(tmp_path):
    open_store(tmp_path)
    with pytest.raises(StoreError, match="describes other vectors"):
        open_store(tmp_path, dim=DIM + 1)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_vectors_that_are_not_finite_are_refused_and_nothing_is_written(tmp_path, value):
    store = open_store(tmp_path)
    with pytest.raises(StoreError, match="finite"):
        store.append(["a"], np.full((1, DIM), value, dtype=np.float32))
    assert len(store) == 0


def test_a_place_that_cannot_be_a_folder_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot be opened"):
        open_store(tmp_path / "file")


def test_a_manifest_that_is_no_json_is_named(tmp_path):
    folder = open_store(tmp_path).folder
    (folder / "manifest.json").write_text("{")
    with pytest.raises(StoreError, match="cannot be opened"):
        open_store(tmp_path)


def append_many(root: Path, start: int) -> None:
    store = open_store(root)
    for batch in range(start, start + 60, 3):
        texts = numbered(batch, batch + 3)
        store.append(texts, vectors_for(texts))


def test_threads_may_share_one_store(tmp_path):
    store = open_store(tmp_path)

    def work(number: int) -> None:
        for start in range(1000 * number, 1000 * number + 60, 3):
            texts = numbered(start, start + 3)
            store.append(texts, vectors_for(texts))
            np.testing.assert_array_equal(store.read(store.find(texts)), vectors_for(texts))
            np.testing.assert_array_equal(store.fetch(texts), vectors_for(texts))

    with ThreadPoolExecutor(6) as threads:
        for done in [threads.submit(work, number) for number in range(6)]:
            done.result()
    assert len(store) == 360


def test_two_processes_may_append_to_one_store(tmp_path):
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=append_many, args=(tmp_path, start)) for start in (0, 60)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
        assert worker.exitcode == 0
    store = open_store(tmp_path)
    texts = numbered(0, 120)
    np.testing.assert_array_equal(store.read(store.find(texts)), vectors_for(texts))


ENCODE = """
import os, random, signal, sys, time
from subspace.encoder.cached_encoder import CachedEncoder
from subspace.encoder.embedding_store import EmbeddingStore
from subspace.encoder import EncoderSpec

texts = [f"a text with the number {number}" for number in range(4000)]
spec = EncoderSpec(model=sys.argv[1], batch_tokens=100)
encoder = CachedEncoder.open(spec, root=sys.argv[2])
encoder.encoder.encode(["loads the model"])
random.seed(0)
for _ in range(20):
    before = len(encoder.store)
    child = os.fork()
    if not child:
        store = EmbeddingStore(encoder.store.folder, dim=encoder.store.dim)
        CachedEncoder(encoder.encoder, store).rows(texts)
        os._exit(0)
    while len(encoder.store) == before:  # until it is in the middle of its work
        time.sleep(0.0005)
    time.sleep(0.02 * random.random())
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    print(os.waitstatus_to_exitcode(status), len(encoder.store), flush=True)
"""


@pytest.mark.slow
def test_a_run_killed_at_any_moment_goes_on_and_ends_like_an_uninterrupted_one(tiny_qwen, tmp_path):
    # One thread: those of a pool do not survive a fork.
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    done = subprocess.run(
        [sys.executable, "-c", ENCODE, tiny_qwen, tmp_path / "killed"],
        check=True,
        capture_output=True,
        text=True,
        timeout=120,
        env=environment,
    )
    codes, counts = np.array([line.split() for line in done.stdout.splitlines()], dtype=int).T
    assert (codes == -9).all(), "all were killed at work"
    assert (np.diff(counts) >= 0).all(), "nothing that was stored is lost"
    assert 0 < counts[-1] < 4000

    texts = [f"a text with the number {number}" for number in range(4000)]
    spec = EncoderSpec(model=str(tiny_qwen), batch_tokens=100)
    resumed = CachedEncoder.open(spec, root=tmp_path / "killed")
    whole = CachedEncoder.open(spec, root=tmp_path / "whole")
    np.testing.assert_allclose(resumed.encode(texts), whole.encode(texts), atol=1e-5)
    assert len(resumed.store) == len(texts), "every vector is there once"


def test_what_is_stored_never_loads_the_model(tiny_qwen, tmp_path):
    spec = EncoderSpec(model=str(tiny_qwen))
    first = CachedEncoder.open(spec, root=tmp_path)
    vectors = first.encode(["a", "b", "a"])
    again = CachedEncoder.open(spec, root=tmp_path)
    np.testing.assert_array_equal(again.encode(["b", "a", "a"]), vectors[[1, 0, 0]])
    assert "_torch" in vars(first.encoder)
    assert "_torch" not in vars(again.encoder)
    assert len(again.store) == 2, "equal texts are stored once"


def test_a_query_and_a_document_with_the_same_text_are_two_entries(tiny_qwen, tmp_path):
    encoder = CachedEncoder.open(EncoderSpec(model=str(tiny_qwen)), root=tmp_path)
    assert encoder.rows(["a dog"]) != encoder.rows(["a dog"], kind="query")


def test_reading_a_text_that_is_not_stored_is_refused(tmp_path):
    """-1 would be the last row, which is another text's."""
    store = open_store(tmp_path)
    store.append(["here"], vectors_for(["here"]))
    with pytest.raises(StoreError, match="1 of 2 texts are not stored"):
        store.read(store.find(["here", "there"]))


def test_half_a_store_keeps_three_digits(tmp_path, caplog):
    store = open_store(tmp_path, dtype="float16")
    texts = numbered(0, 1000)
    store.append(texts, vectors_for(texts))
    again = open_store(tmp_path)  # a store is taken as it is
    found, exact = again.read(again.find(texts)), vectors_for(texts)
    assert again.vectors.nbytes * 2 == exact.nbytes
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, again.vectors[again.find(texts)])
    np.testing.assert_array_equal(found, again.fetch(texts))
    np.testing.assert_allclose(found, exact, rtol=2**-11, atol=2**-25)
    assert (found != exact).any()

    path = store.folder / "vectors.f16"
    data = bytearray(path.read_bytes())
    data[3 * 2 * DIM] ^= 1
    path.write_bytes(data)
    assert np.flatnonzero(open_store(tmp_path).find(texts) < 0).tolist() == [3]
    assert str(path) in caplog.text


def test_the_other_dtype_is_refused_by_name(tmp_path):
    open_store(tmp_path / "half", dtype="float16")
    open_store(tmp_path / "whole")
    with pytest.raises(StoreError, match="keeps float16, not float32"):
        open_store(tmp_path / "half", dtype="float32")
    with pytest.raises(StoreError, match="keeps float32, not float16"):
        open_store(tmp_path / "whole", dtype="float16")


def test_what_float16_cannot_hold_is_refused(tmp_path):
    store = open_store(tmp_path, dtype="float16")
    store.append(["a"], np.full((1, DIM), 65504, dtype=np.float32))
    with pytest.raises(StoreError, match="finite in float16"):
        store.append(["b"], np.full((1, DIM), 65536, dtype=np.float32))
    assert len(store) == 1


def test_an_encoder_may_keep_its_vectors_in_half_the_bytes(tiny_qwen, tmp_path):
    spec, texts = EncoderSpec(model=str(tiny_qwen)), ["a", "bc", "def"]
    whole = CachedEncoder.open(spec, root=tmp_path / "whole").encode(texts)
    half = CachedEncoder.open(spec, root=tmp_path / "half", dtype="float16").encode(texts)
    np.testing.assert_allclose(half, whole, rtol=2**-10, atol=1e-6)
    assert (half != whole).any()


def test_nothing_is_found_in_and_read_from_an_empty_store(tmp_path):
    store = open_store(tmp_path)
    assert store.find(["a"]).tolist() == [-1]
    assert store.find([]).shape == (0,)
    assert store.read(store.find([])).shape == (0, DIM)
    assert store.fetch(["a"]) is None
    assert store.fetch([]).shape == (0, DIM)


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(st.integers(0, 699), max_size=900))
def test_rows_are_read_in_any_order_and_number(rows, tmp_path_factory):
    """Neighbours are read in one go, and many in steps."""
    root = tmp_path_factory.getbasetemp() / "in-any-order"
    store, texts = open_store(root), numbered(0, 700)
    if not len(store):
        store.append(texts, vectors_for(texts))
    wanted = np.array(rows + list(range(100, 400)), dtype=np.int64)
    np.testing.assert_array_equal(store.read(wanted), store.vectors[wanted])


def test_a_store_that_grows_is_seen_by_who_has_it_open(tmp_path):
    first, second = open_store(tmp_path), open_store(tmp_path)
    for batch in range(0, 40, 4):
        writer, reader = (first, second) if batch % 8 else (second, first)
        writer.append(numbered(batch, batch + 4), vectors_for(numbered(batch, batch + 4)))
        texts = numbered(0, batch + 4)
        np.testing.assert_array_equal(reader.read(reader.find(texts)), vectors_for(texts))
