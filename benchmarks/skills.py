"""Searches the agent's skills for its tasks: NDCG@5 and MRR of blocks next to the raw encoder.

    python benchmarks/skills.py --checkpoint checkpoints/real --data FOLDER/kusp_skills

Skills are encoded as title, description and when-to-use (the text up to "Steps:"), tasks as
title and description. None of them is in the training data of configs/real.yaml.
"""

import argparse
from pathlib import Path

from subspace.arrays import AnyFloats
from subspace.blocks import unit
from subspace.data.retrieval_sets import read_retrieval_set
from subspace.encoder.cached_encoder import CachedEncoder
from subspace.evaluation import rank_score
from subspace.model import load_checkpoint
from subspace.retrieval import Weights


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--checkpoint", required=True)
    parser.add_argument("--data", required=True, type=Path)
    parser.add_argument("--store", default="runs/embeddings")
    arguments = parser.parse_args()

    checkpoint = load_checkpoint(arguments.checkpoint)
    encoder = CachedEncoder.open(checkpoint.encoder_spec(), root=arguments.store)
    data = read_retrieval_set(arguments.data)
    documents = encoder.encode([d.text.split(" Steps:")[0] for d in data.documents])
    queries = encoder.encode(list(data.queries.values()), kind="query")

    raw = checkpoint.fingerprint.last_layer
    projection = checkpoint.projection
    layout = projection.layout
    blocks = projection.queries(queries), projection(documents)
    rows: dict[str, AnyFloats] = {
        "raw encoder, last layer": unit(queries[:, raw]) @ unit(documents[:, raw]).T,
        "blocks, equal weights": Weights.equal(layout).fold(blocks[0]) @ blocks[1].T,
    }
    for name in layout:
        weights = Weights.from_mapping({name: 1.0}, layout=layout)
        rows[f"block {name} alone"] = weights.fold(blocks[0]) @ blocks[1].T
    print("| score | NDCG@5 | MRR |\n|---|---|---|")
    for name, scores in rows.items():
        result = rank_score(scores, query_ids=list(data.queries), data=data, k=5)
        print(f"| {name} | {result.ndcg:.3f} | {result.mrr:.3f} |")


if __name__ == "__main__":
    main()
