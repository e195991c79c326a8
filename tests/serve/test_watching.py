"""A memory follows its folder: at once where the system tells of a change, and otherwise soon."""

import shutil
import time

import pytest
from serve_world import make_memory
from watchfiles import Change

from subspace.serve import watching
from subspace.serve.watching import _concerns


@pytest.fixture
def folder(tmp_path):
    """Hidden itself, as agents keep theirs."""
    folder = tmp_path / ".agent" / "skills"
    folder.mkdir(parents=True)
    (folder / "one.md").write_text("# One\n\nthe first note\n")
    return folder


@pytest.fixture
def followed(tmp_path, model):
    memory = make_memory(tmp_path, model, followed=True)
    yield memory
    memory.close()


def holds(memory, expected) -> bool:
    return {
        item.id: item.text for item in memory.list_items().items if "file" in item.metadata
    } == (expected)


def wait_for(memory, expected) -> None:
    deadline = time.monotonic() + 30
    while not holds(memory, expected):
        assert time.monotonic() < deadline, memory.list_items().items
        time.sleep(0.02)


def test_files_that_are_added_changed_and_removed_are_followed(followed, folder):
    with watching.watching(followed, folder):
        wait_for(followed, {"one": "# One\n\nthe first note"})
        (folder / "two.md").write_text("# Two\n\nthe second note\n")
        (folder / ".hidden.md").write_text("# Hidden\n\nnothing\n")
        wait_for(followed, {"one": "# One\n\nthe first note", "two": "# Two\n\nthe second note"})
        (folder / "one.md.new").write_text("# One\n\nthe first note, changed\n")
        (folder / "one.md.new").replace(folder / "one.md")  # as editors do
        (folder / "two.md").unlink()
        wait_for(followed, {"one": "# One\n\nthe first note, changed"})


def test_what_the_system_does_not_tell_of_is_seen_a_little_later(
    followed, folder, tmp_path, monkeypatch
):
    """A file behind a link; and a folder that is removed, and made again."""
    monkeypatch.setattr(watching, "_AGAIN_MS", 300)
    (tmp_path / "elsewhere.md").write_text("# Link\n\nbefore\n")
    (folder / "linked.md").symlink_to(tmp_path / "elsewhere.md")
    with watching.watching(followed, folder):
        wait_for(followed, {"one": "# One\n\nthe first note", "linked": "# Link\n\nbefore"})
        (tmp_path / "elsewhere.md").write_text("# Link\n\nafter\n")
        wait_for(followed, {"one": "# One\n\nthe first note", "linked": "# Link\n\nafter"})
        shutil.rmtree(folder)
        time.sleep(0.5)
        assert not holds(followed, {})  # a folder that is gone removes nothing
        folder.mkdir()
        (folder / "three.md").write_text("# Three\n\nthe third note\n")
        wait_for(followed, {"three": "# Three\n\nthe third note"})


def test_a_file_that_cannot_be_read_is_told_of_once_while_it_stays_so(followed, folder, caplog):
    """The folder is read every minute; a problem that comes back is told of again."""
    wrong = "---\ndescription: who: what\n---\ntext\n"
    told = frozenset()
    for text, warnings in ((wrong, 1), (wrong, 0), ("# Fine\n\nnow\n", 0), (wrong, 1)):
        (folder / "two.md").write_text(text)
        caplog.clear()
        told = watching.follow(followed, folder, told=told)
        said = [one for one in caplog.messages if "two.md:2" in one]
        assert len(said) == warnings, caplog.messages


def test_hidden_files_concern_nobody_but_a_hidden_folder_that_is_followed_does(folder):
    inside = folder / "x" / "note.md"
    assert _concerns(Change.modified, str(inside), folder=folder)
    assert _concerns(Change.added, str(folder / "moved-in"), folder=folder)
    assert not _concerns(Change.modified, str(folder / "picture.png"), folder=folder)
    assert not _concerns(Change.modified, str(folder / ".git" / "note.md"), folder=folder)
    assert not _concerns(Change.added, str(folder / ".note.md.swp"), folder=folder)
