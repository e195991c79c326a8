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
