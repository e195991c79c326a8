"""Rewrites move the factor that they name, by the measures; both take any text."""

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from subspace.data.records import Record
from subspace.fitting.weak import (
    MEASURES,
    RULES,
    measure_texts,
    rewrite_records,
    rewrite_text,
)
from subspace.fitting.weak.lexicon import (
    CONTRACTIONS,
    general_words,
    rarer_words,
    simpler_words,
)

TEXTS = [
    "Amazon has applied for dozens of new domains in March 2012, including the .shop and .book. "
    "We do not know why, but Jeff Bezos said that many people need it before they buy a cottage.",
    "He told the 14 detectives that he was very angry, because it is a calamity; however, the "
    "populace of Boston did not think so, which is good. She gets help with the broth quickly.",
    "Could you please look at the telephone on Monday? They have seen nothing, thank you. It was "
    "mediaeval, and there is an incessantly growing bakery in East Dundee with 27 workers.",
]


def measured(texts: list[str], factor: str) -> np.ndarray:
    return measure_texts(texts)[factor].mean(axis=0)


def apply(name: str) -> list[str]:
    (rule,) = (rule for rule in RULES if rule.name == name)
    return [rule.apply(text, random.Random(0)) for text in TEXTS]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_every_rule_changes_some_text_and_leaves_most_of_its_words(rule):
    texts = [*TEXTS, "I don't think that they've seen it, and it's not what we'd like to see here."]
    changed = [rule.apply(text, random.Random(0)) for text in texts]
    assert changed != texts
    for before, after in zip(texts, changed, strict=True):
        words = {word.strip(".,;?!").lower() for word in before.split()}
        left = {word.strip(".,;?!").lower() for word in after.split()}
        assert len(words & left) > 0.5 * len(words), after


@pytest.mark.parametrize(
    ("rule", "factor", "measure", "sign"),
    [
        ("rare words", "complexity", 1, -1),  # mean frequency of content words
        ("simple words", "complexity", 1, +1),
        ("simple", "complexity", 9, -1),  # words per sentence
        ("split sentences", "complexity", 9, -1),
        ("joined sentences", "complexity", 9, +1),
        ("hard", "complexity", 9, +1),
        ("no names or numbers", "specificity", 0, -1),  # capitalised words
        ("no names or numbers", "specificity", 1, -1),  # digits
        ("generic", "specificity", 0, -1),
        ("in detail", "specificity", 1, +1),
    ],
)
def test_a_rule_moves_the_measure_of_its_factor(rule, factor, measure, sign):
    change = measured(apply(rule), factor) - measured(TEXTS, factor)
    assert sign * change[measure] > 0


def test_contracting_is_undone_by_expanding():
    contracted = apply("contracted")
    assert all("'" in text for text in contracted[:2])
    (expanded,) = (rule for rule in RULES if rule.name == "expanded")
    assert [expanded.apply(text, random.Random(0)) for text in contracted] == TEXTS


@given(st.text(max_size=80))
def test_any_text_can_be_rewritten_and_measured(text):
    for rewrite in rewrite_text(text, seed="any"):
        assert rewrite.text
        assert rewrite.text != text
    for factor, values in measure_texts([text]).items():
        assert values.shape == (1, MEASURES[factor])
        assert np.isfinite(values).all()


def test_the_same_seed_gives_the_same_rewrites_and_another_seed_others():
    def texts(seed: str) -> list[str]:
        return [rewrite.text for rewrite in rewrite_text(TEXTS[0], seed=seed, per_factor=3)]

    assert texts("a") == texts("a")
    assert texts("a") != texts("b")


def test_draws_are_as_many_as_asked_for_and_of_the_factors_asked_for():
    rewrites = list(rewrite_text(TEXTS[0], seed="a", factors=("specificity",), per_factor=2))
    assert 0 < len(rewrites) <= 2
    assert {rewrite.rule.factor for rewrite in rewrites} == {"specificity"}


def test_no_texts_have_no_measures():
    assert {f: values.shape for f, values in measure_texts([]).items()} == {
        factor: (0, width) for factor, width in MEASURES.items()
    }


def test_rewritten_records_form_one_group_and_are_labelled_with_what_changed():
    record = Record(id="1", text=TEXTS[0], source="s", factors={"topic": "x"}, split="test")
    original, *rewrites = rewrite_records(record, factors=("style", "complexity"))
    assert original["factors"] == {"style": "as written", "complexity": 0.0}
    assert {line["group"] for line in (original, *rewrites)} == {"1"}
    assert {line["split"] for line in (original, *rewrites)} == {"test"}
    assert len({line["id"] for line in (original, *rewrites)}) == len(rewrites) + 1
    assert {value for line in rewrites for value in line["factors"].values()} >= {
        "casual",
        "archaic",
        1.0,
        -1.0,
    }


def test_the_lexicon_replaces_no_word_by_itself():
    for table in (simpler_words(), rarer_words(), general_words(), CONTRACTIONS):
        assert len(table) > 40
        assert all(word != other for word, other in table.items())
