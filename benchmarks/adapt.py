"""A search adapted to queries and judgements, in cross-validation over the queries.

    python benchmarks/adapt.py --data FOLDER/kusp_skills --also FOLDER/cranfield

Every query is searched by a model that was adapted without it, on other queries of the set: on
their texts alone, or on their judgements too. nDCG@10 with a 95 % bootstrap interval over queries.
`--also` names sets that an adapted model never saw: their nDCG@10 is relative to the raw encoder's.
"""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from subspace.arrays import AnyFloats, Floats
from subspace.bench.bench_set import relevance_matrix
from subspace.blocks import unit
from subspace.data.retrieval_sets import RetrievalSet, read_retrieval_set
from subspace.encoder.cached_encoder import CachedEncoder
from subspace.evaluation.ranking import rank_one
from subspace.evaluation.scores import mean_interval
from subspace.fitting import adapt
from subspace.model import Model, load

FOLDS, DRAWS, CUT_OFF = 5, 2, 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--checkpoint", default="minilm")
    parser.add_argument("--data", required=True)
    parser.add_argument("--also", nargs="*", default=[])
    parser.add_argument("--counts", nargs="*", type=int, default=[10, 30, 100])
    parser.add_argument("--store", default="runs/embeddings")
    arguments = parser.parse_args()

    model, store = load(arguments.checkpoint), arguments.store
    data = read_retrieval_set(arguments.data)
    judged = [query for query in data.queries if data.relevant(query)]
    data = replace(data, splits={}, queries={name: data.queries[name] for name in judged})
    print(f"{len(data.queries)} queries, {len(data.documents)} documents, {FOLDS} folds\n")
    print("| adapted to | texts alone | with judgements |\n|---|---|---|")
    print(f"| nothing: the raw encoder | {show(search(model, data, store=store, raw=True))} | |")
    print(f"| nothing: default weights | {show(search(model, data, store=store))} | |")
    unjudged = replace(data, relevance={})
    for count in [*arguments.counts, len(data.queries) * (FOLDS - 1) // FOLDS]:
        cells = (
            show(cross_validate(model, taught, data, store=store, count=count))
            for taught in (unjudged, data)
        )
        print(f"| {count} queries | {' | '.join(cells)} |", flush=True)
    if arguments.also:
        print("\n| set that was not seen | before | texts alone | with judgements |")
        print("|---|---|---|---|")
    for path in map(Path, arguments.also):
        other = read_retrieval_set(path)
        raw = search(model, other, store=store, raw=True).mean()
        models = [model, *(adapt(model, one, store=store) for one in (unjudged, data))]
        shares = (search(each, other, store=store).mean() / raw for each in models)
        print(f"| {path.name} | " + " | ".join(f"{share:.3f}" for share in shares) + " |")


def cross_validate(
    model: Model, taught: RetrievalSet, data: RetrievalSet, *, store: str, count: int
) -> Floats:
    """Mean nDCG of each query, searched by models adapted on `count` queries of other folds."""
    names, found = list(data.queries), np.zeros(len(data.queries))
    for seed in range(DRAWS):
        order = np.random.default_rng(seed).permutation(len(names))
        for part in range(FOLDS):
            held = np.sort(order[part::FOLDS])
            others = {names[n] for n in order[~np.isin(order, held)][:count]}
            splits = {name: "train" if name in others else "test" for name in names}
            adapted = adapt(model, replace(taught, splits=splits), store=store)
            asked = [names[n] for n in held]
            found[held] += search(adapted, data, store=store, queries=asked) / DRAWS
    return found


def search(
    model: Model,
    data: RetrievalSet,
    *,
    store: str,
    queries: Sequence[str] | None = None,
    raw: bool = False,
) -> Floats:
    """The nDCG of queries (Q,) at the model's default weights, or by the encoder's last layer."""
    encoder = CachedEncoder.open(model.encoder, root=store)
    names = [query for query in queries or data.queries if data.relevant(query)]
    documents = encoder.encode([document.text for document in data.documents])
    asked = encoder.encode([data.queries[name] for name in names], kind="query")
    if raw:
        scores: AnyFloats = (
            unit(asked[:, model.fingerprint.last_layer])
            @ unit(documents[:, model.fingerprint.last_layer]).T
        )
    else:
        widths = list(model.layout.to_widths().values())
        weights = np.repeat([model.default_weights[name] for name in model.layout], widths)
        blocks = model.project(asked, kind="query").array * weights.astype(np.float32)
        scores = blocks @ model.project(documents).array.T
    relevant = relevance_matrix(replace(data, queries={name: data.queries[name] for name in names}))
    return np.array(
        [
            rank_one(row, relevant=wanted, k=CUT_OFF)[0]
            for row, wanted in zip(scores, relevant, strict=True)
        ]
    )


def show(found: Floats) -> str:
    low, high = mean_interval(found)
    return f"{found.mean():.3f} ({low:.3f} to {high:.3f})"


if __name__ == "__main__":
    main()
