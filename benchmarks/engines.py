"""Measures the time and memory of searches.

    python benchmarks/engines.py speed --data FOLDER --checkpoint minilm
    python benchmarks/engines.py scale --output runs/scale

`speed` compares pairs of calls on the same vectors, in turn: a search with recency, importance and
relevance in every block beside the bare product and partial sort in numpy; a search after a change
beside one without; and faiss beside the exact scan. `scale` builds and searches indexes of growing
size, each in its own process. All figures are ratios or medians within one run. Vectors are
synthetic (200 Gaussians in each of 4 blocks of 256, a power-law spectrum); with --data also those
of real texts.
"""

import argparse
import json
import multiprocessing
import os
import re
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import matplotlib as mpl
import numpy as np
from tqdm import tqdm

from subspace.arrays import Vectors
from subspace.blocks import BlockLayout, unit_blocks
from subspace.data import Record, read_records
from subspace.model import load
from subspace.model.embed_texts import open_stored_encoder
from subspace.retrieval import BlockIndex, UsageLog, Weights
from subspace.retrieval.engines import Engine, NumpyEngine, create_engine, open_engine
from subspace.retrieval.engines.faiss_candidates import METHODS
from subspace.retrieval.engines.faiss_engine import INDEX, FaissEngine
from subspace.retrieval.hits import SCOPES, Scope
from subspace.retrieval.weights import PARTS

LAYOUT = BlockLayout.from_widths(
    {"topic": 256, "style": 256, "complexity": 256, "specificity": 256}
)
CLUSTERS = 200
# Standard deviation of vectors around the centre of their cluster, relative to that of centres.
WITHIN = 0.6
CHUNK = 20_000
K = 10
BATCH = 64
USES = 300
# For about 25 ms after a matrix product its threads keep a core busy, waiting for the next.
PAUSE = 0.05


@dataclass(frozen=True)
class Row:
    """One comparison: medians in milliseconds, and the median of the ratios of the rounds."""

    vectors: str
    what: str
    ours_ms: float
    beside: str
    beside_ms: float
    ratio: float


@dataclass(frozen=True)
class Candidates:
    """faiss beside the exact scan, and beside the bare product: time per query, and recall."""

    vectors: str
    method: str
    weights: str
    batch: int
    bare_ms: float
    exact_ms: float
    faiss_ms: float
    bare_over_it: float
    exact_over_it: float
    bare_mean_over_its_mean: float
    recall: float


@dataclass(frozen=True)
class Size:
    """Times and memory of an index of one size."""

    engine: str
    count: int
    upsert_s: float
    save_s: float
    open_s: float
    search_ms: float
    batch_ms: float
    build_peak_mib: float
    resident_mib: float
    own_mib: float
    vectors_mib: float
    items_mib: float
    faiss_mib: float


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", choices=("speed", "scale"))
    parser.add_argument("--output", type=Path, help="folder for JSON and a plot")
    parser.add_argument("--count", type=int, default=100_000, help="vectors of `speed`")
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--methods", nargs="*", default=list(METHODS), choices=METHODS)
    parser.add_argument("--data", nargs="*", default=[], help="labelled texts, for `speed`")
    parser.add_argument("--checkpoint", help="projects them to blocks")
    parser.add_argument("--store", default="runs/embeddings")
    parser.add_argument(
        "--counts", nargs="+", type=int, default=[10_000, 100_000, 300_000, 1_000_000]
    )
    parser.add_argument("--engines", nargs="*", default=["numpy", "faiss"], help="of `scale`")
    arguments = parser.parse_args()
    if arguments.data and not arguments.checkpoint:
        parser.error("--data needs --checkpoint")
    (_speed if arguments.what == "speed" else _scale)(arguments)


# Vectors.


def synthetic(count: int, *, layout: BlockLayout = LAYOUT) -> Iterator[Vectors]:
    """Yields chunks of unit blocks; the centres do not depend on the count."""
    rng = np.random.default_rng(0)
    scales = [np.arange(1, width + 1) ** -0.5 for width in layout.widths]
    centres = [rng.normal(size=(CLUSTERS, len(scale))) * scale for scale in scales]
    for start in range(0, count, CHUNK):
        size = min(CHUNK, count - start)
        rng = np.random.default_rng([1, start])
        z = [
            centre[rng.integers(0, CLUSTERS, size)]
            + WITHIN * scale * rng.standard_normal((size, len(scale)), dtype=np.float32)
            for centre, scale in zip(centres, scales, strict=True)
        ]
        yield unit_blocks(np.concatenate(z, axis=1).astype(np.float32), layout=layout)


def real(arguments: argparse.Namespace) -> tuple[str, BlockLayout, Vectors]:
    """Encodes and projects texts; adds perturbed copies if there are too few."""
    model = load(arguments.checkpoint)
    encoder = open_stored_encoder(model, store=arguments.store)
    texts = dict.fromkeys(record.text for record in read_records(*arguments.data))
    rows = encoder.rows(list(texts), progress=True)
    rng = np.random.default_rng(0)
    rows = rng.permutation(rows)[: arguments.count]
    layout = model.layout
    parts = [
        model.project(encoder.store.read(rows[start : start + CHUNK])).array
        for start in range(0, len(rows), CHUNK)
    ]
    vectors = np.concatenate(parts)
    missing = arguments.count - len(vectors)
    name = f"{len(vectors):,} real texts"
    if missing > 0:
        copies = vectors[rng.integers(0, len(vectors), missing)]
        copies = copies + 0.05 * rng.normal(size=copies.shape) / np.sqrt(layout.dim)
        vectors = np.concatenate([vectors, unit_blocks(copies.astype(np.float32), layout=layout)])
        name += f" and {missing:,} perturbed copies"
    return f"{name}, {layout.dim} dims", layout, vectors


def documents(count: int, *, first: int = 0) -> list[Record]:
    return [Record(id=f"d{n}", text=f"text {n}") for n in range(first, first + count)]


# Speed.


def _speed(arguments: argparse.Namespace) -> None:
    worlds: list[Callable[[], tuple[str, BlockLayout, Vectors]]] = [
        lambda: (
            f"{arguments.count:,} synthetic, {LAYOUT.dim} dims",
            LAYOUT,
            np.concatenate(list(synthetic(arguments.count))),
        )
    ]
    if arguments.data:
        worlds.append(lambda: real(arguments))
    rows: list[Row] = []
    candidates: list[Candidates] = []
    for make in worlds:
        name, layout, vectors = make()
        rng = np.random.default_rng(2)
        # Queries are near the documents, but equal none.
        queries = vectors[rng.choice(len(vectors), 4 * BATCH, replace=False)]
        queries = queries + 0.1 * rng.normal(size=queries.shape) / np.sqrt(layout.dim)
        queries = unit_blocks(queries.astype(np.float32), layout=layout)
        exact = NumpyEngine(layout=layout, projection_digest="benchmark")
        exact.upsert(documents(len(vectors)), vectors)
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            rows += _next_to_numpy(name, exact, queries, rounds=arguments.rounds, scratch=folder)
            for method in arguments.methods:
                candidates += _next_to_scan(name, exact, method, queries, arguments, folder)
    _print(rows)
    _print(candidates)
    _write(arguments.output, "speed", rows=rows, candidates=candidates)


@dataclass
class SearchPair:
    """A search with all parts, and the bare product and partial sort of folded queries."""

    index: BlockIndex
    vectors: Vectors
    queries: Vectors
    scope: Scope
    weights: Weights
    other: Weights

    def search(self, number: int) -> object:
        """Searches one query with all parts."""
        return self.index.search(self._one(number), weights=self.weights, scope=self.scope, k=K)

    def search_changed(self, number: int) -> object:
        """Searches one query after the change."""
        return self.index.search(self._one(number), weights=self.other, scope=self.scope, k=K)

    def search_batch(self, number: int) -> object:
        """Searches a batch with all parts."""
        queries = self._several(number)
        return self.index.search_batch(queries, weights=self.weights, scope=self.scope, k=K)

    def bare(self, number: int) -> object:
        """Computes one product and one partial sort."""
        scores = self.vectors @ self._one(number)
        return np.argpartition(scores, len(scores) - K)[-K:]

    def bare_batch(self, number: int) -> object:
        """Computes the same for a batch."""
        scores = self._several(number) @ self.vectors.T
        return np.argpartition(scores, scores.shape[1] - K, axis=1)[:, -K:]

    def _one(self, number: int) -> Vectors:
        query: Vectors = self.queries[number % len(self.queries)]
        return query

    def _several(self, number: int) -> Vectors:
        start = BATCH * (number % (len(self.queries) // BATCH))
        return self.queries[start : start + BATCH]


def _next_to_numpy(
    name: str, engine: NumpyEngine, queries: Vectors, *, rounds: int, scratch: Path
) -> list[Row]:
    """Compares a search with the bare product, and searches after changes with one without."""
    rng = np.random.default_rng(3)
    used = [f"d{n}" for n in rng.choice(engine.count(), USES, replace=False)]
    weights = _random_weights(engine.layout, rng)
    rows = []
    with UsageLog.open(scratch / "usage.db", clock="steps") as usage:
        for item in used:
            usage.add([(item, float(rng.random()))])
        index = BlockIndex(engine, usage=usage)

        def reweigh(pair: SearchPair, number: int) -> None:  # noqa: ARG001
            pair.other = _random_weights(engine.layout, rng)

        def use(pair: SearchPair, number: int) -> None:
            pair.other = pair.weights
            usage.add([(used[number % USES], None)])

        def rate(pair: SearchPair, number: int) -> None:
            pair.other = pair.weights
            usage.add([(f"d{number}", float(rng.random()))])

        changes = {"other weights": reweigh, "a use: recency": use, "a rating: importance": rate}
        for scope in SCOPES:
            pair = SearchPair(index, engine.vectors, queries, scope, weights, weights)
            times = _compare(pair.search, pair.bare, rounds)
            rows.append(_row(name, f"{scope} scope, one query", "bare numpy", times))
            times = _compare(pair.search_batch, pair.bare_batch, max(4, rounds // 4))
            rows.append(_row(name, f"{scope} scope, batch of 64", "bare numpy", times))
            for what, change in changes.items():
                before = partial(change, pair)
                times = _compare(pair.search_changed, pair.search, rounds, before=before)
                rows.append(_row(name, f"{scope} scope, {what}", "nothing changed", times))
    return rows


def _row(name: str, what: str, beside: str, times: tuple[float, float, float]) -> Row:
    return Row(name, what, times[0], beside, *times[1:])


def _next_to_scan(
    name: str,
    exact: NumpyEngine,
    method: str,
    queries: Vectors,
    arguments: argparse.Namespace,
    scratch: Path,
) -> list[Candidates]:
    """Compares faiss with the exact scan of the same vectors, by single queries and batches."""
    layout = exact.layout
    engine = FaissEngine(layout=layout, projection_digest="benchmark", method=method)
    engine.upsert(exact.documents, exact.vectors)
    start = time.perf_counter()
    engine.build()
    took = time.perf_counter() - start
    if engine.exact:
        print(f"{name}, {method}: too few vectors for an index", flush=True)
        return []
    engine.save(scratch / method)
    mib = _files(scratch / method)[INDEX]
    print(f"{name}, {method}: built in {took:.1f} s, {mib:.0f} MiB", flush=True)
    rows = []
    for weights, several in _weightings(layout).items():
        spread = np.repeat(several, layout.widths, axis=1).astype(np.float32)
        folded = queries * spread[np.arange(len(queries)) % len(spread)]
        for size, rounds, streak in ((1, arguments.rounds // 2, 10), (BATCH, 5, 2)):
            ask = partial(_ask, engine, folded, size)
            ours, scans = _times(ask, partial(_ask, exact, folded, size), rounds, streak=streak)
            own, products = _times(
                ask, partial(_multiply, exact.vectors, folded, size), rounds, streak=streak
            )
            rows.append(
                Candidates(
                    vectors=name,
                    method=method,
                    weights=weights,
                    batch=size,
                    bare_ms=1e3 * statistics.median(products) / size,
                    exact_ms=1e3 * statistics.median(scans) / size,
                    faiss_ms=1e3 * statistics.median(ours + own) / size,
                    bare_over_it=_ratio(products, own),
                    exact_over_it=_ratio(scans, ours),
                    bare_mean_over_its_mean=statistics.mean(products) / statistics.mean(own),
                    recall=_recall(engine, exact, folded),
                )
            )
    return rows


def _weightings(layout: BlockLayout) -> dict[str, Vectors]:
    """Returns weights by kind, in tables with one row (blocks,) per weighting."""
    rng = np.random.default_rng(4)
    one = np.eye(len(layout))
    return {
        "uniform": np.full((1, len(layout)), 1 / len(layout)),
        "dirichlet": rng.dirichlet(np.ones(len(layout)), size=4),
        "signed": rng.normal(size=(4, len(layout))),
        "two blocks": (one + np.roll(one, 1, axis=0)) / 2,
        **{f"{block} alone": alone[None] for block, alone in zip(layout, one, strict=True)},
    }


def _ratio(theirs: Sequence[float], ours: Sequence[float]) -> float:
    return statistics.median(b / a for a, b in zip(ours, theirs, strict=True))


def _multiply(vectors: Vectors, queries: Vectors, size: int, number: int) -> object:
    """Computes one product over all dimensions and one partial sort."""
    start = size * (number % (len(queries) // size))
    part = queries[start : start + size]
    scores = (vectors @ part[0])[None] if size == 1 else part @ vectors.T
    return np.argpartition(scores, scores.shape[1] - K, axis=1)[:, -K:]


def _ask(engine: Engine, queries: Vectors, size: int, number: int) -> object:
    start = size * (number % (len(queries) // size))
    return engine.search(queries[start : start + size], k=K)


def _recall(engine: Engine, exact: Engine, folded: Vectors) -> float:
    """Computes the mean recall@10; documents with equal scores are exchangeable."""
    shares = []
    for query, found, wanted in zip(
        folded, engine.search(folded, k=K), exact.search(folded, k=K), strict=True
    ):
        lowest = np.sort(wanted.vectors @ query)[-K] - 1e-6 * np.abs(query).sum()
        shares.append(min(K, int((found.vectors @ query >= lowest).sum())) / K)
    return statistics.mean(shares)


def _random_weights(layout: BlockLayout, rng: np.random.Generator) -> Weights:
    """Draws a weight for every part and block."""
    table: dict[str, dict[str, float]] = {
        part: dict(zip(layout, rng.uniform(0.1, 1, len(layout)).tolist(), strict=True))
        for part in PARTS
    }
    return Weights.from_mapping(table, layout=layout)


def _times(
    ours: Callable[[int], object],
    theirs: Callable[[int], object],
    rounds: int,
    *,
    streak: int = 1,
    before: Callable[[int], None] = lambda _: None,
) -> tuple[list[float], list[float]]:
    """Times two calls in turn, in seconds per call; they take turns in going first, too.

    Each is called `streak` times in a row, so that it finds its own data in the caches.
    """
    times: dict[Callable[[int], object], list[float]] = {ours: [], theirs: []}
    for number in range(-2, rounds):
        pair = (ours, theirs) if number % 2 else (theirs, ours)
        for call in pair:
            if call is ours:
                before(max(number, 0))
            first = streak * max(number, 0)
            start = time.perf_counter()
            for query in range(first, first + streak):
                call(query)
            if number >= 0:  # the first two rounds fill caches
                times[call].append((time.perf_counter() - start) / streak)
            time.sleep(PAUSE)
    return times[ours], times[theirs]


def _compare(
    ours: Callable[[int], object],
    theirs: Callable[[int], object],
    rounds: int,
    *,
    before: Callable[[int], None] = lambda _: None,
) -> tuple[float, float, float]:
    """Gives the medians in milliseconds, and the median ratio."""
    a, b = _times(ours, theirs, rounds, before=before)
    ratios = [mine / other for mine, other in zip(a, b, strict=True)]
    return 1e3 * statistics.median(a), 1e3 * statistics.median(b), statistics.median(ratios)


# Scale.


def _scale(arguments: argparse.Namespace) -> None:
    sizes: list[Size] = []
    cases = [(engine, count) for count in arguments.counts for engine in arguments.engines]
    for engine, count in tqdm(cases, desc="indexes", unit="index"):
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch) / "index"
            built = _alone(_build, engine, count, folder)
            searched = _alone(_search, count, folder)
            files = _files(folder)
        sizes.append(
            Size(
                engine=engine,
                count=count,
                vectors_mib=files["vectors.npy"],
                items_mib=files["items.jsonl"],
                faiss_mib=files.get(INDEX, 0.0),
                **built,
                **searched,
            )
        )
    _print(sizes)
    _write(arguments.output, "scale", sizes=sizes)
    if arguments.output:
        _plot(sizes, arguments.output / "scale.png")


def _files(folder: Path) -> dict[str, float]:
    """Returns the MiB of each file of an index, by its name without the mark of the state."""
    return {
        re.sub("-[0-9a-f]{16}", "", path.name): path.stat().st_size / 2**20
        for path in folder.iterdir()
    }


def _alone(task: Callable[..., dict[str, float]], *arguments: Any) -> dict[str, float]:
    """Runs a task in a new process, so that its memory can be measured."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(task, *arguments).result()


def _build(name: str, count: int, folder: Path) -> dict[str, float]:
    engine = cast(
        NumpyEngine,
        create_engine(
            folder,
            layout=LAYOUT,
            projection_digest="benchmark",
            engine=name,
            settings={"dtype": "float16"},
        ),
    )
    upserting, first = 0.0, 0
    for chunk in synthetic(count):
        start = time.perf_counter()
        engine.upsert(documents(len(chunk), first=first), chunk)
        upserting += time.perf_counter() - start
        first += len(chunk)
    start = time.perf_counter()
    engine.save()
    saving = time.perf_counter() - start
    return {
        "upsert_s": upserting,
        "save_s": saving,
        "build_peak_mib": _memory("VmHWM"),
    }


def _search(count: int, folder: Path) -> dict[str, float]:
    start = time.perf_counter()
    index = BlockIndex(open_engine(folder))
    opening = time.perf_counter() - start
    queries = next(synthetic(CHUNK))[:256]
    rounds = 30 if count <= 100_000 else 12
    one, _ = _times(lambda n: index.search(queries[n], k=K), lambda _: None, rounds)
    many, _ = _times(
        lambda n: index.search_batch(queries[BATCH * (n % 4) : BATCH * (n % 4 + 1)], k=K),
        lambda _: None,
        4,
    )
    return {
        "open_s": opening,
        "search_ms": 1e3 * statistics.median(one),
        "batch_ms": 1e3 * statistics.median(many) / BATCH,
        "resident_mib": _memory("VmRSS"),
        "own_mib": _memory("RssAnon"),
    }


def _memory(name: str) -> float:
    """Reads the memory of this process in MiB from Linux."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    lines = dict(line.split(":", 1) for line in status.splitlines())
    return int(lines[name].split()[0]) / 1024


# Output.


def _print(rows: Sequence[Any]) -> None:
    """Prints dataclasses as a Markdown table."""
    if not rows:
        return
    names = list(asdict(rows[0]))
    print("\n| " + " | ".join(name.replace("_", " ") for name in names) + " |")
    print("|" + "---|" * len(names))
    for row in rows:
        cells = (
            f"{v:.4g}" if isinstance(v, float) else f"{v:,}" if isinstance(v, int) else v
            for v in asdict(row).values()
        )
        print("| " + " | ".join(cells) + " |", flush=True)


def _write(output: Path | None, name: str, **tables: Sequence[Any]) -> None:
    if output is None:
        return
    output.mkdir(parents=True, exist_ok=True)
    content = {"cores": os.cpu_count(), **{k: [asdict(r) for r in t] for k, t in tables.items()}}
    (output / f"{name}.json").write_text(json.dumps(content, indent=1) + "\n")


def _plot(sizes: Sequence[Size], path: Path) -> None:
    """Plots costs against the number of vectors, on logarithmic axes."""
    mpl.use("Agg")
    import matplotlib.pyplot as plt

    panels: dict[str, dict[str, str]] = {
        "milliseconds per query": {"one query": "search_ms", "batch of 64": "batch_ms"},
        "seconds": {"upsert": "upsert_s", "build and save": "save_s", "open": "open_s"},
        "MiB": {
            "peak while building": "build_peak_mib",
            "resident after searches": "resident_mib",
            "of it not mapped files": "own_mib",
        },
    }
    figure, axes = plt.subplots(1, len(panels), figsize=(15, 4.5), layout="constrained")
    styles = {"numpy": "-", "faiss": "--"}
    for axis, (unit, lines) in zip(axes, panels.items(), strict=True):
        for engine in dict.fromkeys(size.engine for size in sizes):
            own = [size for size in sizes if size.engine == engine]
            for number, (label, name) in enumerate(lines.items()):
                axis.loglog(
                    [size.count for size in own],
                    [getattr(size, name) for size in own],
                    styles.get(engine, ":"),
                    color=f"C{number}",
                    marker="o",
                    label=f"{engine}: {label}",
                )
        axis.set(xlabel="vectors of 1,024 dimensions", ylabel=unit)
        axis.grid(alpha=0.3, which="both")
        axis.legend(fontsize=8)
    figure.savefig(path, dpi=120)
    plt.close(figure)


if __name__ == "__main__":
    main()
