"""A folder of files as texts; what cannot be one is named."""

import pytest

from subspace.errors import ConfigError
from subspace.labelling.raw_texts import read_raw_texts


def test_a_folder_of_files_becomes_texts_and_says_what_does_not(tmp_path):
    (tmp_path / "deep" / "er").mkdir(parents=True)
    (tmp_path / ".hidden").mkdir()
    files = {
        "deep/er/a.md": "\ufeffÄ text".encode(),
        "b.txt": b"another",
        "c.TXT": b"another\n",
        "bin.txt": b"a\0b",
        "latin.txt": "café au lait".encode("latin-1"),
        "empty.txt": b" \n",
        "huge.md": ("é" * 300_000).encode(),
        "huge-latin.md": "é".encode("latin-1") * 300_000,
        ".hidden/d.txt": b"not for us",
        "image.png": b"not a text",
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "folder.txt").mkdir()
    found = read_raw_texts(tmp_path)
    texts = {document.id: document.text for document in found.documents}
    assert texts.pop("huge.md") == "é" * 30_000
    assert texts == {"b.txt": "another", "deep/er/a.md": "Ä text"}
    assert found.cut == ("huge.md",)
    assert {name: reason.split(" (")[0] for name, reason in found.skipped.items()} == {
        "bin.txt": "is binary",
        "c.TXT": "is the same text as b.txt",
        "empty.txt": "is empty",
        "huge-latin.md": "is not UTF-8",
        "latin.txt": "is not UTF-8",
    }


def test_a_folder_without_texts_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"no file ends in \.txt or \.md"):
        read_raw_texts(tmp_path)
    with pytest.raises(ConfigError, match="there is no folder"):
        read_raw_texts(tmp_path / "none")
