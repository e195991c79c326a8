"""Agreement between annotators, and between each of them and human labels."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from subspace.labelling.annotator import Factors
from subspace.model.markdown import table

# Whole numbers that span at most this many levels are also compared by quadratic kappa.
_LEVELS = 10


@dataclass(frozen=True)
class AnnotatorAgreement:
    """How well two annotators agree on one factor.

    Attributes:
        factor: The factor.
        first: Origin of the labels of one annotator.
        second: Origin of the labels of the other.
        texts: Number of texts that both labelled.
        statistic: Name of the statistic: `Spearman` or `quadratic kappa` for numbers, Cohen's
            `kappa` for categories, `Cramér's V` for categories with different names.
        value: 1 is full agreement, 0 is chance. NaN if one annotator gave every text the same
            label.
    """

    factor: str
    first: str
    second: str
    texts: int
    statistic: str
    value: float


def compare_annotators(
    labels: Mapping[str, Sequence[Factors]], *, factors: Sequence[str]
) -> list[AnnotatorAgreement]:
    """Compares every two annotators on every factor that both labelled.

    Args:
        labels: By origin, the labels of each text; all of the same texts in the same order.
        factors: The factors to compare.
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
                AnnotatorAgreement(factor, first, second, len(pairs), statistic, value)
                for statistic, value in _compare(pairs)
            ]
    return found


def agreement_table(agreements: Sequence[AnnotatorAgreement]) -> str:
    """Writes agreements as a Markdown table."""
    header = ("factor", "labels of", "labels of", "texts", "statistic", "agreement")
    rows = [
        (a.factor, a.first, a.second, a.texts, a.statistic, _format(a.value)) for a in agreements
    ]
    return "\n".join(table(header, rows))


def _format(value: float) -> str:
    return "-" if np.isnan(value) else f"{value:.2f}"


def _compare(
    pairs: Sequence[tuple[str | float, str | float]],
) -> list[tuple[str, float]]:
    """Computes the statistics that fit the labels; none for fewer than two texts or mixed kinds."""
    # Imported here because these imports take seconds.
    from scipy.stats import spearmanr
    from scipy.stats.contingency import association, crosstab
    from sklearn.metrics import cohen_kappa_score

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
        # Unused levels count as steps too: from 1 to 5 are four steps.
        scale = np.arange(min(used), max(used) + 1)
        kappa = cohen_kappa_score(first, second, weights="quadratic", labels=scale)
        found.append(("quadratic kappa", float(kappa)))
    return found
