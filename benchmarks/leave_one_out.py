"""What every setting is worth: separation, swap and base retrieval, one line per setting.

    python benchmarks/leave_one_out.py --data FOLDER --set '{}' '{"measures": false}' ...

For every source the closed form is solved from the statistics of all others, with the settings of
the configuration and the changes given; its blocks are then read on the source left out, confounds
controlled. In-corpus figures are of the statistics of all, confounds as they are. Changes are
those of `model.closed_form`, `blocks`, and:

    {"measures": false}      without the measures of the texts
    {"rewrites": 0}          without rewrites

Swap accuracy is of the block of the factor on a source left out; base retrieval is the nDCG@10 of
all blocks at equal weights over the raw embedding's, on the queries that are not in a test split.
"""

import argparse
import json
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from tqdm import tqdm

from subspace.blocks import BlockLayout
from subspace.data.records import read_records
from subspace.data.retrieval_sets import RetrievalSet, find_retrieval_sets, read_retrieval_set
from subspace.encoder import EncoderSpec
from subspace.encoder.cached_encoder import CachedEncoder
from subspace.evaluation import (
    CROSS_CORPUS,
    IN_CORPUS,
    EmbeddedSource,
    leave_one_out,
    make_matrix,
    measure_base_retrieval,
    read_factors,
)
from subspace.evaluation.swap import draw_triples, swap_accuracy
from subspace.fitting.closed_form import ClosedForm, solve_closed_form
from subspace.fitting.moments import SourceStatistics
from subspace.fitting.stored_sources import store_sources, training_statistics
from subspace.fitting.weak.weak_moments import WeakSupervision
from subspace.model.projection import Projection

PROBES = ("linear", "neighbours")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", nargs="+", required=True)
    parser.add_argument("--config", type=Path, default=Path("configs/real.yaml"))
    parser.add_argument("--store", default="runs/embeddings")
    parser.add_argument(
        "--set", default=[{}], type=json.loads, nargs="+", help="one line for each of these"
    )
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--matrix", action="store_true", help="print the matrices, too")
    arguments = parser.parse_args()

    config = yaml.safe_load(arguments.config.read_text(encoding="utf-8"))
    spec = dict(config["data"]["encoder"])
    encoder = CachedEncoder.open(
        EncoderSpec(**{**spec, "layers": tuple(spec["layers"])}), root=arguments.store
    )
    raw = encoder.encoder.fingerprint.last_layer
    records = read_records(arguments.data, exclude=config["data"].get("exclude", []))
    stored = store_sources(records, encoder=encoder, progress=True)
    weak = WeakSupervision(**config["data"].get("weak", {}))
    sources, statistics = {}, {}
    for name, source in tqdm(stored.items(), desc="statistics", unit="source", leave=False):
        x = encoder.store.read(source.rows)
        sources[name] = EmbeddedSource(source.records, source.labels, x)
        collected = training_statistics(source, encoder=encoder, weak=weak)
        assert collected is not None, f"{name} has no training texts"
        statistics[name] = collected
    searches = {
        name: _embed(read_retrieval_set(folder), encoder)
        for name, folder in find_retrieval_sets(arguments.data).items()
        if name not in config["data"].get("exclude", [])
    }

    probes = [f"{probe} {what}" for probe in PROBES for what in ("sel", "own", "leak")]
    swaps = [(name, f) for name, s in sources.items() for f in s.labels.columns if _triples(s, f)]
    head = [f"{model}: {probe}" for model in ("cross", "in") for probe in probes]
    head += [f"swap {name}" for name, _ in swaps] + list(searches)
    print("| setting | " + " | ".join(head) + " |")
    print("|---" * (len(head) + 1) + "|", flush=True)
    for changes in arguments.set:
        settings, layout = _settings(changes, model=config["model"])
        used = {name: _change(part, changes) for name, part in statistics.items()}
        everything = solve_closed_form(used, layout=layout, settings=settings, raw=raw).projection
        folds = leave_one_out(used, layout=layout, settings=settings, raw=raw, progress=True)
        readings, _ = read_factors(
            sources,
            models={CROSS_CORPUS: folds, IN_CORPUS: dict.fromkeys(sources, everything)},
            raw=raw,
            seeds=arguments.seeds,
            progress=True,
        )
        cells = []
        for model in (CROSS_CORPUS, IN_CORPUS):
            for probe in PROBES:
                matrix = make_matrix(
                    readings, model=model, probe=probe, controlled=model == CROSS_CORPUS
                )
                means = (matrix.selectivity(), matrix.mean_retention(), matrix.mean_leakage())
                cells += [f"{value:.2f}" for value in means]
                if arguments.matrix:
                    print(model, probe, *matrix.blocks, "\n", matrix.values.round(2))
        cells += [f"{_swap(sources[name], folds[name], factor):.3f}" for name, factor in swaps]
        cells += [
            f"{_search(found, everything, name, raw):.3f}" for name, found in searches.items()
        ]
        setting = json.dumps(changes) if changes else "as configured"
        print(f"| {setting} | " + " | ".join(cells) + " |", flush=True)


def _settings(
    changes: Mapping[str, Any], *, model: Mapping[str, Any]
) -> tuple[ClosedForm, BlockLayout]:
    known = {field.name for field in fields(ClosedForm)}
    changed = {key: value for key, value in changes.items() if key in known}
    settings = ClosedForm(**{**model.get("closed_form", {}), **changed})
    return settings, BlockLayout.from_widths(changes.get("blocks", model["blocks"]))


def _change(source: SourceStatistics, changes: Mapping[str, Any]) -> SourceStatistics:
    return replace(
        source,
        measures=source.measures if changes.get("measures", True) else None,
        rewrites=source.rewrites if changes.get("rewrites", 1) else {},
    )


def _triples(source: EmbeddedSource, factor: str) -> bool:
    return len(draw_triples(source.labels, factor=factor)) > 100


def _swap(source: EmbeddedSource, projection: Projection, factor: str) -> float:
    z = projection.layout.split(projection(source.x))
    triples = draw_triples(source.labels, factor=factor)
    return swap_accuracy(z[factor], triples) if factor in z else float("nan")


def _embed(data: RetrievalSet, encoder: CachedEncoder) -> tuple[RetrievalSet, Any, Any]:
    documents = encoder.encode([d.text for d in data.documents], progress=True)
    queries = encoder.encode(list(data.queries.values()), kind="query", progress=True)
    return data, documents, queries


def _search(
    found: tuple[RetrievalSet, Any, Any], projection: Projection, name: str, raw: slice
) -> float:
    data, documents, queries = found
    kept = [q for q in data.queries if data.splits.get(q) != "test"]
    rows = np.array([list(data.queries).index(query) for query in kept])
    return measure_base_retrieval(
        projection,
        name=name,
        data=replace(data, queries={query: data.queries[query] for query in kept}),
        documents=documents,
        queries=queries[rows],
        raw=raw,
    ).relative


if __name__ == "__main__":
    main()
