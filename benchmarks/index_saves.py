"""What saving, opening and following an index in a folder costs, next to writing all of it.

    OMP_NUM_THREADS=1 python benchmarks/index_saves.py --documents 100000 --dim 768

Two engines have one folder open: one adds a text and saves, the other takes it up by `refresh`.
Prints medians in milliseconds, the slowest of each, and their share of a save of the whole index in
the same run. A disk that is busy with something else makes every save wait: run it alone.
"""

import argparse
import os
import shutil
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from subspace.blocks import BlockLayout
from subspace.data.records import Record
from subspace.retrieval.engines import create_engine, open_engine
from subspace.retrieval.engines.folder_engine import most_changes
from subspace.retrieval.engines.numpy_engine import NumpyEngine

DIGEST = "0" * 64


def timed(call: Callable[[], object]) -> float:
    """Returns how long a call takes, in milliseconds."""
    start = time.perf_counter()
    call()
    return 1000 * (time.perf_counter() - start)


def records(count: int, *, first: int = 0) -> list[Record]:
    text = "A skill that helps with one thing, described in a sentence or two. " * 4
    return [
        Record(id=f"skill-{n}", text=f"{text}{n}", metadata={"n": n})
        for n in range(first, first + count)
    ]


def vectors(count: int, dim: int, *, seed: int = 0) -> np.ndarray:
    drawn = np.random.default_rng(seed).normal(size=(count, dim)).astype(np.float32)
    drawn /= np.linalg.norm(drawn, axis=1, keepdims=True)
    return drawn


def measure(
    folder: Path, *, documents: int, dim: int, times: int, engine: str
) -> dict[str, list[float]]:
    """Returns milliseconds by what was done."""
    layout = BlockLayout.from_widths({"topic": dim // 2, "style": dim - dim // 2})
    made = create_engine(folder, layout=layout, projection_digest=DIGEST, engine=engine)
    made.upsert(records(documents), vectors(documents, dim))
    found = {"save of the whole index": [timed(made.save)]}
    del made

    def opened() -> NumpyEngine:
        one = open_engine(folder)
        assert isinstance(one, NumpyEngine)
        return one

    found["open"] = [timed(opened) for _ in range(3)]
    one, other = opened(), opened()
    new = vectors(2 * times + 2, dim, seed=1)
    number = iter(range(len(new)))

    def add() -> None:
        n = next(number)
        one.upsert(records(1, first=documents + n), new[n : n + 1])

    def add_and_save() -> None:
        add()
        one.save()

    found["search"] = [timed(partial(other.search, new[n : n + 1], k=10)) for n in range(times)]
    found["first add and save"] = [timed(add_and_save)]
    found["first refresh"] = [timed(other.refresh)]
    found["add and save"], found["refresh with one change"] = [], []
    found["refresh without a change"], found["search after changes"] = [], []
    for n in range(times):
        found["add and save"].append(timed(add_and_save))
        found["refresh with one change"].append(timed(other.refresh))
        found["refresh without a change"].append(timed(other.refresh))
        found["search after changes"].append(timed(partial(other.search, new[n : n + 1], k=10)))
    assert other.count() == one.count() == documents + times + 1
    with (folder.parent / "probe").open("wb", buffering=0) as stream:

        def sync() -> None:
            stream.write(bytes(5000))
            os.fsync(stream.fileno())

        found["5 kB appended to a file and synced, nothing else"] = [
            timed(sync) for _ in range(times)
        ]

    def remove(name: str) -> None:
        one.delete([name])
        one.save()

    found["delete and save"] = []
    for n in range(times):
        found["delete and save"].append(timed(partial(remove, f"skill-{n}")))
    found["refresh with many changes"] = [timed(other.refresh)]
    assert other.count() == one.count()
    many = most_changes(documents) - 2 * times - 10
    if many > 0 and engine == "numpy":
        one.upsert(records(many, first=3 * documents), vectors(many, dim, seed=2))
        found[f"save of {many:,} added at once"] = [timed(one.save)]
        found["open with the most changes that are kept"] = [timed(opened) for _ in range(3)]
        one.upsert(
            records(20 + 2 * times, first=9 * documents), vectors(20 + 2 * times, dim, seed=3)
        )
        found["save that writes all again"] = [timed(one.save)]
        found["refresh after that"] = [timed(other.refresh)]
        assert other.count() == one.count()
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--documents", type=int, default=100_000)
    parser.add_argument("--dim", type=int, default=768)
    parser.add_argument("--times", type=int, default=50)
    parser.add_argument("--engine", choices=["numpy", "faiss"], default="numpy")
    parser.add_argument("--output", type=Path, default=Path("runs/index_saves"))
    arguments = parser.parse_args()
    shutil.rmtree(arguments.output, ignore_errors=True)
    found = measure(
        arguments.output / "index",
        documents=arguments.documents,
        dim=arguments.dim,
        times=arguments.times,
        engine=arguments.engine,
    )
    whole = found["save of the whole index"][0]
    print("| what | median, ms | slowest, ms | of a whole save |")
    print("|---|---|---|---|")
    for name, spent in found.items():
        median = statistics.median(spent)
        print(f"| {name} | {median:,.3f} | {max(spent):,.3f} | {median / whole:.5f} |")
    shutil.rmtree(arguments.output)


if __name__ == "__main__":
    main()
