"""The closed form of a million vectors, next to one pass of `X.T @ X`.

    python benchmarks/closed_form_scale.py --file /tmp/vectors.f32

Writes --count synthetic vectors of --dim numbers to a file (and removes it), labelled with three
factors, half of them in groups of two. Statistics and solution, and the bare product over chunks
in float32, run in turn, each in a process of its own. The statistics are then compared with a
float64 reference.
"""

import argparse
import multiprocessing
import statistics
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np

from subspace.arrays import Vectors
from subspace.data.labels import Column, Labels
from subspace.fitting.block_spec import read_blocks
from subspace.fitting.closed_form import solve_closed_form
from subspace.fitting.moments import SourceMoments, collect_moments

CHUNK = 4096
CLASSES = {"topic": 20, "style": 4, "complexity": 8}
BLOCKS = read_blocks({"topic": 256, "style": 256, "complexity": 256})

T = TypeVar("T")


@dataclass(frozen=True)
class Fit:
    """What one fit took: seconds of the statistics and of the solution, peak memory in MiB."""

    statistics: float
    solution: float
    peak: float


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--file", type=Path, required=True, help="where vectors go; must be new")
    parser.add_argument("--count", type=int, default=1_000_000)
    parser.add_argument("--dim", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    file, count, dim = arguments.file, arguments.count, arguments.dim
    try:
        write(file, count=count, dim=dim)
        products, fits = [], []
        for _ in range(arguments.rounds):
            products.append(in_own_process(partial(product, file, dim=dim)))
            fits.append(in_own_process(partial(fit, file, dim=dim)))
        largest, class_means = in_own_process(partial(errors, file, dim=dim))
    finally:
        file.unlink()
    ratios = [(f.statistics + f.solution) / p for f, p in zip(fits, products, strict=True)]
    for what, measured in {
        f"`X.T @ X` of {count:,} x {dim:,}, float32": f"{statistics.median(products):.1f} s",
        "statistics": f"{statistics.median(f.statistics for f in fits):.1f} s",
        "solution": f"{statistics.median(f.solution for f in fits):.1f} s",
        "both, over the product": f"{statistics.median(ratios):.2f} "
        f"({min(ratios):.2f} to {max(ratios):.2f})",
        "memory of the fit at most": f"{max(f.peak for f in fits):.0f} MiB",
        "covariance: largest error over largest entry": f"{largest:.1e}",
        "class means: largest error over largest entry": f"{class_means:.1e}",
    }.items():
        print(f"| {what} | {measured} |")


def in_own_process(step: Callable[[], T]) -> T:
    """Runs a step in a fresh process."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(step).result()


def label(count: int) -> Labels:
    """Labels drawn at random; the texts of a pair differ in style."""
    rng = np.random.default_rng(0)
    codes = {name: rng.integers(0, classes, count) for name, classes in CLASSES.items()}
    groups = np.where(np.arange(count) < count // 2, np.arange(count) // 2, -1)
    codes["style"][1 : count // 2 : 2] = (codes["style"][: count // 2 - 1 : 2] + 1) % 4
    return Labels(
        source="synthetic",
        columns={name: Column(codes=codes[name], class_count=CLASSES[name]) for name in CLASSES},
        groups=groups,
        splits=np.zeros(count, dtype=np.int64),
    )


def write(file: Path, *, count: int, dim: int) -> None:
    """Unit vectors with a power-law spectrum, a mean, and a direction per class."""
    rng = np.random.default_rng(1)
    labels = label(count)
    scale = (np.arange(1, dim + 1) ** -0.5).astype(np.float32)
    mean = scale * rng.standard_normal(dim, dtype=np.float32)
    centres = {
        name: 0.5 * scale * rng.standard_normal((classes, dim), dtype=np.float32)
        for name, classes in CLASSES.items()
    }
    with file.open("xb") as out:
        for start in range(0, count, CHUNK):
            part = labels.take(np.arange(start, min(start + CHUNK, count)))
            x = mean + scale * rng.standard_normal((len(part), dim), dtype=np.float32)
            for name, column in part.columns.items():
                x += centres[name][column.codes]
            (x / np.linalg.norm(x, axis=1, keepdims=True)).tofile(out)


def mapped(file: Path, *, dim: int) -> Vectors:
    count = file.stat().st_size // (4 * dim)
    return np.memmap(file, dtype=np.float32, mode="r", shape=(count, dim))


def product(file: Path, *, dim: int) -> float:
    """Seconds of the bare product."""
    x = mapped(file, dim=dim)
    total = np.zeros((dim, dim), dtype=np.float32)
    begin = time.perf_counter()
    for start in range(0, len(x), CHUNK):
        total += x[start : start + CHUNK].T @ x[start : start + CHUNK]
    return time.perf_counter() - begin


def collect(file: Path, *, dim: int) -> SourceMoments:
    x = mapped(file, dim=dim)
    return collect_moments(x, rows=np.arange(len(x)), labels=label(len(x)))


def fit(file: Path, *, dim: int) -> Fit:
    begin = time.perf_counter()
    found = collect(file, dim=dim)
    middle = time.perf_counter()
    solve_closed_form({"synthetic": found}, blocks=BLOCKS, layers=[0])
    end = time.perf_counter()
    status = Path("/proc/self/status").read_text(encoding="ascii")
    peak = int(status.split("VmHWM:")[1].split()[0]) / 1024
    return Fit(statistics=middle - begin, solution=end - middle, peak=peak)


def errors(file: Path, *, dim: int) -> tuple[float, float]:
    """Of covariance and class means, relative to their largest entries."""
    found = collect(file, dim=dim)
    x = mapped(file, dim=dim)
    columns = label(len(x)).columns
    sums = {name: np.zeros((classes, dim)) for name, classes in CLASSES.items()}
    covariance = np.zeros((dim, dim))
    mean = x.mean(axis=0, dtype=np.float64)
    for start in range(0, len(x), CHUNK):
        centred = x[start : start + CHUNK].astype(np.float64) - mean
        covariance += centred.T @ centred / len(x)
        for name, column in columns.items():
            np.add.at(sums[name], column.codes[start : start + CHUNK], centred)
    wrong = []
    for name, column in columns.items():
        means = sums[name] / np.bincount(column.codes)[:, None]
        wrong.append(np.abs(found.factors[name].means - means).max() / np.abs(means).max())
    largest = np.abs(found.covariance - covariance).max() / np.abs(covariance).max()
    return float(largest), float(max(wrong))


if __name__ == "__main__":
    main()
