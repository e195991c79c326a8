"""Documents and vectors for engines, and what an engine must find: by a dictionary and sorting."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from subspace.blocks import BlockLayout, unit_blocks
from subspace.data.records import Record
from subspace.retrieval.engines import Candidates, Engine, NumpyEngine, Priors
from subspace.retrieval.engines.folder_writer import writing
from subspace.retrieval.engines.index_folder import Stored

LAYOUT = BlockLayout.from_widths({"topic": 5, "style": 3, "tone": 2})
DIGEST = "0" * 64
ABOUT = {"layout": LAYOUT, "projection_digest": DIGEST}

# Metacharacters of SQL, filters and patterns, quotes, escapes, and more than ASCII.
STRANGE = [
    "'; DROP TABLE items; --",
    '"; DROP TABLE items; --',
    "100% %s %(query)b %%",
    "$1 {table} \\ \\\\ E'\\n'",
    '"] or id != ["',
    "a,b",
    "\\",
    "%",
    "_",
    "$meta",
    "[0]",
    "naïve 漢字 👩‍🚀 \u2028",
    "line\nbreak\ttab\r",
    "\x01\x7f",
    '{"a": [1, null]}',
    " ",
]
# Ids that no engine can hold: nothing is found under them, and nothing breaks.
IMPOSSIBLE = ["", "nul\0", "half \ud83d"]


def write_index(
    folder: Path, stored: Stored, *, more: Mapping[str, Callable[[Path], None]] | None = None
) -> None:
    """Writes an index of any contents, also of such as no engine has."""
    with writing(folder) as writer:
        writer.write(stored, more=more)


def unit_vectors(count: int, *, layout: BlockLayout = LAYOUT, seed: int = 0) -> np.ndarray:
    z = np.random.default_rng(seed).normal(size=(count, layout.dim)).astype(np.float32)
    return unit_blocks(z, layout=layout)


# Weights folded into queries: equal, one block alone, large and small.
QUERIES = unit_vectors(4, seed=1) * np.repeat(
    np.array([[1, 1, 1], [0, 1, 0], [50, 0.1, 0], [0.01, 0.02, 0.01]], np.float32),
    LAYOUT.widths,
    axis=1,
)


def colours(n: int) -> dict:
    return {"colour": ("red", "green", "blue")[n % 3], "size": n % 5, "new": n % 2 == 0}


def make_records(
    count: int, *, first: int = 0, metadata: Callable[[int], dict] = lambda n: {}
) -> list[Record]:
    """Documents d0, d1, ..."""
    return [
        Record(id=f"d{n}", text=f"text {n}", metadata=metadata(n))
        for n in range(first, first + count)
    ]


def make_priors(values: dict[str, float], *, default: float = 0.0) -> Priors:
    return Priors(ids=list(values), values=np.array(list(values.values()), float), default=default)


def make_engine(
    vectors: np.ndarray, *, layout: BlockLayout = LAYOUT, dtype: str = "float32", **documents
) -> NumpyEngine:
    """The exact scan of documents d0, d1, ..."""
    engine = NumpyEngine(layout=layout, projection_digest=DIGEST, dtype=dtype)
    engine.upsert(make_records(len(vectors), **documents), vectors)
    return engine


def file_of(folder: Path, name: str) -> Path:
    """Where a file of an index is: all but the manifest and the lock have a mark in their names."""
    (found,) = [path for path in folder.iterdir() if plain_name(path) == name]
    return found


def plain_name(path: Path) -> str:
    return re.sub("-[0-9a-f]{16}", "", path.name)


def ids(found: Candidates) -> list[str]:
    return [document.id for document in found.documents]


def fill(*engines: "Engine | SlowScan", documents: Sequence[Record], vectors: np.ndarray) -> None:
    for engine in engines:
        engine.upsert(documents, vectors)


@dataclass
class SlowScan:
    """What an engine must do.

    Attributes:
        dtype: What vectors are rounded to.
        kept: Documents and vectors by id, in the order of adding.
    """

    dtype: str = "float32"
    kept: dict[str, tuple[Record, np.ndarray]] = field(default_factory=dict, repr=False)

    def upsert(self, documents: Sequence[Record], vectors: np.ndarray) -> None:
        rounded = vectors.astype(self.dtype).astype(np.float32)
        self.kept.update((d.id, (d, v)) for d, v in zip(documents, rounded, strict=True))

    def delete(self, names: Sequence[str]) -> int:
        gone = {name for name in names if name in self.kept}
        for name in gone:
            del self.kept[name]
        return len(gone)

    def matching(self, where: dict | None) -> list[str]:
        """Ids, in the order of adding."""
        return [
            name
            for name, (document, _) in self.kept.items()
            if all(
                key in document.metadata and _is_among(document.metadata[key], allowed)
                for key, allowed in (where or {}).items()
            )
        ]

    def totals(
        self, query: np.ndarray, *, priors: Priors | None = None, where: dict | None = None
    ) -> dict[str, float]:
        """The score of every document, in double precision."""
        own: dict[str, float] = {}
        default = 0.0
        if priors is not None:
            own, default = dict(zip(priors.ids, priors.values, strict=False)), priors.default
        names = self.matching(where)
        if not names:
            return {}
        # Sums over rows, not a matrix product: copies must tie to the last digit.
        similar = (np.stack([self.kept[name][1] for name in names]) * np.float64(query)).sum(axis=1)
        return {
            name: one + own.get(name, default)
            for name, one in zip(names, similar.tolist(), strict=True)
        }


def _is_among(value, allowed) -> bool:
    """True is not 1, and 1 is 1.0."""
    several = allowed if isinstance(allowed, list | tuple | set) else [allowed]
    return any(value == one and isinstance(value, bool) == isinstance(one, bool) for one in several)


def assert_keeps(engine: Engine, scan: SlowScan) -> None:
    """The same documents and vectors, in the order of adding."""
    assert engine.count() == len(scan.kept)
    assert_found(engine.fetch(list(scan.kept)), list(scan.kept), scan)
    everything = engine.search(np.zeros((1, engine.layout.dim), np.float32), k=10**6)[0]
    assert_found(everything, list(scan.kept), scan)


def assert_found(found: Candidates, names: Sequence[str], scan: SlowScan) -> None:
    """These documents as they are kept, in this order, and their vectors to the bit."""
    assert found.documents == tuple(scan.kept[name][0] for name in names)
    assert found.vectors.dtype == np.float32
    assert len(found.vectors) == len(names)
    if names:
        np.testing.assert_array_equal(found.vectors, [scan.kept[name][1] for name in names])
    for document, name in zip(found.documents, names, strict=True):
        kinds = [type(value) for value in document.metadata.values()]
        wanted = scan.kept[name][0].metadata
        assert kinds == [type(wanted[key]) for key in document.metadata]


def assert_finds(
    engine: Engine,
    scan: SlowScan,
    queries: np.ndarray,
    *,
    k: int,
    priors: Priors | None = None,
    where: dict | None = None,
) -> None:
    """The best `k`, all that ties with the last, and nothing clearly worse; as they are kept."""
    results = engine.search(queries, k=k, priors=priors, where=where)
    for query, found in zip(queries, results, strict=True):
        totals = scan.totals(query, priors=priors, where=where)
        last = sorted(totals.values(), reverse=True)[:k][-1] if totals else 0.0
        largest = max(map(abs, totals.values()), default=0.0)
        margin = 1e-5 * (float(np.abs(query).sum()) + largest)
        names = set(ids(found))
        assert {name for name, total in totals.items() if total >= last} <= names
        assert all(totals[name] >= last - margin for name in names)
        assert_found(found, [name for name in totals if name in names], scan)
