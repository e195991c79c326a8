"""Compares plain search of a model with that of the raw encoder, on retrieval sets.

python benchmarks/search_kept.py --data FOLDER/kusp_skills FOLDER/cranfield --checkpoint minilm
"""

import argparse

from subspace.data import find_retrieval_sets, read_retrieval_set
from subspace.evaluation import measure_base_retrieval
from subspace.model import load
from subspace.model.embed_texts import open_stored_encoder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", required=True, nargs="+")
    parser.add_argument("--checkpoint", default="minilm")
    parser.add_argument("--store", default="runs/embeddings")
    arguments = parser.parse_args()
    model = load(arguments.checkpoint)
    encoder = open_stored_encoder(model, store=arguments.store)
    print("| set | queries | raw encoder | default weights | ratio |\n|---|---|---|---|---|")
    for name, folder in find_retrieval_sets(arguments.data).items():
        data = read_retrieval_set(folder)
        found = measure_base_retrieval(
            model,
            name=name,
            data=data,
            documents=encoder.encode([one.text for one in data.documents]),
            queries=encoder.encode(list(data.queries.values()), kind="query"),
        )
        print(
            f"| {name} | {found.queries} | {found.raw_ndcg:.3f} | {found.ndcg:.3f} | "
            f"{found.relative:.3f} |"
        )


if __name__ == "__main__":
    main()
