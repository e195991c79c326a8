"""Agreement between annotators, with the statistic that fits their labels."""

import numpy as np
import pytest

from subspace.labelling.agreement import agreement_table, compare_annotators


def agreement(one, other):
    labels = {
        "one": [{"f": label} for label in one if label is not None],
        "other": [{"f": label} if label is not None else {} for label in other],
    }
    return {a.statistic: (a.value, a.texts) for a in compare_annotators(labels, factors=["f"])}


def test_agreement_of_numbers_is_of_ranks_and_on_one_scale_of_levels():
    assert agreement([0.1, 0.5, 3.0], [1.0, 20.0, 300.0]) == {"Spearman": (pytest.approx(1), 3)}
    found = agreement([1.0, 2.0, 3.0], [1.0, 2.0, 3.0])
    assert found == {"Spearman": (pytest.approx(1), 3), "quadratic kappa": (1, 3)}
    found = agreement([1.0, 2.0, 3.0], [2.0, 3.0, 4.0])
    assert found["Spearman"][0] == pytest.approx(1)
    assert found["quadratic kappa"][0] < 0.9


def test_agreement_of_categories_is_above_chance_or_an_association():
    assert agreement(list("abab"), list("abab"))["kappa"] == (1, 4)
    assert agreement(list("abab"), list("aabb"))["kappa"] == (0, 4)
    assert agreement(list("abab"), list("xyxy"))["Cramér's V"] == (pytest.approx(1), 4)
    assert agreement(list("abab"), list("xxyy"))["Cramér's V"] == (pytest.approx(0), 4)


def test_what_cannot_be_compared_is_not():
    assert agreement(["a", "b"], [1.0, 2.0]) == {}
    assert agreement(["a", "b"], [None, "a"]) == {}
    value, texts = agreement([1.5, 1.5, 1.5], [1.0, 2.0, 3.0])["Spearman"]
    assert np.isnan(value)
    assert texts == 3
    assert "nan" not in agreement_table(
        compare_annotators({"a": [{"f": "x"}] * 3, "b": [{"f": "x"}] * 3}, factors=["f"])
    )
