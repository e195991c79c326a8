"""Bounds what recency and importance can add: draws random mixes and keeps the best in hindsight.

    python benchmarks/riv_bound.py --data FOLDER/kusp_skills

Searches the raw embedding as one block. Each draw weighs relevance by 1, and adds the traces of
recency and importance, each with its own half-life, and the recency and success of the item. The
best draw is chosen on the tasks that it is scored on, so no learner can do better. Prints the best
five.
"""

import argparse
from dataclasses import replace

import numpy as np

from subspace.bench.bench_set import relevance_matrix
from subspace.blocks import BlockLayout, unit
from subspace.data.retrieval_sets import read_retrieval_set
from subspace.encoder import EncoderSpec
from subspace.encoder.cached_encoder import CachedEncoder
from subspace.evaluation.ranking import rank_one
from subspace.retrieval.usage.decay import Decay, ItemHistory
from subspace.retrieval.usage.traces import Traces
from subspace.retrieval.usage.usage_log import Use

CHOICES = {
    "recency trace": (0.0, 0.0, 0.1, 0.3, 0.6),
    "importance trace": (0.0, 0.2, 0.5, 1.0),
    "item recency": (0.0, 0.0, -0.02, 0.02),
    "item success": (0.0, 0.1, 0.2, 0.3, 0.4),
    "half-life of recency": (5.0, 50.0),
    "half-life of importance": (5.0, 50.0, 200.0, 1e9),
}


def replay(
    documents: np.ndarray,
    queries: np.ndarray,
    relevant: np.ndarray,
    order: np.ndarray,
    mix: dict[str, float],
) -> float:
    layout = BlockLayout(("whole",), (documents.shape[1],))
    recency = Traces(layout=layout, half_life=mix["half-life of recency"])
    importance = Traces(layout=layout, half_life=mix["half-life of importance"])
    items, decay = ItemHistory(), Decay.default("steps")
    ids = [str(n) for n in range(len(documents))]
    scores = []
    for step, task in enumerate(order):
        query = queries[task] + mix["recency trace"] * recency.recency
        query = query + mix["importance trace"] * importance.importance
        lately, success = items.at(step, decay=decay).of(ids)
        score = documents @ query + mix["item recency"] * lately + mix["item success"] * success
        used = np.argsort(-score, kind="stable")[:5]
        scores.append(rank_one(score, relevant=relevant[task], k=5)[0])
        uses = [Use(ids[row], step, float(relevant[task, row])) for row in used]
        items.add(uses)
        recency.add(uses, documents[used])
        importance.add(uses, documents[used])
    return float(np.mean(scores))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", required=True)
    parser.add_argument("--store", default="runs/embeddings")
    parser.add_argument("--draws", type=int, default=100)
    parser.add_argument("--orders", type=int, default=3)
    arguments = parser.parse_args()

    data = read_retrieval_set(arguments.data)
    data = replace(
        data,
        documents=tuple(replace(d, text=d.text.split(" Steps:")[0]) for d in data.documents),
    )
    encoder = CachedEncoder.open(EncoderSpec(model="minilm"), root=arguments.store)
    documents = unit(encoder.encode([d.text for d in data.documents]))
    queries = unit(encoder.encode(list(data.queries.values()), kind="query"))
    relevant = relevance_matrix(data)
    rng = np.random.default_rng(0)
    orders = [rng.permutation(len(queries)) for _ in range(arguments.orders)]
    nothing = {name: 0.0 for name in CHOICES if "half" not in name}
    mixes = [{**nothing, "half-life of recency": 50.0, "half-life of importance": 50.0}]
    mixes += [
        {name: float(rng.choice(values)) for name, values in CHOICES.items()}
        for _ in range(arguments.draws)
    ]
    found = [
        float(np.mean([replay(documents, queries, relevant, order, mix) for order in orders]))
        for mix in mixes
    ]
    print(f"relevance alone: nDCG@5 {found[0]:.3f}")
    for row in np.argsort(found)[::-1][:5]:
        mix = ", ".join(f"{name} {value:g}" for name, value in mixes[row].items())
        print(f"{found[row]:.3f} ({found[row] / found[0] - 1:+.1%}): {mix}")


if __name__ == "__main__":
    main()
