"""Compares labels by features, heads and clusters with human labels.

    python benchmarks/labels.py --data FOLDER_OF_SOURCES data/factorial

Labels the test texts of every labelled source (at most 1,000) by the scores of features, by single
features, by the readability formula LIX of `textstat` (pip install textstat; LIX needs no download,
unlike its formulas that count syllables), and by the heads of `checkpoints/minilm`. For numbers it
prints Spearman's rank correlation with the human label, and the same controlled for the number of
words (partial correlation of ranks). For style it prints the share of the variance of the ranks of
formality that lies between the human classes (eta squared), and Cramér's V for heads. For topics it
clusters the raw embedding of 500 texts, and prints the normalised mutual information.

`--reference` prints means and deviations of the features in use, and thirds of formality, over
training texts: the constants of `fitting/weak/feature_scores.py` and
`labelling/feature_annotator.py`.
"""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy.stats import rankdata, spearmanr
from scipy.stats.contingency import association, crosstab
from sklearn.metrics import normalized_mutual_info_score

from subspace.arrays import Floats
from subspace.data.records import Record, Split, read_sources
from subspace.encoder.cached_encoder import CachedEncoder
from subspace.fitting.weak import text_features
from subspace.fitting.weak.feature_scores import REFERENCE, score_text
from subspace.labelling.clusters import find_clusters
from subspace.model import load

CHECKPOINT = Path("checkpoints/minilm")
# Its labels are the difficulty of a task, not of reading.
EXCLUDED = ["kusp_skills"]
_TEXTS, _CLUSTERED = 1000, 500
_NUMBERS = ("complexity", "specificity")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", nargs="+", required=True)
    parser.add_argument("--store", default="runs/embeddings")
    parser.add_argument("--reference", action="store_true")
    arguments = parser.parse_args()
    sources = read_sources(arguments.data)
    for name in EXCLUDED:
        sources.pop(name, None)
    if arguments.reference:
        print_reference(sources)
        return
    model = load(CHECKPOINT)
    encoder = CachedEncoder.open(model.encoder, root=arguments.store)
    seen = set(model.data) | {"cefr_sp"}  # a part of it
    print("| source | factor | labels | rank correlation | controlled for length |")
    print("|---|---|---|---|---|")
    clustered = []
    for name, records in sources.items():
        test = draw(records, split="test", count=_TEXTS)
        x = encoder.encode([record.text for record in test], progress=True)
        predicted = model.predict(model.project(x))
        for factor in _NUMBERS:
            given = {
                **score(test, factor=factor),
                f"head{' (fitted on it)' if name in seen else ''}": np.array(predicted[factor]),
            }
            print_numbers(name, test, factor=factor, given=given)
        print_style(name, test, styles=predicted["style"])
        clustered.append((name, draw(records, split=None, count=_CLUSTERED, factor="topic")))
    print("\n| source | classes | clusters | mutual information | shuffled |")
    print("|---|---|---|---|---|")
    for name, drawn in clustered:
        print_topics(name, drawn, encoder=encoder)


def draw(
    records: Sequence[Record], *, split: Split | None, count: int, factor: str | None = None
) -> list[Record]:
    kept = [
        record
        for record in records
        if split in (None, record.split) and factor in (None, *record.factors)
    ]
    order = np.random.default_rng(0).permutation(len(kept))
    return [kept[place] for place in order[:count]]


def score(records: Sequence[Record], *, factor: str) -> dict[str, Floats]:
    """Scores texts by all features of a factor, by each of them, and by LIX."""
    import textstat

    parts = [text_features(record.text)[factor] for record in records]
    found = {"**features**": np.array([score_text(record.text)[factor] for record in records])}
    for name, (sign, _, _) in REFERENCE[factor].items():
        found[f"{'-' if sign < 0 else ''}{name}"] = sign * np.array([part[name] for part in parts])
    if factor == "complexity":
        found["LIX (textstat)"] = np.array([textstat.lix(record.text) for record in records])
    return found


def print_numbers(
    source: str, records: Sequence[Record], *, factor: str, given: Mapping[str, Floats]
) -> None:
    kept = [place for place, record in enumerate(records) if factor in record.factors]
    if not kept:
        return
    truth = np.array([float(records[place].factors[factor]) for place in kept])
    words = np.array([len(records[place].text.split()) for place in kept], dtype=float)
    for name, values in {**given, "number of words": None}.items():
        column = words if values is None else values[kept]
        plain = float(spearmanr(column, truth).statistic)
        rest = "" if values is None else f"{partial(column, truth, words):.2f}"
        print(f"| {source} ({len(kept)}) | {factor} | {name} | {plain:.2f} | {rest} |")


def partial(first: Floats, second: Floats, controlled: Floats) -> float:
    """Spearman's correlation of two after the ranks of a third are regressed out of both."""
    ranks = [rankdata(values) for values in (first, second, controlled)]
    rest = [rank - np.polyval(np.polyfit(ranks[2], rank, 1), ranks[2]) for rank in ranks[:2]]
    return float(np.corrcoef(rest[0], rest[1])[0, 1])


def print_style(source: str, records: Sequence[Record], *, styles: Sequence[str | float]) -> None:
    kept = [place for place, record in enumerate(records) if "style" in record.factors]
    if not kept:
        return
    truth = np.array([str(records[place].factors["style"]) for place in kept])
    formality = rankdata([score_text(records[place].text)["style"] for place in kept])
    words = rankdata([len(records[place].text.split()) for place in kept])
    rest = formality - np.polyval(np.polyfit(words, formality, 1), words)
    explained = f"{eta_squared(formality, truth):.2f} | {eta_squared(rest, truth):.2f}"
    print(f"| {source} ({len(kept)}) | style | **formality**, eta squared | {explained} |")
    table = crosstab(truth, np.array([str(styles[place]) for place in kept])).count
    print(f"| {source} ({len(kept)}) | style | head, Cramér's V | {association(table):.2f} | |")
    means = {name: float(formality[truth == name].mean()) / len(kept) for name in np.unique(truth)}
    ordered = ", ".join(f"{n} {mean:.2f}" for n, mean in sorted(means.items(), key=lambda m: m[1]))
    print(f"| | | mean rank: {ordered} | | |")


def eta_squared(values: Floats, classes: npt.NDArray[np.str_]) -> float:
    """Computes the share of the variance of values that lies between classes."""
    centred = values - values.mean()
    between = sum(
        (classes == name).sum() * centred[classes == name].mean() ** 2
        for name in np.unique(classes)
    )
    return float(between / (centred**2).sum())


def print_topics(source: str, records: Sequence[Record], *, encoder: CachedEncoder) -> None:
    topics = [str(record.factors["topic"]) for record in records]
    if len(records) < _CLUSTERED:
        return
    last = encoder.encoder.fingerprint.last_layer
    codes = find_clusters(encoder.encode([record.text for record in records])[:, last])
    shared = normalized_mutual_info_score(topics, codes)
    alone = normalized_mutual_info_score(topics, np.random.default_rng(0).permutation(codes))
    print(f"| {source} | {len(set(topics))} | {codes.max() + 1} | {shared:.2f} | {alone:.2f} |")


def print_reference(sources: Mapping[str, Sequence[Record]]) -> None:
    labelled = ("complexity", "specificity", "style")
    drawn = [
        draw(records, split="train", count=2500)
        for records in sources.values()
        if any(factor in record.factors for record in records for factor in labelled)
    ]
    features = [[text_features(record.text) for record in records] for records in drawn]
    for factor, parts in REFERENCE.items():
        for name in parts:
            columns = [np.array([one[factor][name] for one in source]) for source in features]
            mean = np.mean([column.mean() for column in columns])
            square = np.mean([(column**2).mean() for column in columns])
            print(f"{factor:12} {name:24} {mean:.3f} {np.sqrt(square - mean**2):.3f}")
    levels = np.linspace(0, 1, 501)
    formality = [
        np.quantile([score_text(record.text)["style"] for record in records], levels)
        for records in drawn
    ]
    print("thirds of formality:", np.quantile(np.concatenate(formality), [1 / 3, 2 / 3]).round(2))


if __name__ == "__main__":
    main()
