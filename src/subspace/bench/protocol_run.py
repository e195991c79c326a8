"""`bench protocols`: scores and costs of protocols on the queries of a retrieval set.

Each result is written to its own file as soon as it is measured, with a hash of everything that it
depends on. So an interrupted bench continues where it stopped, and no outdated result is read.
"""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from timeit import Timer
from urllib.parse import quote

import numpy as np
from tqdm import tqdm

from subspace.arrays import Vectors
from subspace.bench.bench_set import read_bench_set, relevance_matrix
from subspace.bench.late_interaction import MultiVectors
from subspace.bench.protocol import LEVELS, Protocol, Setting
from subspace.bench.protocol_results import SAMPLE, Cost, ProtocolBench, Result, score_queries
from subspace.bench.protocol_tables import write_protocols
from subspace.bench.protocols import choose_protocols
from subspace.bench.readings import Pieces, Reading, Source, StoredVectors
from subspace.bench.vector_protocols import left_out
from subspace.blocks import BlockLayout
from subspace.data.retrieval_sets import RetrievalSet
from subspace.errors import ConfigError, WeightsError
from subspace.files import write_lines
from subspace.model import Model
from subspace.model.embed_texts import open_stored_encoder
from subspace.retrieval.weights import Weights

_TURNS = 5
# Calls that take more seconds than this are timed in one turn.
_LONG = 5.0
# Must be increased when a protocol's name changes its meaning: older results are then not read.
_FORMAT = 2


def bench_protocols(
    folder: Path | str,
    output: Path,
    *,
    model: Model,
    store: Path | str,
    names: str | None = None,
    until: str | None = None,
    weights: str | None = None,
    levels: str | None = None,
    progress: bool = False,
) -> ProtocolBench:
    """Measures protocols, and writes protocols.json, protocols.md and protocols.png.

    Args:
        folder: The retrieval set, in the BEIR layout.
        output: Folder of the tables, and of `parts/` with a file for each result.
        model: Model with the encoder and the blocks.
        store: Folder of computed embeddings.
        names: Names of protocols; see `choose_protocols`.
        until: Text before which each document is cut.
        weights: Block weights, such as `topic=0.7,style=0.1`; the model's default weights if None.
        levels: Level weights of the hierarchical protocol, such as `document=0.5,sentence=0.5`;
            equal if None.
        progress: Whether to show progress bars.

    Raises:
        ConfigError: An option is wrong, a query has no relevant document, a package is missing,
            or the folder cannot be written to.
        RecordError: Lines of the set are wrong.
        EncoderError: The encoder cannot be loaded.
        CheckpointError: It is not the encoder that the model was fitted on.
        StoreError: The store cannot be used.
    """
    data, notes = read_bench_set(folder, model=model, until=until)
    level_layout = BlockLayout(LEVELS, (1,) * len(LEVELS))
    setting = Setting(
        model=model,
        documents=len(data.documents),
        weights=None if weights is None else _read(weights, layout=model.layout, of="--weights"),
        levels=dict.fromkeys(LEVELS, 1 / len(LEVELS))
        if levels is None
        else _read(levels, layout=level_layout, of="--levels"),
    )
    protocols = choose_protocols(names, setting=setting)
    missing = [] if names else left_out(setting)
    if missing:
        few = f"left out, as {len(data.documents)} documents are too few for them"
        notes += (f"{few}: {', '.join(missing)}",)
    encoder = open_stored_encoder(model, store=store)
    bench = run_protocols(
        protocols,
        data=data,
        source=StoredVectors(encoder, progress=progress),
        fresh=encoder.encoder,
        parts=output / "parts",
        key=make_key(data, model),
        notes=notes,
        progress=progress,
    )
    write_protocols(bench, folder=output)
    return bench


def run_protocols(
    protocols: Sequence[Protocol],
    *,
    data: RetrievalSet,
    source: Source,
    fresh: Source,
    parts: Path,
    key: str,
    notes: tuple[str, ...] = (),
    progress: bool = False,
) -> ProtocolBench:
    """Measures the protocols that were not measured before.

    Args:
        protocols: The protocols; times are relative to those of the first.
        data: Documents, queries and judgements.
        source: Source of raw vectors, usually with a cache.
        fresh: Source without a cache, whose encoding is timed.
        parts: Folder of the results, one file each.
        key: Hash of data and model; see `make_key`.
        notes: Warnings for the reader of the figures.
        progress: Whether to show a progress bar.

    Raises:
        ConfigError: There are no queries, or one has no relevant document; a package is missing;
            or the folder cannot be written to.
    """
    meter = _Meter(data, source=source, fresh=fresh, baseline=protocols[0])
    for reading in {level.reading for protocol in protocols for level in protocol.levels}:
        if isinstance(reading, Pieces):
            reading.cut(data.documents[0])  # raises early if a package is missing
    results = []
    with tqdm(total=len(protocols), desc="protocols", disable=not progress or None) as bar:
        for protocol in protocols:
            bar.set_postfix_str(protocol.name)
            path = parts / f"{quote(protocol.name, safe='')}.json"
            own = _hash([key, protocol.name, dict(protocol.settings)])
            result = _read_part(path, key=own)
            if result is None:
                result = meter.measure(protocol)
                write_lines(path, [{"key": own, "result": result.to_json()}])
            results.append(result)
            bar.update()
    return ProtocolBench(tuple(results), len(data.queries), len(data.documents), notes)


def make_key(data: RetrievalSet, model: Model) -> str:
    """Hashes texts, judgements, encoder and projection."""
    documents = [[d.id, d.title, d.text] for d in data.documents]
    made_with = [model.fingerprint.digest, model.projection.digest]
    return _hash([documents, data.judgements_sha256, made_with])


class _Meter:
    """Measures protocols on one retrieval set."""

    def __init__(
        self, data: RetrievalSet, *, source: Source, fresh: Source, baseline: Protocol
    ) -> None:
        self._data = data
        self._relevant = relevance_matrix(data)
        self._queries = list(data.queries.values())
        self._source = source
        self._fresh = fresh
        self._baseline = baseline
        self._times: dict[Reading, float] = {}

    def measure(self, protocol: Protocol) -> Result:
        """Measures the scores and costs of a protocol."""
        queries, items = self._encode(protocol)
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

    def _encode(self, protocol: Protocol) -> tuple[list[MultiVectors], list[MultiVectors]]:
        """Returns the vectors of queries and items, level by level."""
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
    def _single(self) -> tuple[list[MultiVectors], list[MultiVectors]]:
        return self._encode(self._baseline)

    def _query_time(
        self, protocol: Protocol, queries: list[MultiVectors], items: list[MultiVectors]
    ) -> float:
        if protocol is self._baseline:
            return 1.0
        return _relative_time(
            lambda: protocol.score(queries, items), lambda: self._baseline.score(*self._single)
        )

    def _encode_time(self, reading: Reading) -> float:
        """Times a reading on a sample of documents, relative to the baseline; once per reading."""
        usual = self._baseline.levels[0].reading
        if reading == usual:
            return 1.0
        if reading not in self._times:
            documents = self._data.documents
            rows = np.unique(np.linspace(0, len(documents) - 1, SAMPLE).astype(np.int64))
            sample = [documents[row] for row in rows]
            self._times[reading] = _relative_time(
                lambda: reading.read(sample, self._fresh), lambda: usual.read(sample, self._fresh)
            )
        return self._times[reading]


def _read(text: str, *, layout: BlockLayout, of: str) -> Mapping[str, float]:
    """Reads weights by name, such as `topic=0.7,style=0.1`.

    Raises:
        ConfigError: A name is unknown, a value is refused, or recency or importance has a weight.
    """
    try:
        weights = Weights.parse(text, layout=layout)
    except WeightsError as error:
        raise ConfigError(f"{of}: {error}") from error
    if weights.uses_history:
        raise ConfigError(f"{of}: there is no history here: leave out riv and preset")
    return dict(zip(layout, weights.relevance, strict=True))


def _relative_time(call: Callable[[], object], usual: Callable[[], object]) -> float:
    """Returns the time of a call, divided by that of the usual call.

    The two take turns, so that other work on the machine slows both, and the shortest time of
    each counts. Slow calls have one turn.
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
    """Reads a result that was measured under the same key; returns None if there is none."""
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
