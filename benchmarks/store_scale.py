"""What the embedding store costs at scale, next to bare numpy on the same bytes.

    python benchmarks/store_scale.py --folder /tmp/store_scale

Writes --count synthetic unit vectors of --dim numbers and reads them back: everything again
(`fetch`, as an encoder does that meets texts it knows) beside `np.fromfile` of the same
bytes, texts drawn at random, the key index of --keys rows, and float16. Every step runs in a
process of its own, so that its memory is its own; ratios are medians of rounds in turn. Needs
`count * dim * 4` bytes twice, and removes what it wrote.
"""

import argparse
import multiprocessing
import os
import shutil
import statistics
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np

from subspace.arrays import Vectors
from subspace.encoder.embedding_store import EmbeddingStore, StoreDtype

BATCH = 4096
PART = 100_000
AGAIN = 20_000
Row = tuple[str, str]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--folder", type=Path, required=True, help="for files; must be new")
    parser.add_argument("--count", type=int, default=1_000_000)
    parser.add_argument("--dim", type=int, default=1024)
    parser.add_argument("--keys", type=int, default=10_000_000)
    arguments = parser.parse_args()
    count, dim, folder = arguments.count, arguments.dim, arguments.folder
    if count < PART:
        parser.error(f"--count must be {PART} or more")
    folder.mkdir(parents=True)
    steps: list[Callable[[], list[Row]]] = [
        partial(write, folder / "store", count=count, dim=dim),
        partial(open_and_find, folder / "store", count=count, dim=dim),
        partial(read_again, folder / "store", count=count, dim=dim),
        partial(read_at_random, folder / "store", count=count, dim=dim),
        partial(halve, folder / "half", dim=dim),
        partial(write_keys, folder / "keys", count=arguments.keys),
        partial(open_and_find, folder / "keys", count=arguments.keys, dim=1),
    ]
    print("| what | measured |\n|---|---|")
    try:
        for step in steps:
            for what, measured in in_own_process(step):
                print(f"| {what} | {measured} |", flush=True)
    finally:
        shutil.rmtree(folder)


def in_own_process(step: Callable[[], list[Row]]) -> list[Row]:
    """Runs a step in a fresh process."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(step).result()


def open_store(root: Path, *, dim: int, dtype: StoreDtype | None = None) -> EmbeddingStore:
    return EmbeddingStore.open(
        root, digest="0" * 64, fingerprint={"model": "synthetic"}, dim=dim, dtype=dtype
    )


def texts(start: int, stop: int) -> list[str]:
    """Texts of some 130 characters."""
    return [
        f"Text number {n} is as long as a sentence, for what is hashed at every look-up is the "
        "text itself, and this one is of a usual length."
        for n in range(start, stop)
    ]


def synthetic(count: int, *, dim: int) -> Iterator[Vectors]:
    """Batches of unit vectors."""
    rng = np.random.default_rng(0)
    for start in range(0, count, BATCH):
        x = rng.standard_normal((min(BATCH, count - start), dim), dtype=np.float32)
        yield x / np.linalg.norm(x, axis=1, keepdims=True)


def memory(field: str) -> float:
    """A field of this process's memory in MiB (Linux): VmHWM is the peak, RssAnon its own."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.split(f"{field}:")[1].split()[0]) / 1024


def write(root: Path, *, count: int, dim: int) -> list[Row]:
    store = open_store(root, dim=dim)
    ours = bare = 0.0
    start = 0
    with (root / "bare").open("wb") as file:
        for x in synthetic(count, dim=dim):
            named = texts(start, start + len(x))
            begin = time.perf_counter()
            store.append(named, x)
            middle = time.perf_counter()
            x.tofile(file)
            file.flush()
            os.fsync(file.fileno())
            ours, bare = ours + middle - begin, bare + time.perf_counter() - middle
            start += len(x)
    (root / "bare").unlink()
    size = sum(file.stat().st_size for file in store.folder.iterdir())
    return [
        (f"{count:,} x {dim:,} on disk", f"{size / 1e9:.2f} GB"),
        (
            f"appended in batches of {BATCH:,}, beside `tofile` and fsync",
            f"{ours:.0f} s, {bare:.0f} s, ratio {ours / bare:.2f}",
        ),
        ("memory at most, writing", f"{memory('VmHWM'):.0f} MiB"),
    ]


def open_and_find(root: Path, *, count: int, dim: int) -> list[Row]:
    before = memory("RssAnon")
    begin = time.perf_counter()
    store = open_store(root, dim=dim)
    opened = time.perf_counter()
    held = (memory("RssAnon") - before) * 2**20 / count
    drawn = [texts(n, n + 1)[0] for n in np.random.default_rng(0).integers(0, count, PART)]
    middle = time.perf_counter()
    found = store.find(drawn)
    end = time.perf_counter()
    assert (found >= 0).all()
    return [
        (f"store of {count:,} x {dim:,} opened", f"{opened - begin:.2f} s"),
        ("its key index", f"{held:.0f} bytes per row"),
        (f"{PART:,} texts drawn at random: found and checked", f"{end - middle:.2f} s"),
        ("memory at most", f"{memory('VmHWM'):.0f} MiB"),
    ]


def read_again(root: Path, *, count: int, dim: int) -> list[Row]:
    """All vectors, part by part; each side goes first in every second part."""
    seconds: dict[str, list[float]] = {"ours": [], "numpy": []}
    sides = {"ours": _fetch, "numpy": _from_file}
    for start in range(0, count - AGAIN + 1, AGAIN):
        for name in sorted(sides, reverse=bool(start // AGAIN % 2)):
            for _ in range(2):  # the first touch of memory costs what the second does not
                store, wanted = open_store(root, dim=dim), texts(start, start + AGAIN)
                begin = time.perf_counter()
                sides[name](store, wanted, start)
                end = time.perf_counter()
            seconds[name].append(end - begin)
    ratios = [a / b for a, b in zip(seconds["ours"], seconds["numpy"], strict=True)]
    low, middle, high = statistics.quantiles(ratios, n=4)
    ours, bare = (1e3 * statistics.median(seconds[name]) for name in ("ours", "numpy"))
    return [
        (
            f"{AGAIN:,} stored texts again, beside `np.fromfile` of the same bytes",
            f"{ours:.0f} ms, {bare:.0f} ms, ratio {middle:.2f} (quartiles {low:.2f}, {high:.2f}; "
            f"{len(ratios)} parts)",
        ),
        (
            f"memory at most, {AGAIN * dim * 4 / 2**20:.0f} MiB of it the vectors",
            f"{memory('VmHWM'):.0f} MiB",
        ),
    ]


def _fetch(store: EmbeddingStore, wanted: list[str], start: int) -> None:  # noqa: ARG001
    assert store.fetch(wanted) is not None


def _from_file(store: EmbeddingStore, wanted: list[str], start: int) -> None:
    np.fromfile(
        store.folder / "vectors.f32",
        dtype=np.float32,
        count=len(wanted) * store.dim,
        offset=start * store.dim * 4,
    )


def read_at_random(root: Path, *, count: int, dim: int) -> list[Row]:
    store = open_store(root, dim=dim)
    rows = np.random.default_rng(1).integers(0, count, PART)
    mapped = store.vectors
    ours, bare = [], []
    for part in np.split(rows, 10):
        begin = time.perf_counter()
        store.read(part)
        middle = time.perf_counter()
        np.asarray(mapped[part])
        ours.append(middle - begin)
        bare.append(time.perf_counter() - middle)
    ratios = [a / b for a, b in zip(ours, bare, strict=True)]
    return [
        (
            f"{len(part):,} rows drawn at random: read, beside rows of `np.memmap`",
            f"{statistics.median(ours):.3f} s, {statistics.median(bare):.3f} s, "
            f"ratio {statistics.median(ratios):.2f}",
        )
    ]


def halve(root: Path, *, dim: int) -> list[Row]:
    x = np.concatenate(list(synthetic(20_000, dim=dim)))
    store = open_store(root, dim=dim, dtype="float16")
    store.append(texts(0, len(x)), x)
    half = store.read(store.find(texts(0, len(x))))
    cosines = (half / np.linalg.norm(half, axis=1, keepdims=True) * x).sum(axis=1)
    exact, rounded = (y[:2000].astype(np.float64) @ y.T.astype(np.float64) for y in (x, half))
    return [
        ("float16: bytes per vector", f"{2 * dim + 24:,} (float32: {4 * dim + 24:,})"),
        ("float16: cosine of a vector with itself, at least", f"1 - {1 - cosines.min():.1e}"),
        ("float16: a cosine of two vectors moves at most", f"{np.abs(exact - rounded).max():.1e}"),
    ]


def write_keys(root: Path, *, count: int) -> list[Row]:
    store = open_store(root, dim=1)
    for start in range(0, count, PART):
        size = min(PART, count - start)
        store.append(texts(start, start + size), np.ones((size, 1), dtype=np.float32))
    return []


if __name__ == "__main__":
    main()
