"""Every reply has one meaning: a number, a class, or none."""

import pytest

from subspace.errors import ConfigError
from subspace.labelling.person.scale import Scale, UnclearReply, make_scale


@pytest.mark.parametrize(
    ("reply", "label"), [("3", 3.0), ("-0.5", -0.5), ("1e2", 100.0), ("+1", 1.0), (".5", 0.5)]
)
def test_without_classes_a_number_is_a_number(reply, label):
    found = Scale().read(reply)
    assert found == label
    assert isinstance(found, float)


@pytest.mark.parametrize("reply", ["formal", "nan", "inf", "1e999", "1_0", "1,5", "\u0661", "1 2"])
def test_without_classes_all_else_is_no_answer(reply):
    with pytest.raises(UnclearReply, match="answer by a number"):
        Scale().read(reply)


@pytest.mark.parametrize(
    ("reply", "label"), [("1", "formal"), ("2", "Casual"), ("02", "Casual"), ("casual", "Casual")]
)
def test_a_digit_or_the_name_chooses_a_class(reply, label):
    assert Scale(("formal", "Casual")).read(reply) == label


@pytest.mark.parametrize("reply", ["0", "3", "-1", "1.0", "form", "²", "formal,casual"])
def test_what_names_no_class_is_no_answer(reply):
    with pytest.raises(UnclearReply, match="1 formal, 2 casual"):
        Scale(("formal", "casual")).read(reply)


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        (("1", "2"), "'1' cannot be a class"),
        (("yes", "Q"), "'q' cannot be a class"),
        (("Yes", "yes"), "'yes' is there twice"),
        (("yes",), "two classes or more"),
    ],
)
def test_classes_that_could_be_mistaken_are_refused(classes, message):
    with pytest.raises(ConfigError, match=message):
        Scale(classes)


def test_classes_are_those_declared_and_those_seen():
    assert make_scale("f", declared=["a", "b"], seen=["c", "a"]).classes == ("a", "b", "c")
    assert make_scale("f", declared=[], seen=["c", "a", "c"]).classes == ("c", "a")
    assert make_scale("f", declared=[], seen=[1.0, 2.0]).classes == ()


@pytest.mark.parametrize(
    ("declared", "seen", "message"),
    [
        (["a", "b"], [1.0], r"'f' has numbers \(1\) and classes \(a\)"),
        ([], [1.5, "c"], r"'f' has numbers \(1.5\) and classes \(c\)"),
        ([], ["c"], "--classes c,OTHER"),
    ],
)
def test_labels_of_two_kinds_are_refused(declared, seen, message):
    with pytest.raises(ConfigError, match=message):
        make_scale("f", declared=declared, seen=seen)
