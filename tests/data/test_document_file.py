"""The parts of a file are the file, and a file that is wrong or changes is named by its lines."""

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from subspace.data.document_file import DocumentFile
from subspace.data.retrieval_sets import read_documents
from subspace.errors import RecordError

TEXTS = st.text(min_size=1).filter(lambda text: text.strip() and "\0" not in text)


def write(path: Path, texts: list[str], *, blank_lines: bool = False, ascii_only: bool = True):
    lines = [
        json.dumps({"id": f"é{number}", "text": text}, ensure_ascii=ascii_only)
        for number, text in enumerate(texts)
    ]
    path.write_bytes((("\n\n" if blank_lines else "\n").join(lines) + "\n").encode())
    return path


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(TEXTS, min_size=1, max_size=12), st.integers(1, 5), st.booleans(), st.booleans())
def test_parts_in_any_order_are_the_documents(tmp_path, texts, per_part, blank, ascii_only):
    path = write(tmp_path / "t.jsonl", texts, blank_lines=blank, ascii_only=ascii_only)
    file = DocumentFile.scan(path, texts_per_part=per_part)
    parts = {number: file.read(number) for number in reversed(range(len(file.parts)))}
    assert [part.texts for part in file.parts[:-1]] == [per_part] * (len(parts) - 1)
    found = [document for number in sorted(parts) for document in parts[number]]
    assert tuple(found) == read_documents(path)
    assert file.texts == len(texts)
    assert DocumentFile.from_json(json.loads(json.dumps(file.to_json()))) == file


def test_every_wrong_line_and_every_repeated_id_is_named(tmp_path):
    path = tmp_path / "t.jsonl"
    lines = ['{"id": "a", "text": "x"}', "{", '{"id": "b", "text": "\\ud800"}', "[1]"]
    path.write_text("\n".join([*lines, lines[0], '{"id": "c", "text": "y"}', lines[0]]))
    with pytest.raises(RecordError) as caught:
        DocumentFile.scan(path, texts_per_part=2)
    where = [problem.split(": ")[0] for problem in caught.value.problems]
    assert where == [f"{path}:{number}" for number in (2, 3, 4, 5, 7)]
    assert "used before, at " + f"{path}:1" in caught.value.problems[-1]


def test_a_file_that_changed_after_the_scan_is_not_read_as_if_it_had_not(tmp_path):
    path = write(tmp_path / "t.jsonl", ["one", "two", "three", "four"])
    file = DocumentFile.scan(path, texts_per_part=2)
    content = path.read_text().replace("three", "trees")
    path.write_text(content)
    assert [document.text for document in file.read(0)] == ["one", "two"]
    with pytest.raises(RecordError, match=r"t\.jsonl:3: was changed"):
        file.read(1)


def test_what_cannot_be_read_in_parts_is_one_sentence(tmp_path):
    (tmp_path / "empty.jsonl").write_text("\n")
    for name, said in (("t.jsonl.gz", "unpack it"), ("empty.jsonl", "no texts"), ("no", "cannot")):
        with pytest.raises(RecordError, match=said):
            DocumentFile.scan(tmp_path / name, texts_per_part=2)
