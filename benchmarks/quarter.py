"""Measures how much of plain search principal components keep, by their number.

    SUBSPACE_DATA=FOLDER python benchmarks/quarter.py --data FOLDER/cranfield

nDCG@10 on a retrieval set, divided by that of the raw embedding. Compares the topic block, whose
components are those of the labelled sources in SUBSPACE_DATA, with components of the set's own
documents.
"""

import argparse
import os
from dataclasses import replace

import numpy as np

from subspace.arrays import AnyFloats
from subspace.blocks import unit
from subspace.data import read_retrieval_set, read_sources
from subspace.evaluation import rank_score
from subspace.fitting import DEFAULT_BLOCKS, WeakSupervision
from subspace.fitting.closed_form import solve_closed_form
from subspace.fitting.fitting_data import DEFAULT_STORE, FittingData, encoder_spec
from subspace.model.markdown import table

WIDTHS = (64, 96, 128, 192, 256)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument(
        "--exclude", nargs="*", default=["kusp_skills"], help="sources to leave out"
    )
    parser.add_argument("--data", required=True, help="a retrieval set in the BEIR layout")
    parser.add_argument("--store", default=DEFAULT_STORE)
    arguments = parser.parse_args()

    fitting = FittingData.encode(
        read_sources([os.environ["SUBSPACE_DATA"]], exclude=arguments.exclude),
        encoder=encoder_spec("minilm"),
        weak=WeakSupervision(),
        store=arguments.store,
        progress=True,
    )
    fingerprint = fitting.encoder.encoder.fingerprint
    data = read_retrieval_set(arguments.data)
    documents = fitting.encoder.encode([document.text for document in data.documents])
    queries = fitting.encoder.encode(list(data.queries.values()), kind="query")

    def ndcg(q: AnyFloats, d: AnyFloats) -> float:
        scores = unit(q) @ unit(d).T
        return rank_score(scores, query_ids=list(data.queries), data=data, k=10).ndcg

    x, y = queries[:, fingerprint.last_layer], documents[:, fingerprint.last_layer]
    raw = ndcg(x, y)
    own = np.linalg.svd(y - y.mean(axis=0), full_matrices=False)[2].T
    rows = []
    for width in WIDTHS:
        block = solve_closed_form(
            fitting.moments,
            blocks={"topic": replace(DEFAULT_BLOCKS["topic"], width=width)},
            layers=fingerprint.layers,
        )
        scores = [
            ndcg(block(queries), block(documents)),
            ndcg(x @ own[:, :width], y @ own[:, :width]),
        ]
        rows.append([width, *(f"{score / raw:.3f}" for score in scores)])
    print("\n".join(table(("dimensions", "topic block", "of its own documents"), rows)))


if __name__ == "__main__":
    main()
