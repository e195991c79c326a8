"""Agreement between annotators, and between each and human labels where there are any."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from scipy.stats import spearmanr
from scipy.stats.contingency import association, crosstab
from sklearn.metrics import cohen_kappa_score

from subspace.labelling.texts import Label
from subspace.model.markdown import table

# Whole numbers on a common scale of no more levels than this are compared by level as well.
_LEVELS = 10


@dataclass(frozen=True)
class Agreement:
    """How far two annotators agree on one factor.

    Attributes:
        factor: The factor.
        first: Origin of the labels of one.
        second: Origin of the labels of the other.
        texts: How many texts both labelled.
        statistic: What `value` is: `Spearman` or `quadratic kappa` for numbers, `kappa` (Cohen's)
            for categories, `Cramér's V` where they use other classes.
        value: 1 is agreement, 0 chance; NaN where one of them gave a single label to all.
    """

    factor: str
    first: str
    second: str
    texts: int
    statistic: str
    value: float


def compare_annotators(
    labels: Mapping[str, Sequence[Mapping[str, Label]]], *, factors: Sequence[str]
) -> list[Agreement]:
    """Compares every two annotators on every factor that both labelled.

    Args:
        labels: Labels of each text by factor, by origin; the same texts in the same order.
        factors: What to compare.
    """
    found = []
    for factor in factors:
        for first, second in combinations(labels, 2):
            pairs = [
                (one[factor], two[factor])
                for one, two in zip(labels[first], labels[second], strict=True)
                if factor in one and factor in two
            ]
            found += [
                Agreement(factor, first, second, len(pairs), statistic, value)
                for statistic, value in _compare(pairs)
            ]
    return found


def agreement_table(agreements: Sequence[Agreement]) -> str:
    """The table in Markdown."""
    header = ("factor", "labels of", "labels of", "texts", "statistic", "agreement")
    rows = [(a.factor, a.first, a.second, a.texts, a.statistic, _say(a.value)) for a in agreements]
    return "\n".join(table(header, rows))


def _say(value: float) -> str:
    return "-" if np.isnan(value) else f"{value:.2f}"


def _compare(pairs: Sequence[tuple[Label, Label]]) -> list[tuple[str, float]]:
    """Statistics that fit the labels: none for fewer than two texts, or for a mix of kinds."""
    kinds = {isinstance(label, str) for pair in pairs for label in pair}
    if len(pairs) < 2 or len(kinds) > 1:
        return []
    first, second = (list(column) for column in zip(*pairs, strict=True))
    varies = len(set(first)) > 1 and len(set(second)) > 1
    if kinds == {True}:
        if set(first) & set(second):
            return [("kappa", float(cohen_kappa_score(first, second)) if varies else np.nan)]
        table = crosstab(first, second).count
        return [("Cramér's V", float(association(table)) if varies else np.nan)]
    found = [("Spearman", float(spearmanr(first, second).statistic) if varies else np.nan)]
    used = {float(level) for level in first + second}
    if varies and all(map(float.is_integer, used)) and max(used) - min(used) < _LEVELS:
        scale = np.arange(min(used), max(used) + 1)  # with levels that nobody gave: 1 to 5 is far
        kappa = cohen_kappa_score(first, second, weights="quadratic", labels=scale)
        found.append(("quadratic kappa", float(kappa)))
    return found
