"""How much of the other factors topic itself gives away: a bound on the topic block's leakage.

    python benchmarks/topic_bound.py --data FOLDER

Linear topic classifiers are fitted on the raw embedding of every source that labels topic, and
their class probabilities are all that is kept of the texts of the other sources. What a linear
probe reads of style, complexity and specificity from those probabilities (confounds controlled,
relative to the raw embedding) is known to whoever recognises topics: a block that does, leaks it.
"""

import argparse

import numpy as np
from sklearn.linear_model import LogisticRegression

from subspace.arrays import Floats
from subspace.blocks import unit
from subspace.data.records import read_records
from subspace.encoder import EncoderSpec
from subspace.encoder.cached_encoder import CachedEncoder
from subspace.evaluation import EmbeddedSource
from subspace.evaluation.probes import linear_probe
from subspace.evaluation.scores import chance_of, score_predictions
from subspace.evaluation.tasks import can_probe, find_ties, make_tasks, partial_out, word_counts
from subspace.fitting.stored_sources import store_sources


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", nargs="+", required=True)
    parser.add_argument("--exclude", nargs="*", default=["kusp_skills"])
    parser.add_argument("--model", default="minilm")
    parser.add_argument("--store", default="runs/embeddings")
    arguments = parser.parse_args()

    encoder = CachedEncoder.open(EncoderSpec(model=arguments.model), root=arguments.store)
    records = read_records(arguments.data, exclude=arguments.exclude)
    sources = {
        name: EmbeddedSource(source.records, source.labels, unit(encoder.store.read(source.rows)))
        for name, source in store_sources(records, encoder=encoder, progress=True).items()
    }
    classifiers = {}
    for name, source in sources.items():
        topic = source.labels.columns.get("topic")
        if topic is not None and can_probe(topic, labels=source.labels):
            train = source.labels.positions("train")
            train = train[topic.codes[train] >= 0]
            model = LogisticRegression(C=10, class_weight="balanced", max_iter=2000)
            classifiers[name] = model.fit(source.x[train], topic.codes[train])
    print("| source | factor | topics known | share of the raw embedding's score |")
    print("|---|---|---|---|")
    for name, source in sources.items():
        others = [model for other, model in classifiers.items() if other != name]
        known = np.concatenate([model.predict_proba(source.x) for model in others], axis=1)
        for factor in source.labels.columns:
            if factor != "topic":
                share = _share(source, factor, known)
                print(f"| {name} | {factor} | {known.shape[1]} | {share:.2f} |", flush=True)


def _share(source: EmbeddedSource, factor: str, known: Floats) -> float:
    lengths = word_counts(source.records)
    above = np.zeros(2)
    for task in make_tasks(source.labels, factor=factor, seeds=1, ties=find_ties(source.labels)):
        for position, x in enumerate((known, source.x.astype(np.float64))):
            left = partial_out(x, lengths, train=task.train)
            score = score_predictions(linear_probe(left, task), truth=task.truth)[0, 0]
            above[position] += max(float(score) - chance_of(task.truth), 0.0)
    return float(above[0] / above[1]) if above[1] > 0 else float("nan")


if __name__ == "__main__":
    main()
