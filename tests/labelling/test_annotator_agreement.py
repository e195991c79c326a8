"""Agreement between annotators, with the statistic that fits their labels."""

import numpy as np
import pytest

from subspace.labelling.annotator_agreement import agreement_table, compare_annotators


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


def test_levels_that_nobody_gave_are_steps_of_the_scale_too():
    def kappa(one, other, levels):
        place = {level: n for n, level in enumerate(levels)}
        a, b = ([place[label] for label in labels] for labels in (one, other))
        seen = sum((x - y) ** 2 for x, y in zip(a, b, strict=True)) / len(a)
        chance = sum((x - y) ** 2 for x in a for y in b) / len(a) ** 2
        return 1 - seen / chance

    one, other = [1.0, 2.0, 5.0, 5.0], [1.0, 5.0, 2.0, 5.0]
    found = agreement(one, other)["quadratic kappa"][0]
    assert found == pytest.approx(kappa(one, other, [1, 2, 3, 4, 5]))
    assert found != pytest.approx(kappa(one, other, [1, 2, 5]))
    assert "quadratic kappa" not in agreement([1.0, 2.0, 100.0], [1.0, 100.0, 2.0])


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
