"""`bench protocols`: every protocol over the queries of a retrieval set, one after another.

What a protocol reached is kept in a file of its own as soon as it is measured, under a key over
all that it depends on, so that an interrupted bench goes on where it was and nothing stale is read.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from timeit import Timer
from urllib.parse import quote

import numpy as np
from tqdm import tqdm

from subspace.arrays import Vectors
from subspace.bench.late_interaction import Bags
from subspace.bench.protocol import Protocol
from subspace.bench.protocol_results import Cost, Result, score_queries
from subspace.bench.readings import Pieces, Reading, Source
from subspace.bench.spaces import relevance_matrix
from subspace.data.retrieval_sets import RetrievalSet
from subspace.errors import ConfigError
from subspace.files import write_lines
from subspace.model import Checkpoint
from subspace.retrieval.index import digest_projection

SAMPLE = 16
_TURNS = 5
_LONG = 5.0
# Goes up when the same name comes to mean something else.
_FORMAT = 1


@dataclass(frozen=True)
class ProtocolBench:
    """Everything that was measured.

    Attributes:
        results: One per protocol; the first is the single vector.
        queries: Number of queries.
        documents: Number of documents.
        notes: What a reader must know of the figures.
    """

    results: tuple[Result, ...]
    queries: int
    documents: int
    notes: tuple[str, ...] = ()


def run_protocols(
    protocols: Sequence[Protocol],
    *,
    data: RetrievalSet,
    source: Source,
    fresh: Source,
    parts: Path,
    key: str,
    progress: bool = False,
) -> ProtocolBench:
    """Measures the protocols, or reads what was measured before.

    Args:
        protocols: The first of them is what costs are relative to.
        data: Documents, queries and judgements.
        source: Where embeddings come from.
        fresh: Computes embeddings anew, to be timed.
        parts: Folder of what was measured before.
        key: Of data and checkpoint; see `make_key`.
        progress: Show a progress bar.

    Raises:
        ConfigError: There are no queries, or one has no relevant document; a package is missing;
            or the folder cannot be written to.
    """
    desk = _Desk(data, source=source, fresh=fresh, baseline=protocols[0])
    for reading in {level.reading for protocol in protocols for level in protocol.levels}:
        if isinstance(reading, Pieces):
            reading.cut(data.documents[0])  # a missing package is said before the work
    results = []
    with tqdm(total=len(protocols), desc="protocols", disable=not progress) as bar:
        for protocol in protocols:
            bar.set_postfix_str(protocol.name)
            path = parts / f"{quote(protocol.name, safe='')}.json"
            own = _hash([key, protocol.name, dict(protocol.settings)])
            result = _read_part(path, key=own)
            if result is None:
                result = desk.measure(protocol)
                write_lines(path, [{"key": own, "result": result.to_json()}])
            results.append(result)
            bar.update()
    return ProtocolBench(tuple(results), len(data.queries), len(data.documents))


def make_key(data: RetrievalSet, checkpoint: Checkpoint) -> str:
    """Hash of texts, judgements, encoder and projection."""
    projection = checkpoint.projection
    documents = [[d.id, d.title, d.text] for d in data.documents]
    grades = {query: dict(found) for query, found in data.relevance.items()}
    models = [checkpoint.fingerprint.digest, digest_projection(projection)]
    if projection.query is not None:
        side = (projection.query.weight, projection.query.offset)
        models += [hashlib.sha256(array.tobytes()).hexdigest() for array in side]
    return _hash([documents, dict(data.queries), grades, models])


class _Desk:
    """One retrieval set, and what every protocol needs of it."""

    def __init__(
        self, data: RetrievalSet, *, source: Source, fresh: Source, baseline: Protocol
    ) -> None:
        if not data.queries:
            raise ConfigError("the retrieval set has no queries, so nothing can be measured")
        self._data = data
        self._relevant = relevance_matrix(data)
        self._queries = list(data.queries.values())
        self._source = source
        self._fresh = fresh
        self._baseline = baseline
        self._times: dict[Reading, float] = {}

    def measure(self, protocol: Protocol) -> Result:
        """Encodes, scores, and times both."""
        queries, items = self._keep(protocol)
        scores = protocol.score(queries, items)
        count = len(self._data.documents)
        cost = Cost(
            bytes=sum(kept.vectors.nbytes for kept in items) / count,
            vectors=sum(len(kept.vectors) for kept in items) / count,
            encode=sum(map(self._encode_time, {level.reading for level in protocol.levels})),
            query=self._query_time(protocol, queries, items),
        )
        return Result(
            name=protocol.name,
            family=protocol.family,
            about=protocol.about,
            scores=score_queries(scores, relevant=self._relevant),
            cost=cost,
        )

    def _keep(self, protocol: Protocol) -> tuple[list[Bags], list[Bags]]:
        """The vectors of queries and items, level by level."""
        queries, items = [], []
        for level in protocol.levels:
            view = level.view(self._corpus)
            asked = level.reading.ask(self._queries, self._source)
            kept = level.reading.read(self._data.documents, self._source)
            queries.append(replace(asked, vectors=view.queries(asked.vectors)))
            items.append(replace(kept, vectors=view.documents(kept.vectors)))
        return queries, items

    @cached_property
    def _corpus(self) -> Vectors:
        return self._source.encode([document.text for document in self._data.documents])

    @cached_property
    def _single(self) -> tuple[list[Bags], list[Bags]]:
        return self._keep(self._baseline)

    def _query_time(self, protocol: Protocol, queries: list[Bags], items: list[Bags]) -> float:
        if protocol is self._baseline:
            return 1.0
        return _relative(
            lambda: protocol.score(queries, items), lambda: self._baseline.score(*self._single)
        )

    def _encode_time(self, reading: Reading) -> float:
        """Of a sample of the documents; measured once for all that read the same."""
        usual = self._baseline.levels[0].reading
        if reading == usual:
            return 1.0
        if reading not in self._times:
            documents = self._data.documents
            rows = np.unique(np.linspace(0, len(documents) - 1, SAMPLE).astype(np.int64))
            sample = [documents[row] for row in rows]
            self._times[reading] = _relative(
                lambda: reading.read(sample, self._fresh), lambda: usual.read(sample, self._fresh)
            )
        return self._times[reading]


def _relative(call: Callable[[], object], usual: Callable[[], object]) -> float:
    """Time of a call relative to that of the usual one.

    They take turns, so that whatever else the machine does meets both, and the shortest of each
    counts, which it disturbed least; for calls of many seconds one turn is enough.
    """
    timers = [Timer(call), Timer(usual)]
    series = [timer.autorange() for timer in timers]  # the first calls also load the model
    turns = 1 if series[0][1] > _LONG else _TURNS
    times = [
        [timer.timeit(number) / number for timer, (number, _) in zip(timers, series, strict=True)]
        for _ in range(turns)
    ]
    mine, other = np.min(times, axis=0)
    return float(mine / other)


def _read_part(path: Path, *, key: str) -> Result | None:
    """What was measured before under the same key."""
    if not path.is_file():
        return None
    try:
        part = json.loads(path.read_text(encoding="utf-8"))
        return Result.from_json(part["result"]) if part["key"] == key else None
    except (OSError, ValueError, KeyError, TypeError):
        return None  # damaged: measured again


def _hash(value: object) -> str:
    text = json.dumps([_FORMAT, value], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
