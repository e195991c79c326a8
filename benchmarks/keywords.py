"""Does BM25 beside the blocks find more? nDCG@10 over weights of keywords, on retrieval sets.

    python benchmarks/keywords.py --data FOLDER/cranfield FOLDER/kusp_skills FOLDER/skillsbench ...

Every query of each set is searched with the model's default weights and a weight of keywords. Those
of the split `test` are counted apart, so that a weight can be chosen without them. A folder that
holds one set per conversation counts as one set, each conversation searched by itself. With
`--clock`, it prints instead how long keywords of so many texts take, repeated from the sets.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from tqdm import tqdm

from subspace.data import RetrievalSet, read_retrieval_set
from subspace.data.records import Record
from subspace.data.retrieval_sets import find_retrieval_sets
from subspace.evaluation.ranking import rank_one
from subspace.model import Model, load
from subspace.model.embed_texts import open_stored_encoder
from subspace.retrieval import Index
from subspace.retrieval.block_index import BlockIndex

WEIGHTS = (0.0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 1.5, 2.0, 1000.0)
K = 10


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    add_arguments(parser)
    parser.add_argument("--most", type=int, help="conversations of a folder, the first of them")
    parser.add_argument("--clock", nargs="+", type=int, metavar="TEXTS")
    arguments = parser.parse_args()
    model = load(arguments.checkpoint)
    if arguments.clock:
        sets = [read_retrieval_set(path) for path in find_retrieval_sets(arguments.data).values()]
        clock(model, sets, counts=arguments.clock)
        return
    print_head(WEIGHTS)
    for path in map(Path, arguments.data):
        rows: list[tuple[bool, list[float]]] = []
        folders = sorted(find_retrieval_sets([path]).values())[: arguments.most]
        for folder in tqdm(folders, unit="set", disable=len(folders) == 1):
            data = read_retrieval_set(folder)
            for query, gains in curves(data, model=model, store=arguments.store):
                rows.append((data.split(query) == "test", gains))
        print_rows(path.name, rows)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what is searched, and with what."""
    parser.add_argument("--data", nargs="+", required=True)
    parser.add_argument("--checkpoint", default="minilm")
    parser.add_argument("--store", default="runs/embeddings")


def print_head(weights: Sequence[float]) -> None:
    """Prints the head of a table of nDCG@10 over weights."""
    print("| set | queries |", " | ".join(f"{weight:g}" for weight in weights), "|")
    print("|---|---|" + "---|" * len(weights))


def print_rows(name: str, rows: Sequence[tuple[bool, Sequence[float]]]) -> None:
    """Prints the means of a set, of the split `test` apart.

    Args:
        name: The set.
        rows: For each query, whether it is of that split, and nDCG@10 at every weight.
    """
    for is_test in sorted({one for one, _ in rows}):
        found = [gains for one, gains in rows if one == is_test]
        means = " | ".join(f"{mean:.3f}" for mean in np.mean(found, axis=0))
        what = "test" if is_test else "other"
        print(f"| {name}, {what} queries | {len(found)} | {means} |", flush=True)


def curves(data: RetrievalSet, *, model: Model, store: str) -> Iterator[tuple[str, list[float]]]:
    """Yields by query nDCG@10 at every weight."""
    vectors = open_stored_encoder(model, store=store).encode([d.text for d in data.documents])
    queries = {query: text for query, text in data.queries.items() if data.relevant(query)}
    with tempfile.TemporaryDirectory() as folder:
        index = Index.create(Path(folder) / "index", model, data.documents, vectors=vectors)
        found = [
            index.search_batch(list(queries.values()), keywords=weight, k=K) for weight in WEIGHTS
        ]
    for place, query in enumerate(queries):
        hits = [[hit.id for hit in results[place]] for results in found]
        yield query, [gain(ids, data.relevant(query), data=data) for ids in hits]


def gain(ids: Sequence[str], relevant: Sequence[str], *, data: RetrievalSet) -> float:
    """Returns nDCG@10 of hits."""
    places = {name: -place for place, name in enumerate(ids)}
    scores = np.array([float(places.get(d.id, -len(data.documents))) for d in data.documents])
    wanted = set(relevant)
    return rank_one(scores, relevant=np.array([d.id in wanted for d in data.documents]), k=K)[0]


def clock(model: Model, sets: Sequence[RetrievalSet], *, counts: Sequence[int]) -> None:
    """Prints seconds and milliseconds of processor time for counting and searching words."""
    texts = [document.text for data in sets for document in data.documents]
    asked = [text for data in sets for text in data.queries.values()][:50]
    rng = np.random.default_rng(0)
    print("| texts | words each | first search, s | after one more text, s | search, ms |")
    print("|---|---|---|---|---|")
    for count in counts:
        # Each text differs from those that it repeats, so that all are split into words.
        records = [Record(str(n), f"{texts[n % len(texts)]} {n}") for n in range(count)]
        raw = rng.normal(size=(count, model.projection.input_dim)).astype(np.float32)
        blocks = model.project(raw).array
        with tempfile.TemporaryDirectory() as folder:
            index = Index.create(Path(folder) / "index", model).blocks
            index.add(records, blocks)
            first = timed(index, asked[0])
            index.add([Record("new", "one more text")], blocks[:1])
            again = timed(index, asked[0])
            each = statistics.median(timed(index, text) for text in asked)
        length = np.mean([len(record.text.split()) for record in records])
        print(f"| {count} | {length:.0f} | {first:.2f} | {again:.2f} | {1000 * each:.2f} |")


def timed(index: BlockIndex, text: str) -> float:
    start = time.process_time()
    index.keyword_scores([text], weight=1.0)
    return time.process_time() - start


if __name__ == "__main__":
    main()
