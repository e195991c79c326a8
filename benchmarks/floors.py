"""What the floors of recency and importance cost or gain in replays of tasks.

    python benchmarks/floors.py --data FOLDER/kusp_skills --until ' Steps:'

Replays the tasks as `subspace bench riv` does, on the raw embedding as one block, under some
presets and several floors: of the importance trace in block scope, of the recency of confirmed
items in item scope. Prints the mean nDCG@5 over the orders.
"""

import argparse

import numpy as np

from subspace.bench.bench_set import read_bench_set, relevance_matrix
from subspace.bench.replay import HALF_LIFE, USED
from subspace.bench.spaces import Space, make_spaces
from subspace.evaluation.ranking import rank_one
from subspace.model import load
from subspace.model.embed_texts import open_stored_encoder
from subspace.retrieval.usage.decay import Decay, ItemHistory
from subspace.retrieval.usage.traces import Traces
from subspace.retrieval.usage.uses import Use
from subspace.retrieval.weights import Weights

PRESETS = ("relevance_heavy", "importance_relevance", "balanced", "importance_heavy", "exploration")
FLOORS = {"block": (0.0, 0.1, 0.5, 1.0), "item": (0.0, 0.5)}


def replay(
    space: Space,
    relevant: np.ndarray,
    order: np.ndarray,
    *,
    weights: Weights,
    scope: str,
    floor: float,
) -> float:
    """Returns the mean nDCG@5 of the tasks in one order."""
    traces = Traces(layout=space.layout, half_life=HALF_LIFE, floor=floor)
    items, decay = ItemHistory(), Decay.default("steps")
    ids = [str(row) for row in range(len(space.documents))]
    scores = []
    for step, task in enumerate(order):
        query = space.queries[task]
        if scope == "block":
            trace = traces.recency, traces.importance_at(step)
            folded = weights.fold(query, recency=trace[0], importance=trace[1])
            found = space.documents @ folded
        else:
            lately, success = items.at(step, decay=decay, floor=floor).of(ids)
            found = space.documents @ weights.fold(query)
            found = found + sum(weights.recency) * lately + sum(weights.importance) * success
        used = np.argsort(-found, kind="stable")[:USED]
        scores.append(rank_one(found, relevant=relevant[task], k=USED)[0])
        uses = [Use(ids[row], step, float(relevant[task, row])) for row in used]
        items.add(uses)
        traces.add(uses, space.documents[used])
    return float(np.mean(scores))


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", required=True)
    parser.add_argument("--until")
    parser.add_argument("--checkpoint", default="minilm")
    parser.add_argument("--store", default="runs/embeddings")
    parser.add_argument("--orders", type=int, default=3)
    arguments = parser.parse_args()

    model = load(arguments.checkpoint)
    data, _ = read_bench_set(arguments.data, model=model, until=arguments.until)
    relevant, encoder = relevance_matrix(data), open_stored_encoder(model, store=arguments.store)
    space = make_spaces(
        documents=encoder.encode([document.text for document in data.documents]),
        queries=encoder.encode(list(data.queries.values()), kind="query"),
        model=model,
    )[0]
    tables = {name: Weights.make(layout=space.layout, preset=name) for name in PRESETS}
    tables["0 / .2 / .8"] = Weights.make(layout=space.layout, riv=(0, 0.2, 0.8))
    orders = [np.random.default_rng(o).permutation(len(relevant)) for o in range(arguments.orders)]
    print("| scope | floor |", " | ".join(tables), "|")
    print("|---|---|" + "---|" * len(tables))
    for scope, floors in FLOORS.items():
        for floor in floors:
            means = [
                np.mean(
                    [
                        replay(space, relevant, order, weights=table, scope=scope, floor=floor)
                        for order in orders
                    ]
                )
                for table in tables.values()
            ]
            print(
                f"| {scope} | {floor} |",
                " | ".join(f"{mean:.3f}" for mean in means),
                "|",
                flush=True,
            )


if __name__ == "__main__":
    main()
