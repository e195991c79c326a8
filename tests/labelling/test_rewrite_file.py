"""Rewritten texts are labelled records that can be read again."""

import json

import pytest

from subspace.data.records import read_records
from subspace.errors import ConfigError
from subspace.labelling.rewrite_file import rewrite_file

TEXT = "Jeff Bezos said in March 2012 that many people need it before they buy a cottage."


@pytest.fixture
def source(tmp_path):
    lines = [{"id": f"d{n}", "text": TEXT, "split": "test"} for n in range(2)]
    path = tmp_path / "f.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_every_text_is_written_with_its_rewrites(source, tmp_path):
    output = tmp_path / "out" / "g.jsonl"
    texts, rewrites = rewrite_file(source, output, factors=["specificity"], per_factor=2)
    assert texts == 2
    assert 2 <= rewrites <= 4
    records = read_records(output)
    assert len(records) == texts + rewrites
    assert [r.text for r in records if r.factors == {"specificity": 0.0}] == [TEXT, TEXT]
    assert {(r.group, r.split) for r in records} == {("d0", "test"), ("d1", "test")}
    _, more = rewrite_file(source, output)
    assert more > 10 * rewrites / 4
    assert {name for r in read_records(output) for name in r.factors} == {
        "style",
        "complexity",
        "specificity",
    }


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"factors": ["mood"]}, "--factors: no rule changes mood; there are rules for style"),
        ({"per_factor": 0}, "--rules must be 1 or more"),
    ],
)
def test_wrong_settings_are_refused(settings, message, source, tmp_path):
    with pytest.raises(ConfigError, match=message):
        rewrite_file(source, tmp_path / "g.jsonl", **settings)
    assert not (tmp_path / "g.jsonl").exists()


def test_the_input_is_never_the_output(source, tmp_path):
    before = source.read_bytes()
    link = tmp_path / "link.jsonl"
    link.symlink_to(source)
    for output in (source, link):
        with pytest.raises(ConfigError, match="is the file of --input too, which would be lost"):
            rewrite_file(source, output)
    assert source.read_bytes() == before


def test_labels_of_people_in_the_output_are_not_lost_and_those_of_rules_may_go(source, tmp_path):
    output = tmp_path / "g.jsonl"
    rewrite_file(source, output)
    rewrite_file(source, output, factors=["style"], per_factor=1)
    line = json.loads(output.read_text().splitlines()[0])
    output.write_text(json.dumps(line | {"factors": {"style": "mine"}}) + "\n")
    with pytest.raises(ConfigError, match="holds a label of 'style' from people"):
        rewrite_file(source, output)
    assert "mine" in output.read_text()


def test_ids_and_groups_stay_apart_from_those_of_other_texts(tmp_path):
    source, output = tmp_path / "f.jsonl", tmp_path / "g.jsonl"
    lines = [
        {"id": "a", "text": "Hey, you cannot do it in Bonn."},
        {"id": "a~casual", "text": "A text of mine with this id.", "group": "a"},
        {"id": "a~casual~2", "text": "Another one, which is mine too."},
    ]
    source.write_text("".join(json.dumps(line) + "\n" for line in lines))
    rewrite_file(source, output, factors=["style"])
    records = {record.id: record for record in read_records(output)}  # refuses an id used twice
    assert {name: records[name].text for name in ("a", "a~casual", "a~casual~2")} == {
        line["id"]: line["text"] for line in lines
    }
    assert records["a~casual~3"].group == records["a"].group == "a~2"
    assert records["a~casual"].group == "a"
