"""Describe the factorial corpus: what words and length alone say about each factor.

Usage::

    python data/describe_factorial.py   # prints Markdown tables; needs scikit-learn
"""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

RECORDS = Path(__file__).resolve().parent / "factorial" / "records.jsonl"
SPLITS = ("train", "validation", "test")
FACTORS = ("topic", "style", "complexity", "specificity")
CLASS_FACTORS = ("topic", "style")

Record = dict[str, Any]


def load(path: Path = RECORDS) -> list[Record]:
    """Read the records."""
    with path.open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def words(text: str) -> set[str]:
    """Return the set of words; case and punctuation are ignored, ``it's`` is one word."""
    return set(re.findall(r"\w+(?:'\w+)?", text.lower()))


def best_single_words(records: Iterable[Record], factor: str) -> dict[Any, tuple[str, float]]:
    """Find, for each label, the word that best tells it from all other labels.

    The rule is the presence, or else the absence, of the word; its score is the balanced
    accuracy on all records.

    Args:
        records: the records to score on.
        factor: the name of the factor.

    Returns:
        For each label the word and its balanced accuracy.
    """
    sizes: Counter[Any] = Counter()
    present: dict[str, Counter[Any]] = defaultdict(Counter)
    for record in records:
        label = record["factors"][factor]
        sizes[label] += 1
        for word in words(record["text"]):
            present[word][label] += 1
    best = dict.fromkeys(sizes, ("", 0.5))
    total = sum(sizes.values())
    for word, counts in present.items():
        everywhere = sum(counts.values())
        for label, size in sizes.items():
            hits = counts[label] / size
            false_hits = (everywhere - counts[label]) / (total - size)
            score = 0.5 + abs(hits - false_hits) / 2
            if score > best[label][1]:
                best[label] = (word, score)
    return best


def probe(records: Sequence[Record], factor: str) -> str:
    """Train a linear probe on binary unigrams and score it on the test split."""
    from scipy.stats import spearmanr
    from sklearn.feature_extraction.text import CountVectorizer
    from sklearn.linear_model import LogisticRegression, Ridge
    from sklearn.metrics import balanced_accuracy_score

    train, test = ([r for r in records if r["split"] == s] for s in ("train", "test"))
    bag = CountVectorizer(binary=True)
    x_train = bag.fit_transform(r["text"] for r in train)
    x_test = bag.transform(r["text"] for r in test)
    y_train, y_test = ([r["factors"][factor] for r in part] for part in (train, test))
    classes = [str(y) for y in y_train]
    guess = LogisticRegression(max_iter=2000).fit(x_train, classes).predict(x_test)
    cell = f"{balanced_accuracy_score([str(y) for y in y_test], guess):.2f}"
    if factor in CLASS_FACTORS:
        return f"{cell} | -"
    rho = spearmanr(Ridge(alpha=1.0).fit(x_train, y_train).predict(x_test), y_test).statistic
    return f"{cell} | {rho:.2f}"


def length_link(records: Sequence[Record], factor: str) -> str:
    """Return how far the number of words depends on the factor."""
    from scipy.stats import spearmanr

    lengths = [len(r["text"].split()) for r in records]
    labels = [r["factors"][factor] for r in records]
    if factor not in CLASS_FACTORS:
        return f"rho {spearmanr(lengths, labels).statistic:+.2f}"
    by_label: dict[str, list[int]] = defaultdict(list)
    for label, length in zip(labels, lengths, strict=True):
        by_label[label].append(length)
    means = [sum(part) / len(part) for part in by_label.values()]
    return f"means {min(means):.1f} to {max(means):.1f}"


def counts_table(records: Sequence[Record]) -> str:
    """Return the table of groups and texts by split."""
    lines = ["| split | groups | texts | words per text |", "|---|---|---|---|"]
    for split in SPLITS:
        part = [r for r in records if r["split"] == split]
        lengths = [len(r["text"].split()) for r in part]
        groups = len({r["group"] for r in part})
        span = f"{min(lengths)} to {max(lengths)}, mean {sum(lengths) / len(lengths):.1f}"
        lines.append(f"| {split} | {groups} | {len(part)} | {span} |")
    return "\n".join(lines)


def factors_table(records: Sequence[Record]) -> str:
    """Return the table of probes, single words and length by factor."""
    lines = [
        "| factor | labels | bag of words, balanced accuracy | bag of words, Spearman "
        "| best single word (label, balanced accuracy) | words per text |",
        "|---|---|---|---|---|---|",
    ]
    for factor in FACTORS:
        best = best_single_words(records, factor)
        label, (word, score) = max(best.items(), key=lambda item: item[1][1])
        lines.append(
            f"| {factor} | {len(best)} | {probe(records, factor)} "
            f"| {word} ({label}, {score:.2f}) | {length_link(records, factor)} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Print the tables."""
    records = load()
    print(counts_table(records), factors_table(records), sep="\n\n")


if __name__ == "__main__":
    main()
