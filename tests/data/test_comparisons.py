"""Comparisons are read as they were written; what is wrong is named with its line."""

import pytest

from subspace.data.comparisons import Comparison, read_comparisons, write_comparisons
from subspace.errors import RecordError


def test_what_is_written_is_read(tmp_path):
    pairs = (Comparison("tone", "a", "b"), Comparison("ünïcode", "=/\n", "ids of any kind"))
    write_comparisons(tmp_path / "pairs.jsonl", pairs)
    assert read_comparisons(tmp_path / "pairs.jsonl") == pairs


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ('{"factor": "tone", "more": "a"}', "pairs.jsonl:1: 'less' must be a text"),
        ('{"factor": "tone", "more": "a", "less": "a"}', "pairs.jsonl:1: 'a' is compared with"),
        ("[1]", "pairs.jsonl:1: must be a JSON object"),
        ("\n", "pairs.jsonl: holds no comparisons"),
    ],
)
def test_wrong_lines_are_named(lines, message, tmp_path):
    (tmp_path / "pairs.jsonl").write_text(lines)
    with pytest.raises(RecordError, match=message):
        read_comparisons(tmp_path / "pairs.jsonl")


def test_a_file_of_another_kind_is_no_wall_of_messages(tmp_path):
    (tmp_path / "pairs.jsonl").write_text("no JSON\n" * 2000)
    with pytest.raises(RecordError, match=r"^2000 problems in the data:") as refused:
        read_comparisons(tmp_path / "pairs.jsonl")
    assert len(refused.value.problems) == 2000
    assert str(refused.value).splitlines()[-1] == "... and 1950 more"
