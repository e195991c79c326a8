"""An interrupted labelling goes on where it was, and takes nothing of other texts."""

import pytest

from subspace.data.records import Record
from subspace.errors import ConfigError
from subspace.labelling.resumable import annotate


class Counting:
    """Labels texts by their length; stops after some, and remembers what it was asked."""

    origin = "counting"
    identity = "1"
    factors = ("complexity",)
    cache = None

    def __init__(self, stop_after: int | None = None) -> None:
        self.asked: list[str] = []
        self._stop_after = stop_after

    def annotate(self, records, *, progress=False):
        for record in records:
            if len(self.asked) == self._stop_after:
                raise KeyboardInterrupt
            self.asked.append(record.id)
            yield {"complexity": float(len(record.text))}


RECORDS = [Record(id=f"d{n}", text="é" * (n + 1)) for n in range(10)]


def test_an_interrupted_run_goes_on_where_it_was(tmp_path):
    partial = tmp_path / "deep" / "p"
    with pytest.raises(KeyboardInterrupt):
        annotate(Counting(stop_after=4), RECORDS, partial=partial)
    second = Counting()
    found = annotate(second, RECORDS, partial=partial)
    assert second.asked == [f"d{n}" for n in range(4, 10)]
    assert found == annotate(Counting(), RECORDS, partial=tmp_path / "other")


@pytest.mark.parametrize("cut", [1, 5, 30])
def test_half_a_line_is_made_again(cut, tmp_path):
    partial = tmp_path / "p"
    whole = annotate(Counting(), RECORDS, partial=partial)
    content = partial.read_bytes()
    partial.write_bytes(content[:-cut])
    assert annotate(Counting(), RECORDS, partial=partial) == whole
    assert partial.read_bytes() == content


def test_labels_of_other_texts_or_another_annotator_are_not_taken(tmp_path):
    partial = tmp_path / "p"
    annotate(Counting(), RECORDS, partial=partial)
    again = Counting()
    annotate(again, RECORDS, partial=partial)
    assert again.asked == []
    annotate(again, [*RECORDS[:-1], Record(id="d9", text="other")], partial=partial)
    assert len(again.asked) == 10
    other = Counting()
    other.origin = "another"
    annotate(other, RECORDS, partial=partial)
    assert len(other.asked) == 10
    changed = Counting()
    changed.origin, changed.identity = "another", "2"
    annotate(changed, RECORDS, partial=partial)
    assert len(changed.asked) == 10
    partial.write_bytes(b"\xff not JSON\n")
    assert len(annotate(Counting(), RECORDS, partial=partial)) == 10


def test_a_file_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot keep labels"):
        annotate(Counting(), RECORDS, partial=tmp_path / "file" / "p")
