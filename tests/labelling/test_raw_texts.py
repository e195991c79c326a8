"""A folder of files as texts; what cannot be one is named."""

import os

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
    texts = {record.id: record.text for record in found.records}
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


def test_a_name_that_is_not_utf8_is_passed_over(tmp_path):
    (tmp_path / "good é.txt").write_text("one")
    try:
        (tmp_path / os.fsdecode(b"caf\xe9.txt")).write_text("another")
    except OSError:
        pytest.skip("this file system has no such names")
    found = read_raw_texts(tmp_path)
    assert [record.id for record in found.records] == ["good é.txt"]
    assert found.skipped == {r"caf\xe9.txt": "has a name that is not UTF-8"}


def test_a_folder_inside_can_be_left_out(tmp_path):
    for name in ("a.txt", "out/b.txt", "outer/c.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    found = read_raw_texts(tmp_path, leave_out=tmp_path / "out")
    assert [record.id for record in found.records] == ["a.txt", "outer/c.txt"]
    assert len(read_raw_texts(tmp_path).records) == 3


def test_links_out_of_the_folder_are_not_followed_and_all_that_is_left_out_is_said(tmp_path):
    folder, secret = tmp_path / "texts", tmp_path / "secret.txt"
    (folder / "deep").mkdir(parents=True)
    secret.write_text("not for an index")
    (folder / "a.txt").write_text("one")
    (folder / ".b.txt").write_text("hidden")
    (folder / "deep" / ".c.md").write_text("hidden too")
    (folder / "deep" / ".c.png").write_text("no text anyway")
    (folder / "link.txt").symlink_to(secret)
    (folder / "twin.txt").symlink_to("a.txt")
    (folder / "gone.txt").symlink_to("nowhere")
    (folder / "folder").symlink_to(tmp_path)
    (folder / "wide.txt").write_text("in another encoding", encoding="utf-16")
    found = read_raw_texts(folder)
    assert [(record.id, record.text) for record in found.records] == [("a.txt", "one")]
    assert found.hidden == 2
    assert found.skipped == {
        "folder": "is a link to a folder, which is not followed",
        "gone.txt": "is a link to nothing",
        "link.txt": "is a link to a file outside the folder, which is not followed",
        "twin.txt": "is the same text as a.txt",
        "wide.txt": "is not UTF-8 but UTF-16: save it as UTF-8",
    }
    (folder / "twin.txt").unlink()
    (folder / "alias.txt").symlink_to(folder / "deep" / "d.md")
    (folder / "deep" / "d.md").write_text("two")
    inside = read_raw_texts(folder)  # a link to a file of the folder says nothing new
    assert [record.id for record in inside.records] == ["a.txt", "alias.txt"]
    assert inside.skipped["deep/d.md"] == "is the same text as alias.txt"
