"""Searches an agent's skills for its tasks: nDCG@5 and MRR of blocks beside the raw encoder.

    python benchmarks/skills.py --checkpoint minilm --data FOLDER/kusp_skills

Skills are encoded as title, description and when-to-use (the text up to " Steps:"), tasks as title
and description. The reference model was not fitted on them.
"""

import argparse

from subspace.arrays import AnyFloats
from subspace.bench.bench_set import read_bench_set
from subspace.blocks import unit
from subspace.evaluation import rank_score
from subspace.model import load
from subspace.model.embed_texts import open_stored_encoder
from subspace.model.markdown import table
from subspace.retrieval import Weights


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--checkpoint", default="minilm")
    parser.add_argument("--data", required=True)
    parser.add_argument("--store", default="runs/embeddings")
    arguments = parser.parse_args()

    model = load(arguments.checkpoint)
    encoder = open_stored_encoder(model, store=arguments.store)
    data, _ = read_bench_set(arguments.data, model=model, until=" Steps:")
    documents = encoder.encode([document.text for document in data.documents])
    queries = encoder.encode(list(data.queries.values()), kind="query")

    raw = model.fingerprint.last_layer
    found, asked = model.project(documents).array, model.project(queries, kind="query").array
    mixes = {
        "default weights": model.default_weights,
        "equal weights": dict.fromkeys(model.layout, 1.0),
        **{f"block {name} alone": {name: 1.0} for name in model.layout},
    }
    rows: dict[str, AnyFloats] = {
        "raw encoder, last layer": unit(queries[:, raw]) @ unit(documents[:, raw]).T
    }
    for name, blocks in mixes.items():
        weights = Weights.make(layout=model.layout, blocks=blocks).scaled(model.score_scales)
        rows[name] = weights.fold(asked) @ found.T
    scores = {
        name: rank_score(one, query_ids=list(data.queries), data=data, k=5)
        for name, one in rows.items()
    }
    shown = [(name, f"{one.ndcg:.3f}", f"{one.mrr:.3f}") for name, one in scores.items()]
    print("\n".join(table(("score", "nDCG@5", "MRR"), shown)))


if __name__ == "__main__":
    main()
