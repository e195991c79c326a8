"""Folders of skills and notes are read as they lie on disk, or every wrong file is named."""

import os
import re
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from subspace.data import read_notes, scan_notes
from subspace.data.notes import file_of
from subspace.errors import RecordError

SKILL = """\
---
name: git-rebase
description: Moves commits onto another branch.
tags: [git, history]
checked: 2024-01-03
metadata: {author: ann, "version": 1.0}
---

# Rebasing

Fetch first.
"""


def put(folder: Path, file: str, content: str | bytes) -> None:
    path = folder / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())


def ids(folder: Path) -> list[str]:
    return [record.id for record in read_notes(folder)]


def test_a_skill_has_its_front_matter_as_metadata_and_says_first_what_it_is_for(tmp_path):
    put(tmp_path, "team/git-rebase/SKILL.md", SKILL)
    (record,) = read_notes(tmp_path)
    assert record.id == "team/git-rebase"
    assert record.text == (
        "git-rebase\n\nMoves commits onto another branch.\n\n# Rebasing\n\nFetch first."
    )
    assert record.metadata == {
        "file": "team/git-rebase/SKILL.md",
        "name": "git-rebase",
        "description": "Moves commits onto another branch.",
        "tags": ["git", "history"],
        "checked": "2024-01-03",
        "metadata": {"author": "ann", "version": 1.0},
    }
    assert file_of(record.id, record.metadata) == record.metadata["file"]


@pytest.mark.parametrize(
    ("content", "title", "text"),
    [
        ("# Slugs\n\nCopper.", "Slugs", "# Slugs\n\nCopper."),
        ("Intro.\n\n## Slugs ##\nCopper.", "Slugs", "Slugs\n\nIntro.\n\n## Slugs ##\nCopper."),
        ("Slugs\n=====\nCopper.", "Slugs", "Slugs\n=====\nCopper."),
        ("```\n# no heading\n```\n# Slugs", "Slugs", "Slugs\n\n```\n# no heading\n```\n# Slugs"),
        ("---\ntitle: Pests\n---\n# Slugs\nCopper.", "Pests", "Pests\n\n# Slugs\nCopper."),
        ("---\ndescription: Of pests.\n---\n# Slugs", "Slugs", "Slugs\n\nOf pests.\n\n# Slugs"),
        ("---\ntitle: 1984\n---\nWar.", "1984", "1984\n\nWar."),
        ("---\ntitle:\n---\nCopper.", None, "deep\n\nCopper."),
        ("Copper.", None, "deep\n\nCopper."),
        ("#tag is no heading", None, "deep\n\n#tag is no heading"),
        ("\ufeff# Slugs\r\nCopper.\rBeer.", "Slugs", "# Slugs\nCopper.\nBeer."),
        ("\n---\nnot: front matter\n---\n", None, "deep\n\n---\nnot: front matter\n---"),
        ("---\n---\n", None, ""),
    ],
)
def test_a_note_has_the_title_of_its_front_matter_or_its_first_heading(
    tmp_path, content, title, text
):
    put(tmp_path, "garden/deep.md", content)
    put(tmp_path, "other.md", "x")
    found = {record.id: record for record in read_notes(tmp_path)}
    if not text:
        assert list(found) == ["other"]
        return
    record = found["garden/deep"]
    assert record.text == text
    assert record.metadata.get("title") == title


def test_names_of_metadata_are_kept_as_they_are_written(tmp_path):
    put(tmp_path, "a.md", "---\non: push\n2024: x\nnothing:\ndays: [2024-01-03]\n---\ntext")
    (record,) = read_notes(tmp_path)
    assert record.metadata == {
        "file": "a.md",
        "on": "push",
        "2024": "x",
        "nothing": None,
        "days": ["2024-01-03"],
    }


def test_files_of_a_skill_belong_to_it_and_a_skill_within_is_one_of_its_own(tmp_path):
    for file in ("s/SKILL.md", "s/references/api.md", "s/README.md", "s/sub/SKILL.md", "t/api.md"):
        put(tmp_path, file, "text")
    assert ids(tmp_path) == ["s", "s/sub", "t/api"]


def test_a_folder_that_is_a_skill_itself_has_its_own_name(tmp_path):
    folder = tmp_path / "deploy"
    put(folder, "SKILL.md", "text")
    put(folder, "references/a.md", "text")
    assert ids(folder) == ["deploy"]
    here = os.path.relpath(folder)
    assert ids(Path(here)) == ["deploy"]


def test_hidden_files_and_what_package_managers_keep_are_skipped(tmp_path):
    for place in (".git", "node_modules/p", "lib/site-packages/p", "__pycache__", "x/.hidden"):
        put(tmp_path, f"{place}/README.md", "text")
    put(tmp_path, "env/pyvenv.cfg", "")
    put(tmp_path, "env/README.md", "text")
    put(tmp_path, ".draft.md", "text")
    put(tmp_path, "build/note.MD", "text")
    put(tmp_path, "data.txt", "text")
    assert ids(tmp_path) == ["build/note"]


def test_a_hidden_folder_can_be_read_itself(tmp_path):
    put(tmp_path / ".claude/skills", "a/SKILL.md", "text")
    assert ids(tmp_path / ".claude/skills") == ["a"]


def test_links_are_followed_and_what_several_lead_to_is_read_once(tmp_path):
    notes, elsewhere = tmp_path / "notes", tmp_path / "elsewhere"
    put(notes, "z/a.md", "text")
    put(elsewhere, "s/SKILL.md", "text")
    (notes / "b").symlink_to("z")
    (notes / "linked").symlink_to(elsewhere)
    (notes / "again").symlink_to(elsewhere / "s")
    (notes / "alias.md").symlink_to("z/a.md")
    (notes / "z/loop").symlink_to("..")
    (notes / "z/above").symlink_to(tmp_path)
    (elsewhere / "back").symlink_to(notes)
    assert ids(notes) == ["again", "z/a"]


def test_files_without_a_text_are_left_out_and_named(tmp_path, caplog):
    put(tmp_path, "empty.md", "")
    put(tmp_path, "blank.md", " \n\t\n")
    put(tmp_path, "tags.md", "---\ntags: [a]\n---\n")
    put(tmp_path, "a.md", "text")
    assert ids(tmp_path) == ["a"]
    assert "left out: 3 (blank.md, empty.md, tags.md)" in caplog.text


WRONG = {
    "unclosed": ("---\nname: a\n", ":1: front matter begins with --- and does not end"),
    "a list": ("---\n\n- a\n---\n", ":3: front matter holds values by name, .* is a list"),
    "a text": ("---\nrule\n---\n", ":2: front matter holds values by name, .* is a text"),
    "a colon": ("---\nname: a\ndescription: b: c\n---\n", ":3: .* is not YAML: .* needs quotes"),
    "a tab": ("---\na:\n\t- b\n---\n", ":3: .* is not YAML"),
    "twice": ("---\na: 1\nb: 2\na: 3\n---\n", ":4: 'a' is given before, in line 2"),
    "an alias": ("---\na: &x [1]\nb: [*x, *x]\n---\n", ":2: aliases"),
    "infinity": ("---\na: 1\nb: [.inf]\n---\n", ":3: cannot keep 'b'"),
    "bytes": ("---\na: !!binary aGk=\n---\n", ":2: cannot keep 'a'"),
    "a number as a name": ("---\na: {1: b}\n---\n", ":2: cannot keep 'a': a name is 1"),
    "code": ("---\na: !!python/object/apply:os.getcwd []\n---\n", ":2: .* is not YAML"),
    "no date": ("---\na: 2024-13-45\n---\n", ":2: 'a' is not what it looks like: month"),
    "no time": ("---\na: !!timestamp soon\n---\n", ":2: 'a' is not what it looks like"),
    "deep": (f"---\na: {'[' * 400}{']' * 400}\n---\n", ":2: cannot keep 'a': .*nested"),
    "bottomless": (f"---\na: {'[' * 90_000}\n---\n", ":2: .* is not YAML"),
    "a bell": ("---\nb: 1\na: \x07\n---\n", ":3: .* is not YAML: unacceptable character"),
    "a list as a name": ("---\nname: [a]\n---\n", ":2: 'name' must be a text"),
    "our own name": ("---\na: 1\nfile: x\n---\nb", ":3: 'file' is the path of the file"),
    "not UTF-8": (b"a\nb\xff", ":2: is not UTF-8"),
    "UTF-16": ("text".encode("utf-16"), ":1: is not UTF-8"),
    "NUL": ("a\n\nb\0", ":3: contains a NUL"),
    "10 MB": (b"a" * (10 << 20), ": has more than 1,048,576 bytes"),
}


@pytest.mark.parametrize(("content", "message"), WRONG.values(), ids=WRONG)
def test_what_cannot_be_read_is_named_by_file_and_line_and_the_rest_is_read(
    tmp_path, content, message
):
    put(tmp_path, "good.md", "text")
    put(tmp_path, "wrong.md", content)
    with pytest.raises(RecordError, match="1 problem") as caught:
        read_notes(tmp_path)
    (problem,) = caught.value.problems
    assert re.match(re.escape(str(tmp_path / "wrong.md")) + message, problem), problem
    found = scan_notes(tmp_path)
    assert [record.id for record in found.records] == ["good"]
    assert found.unread == ("wrong.md",)


def test_two_files_of_one_id_are_both_unread(tmp_path):
    put(tmp_path, "x.md", "note")
    put(tmp_path, "x/SKILL.md", "skill")
    put(tmp_path, "y.md", "other")
    found = scan_notes(tmp_path)
    assert [record.id for record in found.records] == ["y"]
    assert len(found.problems) == 1
    assert all(file in found.problems[0] for file in ("x.md", "x/SKILL.md"))
    assert set(found.unread) == {"x.md", "x/SKILL.md"}


def test_links_to_nothing_are_unread_so_that_nobody_takes_their_files_for_gone(tmp_path, caplog):
    put(tmp_path, "good.md", "text")
    (tmp_path / "note.md").symlink_to("nowhere")
    (tmp_path / "self.md").symlink_to("self.md")
    (tmp_path / "disk").symlink_to("/nowhere/mounted")
    found = scan_notes(tmp_path)
    assert [record.id for record in found.records] == ["good"]
    assert len(found.problems) == 2
    assert "disk is a link to nothing" in caplog.text
    assert found.is_unread("disk/a/b.md")
    assert not found.is_unread("disk2/a.md")


def test_a_name_that_is_not_utf8_is_a_problem(tmp_path):
    put(tmp_path, "good.md", "text")
    try:
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff.md")).write_text("text")
    except OSError:
        pytest.skip("this file system has no such names")
    with pytest.raises(RecordError, match="not UTF-8: rename it"):
        read_notes(tmp_path)


def test_pipes_are_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.md")
    put(tmp_path, "good.md", "text")
    assert ids(tmp_path) == ["good"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_what_may_not_be_read_is_unread(tmp_path):
    put(tmp_path, "good.md", "text")
    put(tmp_path, "shut/a.md", "text")
    (tmp_path / "shut").chmod(0)
    found = scan_notes(tmp_path)
    (tmp_path / "shut").chmod(0o700)
    assert found.is_unread("shut/a.md")
    assert "cannot be read" in found.problems[0]


def test_a_folder_that_is_missing_or_holds_none_is_refused(tmp_path):
    with pytest.raises(RecordError, match="nowhere: cannot be read: No such file"):
        scan_notes(tmp_path / "nowhere")
    with pytest.raises(RecordError, match="holds no skills or notes"):
        read_notes(tmp_path)
    put(tmp_path, "a.md", "text")
    with pytest.raises(RecordError, match="cannot be read: Not a directory"):
        read_notes(tmp_path / "a.md")


def test_ten_thousand_files_are_read(tmp_path):
    for number in range(10_000):
        (tmp_path / f"n{number}.md").write_text(f"# note {number}")
    found = read_notes(tmp_path)
    assert len(found) == 10_000
    assert [record.id for record in found] == sorted(record.id for record in found)


def test_records_of_other_origin_do_not_pass_for_files():
    assert file_of("a/b", {"file": "a/b.md"}) == "a/b.md"
    assert file_of("a", {"file": "a/SKILL.md"}) == "a/SKILL.md"
    assert file_of("any", {"file": "SKILL.md"}) == "SKILL.md"
    for record_id, file in (("a", "b.md"), ("a", "src/a.py"), ("a", None), ("a", 1), ("a", "a")):
        assert file_of(record_id, {"file": file}) is None
    assert file_of("a", {}) is None


@given(content=st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_any_content_gives_a_record_or_a_problem_or_nothing(tmp_path_factory, content):
    for start in (b"", b"---\n"):
        folder = tmp_path_factory.mktemp("any")
        put(folder, "a.md", start + content)
        found = scan_notes(folder)
        assert len(found.records) + len(found.problems) <= 1
        assert all(record.text.strip() for record in found.records)


def test_a_heading_of_many_blanks_takes_no_time(tmp_path):
    (tmp_path / "one.md").write_text("# a" + " " * 300_000 + "b\n")
    (tmp_path / "two.md").write_text("# " + "# " * 100_000 + "\n\ntext\n")
    began = time.monotonic()
    found = {record.id: record.title for record in read_notes(tmp_path)}
    assert time.monotonic() - began < 5
    assert found["one"].startswith("a  ")


@pytest.mark.parametrize(
    ("line", "title"),
    [
        ("# One", "One"),
        ("## Two ##", "Two"),
        ("###### C#", "C#"),
        ("# C# #", "C#"),
        ("  #\tTab\t", "Tab"),
        ("#One", ""),
        ("#", ""),
        ("# ##", ""),
        ("####### Seven", ""),
    ],
)
def test_a_title_is_the_text_of_a_heading(line, title, tmp_path):
    (tmp_path / "note.md").write_text(f"{line}\n\nbody\n")
    assert read_notes(tmp_path)[0].title == title
