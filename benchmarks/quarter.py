"""How much of plain search a block keeps by its width: principal components of other texts.

    SUBSPACE_DATA=FOLDER python benchmarks/quarter.py --data FOLDER/cranfield

nDCG@10 on a retrieval set over the raw embedding's: components of the labelled sources, which know
nothing of the set, of the set's own documents, and a topic block with `content_share: 1`.
"""

import argparse
import os

import numpy as np

from subspace.arrays import AnyFloats
from subspace.blocks import BlockLayout, unit
from subspace.data.records import read_records
from subspace.data.retrieval_sets import read_retrieval_set
from subspace.encoder import EncoderSpec
from subspace.encoder.cached_encoder import CachedEncoder
from subspace.evaluation import rank_score
from subspace.fitting.closed_form import ClosedForm, solve_closed_form
from subspace.fitting.stored_sources import store_sources, training_statistics
from subspace.fitting.weak.weak_moments import WeakSupervision

WIDTHS = (64, 96, 128, 192, 256)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", required=True)
    parser.add_argument("--store", default="runs/embeddings")
    parser.add_argument("--exclude", nargs="*", default=["kusp_skills"])
    arguments = parser.parse_args()

    encoder = CachedEncoder.open(EncoderSpec(layers=(0, 1, 3, 6)), root=arguments.store)
    raw = encoder.encoder.fingerprint.last_layer
    records = read_records([os.environ["SUBSPACE_DATA"]], exclude=arguments.exclude)
    stored = store_sources(records, encoder=encoder, progress=True)
    found = {
        name: training_statistics(source, encoder=encoder, weak=WeakSupervision())
        for name, source in stored.items()
    }
    statistics = {name: one for name, one in found.items() if one is not None}
    data = read_retrieval_set(arguments.data)
    documents = encoder.encode([document.text for document in data.documents])
    queries = encoder.encode(list(data.queries.values()), kind="query")

    def ndcg(q: AnyFloats, d: AnyFloats) -> float:
        scores = unit(q) @ unit(d).T
        return rank_score(scores, query_ids=list(data.queries), data=data, k=10).ndcg

    x, y = queries[:, raw], documents[:, raw]
    whole = ndcg(x, y)
    total = np.mean([one.covariance[raw, raw] for one in statistics.values()], axis=0)
    others = np.linalg.eigh(total)[1][:, ::-1]
    own = np.linalg.svd(y - y.mean(axis=0), full_matrices=False)[2].T
    print("| dimensions | of other texts | of its own documents | topic block |\n|---|---|---|---|")
    for width in WIDTHS:
        layout = BlockLayout.from_widths({"topic": width})
        settings = ClosedForm(content="topic", content_share=1.0, guard=0.0)
        block = solve_closed_form(statistics, layout=layout, settings=settings, raw=raw).projection
        scores = [ndcg(x @ rows[:, :width], y @ rows[:, :width]) for rows in (others, own)]
        scores.append(ndcg(block.queries(queries), block(documents)))
        print(f"| {width} | " + " | ".join(f"{score / whole:.3f}" for score in scores) + " |")


if __name__ == "__main__":
    main()
