"""Rewrites move the factor that they name, by the features; both take any text."""

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from subspace.data.records import Record, assign_split
from subspace.errors import ConfigError
from subspace.fitting.weak import (
    RULES,
    features,
    rewrite_record,
    rewrite_text,
    text_features,
)
from subspace.fitting.weak.feature_scores import score_features, score_text
from subspace.fitting.weak.lexicon import (
    CONTRACTIONS,
    general_words,
    rarer_words,
    simpler_words,
)
from subspace.fitting.weak.weak_supervision import WeakSupervision, rewrite_sources

TEXTS = [
    "Amazon has applied for dozens of new domains in March 2012, including the .shop and .book. "
    "We do not know why, but Jeff Bezos said that many people need it before they buy a cottage.",
    "He told the 14 detectives that he was very angry, because it is a calamity; however, the "
    "populace of Boston did not think so, which is good. She gets help with the broth quickly.",
    "Could you please look at the telephone on Monday? They have seen nothing, thank you. It was "
    "mediaeval, and there is an incessantly growing bakery in East Dundee with 27 workers.",
]


def mean_features(texts: list[str], factor: str) -> np.ndarray:
    return np.mean([list(text_features(text)[factor].values()) for text in texts], axis=0)


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
    ("rule", "factor", "feature", "sign"),
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
def test_a_rule_moves_the_feature_of_its_factor(rule, factor, feature, sign):
    change = mean_features(apply(rule), factor) - mean_features(TEXTS, factor)
    assert sign * change[feature] > 0


def test_contracting_is_undone_by_expanding():
    contracted = apply("contracted")
    assert all("'" in text for text in contracted[:2])
    (expanded,) = (rule for rule in RULES if rule.name == "expanded")
    assert [expanded.apply(text, random.Random(0)) for text in contracted] == TEXTS


@given(st.text(max_size=80))
def test_any_text_can_be_rewritten_and_counted(text):
    for rewrite in rewrite_text(text, seed="any"):
        assert rewrite.text
        assert rewrite.text != text
    usual = text_features(TEXTS[0])
    for factor, found in text_features(text).items():
        assert found.keys() == usual[factor].keys()
        assert np.isfinite(list(found.values())).all()


def test_the_same_seed_gives_the_same_rewrites_and_another_seed_others():
    def texts(seed: str) -> list[str]:
        return [rewrite.text for rewrite in rewrite_text(TEXTS[0], seed=seed, per_factor=3)]

    assert texts("a") == texts("a")
    assert texts("a") != texts("b")


def test_draws_are_as_many_as_asked_for_and_of_the_factors_asked_for():
    rewrites = rewrite_text(TEXTS[0], seed="a", factors=("specificity",), per_factor=2)
    assert 0 < len(rewrites) <= 2
    assert {rewrite.rule.factor for rewrite in rewrites} == {"specificity"}


def test_rewritten_records_form_one_group_and_are_labelled_with_what_changed():
    record = Record(id="1", text=TEXTS[0], source="s", factors={"topic": "x"}, split="test")
    original, *rewrites = rewrite_record(record, factors=("style", "complexity"))
    assert original.factors == {"style": "as written", "complexity": 0.0}
    assert {(r.source, r.group, r.split) for r in (original, *rewrites)} == {("s", "1", "test")}
    assert len({r.id for r in (original, *rewrites)}) == len(rewrites) + 1
    assert {value for r in rewrites for value in r.factors.values()} >= {
        "casual",
        "archaic",
        1.0,
        -1.0,
    }


def test_the_lexicon_replaces_no_word_by_itself():
    for table in (simpler_words(), rarer_words(), general_words(), CONTRACTIONS):
        assert len(table) > 40
        assert all(word != other for word, other in table.items())


def numbered(count: int) -> list[Record]:
    """Texts that differ in a number only, in all splits."""
    return [
        Record(id=str(n), text=f"{TEXTS[n % 3]} It is {n}.", source="s", split=assign_split(str(n)))
        for n in range(count)
    ]


def test_rewrites_of_a_source_are_a_source_of_groups_with_equal_content():
    records = numbered(60)
    settings = WeakSupervision(rewrites=5, rules=2)
    made = rewrite_sources({"s": records}, settings=settings)
    assert list(made) == ["s (rewrites)"]
    texts = made["s (rewrites)"]
    by_id = {record.id: record for record in records}
    groups: dict[str, list[Record]] = {}
    for text in texts:
        groups.setdefault(text.group, []).append(text)
    drawn = {group.split("/")[0] for group in groups}
    assert len(drawn) == 5
    assert all(by_id[name].split == "train" for name in drawn)
    for group, members in groups.items():
        name, factor = group.split("/")
        first, *others = members
        assert first.text == by_id[name].text
        assert first.factors == {factor: "as written"}
        assert 1 <= len(others) <= 2
        rules = {rule.name for rule in RULES if rule.factor == factor}
        labels = [other.factors[factor] for other in others]
        assert set(labels) <= rules
        assert len(set(labels)) == len(labels)
    assert len({text.id for text in texts}) == len(texts)


def test_which_texts_are_rewritten_depends_on_their_ids_alone():
    records, settings = numbered(60), WeakSupervision(rewrites=5)
    forwards = rewrite_sources({"s": records}, settings=settings)["s (rewrites)"]
    backwards = rewrite_sources({"s": records[::-1]}, settings=settings)["s (rewrites)"]
    assert {text.id: text for text in forwards} == {text.id: text for text in backwards}


@pytest.mark.parametrize(
    "settings", [{"rewrites": -1}, {"rules": 0}, {"features": -0.1}, {"features": float("nan")}]
)
def test_settings_out_of_range_are_refused(settings):
    with pytest.raises(ConfigError, match=r"weak\.features"):
        WeakSupervision(**settings)


def test_scores_of_features_go_up_with_what_they_are_called():
    plain = "The cat is here. It is good. We like it."
    hard = (
        "Notwithstanding incontrovertible jurisprudential considerations, parliamentarians dither"
    )
    vague = "Somebody usually does something somewhere, and people often like things like that."
    exact = "On 12 March 2019 Susan Miller and Tom Patel sold 27 houses in Boston for 400 dollars."
    assert score_text(hard)["complexity"] > score_text(plain)["complexity"] + 1
    assert score_text(exact)["specificity"] > score_text(vague)["specificity"] + 1
    formal = "The examination of the statement of the government was a requirement of the law."
    casual = "yeah I don't know, you're just kinda great, lol"
    assert score_text(formal)["style"] > score_text(casual)["style"] + 1
    found = score_features([plain, hard])
    assert set(found) == {"complexity", "specificity"}
    assert found["complexity"].tolist() == [score_text(t)["complexity"] for t in (plain, hard)]


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 9, 30])
def test_the_lower_quartile_is_that_of_numpy_to_the_bit(count):
    numbers = np.sort(np.random.default_rng(count).normal(size=(50, count)), axis=1)
    for row in numbers:
        assert features._lower_quartile(row) == np.quantile(row, 0.25)


def test_a_factor_counted_alone_has_the_features_that_it_has_among_all():
    text = "Nancy, don't they say 42 of the most peculiar archaeologists hath gone? Well, yes."
    together = features.text_features(text)
    for factor, found in together.items():
        assert features.text_features(text, factors=[factor]) == {factor: found}
