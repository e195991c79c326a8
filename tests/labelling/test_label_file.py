"""A file is labelled whole: lines keep all else, wrong ones are named, runs are continued."""

import json
import os
from pathlib import Path

import pytest
from test_label_texts import Fixed

from subspace.errors import ConfigError, RecordError
from subspace.labelling.label_file import label_file
from subspace.labelling.read_texts import read_texts


def write(path: Path, *lines: dict) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def read(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


LINE = {"id": "a", "text": "b", "factors": {"style": "x"}, "group": "g", "mine": [1]}


def test_lines_keep_all_else_and_those_without_a_label_are_left_out(tmp_path):
    machine = {"id": "m", "text": "n", "origins": {}, "factors": None}
    source = write(tmp_path / "f.jsonl", LINE, machine, {"id": "z", "text": "z"})
    found = label_file(
        source,
        tmp_path / "g.jsonl",
        by=[Fixed("one", knows="b", complexity=1.0), Fixed("two", knows="n", style="y")],
        factors=["complexity", "style"],
    )
    assert read(tmp_path / "g.jsonl") == [
        LINE | {"factors": {"style": "x", "complexity": 1.0}, "origins": {"complexity": "one"}},
        {"id": "m", "text": "n", "factors": {"style": "y"}, "origins": {"style": "two"}},
    ]
    assert found.unlabelled == ("z",)
    assert len(found.records) == 3


class Stopping(Fixed):
    """Stops at the texts that it does not know."""

    def annotate(self, records, *, progress=False):
        for labels in super().annotate(records):
            if not labels:
                raise KeyboardInterrupt
            self.asked = getattr(self, "asked", 0) + 1
            yield labels


def test_an_interrupted_run_is_continued_and_leaves_no_file_behind(tmp_path):
    source = write(tmp_path / "f.jsonl", *({"id": str(n), "text": f"t{n}"} for n in range(4)))
    output, fixed = tmp_path / "g.jsonl", {"style": "x"}
    other = Stopping("a:b", knows="", **fixed)
    with pytest.raises(KeyboardInterrupt):
        label_file(source, output, by=[other, Stopping("one", knows="t1", **fixed)], factors=fixed)
    assert not output.exists()
    again = Stopping("a:b", knows="", **fixed)
    label_file(source, output, by=[again, Fixed("one", style="x")], factors=fixed)
    assert (other.asked, getattr(again, "asked", 0)) == (4, 0)
    assert {path.name for path in tmp_path.iterdir()} == {"f.jsonl", "g.jsonl"}


@pytest.mark.parametrize(
    ("by", "message"),
    [
        (["magic"], "there is no annotator 'magic'"),
        (["checkpoint"], "needs --checkpoint"),
        (["language-model"], "give a LanguageModelAnnotator"),
        (["features"], r"no annotator labels mood \(features labels complexity, specificity"),
        ([Fixed("one", mood="x"), Fixed("one", mood="y")], "2 annotators"),
    ],
)
def test_wrong_annotators_are_refused(by, message, tmp_path):
    source = write(tmp_path / "f.jsonl", LINE)
    with pytest.raises(ConfigError, match=message):
        label_file(source, tmp_path / "g.jsonl", by=by, factors=["mood"])
    assert not (tmp_path / "g.jsonl").exists()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ({"id": "a"}, "'text' must be"),
        ({"text": "a"}, "'id' must be"),
        ({"_id": "a", "text": "a"}, "has '_id' and no 'id', which names a labelled text: rename"),
        ({"_id": "a", "id": "b", "text": "a"}, "has two ids: 'id' is 'b' and '_id' is 'a'"),
        ({"id": "a", "text": "b", "factors": {"style": []}}, "factor 'style'"),
        ({"id": "a", "text": "b", "factors": ["style"]}, "'factors' must"),
        ({"id": "a", "text": "b", "origins": {"style": "x"}}, "'origins' names 'style'"),
    ],
)
def test_wrong_lines_are_named(line, message, tmp_path):
    with pytest.raises(RecordError, match=f"f.jsonl:2: {message}"):
        read_texts(write(tmp_path / "f.jsonl", {"id": "x", "text": "y"}, line))


def test_an_id_that_is_used_twice_and_an_empty_file_are_refused(tmp_path):
    with pytest.raises(RecordError, match=r"used before, at .*f.jsonl:1"):
        read_texts(write(tmp_path / "f.jsonl", LINE, LINE))
    with pytest.raises(RecordError, match="holds no texts"):
        read_texts(write(tmp_path / "f.jsonl"))
    with pytest.raises(RecordError, match="cannot be read"):
        read_texts(tmp_path / "none.jsonl")


BLANK = {"id": "a", "text": "b"}
FEATURES = Fixed("features", knows="b", style="x")


def test_an_output_with_labels_of_people_that_the_input_lacks_is_refused(tmp_path):
    source, output = write(tmp_path / "f.jsonl", BLANK), tmp_path / "g.jsonl"
    label_file(source, output, by=[FEATURES], factors=["style"])
    label_file(source, output, by=[FEATURES], factors=["style"])  # machines may say it again
    corrected = BLANK | {"factors": {"style": "y"}}  # as docs/labels.md says: without an origin
    write(output, corrected)
    for factors in (["style"], ["complexity"]):
        with pytest.raises(ConfigError, match=r"g\.jsonl:1 holds a label of 'style' from people"):
            label_file(source, output, by=[FEATURES], factors=factors)
    assert read(output) == [corrected]
    write(source, corrected)  # now the input has it, so that it stays
    label_file(source, output, by=[FEATURES], factors=["style"])
    assert read(output) == [corrected]
    write(source, BLANK)
    label_file(source, output, by=[FEATURES], factors=["style"], overwrite=True)
    assert read(output)[0]["origins"] == {"style": "features"}


def test_an_output_that_holds_something_else_is_refused(tmp_path):
    source, output = write(tmp_path / "f.jsonl", BLANK), tmp_path / "g.jsonl"
    output.write_text("My diary.")
    with pytest.raises(ConfigError, match="is not what this command writes: move it away"):
        label_file(source, output, by=[FEATURES], factors=["style"])
    assert output.read_text() == "My diary."
    output.write_text("")  # as `mktemp` makes it
    label_file(source, output, by=[FEATURES], factors=["style"])


def test_labels_do_not_go_to_a_pipe_beside_which_they_could_not_be_kept(tmp_path):
    source, output = write(tmp_path / "f.jsonl", BLANK), tmp_path / "g.jsonl"
    os.mkfifo(output)
    with pytest.raises(ConfigError, match="is a pipe or a device; labels are kept in a file"):
        label_file(source, output, by=[FEATURES], factors=["style"])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["f.jsonl", "g.jsonl"]
