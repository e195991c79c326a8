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

from keywords import K, add_arguments, gain, print_head, print_rows

from subspace.data import RetrievalSet, read_retrieval_set
from subspace.model import Model, load
from subspace.model.embed_texts import open_stored_encoder
from subspace.retrieval import Index, Like

WEIGHTS = (0.0, 0.1, 0.25, 0.5, 0.75, 1.0, 1.5)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add_arguments(parser)
    arguments = parser.parse_args()
    model = load(arguments.checkpoint)
    print_head(WEIGHTS)
    for path in map(Path, arguments.data):
        data = read_retrieval_set(path)
        rows = [
            (data.split(query) == "test", gains)
            for query, gains in curves(data, model=model, store=arguments.store)
        ]
        print_rows(path.name, rows)


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
            found = [
                index.search(text, k=K, unlike=Like(wrong[0]), unlike_weight=weight)
                for weight in WEIGHTS
            ]
            ids = [[hit.id for hit in hits] for hits in found]
            yield query, [gain(one, data.relevant(query), data=data) for one in ids]


if __name__ == "__main__":
    main()
