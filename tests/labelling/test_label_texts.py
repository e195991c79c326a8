"""Labels of people stay, the first annotator counts, and every label says who gave it."""

import pytest

from subspace.data.records import Record
from subspace.errors import ConfigError
from subspace.labelling.label_texts import human_labels, label_texts


class Fixed:
    """Gives every text the same labels, or none to the texts it does not know."""

    identity = "1"
    cache = None

    def __init__(self, origin: str, *, knows: str = "", **labels: str | float) -> None:
        self.origin = origin
        self.factors = tuple(labels)
        self._labels = labels
        self._knows = knows

    def annotate(self, records, *, progress=False):
        for record in records:
            yield self._labels if self._knows in record.text else {}


HUMAN = Record(id="a", text="b", factors={"style": "x"}, group="g", split="test")
FIRST = Fixed("features", style="formal", complexity=1.0)
SECOND = Fixed("other", complexity=2.0)


def test_labels_of_people_stay_and_the_first_annotator_counts():
    found = label_texts([HUMAN], [FIRST, SECOND])
    (record,) = found.records
    assert record.factors == {"style": "x", "complexity": 1.0}
    assert record.origins == {"complexity": "features"}
    assert (record.group, record.split) == ("g", "test")
    assert human_labels(record) == {"style": "x"}
    assert found.count_origins() == {"style": {"human": 1}, "complexity": {"features": 1}}
    (second,) = label_texts([HUMAN], [SECOND, FIRST]).records
    assert second.factors["complexity"] == 2.0


def test_labels_of_people_are_replaced_if_asked_for():
    (record,) = label_texts([HUMAN], [FIRST], factors=["style"], overwrite=True).records
    assert record.factors == {"style": "formal"}
    assert record.origins == {"style": "features"}


def test_labels_of_machines_are_replaced_or_stay_where_nobody_has_another():
    old = Record(
        id="a", text="b", factors={"style": "x", "complexity": 3.0}, origins={"complexity": "old"}
    )
    (new,) = label_texts([old], [SECOND]).records
    assert (new.factors["complexity"], new.origins) == (2.0, {"complexity": "other"})
    (same,) = label_texts([old], [Fixed("new", knows="z", complexity=1.0)]).records
    assert (same.factors, same.origins) == (old.factors, old.origins)


def test_texts_that_nobody_could_label_are_named():
    records = [Record(id=text, text=text) for text in ("ab", "cd")]
    found = label_texts(records, [Fixed("new", knows="a", style="x")])
    assert [record.factors for record in found.records] == [{"style": "x"}, {}]
    assert found.unlabelled == ("cd",)


def test_annotators_are_compared_with_each_other_and_with_people():
    records = [Record(id=str(n), text="t", factors={"complexity": n}) for n in (1.0, 2.0)]
    found = label_texts(records, [FIRST, SECOND], factors=["complexity"])
    assert [(a.first, a.second, a.texts) for a in found.agreements] == [
        ("human", "features", 2),
        ("human", "other", 2),
        ("features", "other", 2),
    ]
    assert label_texts([Record(id="a", text="t")], [FIRST]).agreements == ()


def test_two_annotators_of_one_name_are_refused():
    with pytest.raises(ConfigError, match="2 annotators mark their labels with 'other'"):
        label_texts([HUMAN], [SECOND, SECOND])


CLASSES = Record(id="c", text="b", factors={"complexity": "easy"})
BLANK = Record(id="d", text="z")


@pytest.mark.parametrize("first", [True, False])
def test_a_factor_that_people_gave_classes_gets_no_numbers(first, caplog):
    records = [CLASSES, BLANK] if first else [BLANK, CLASSES]
    found = label_texts(records, [SECOND, Fixed("third", complexity="hard", style="x")])
    by_id = {record.id: record for record in found.records}
    assert by_id["c"] == CLASSES.__class__(
        id="c", text="b", factors={"complexity": "easy", "style": "x"}, origins={"style": "third"}
    )
    assert by_id["d"].factors == {"complexity": "hard", "style": "x"}
    said = "labels of 'complexity' by other that are left out: 2, which are numbers, while those"
    assert f"{said} by human are classes ('easy')" in caplog.text


def test_the_first_annotator_decides_what_a_factor_is_where_no_label_of_people_stays(caplog):
    classes = Fixed("classes", knows="z", complexity="hard")
    for overwrite, records in ((False, [BLANK, HUMAN]), (True, [CLASSES, BLANK])):
        found = label_texts(records, [SECOND, classes], overwrite=overwrite)
        assert [record.factors["complexity"] for record in found.records] == [2.0, 2.0]
        assert "by classes that are left out: 1, which are classes, while those by" in caplog.text
        caplog.clear()


def test_labels_that_are_the_same_for_all_texts_are_said(caplog):
    label_texts([HUMAN, BLANK], [SECOND])
    assert "all 2 labels of 'complexity' by other are 2.0: these texts do not differ" in caplog.text
    caplog.clear()
    label_texts([HUMAN, BLANK], [Fixed("one", knows="z", complexity=1.0)])
    assert not caplog.text  # a single label may be the only one of its value
