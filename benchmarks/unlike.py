"""What a negative example is worth: one wrong hit is rejected, and the others are ranked again.

    python benchmarks/unlike.py --data FOLDER/cranfield FOLDER/kusp_skills FOLDER/skillsbench

Each query whose first ten hits, at the model's default weights, hold one that is not relevant is
searched again with the best of these as what hits are not to be like. Prints nDCG@10 over
`unlike_weight`; at 0 the rejected hit is only left out, as it is at every other weight.
"""

import argparse
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from subspace.data import RetrievalSet, read_retrieval_set
from subspace.evaluation.ranking import rank_one
from subspace.model import Model, load
from subspace.model.embed_texts import open_stored_encoder
from subspace.retrieval import Index, Like

WEIGHTS = (0.0, 0.1, 0.25, 0.5, 0.75, 1.0, 1.5)
K = 10


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", nargs="+", required=True)
    parser.add_argument("--checkpoint", default="minilm")
    parser.add_argument("--store", default="runs/embeddings")
    arguments = parser.parse_args()
    model = load(arguments.checkpoint)
    print("| set | queries |", " | ".join(f"{weight:g}" for weight in WEIGHTS), "|")
    print("|---|---|" + "---|" * len(WEIGHTS))
    for path in map(Path, arguments.data):
        rows: dict[bool, list[list[float]]] = {}
        data = read_retrieval_set(path)
        for query, gains in curves(data, model=model, store=arguments.store):
            rows.setdefault(data.split(query) == "test", []).append(gains)
        for is_test, found in sorted(rows.items()):
            name = f"{path.name}, {'test' if is_test else 'other'} queries"
            means = " | ".join(f"{mean:.3f}" for mean in np.mean(found, axis=0))
            print(f"| {name} | {len(found)} | {means} |", flush=True)


def curves(data: RetrievalSet, *, model: Model, store: str) -> Iterator[tuple[str, list[float]]]:
    """Yields by query nDCG@10 at every weight."""
    vectors = open_stored_encoder(model, store=store).encode([d.text for d in data.documents])
    with tempfile.TemporaryDirectory() as folder:
        index = Index.create(Path(folder) / "index", model, data.documents, vectors=vectors)
        for query, text in data.queries.items():
            relevant = set(data.relevant(query))
            wrong = [hit.id for hit in index.search(text, k=K) if hit.id not in relevant]
            if not relevant or not wrong:
                continue
            gains = []
            for weight in WEIGHTS:
                found = index.search(text, k=K, unlike=Like(wrong[0]), unlike_weight=weight)
                places = {hit.id: -place for place, hit in enumerate(found)}
                last = -len(data.documents)
                scores = np.array([float(places.get(d.id, last)) for d in data.documents])
                wanted = np.array([d.id in relevant for d in data.documents])
                gains.append(rank_one(scores, relevant=wanted, k=K)[0])
            yield query, gains


if __name__ == "__main__":
    main()
