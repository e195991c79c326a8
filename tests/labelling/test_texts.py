"""Lines to label: what people said stays, all else is kept, wrong lines are named."""

import json
from pathlib import Path

import pytest

from subspace.errors import RecordError
from subspace.labelling.texts import read_texts


def write(path: Path, *lines: dict) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


LINE = {"id": "a", "text": "b", "factors": {"style": "x"}, "group": "g", "mine": [1]}


def test_labels_of_people_stay_and_all_else_is_kept(tmp_path):
    (text,) = read_texts(write(tmp_path / "f.jsonl", LINE))
    given = {"measures": {"style": "formal", "complexity": 1.0}, "other": {"complexity": 2.0}}
    line = text.labelled(given, factors=["style", "complexity"])
    assert line == LINE | {
        "factors": {"style": "x", "complexity": 1.0},
        "origins": {"complexity": "measures"},
    }
    replaced = text.labelled(given, factors=["style"], overwrite=True)
    assert replaced["factors"] == {"style": "formal"}
    assert replaced["origins"] == {"style": "measures"}


def test_labels_of_machines_are_replaced_or_stay_where_nobody_has_another(tmp_path):
    line = LINE | {"factors": {"style": "x", "complexity": 3}, "origins": {"complexity": "old"}}
    (text,) = read_texts(write(tmp_path / "f.jsonl", line))
    new = text.labelled({"new": {"complexity": 1.0}}, factors=["complexity"])
    assert (new["factors"]["complexity"], new["origins"]) == (1.0, {"complexity": "new"})
    same = text.labelled({"new": {}}, factors=["complexity"])
    assert (same["factors"]["complexity"], same["origins"]) == (3.0, {"complexity": "old"})


def test_a_text_that_nobody_could_label_has_no_labels(tmp_path):
    (text,) = read_texts(write(tmp_path / "f.jsonl", {"id": "a", "text": "b"}))
    assert text.labelled({"new": {}}, factors=["style"])["factors"] == {}


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ({"id": "a"}, "'text' must be"),
        ({"text": "a"}, "'id' must be"),
        ({"id": "a", "text": "b", "factors": {"style": []}}, "factor 'style'"),
        ({"id": "a", "text": "b", "factors": ["style"]}, "'factors' must"),
        ({"id": "a", "text": "b", "origins": {"style": "x"}}, "'origins' names 'style'"),
    ],
)
def test_wrong_lines_are_named(line, said, tmp_path):
    with pytest.raises(RecordError, match=f"f.jsonl:2: {said}"):
        read_texts(write(tmp_path / "f.jsonl", {"id": "x", "text": "y"}, line))


def test_an_id_that_is_used_twice_and_an_empty_file_are_refused(tmp_path):
    with pytest.raises(RecordError, match="used before"):
        read_texts(write(tmp_path / "f.jsonl", LINE, LINE))
    with pytest.raises(RecordError, match="holds no texts"):
        read_texts(write(tmp_path / "f.jsonl"))
    with pytest.raises(RecordError, match="cannot be read"):
        read_texts(tmp_path / "none.jsonl")
