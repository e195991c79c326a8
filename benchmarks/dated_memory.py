"""Does recency find what is still true? Dated conversations, each message used when it was written.

    python benchmarks/dated_memory.py --data FOLDER/beam_memory

FOLDER/beam_memory holds one retrieval set per conversation: its messages in the order in which they
were written, questions, and the messages that answer them. Every question is asked after the last
message. A weight of recency is mixed in, r of recency and 1 - r of relevance, of the item itself
(scope `item`) and of what was written lately in a block (scope `block`). Two figures: nDCG@10 over
all questions, and for questions after something that was updated how often the newer message that
answers stands above the older one (grades 2 and 1).
"""

import argparse
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from tqdm import tqdm

from subspace.data import RetrievalSet, read_retrieval_set
from subspace.evaluation.ranking import rank_one
from subspace.model import Model, load
from subspace.model.embed_texts import open_stored_encoder
from subspace.retrieval import Index, UsageLog
from subspace.retrieval.hits import SCOPES, Scope
from subspace.retrieval.usage.decay import Decay

MIXES = (0.0, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", required=True)
    parser.add_argument("--checkpoint", default="minilm")
    parser.add_argument("--store", default="runs/embeddings")
    parser.add_argument("--most", type=int, help="conversations, the first of them")
    arguments = parser.parse_args()
    model = load(arguments.checkpoint)
    folders = sorted(p for p in Path(arguments.data).iterdir() if p.is_dir())[: arguments.most]
    found: dict[tuple[str, float], list[tuple[float, float | None]]] = {}
    for folder in tqdm(folders, unit="conversation"):
        data = read_retrieval_set(folder)
        with tempfile.TemporaryDirectory() as place, closing_index(data, model, place) as index:
            add(index, data, model=model, store=arguments.store)
            for mix, scope in ((mix, scope) for mix in MIXES for scope in SCOPES):
                weights = f"topic=1,riv={mix},0,{1 - mix}"
                found.setdefault((scope, mix), []).extend(
                    score(index, data, weights=weights, scope=scope)
                )
    print("| recency | " + " | ".join(f"{s}: nDCG@10 | newer first" for s in SCOPES) + " |")
    print("|---|" + "---|---|" * len(SCOPES))
    for mix in MIXES:
        cells = []
        for scope in SCOPES:
            rows = found[scope, mix]
            newer = [first for _, first in rows if first is not None]
            cells += [f"{np.mean([gain for gain, _ in rows]):.3f}", f"{np.mean(newer):.2f}"]
        print(f"| {mix} | {' | '.join(cells)} |")
    rows = found["item", 0.0]
    updated = sum(first is not None for _, first in rows)
    print(f"{len(rows)} questions of {len(folders)} conversations, {updated} after an update")


def closing_index(data: RetrievalSet, model: Model, place: str) -> Index:
    """An empty index and a log in which every message is used at its turn."""
    lines = Path(place) / "uses.jsonl"
    uses = ({"item": d.id, "time": turn} for turn, d in enumerate(data.documents))
    lines.write_text("".join(json.dumps(use) + "\n" for use in uses))
    with UsageLog.open(Path(place) / "usage.db", clock="steps") as log:
        log.import_jsonl(lines)
    count = len(data.documents)
    return Index.create(
        Path(place) / "index",
        model,
        usage=Path(place) / "usage.db",
        recency=Decay(kind="linear", scale=count),
        half_life=count / 4,
    )


def add(index: Index, data: RetrievalSet, *, model: Model, store: str) -> None:
    """Adds all messages; what was encoded before is not encoded again."""
    encoder = open_stored_encoder(model, store=store)
    index.add(data.documents, vectors=encoder.encode([d.text for d in data.documents]))


def score(
    index: Index, data: RetrievalSet, *, weights: str, scope: Scope
) -> Iterator[tuple[float, float | None]]:
    """By question, nDCG@10, and whether the newer answer stands above the older; None without."""
    for query, text in data.queries.items():
        grades = data.relevance.get(query, {})
        if not grades:
            continue
        hits = index.search(text, weights=weights, scope=scope, k=len(data.documents))
        places = {hit.id: place for place, hit in enumerate(hits)}
        relevant = np.array([document.id in grades for document in data.documents])
        scores = np.array([-float(places[document.id]) for document in data.documents])
        gain, _ = rank_one(scores, relevant=relevant, k=10)
        new = [places[one] for one, grade in grades.items() if grade == 2]
        old = [places[one] for one, grade in grades.items() if grade == 1]
        yield gain, float(min(new) < min(old)) if new and old else None


if __name__ == "__main__":
    main()
