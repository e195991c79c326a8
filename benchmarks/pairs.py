"""Blocks learned from pairs, in cross-validation over the queries of a retrieval set.

    SUBSPACE_DATA=FOLDER python benchmarks/pairs.py --checkpoint checkpoints/real \
        --data FOLDER/kusp_skills --until ' Steps:'

Every query is searched with blocks that were learned without it; parallel texts come from the
labelled sources, of which the retrieval set is none. The other blocks are the checkpoint's, as they
are. NDCG@5, means over three draws of the folds; the first draw alone beside them.
"""

import argparse
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from subspace.arrays import AnyFloats, Floats
from subspace.bench.spaces import relevance_matrix
from subspace.blocks import BlockLayout, unit
from subspace.data.records import read_records
from subspace.data.retrieval_sets import RetrievalSet, read_retrieval_set
from subspace.encoder.cached_encoder import CachedEncoder
from subspace.evaluation.ranking import rank_one
from subspace.fitting.pair_blocks import ANSWER, MATCH, FromPairs, Together, add_pair_blocks
from subspace.fitting.pair_moments import group_scatter
from subspace.fitting.stored_pairs import store_pairs, training_pairs
from subspace.fitting.stored_sources import store_sources
from subspace.model import load_checkpoint
from subspace.model.projection import Projection
from subspace.retrieval import Weights

FOLDS, DRAWS, CUT_OFF, WIDTH = 5, 3, 5, 128


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--checkpoint", required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--until", default="")
    parser.add_argument("--store", default="runs/embeddings")
    parser.add_argument("--exclude", nargs="*", default=["kusp_skills"])
    arguments = parser.parse_args()

    checkpoint = load_checkpoint(arguments.checkpoint)
    encoder = CachedEncoder.open(checkpoint.encoder_spec(), root=arguments.store)
    data = read_retrieval_set(arguments.data)
    if arguments.until:
        cut = [replace(d, text=d.text.split(arguments.until)[0]) for d in data.documents]
        data = replace(data, documents=tuple(cut))
    groups = parallel_texts(os.environ["SUBSPACE_DATA"], arguments.exclude, encoder=encoder)
    print(f"{len(data.queries)} queries, {len(data.documents)} documents, {len(groups)} sources")
    print(f"with parallel texts; {FOLDS} folds\n\n| blocks | settings | nDCG@{CUT_OFF} | first |")
    print("|---|---|---|---|")
    for name, settings, weights in plan(checkpoint.projection.layout):
        runs = [
            cross_validate(
                data,
                seed=seed,
                projection=checkpoint.projection,
                raw=checkpoint.fingerprint.last_layer,
                groups=groups,
                settings=settings,
                weights=weights,
                encoder=encoder,
            )
            for seed in range(DRAWS)
        ]
        said = "" if settings == FromPairs() else changed(settings)
        print(f"| {name} | {said} | {np.mean(runs):.3f} | {np.mean(runs[0]):.3f} |", flush=True)


def plan(layout: BlockLayout) -> list[tuple[str, FromPairs, Mapping[str, float] | None]]:
    """Rows of the table: name, settings, weights (None for the raw embedding)."""
    best = {MATCH: 1.0, ANSWER: 0.5, "residual": 0.5}
    every = dict.fromkeys([*layout, MATCH, ANSWER], 1.0)
    usual = FromPairs()
    return [
        ("raw embedding", usual, None),
        ("the checkpoint's, equal", usual, dict.fromkeys(layout, 1.0)),
        ("match", usual, {MATCH: 1.0}),
        ("answer", usual, {ANSWER: 1.0}),
        ("match 1, answer 0.5", usual, {MATCH: 1.0, ANSWER: 0.5}),
        ("match 1, answer 0.5, residual 0.5", usual, best),
        ("all, equal", usual, every),
        ("match", FromPairs(groups=0), {MATCH: 1.0}),
        ("match", FromPairs(halves=0), {MATCH: 1.0}),
        ("match", FromPairs(groups=0, halves=0), {MATCH: 1.0}),
        ("match 1, answer 0.5, residual 0.5", FromPairs(groups=0), best),
        ("match 1, answer 0.5, residual 0.5", FromPairs(halves=0), best),
        ("match 1, answer 0.5, residual 0.5", FromPairs(query_ridge=3.0), best),
        ("match 1, answer 0.5, residual 0.5", FromPairs(shrinkage=0.5), best),
    ]


def changed(settings: FromPairs) -> str:
    usual = FromPairs()
    names = ("shrinkage", "halves", "groups", "query_ridge", "document_ridge")
    found = {n: getattr(settings, n) for n in names if getattr(settings, n) != getattr(usual, n)}
    return ", ".join(f"{name} {value:g}" for name, value in found.items())


def parallel_texts(folder: str, exclude: Sequence[str], *, encoder: CachedEncoder) -> list[Floats]:
    """Scatter inside the groups of each labelled source's training texts."""
    stored = store_sources(read_records([folder], exclude=exclude), encoder=encoder, progress=True)
    scatters = []
    for source in stored.values():
        train = source.labels.positions("train")
        scatters.append(
            group_scatter(
                encoder.store.vectors, rows=source.rows[train], groups=source.labels.groups[train]
            )
        )
    return [scatter for scatter in scatters if scatter is not None]


def cross_validate(
    data: RetrievalSet,
    *,
    seed: int,
    projection: Projection,
    raw: slice,
    groups: Sequence[Floats],
    settings: FromPairs,
    weights: Mapping[str, float] | None,
    encoder: CachedEncoder,
) -> AnyFloats:
    """NDCG of each query (Q,), searched with what was learned from the other folds."""
    names = list(data.queries)
    fold = np.random.default_rng(seed).permutation(len(names)) % FOLDS
    documents = encoder.encode([document.text for document in data.documents])
    queries = encoder.encode(list(data.queries.values()), kind="query")
    relevant = relevance_matrix(data)
    widths = {**projection.layout.to_widths(), MATCH: WIDTH, ANSWER: WIDTH}
    layout = BlockLayout.from_widths(widths)
    found = np.zeros(len(names))
    for part in range(FOLDS):
        held = fold == part
        if weights is None:
            scores: AnyFloats = unit(queries[held][:, raw]) @ unit(documents[:, raw]).T
        else:
            splits = {n: "test" if out else "train" for n, out in zip(names, held, strict=True)}
            learned = learn(
                replace(data, splits=splits),
                projection=projection,
                layout=layout,
                groups=groups,
                settings=settings,
                encoder=encoder,
            )
            table = Weights.from_mapping(weights, layout=layout)
            scores = table.fold(learned.queries(queries[held])) @ learned(documents).T
        found[held] = [
            rank_one(row, relevant=wanted, k=CUT_OFF)[0]
            for row, wanted in zip(scores, relevant[held], strict=True)
        ]
    return found


def learn(
    data: RetrievalSet,
    *,
    projection: Projection,
    layout: BlockLayout,
    groups: Sequence[Floats],
    settings: FromPairs,
    encoder: CachedEncoder,
) -> Projection:
    stored = store_pairs({"set": data}, encoder=encoder)["set"]
    statistics, halves = training_pairs(stored, vectors=encoder.store.vectors)
    together = Together(
        sets={"set": statistics}, halves=[] if halves is None else [halves], groups=groups
    )
    return add_pair_blocks(projection, layout=layout, together=together, settings=settings)


if __name__ == "__main__":
    main()
