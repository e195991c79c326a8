"""What a save in a folder writes, what others see of it, and what a kill leaves of it."""

import os
import shutil
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

import numpy as np
import pytest
from engine_world import ABOUT, file_of, make_engine, make_records, plain_name, unit_vectors
from filelock import FileLock

from subspace.data.records import Record
from subspace.errors import IndexFolderError
from subspace.retrieval import BlockIndex
from subspace.retrieval.engines import NumpyEngine, create_engine, folder_engine

COUNT = 20
FILES = ["changes.jsonl", "items.jsonl", "manifest.json", "vectors.npy"]


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    make_engine(unit_vectors(COUNT)).save(tmp_path / "index")
    return tmp_path / "index"


@pytest.fixture
def often() -> Iterator[None]:
    """All is written whole after three changes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(folder_engine, "_CHANGES", 3)
        yield


def new(name: str, *, seed: int = 9) -> tuple[list[Record], np.ndarray]:
    return [Record(id=name, text=f"text {seed} of {name}")], unit_vectors(1, seed=seed)


def contents(engine: NumpyEngine) -> tuple[list[tuple[str, str]], bytes]:
    return [(d.id, d.text) for d in engine.documents], engine.vectors.tobytes()


def stamps(folder: Path) -> dict[str, tuple[int, int, int]]:
    """Which file lies under each name, and whether it was written; the lock has no content."""
    found = {path.name: path.stat() for path in folder.iterdir() if path.name != ".lock"}
    return {name: (one.st_ino, one.st_mtime_ns, one.st_size) for name, one in found.items()}


def names_of(folder: Path) -> list[str]:
    return sorted(plain_name(path) for path in folder.iterdir() if path.name != ".lock")


# What is written.


def test_a_save_writes_what_was_changed_and_no_other_file(saved):
    before = stamps(saved)
    engine = NumpyEngine.load(saved)
    engine.upsert(*new("d3"))
    engine.delete(["d0"])
    engine.save()
    after = stamps(saved)
    changes = file_of(saved, "changes.jsonl").name
    assert [name for name in before if after[name] != before[name]] == [changes]
    assert after.keys() == before.keys()
    assert 0 < after[changes][2] < 500
    assert contents(NumpyEngine.load(saved)) == contents(engine)


def test_a_save_without_changes_writes_nothing(saved):
    engine = NumpyEngine.load(saved)
    before = stamps(saved)
    engine.save()
    engine.upsert(*new("d3"))
    engine.save()
    between = stamps(saved)
    assert between != before
    engine.save()
    assert stamps(saved) == between


def test_once_many_are_changed_all_is_written_whole_and_nothing_of_before_is_left(saved, often):
    engine = NumpyEngine.load(saved)
    manifests = set()
    for number in range(9):
        engine.upsert(*new(f"new{number}"))
        engine.save()
        manifests.add((saved / "manifest.json").read_bytes())
        assert names_of(saved) == FILES
        assert contents(NumpyEngine.load(saved)) == contents(engine)
    assert len(manifests) == 3  # before, after the fourth and after the eighth
    assert file_of(saved, "changes.jsonl").stat().st_size < 500


def test_many_changes_at_once_are_written_whole_at_once(saved, often):
    """The counter-check: not one after the other."""
    engine = NumpyEngine.load(saved)
    engine.upsert(make_records(4, first=COUNT), unit_vectors(4, seed=1))
    engine.save()
    assert file_of(saved, "changes.jsonl").stat().st_size == 0
    assert contents(NumpyEngine.load(saved)) == contents(engine)


def test_after_all_is_written_whole_the_files_of_before_are_let_go(saved, often):
    """An open file of before would keep its room on the disk."""
    engine = NumpyEngine.load(saved)
    engine.upsert(make_records(4, first=COUNT), unit_vectors(4, seed=1))
    before = contents(engine)
    engine.save()
    assert isinstance(engine.vectors, np.memmap)
    assert Path(engine.vectors.filename) == file_of(saved, "vectors.npy")
    assert contents(engine) == before


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_changes_keep_the_precision_of_the_index(dtype, tmp_path):
    engine = make_engine(unit_vectors(3), dtype=dtype)
    engine.save(tmp_path / "index")
    engine.upsert(*new("late"))
    engine.save()
    found = NumpyEngine.load(tmp_path / "index")
    assert contents(found) == contents(engine)
    assert found.vectors.dtype == dtype


def test_a_copy_of_a_folder_can_be_opened_and_saved_on_its_own(saved, tmp_path):
    engine = NumpyEngine.load(saved)
    engine.upsert(*new("one"))
    engine.save()
    shutil.copytree(saved, tmp_path / "copy")
    copy = NumpyEngine.load(tmp_path / "copy")
    copy.upsert(*new("two"))
    copy.save()
    assert not engine.refresh()
    assert contents(NumpyEngine.load(saved)) == contents(engine)
    assert contents(NumpyEngine.load(tmp_path / "copy")) == contents(copy) != contents(engine)


def test_what_can_only_be_read_is_opened_and_searched_without_writing(saved):
    engine = NumpyEngine.load(saved)
    engine.upsert(*new("one"))
    engine.save()
    (saved / ".lock").unlink()
    before = stamps(saved)
    with file_of(saved, "changes.jsonl").open("ab") as stream:
        stream.write(b"12345678 {half")
    before = stamps(saved)
    found = BlockIndex.open(saved)
    assert len(found.search(unit_vectors(1)[0]).hits) and not found.refresh()
    assert stamps(saved) == before


# What others see.


def test_refresh_takes_up_what_others_have_saved_and_tells_whether_that_was_anything(saved):
    one, other = NumpyEngine.load(saved), NumpyEngine.load(saved)
    assert not one.refresh() and not other.refresh()
    one.upsert(*new("d3"))
    one.upsert(*new("new"))
    one.delete(["d1"])
    assert not other.refresh()  # not saved yet
    state = other.state()
    one.save()
    assert other.refresh()
    assert other.state() != state
    assert contents(other) == contents(one) == contents(NumpyEngine.load(saved))
    assert not other.refresh() and not one.refresh()


def test_saves_and_writing_all_anew_that_change_no_document_are_told_from_those_that_do(
    saved, often
):
    one, other = NumpyEngine.load(saved), NumpyEngine.load(saved)
    same = make_records(COUNT), unit_vectors(COUNT)
    for count in (2, 4):  # appended, and written whole
        before = file_of(saved, "vectors.npy")
        one.upsert(same[0][:count], same[1][:count])
        one.save()
        assert (file_of(saved, "vectors.npy") != before) == (count == 4)
        assert not other.refresh()
        assert contents(other) == contents(one) == contents(NumpyEngine.load(saved))
    one.upsert(same[0][:4], same[1][1:5])  # the counter-check: other vectors
    one.save()
    assert other.refresh()
    assert contents(other) == contents(one)


def test_what_was_changed_here_stays_on_top_of_what_others_have_saved(saved):
    """And a save of it gives the same to everybody, in the same order."""
    one, other = NumpyEngine.load(saved), NumpyEngine.load(saved)
    one.upsert(*new("both", seed=1))
    one.upsert(*new("theirs", seed=1))
    one.upsert(*new("d2", seed=1))
    one.upsert(*new("d4", seed=1))
    one.delete(["d3", "d5"])
    one.save()
    other.upsert(*new("mine", seed=2))
    other.upsert(*new("both", seed=2))
    other.upsert(*new("d3", seed=2))
    other.delete(["d2", "d4"])
    other.upsert(*new("d4", seed=2))
    assert other.refresh()
    found = dict(contents(other)[0])
    assert found["both"] == "text 2 of both" and found["d3"] == "text 2 of d3"
    assert found["theirs"] == "text 1 of theirs" and found["d4"] == "text 2 of d4"
    assert "d2" not in found and "d5" not in found
    assert list(found)[-5:] == ["both", "theirs", "d3", "mine", "d4"]
    other.save()
    assert contents(NumpyEngine.load(saved)) == contents(other)
    assert one.refresh() and contents(one) == contents(other)


def test_refresh_follows_all_that_is_written_whole_and_keeps_changes(saved, often):
    one, other = NumpyEngine.load(saved), NumpyEngine.load(saved)
    other.upsert(*new("mine"))
    one.upsert(make_records(9, first=COUNT), unit_vectors(9, seed=1))
    one.save()
    assert other.refresh()
    assert contents(other)[0] == [*contents(one)[0], ("mine", "text 9 of mine")]
    other.save()
    assert contents(NumpyEngine.load(saved)) == contents(other)


def test_who_opened_a_link_follows_where_it_points_and_saves_there(saved, tmp_path):
    """Also to a copy, whose files have the same names."""
    copied = shutil.copytree(saved, tmp_path / "copy")
    link = tmp_path / "link"
    link.symlink_to(saved)
    engine, other = NumpyEngine.load(link), NumpyEngine.load(copied)
    for name in ("before", "after"):
        engine.upsert(*new(name))
        engine.save()
        if name == "before":
            original = contents(engine)
            shutil.rmtree(copied)
            shutil.copytree(saved, copied)
            link.unlink()
            link.symlink_to(copied)
            other = NumpyEngine.load(copied)
            other.upsert(*new("theirs"))
            other.save()
            assert engine.refresh() and contents(engine) == contents(other)
    assert other.refresh() and contents(other) == contents(engine)
    assert contents(NumpyEngine.load(saved)) == original


def test_an_index_that_was_built_again_or_is_gone_says_to_open_it_again(saved):
    engine, changed = NumpyEngine.load(saved), NumpyEngine.load(saved)
    changed.upsert(*new("late"))
    other = create_engine(saved, **{**ABOUT, "projection_digest": "1" * 64})
    other.save()
    for _ in range(2):
        with pytest.raises(IndexFolderError, match=r"built again since .*engine: open it again$"):
            engine.refresh()
        with pytest.raises(IndexFolderError, match=r"cannot be saved into it: open it again"):
            changed.refresh()
    assert engine.count() == COUNT and changed.count() == COUNT + 1
    shutil.rmtree(saved)
    with pytest.raises(IndexFolderError, match=r"is gone; .*open it\s+again"):
        engine.refresh()


def test_an_index_that_was_never_saved_has_nothing_to_take_up(saved):
    engine = create_engine(saved, **ABOUT)
    assert not engine.refresh()
    assert not make_engine(unit_vectors(3)).refresh()


def test_an_index_that_was_created_follows_after_its_first_save(saved):
    engine = create_engine(saved, **ABOUT)
    engine.upsert(*new("first"))
    engine.save()
    other = NumpyEngine.load(saved)
    other.upsert(*new("second"))
    other.save()
    assert engine.refresh()
    assert [d.id for d in engine.documents] == ["first", "second"]


def test_searches_beside_a_refresh_see_whole_saves(saved):
    """Each save replaces two documents by one text: never is one of them ahead."""
    writer, reader = NumpyEngine.load(saved), NumpyEngine.load(saved)
    seen: list[set[str]] = []
    done = threading.Event()

    def search() -> None:
        while not done.is_set():
            (found,) = reader.search(np.zeros((1, 10), np.float32), k=COUNT)
            texts = {d.id: d.text for d in found.documents}
            seen.append({texts["d0"], texts["d7"]})

    threads = [threading.Thread(target=search) for _ in range(3)]
    for thread in threads:
        thread.start()
    for number in range(40):
        records = [Record(id=name, text=f"text {number}") for name in ("d0", "d7")]
        writer.upsert(records, unit_vectors(2, seed=number))
        writer.save()
        assert reader.refresh()
    done.set()
    for thread in threads:
        thread.join()
    first = {"text 0", "text 7"}  # before any save
    assert all(len(texts) == 1 for texts in seen if texts != first)
    assert len(set(map(frozenset, seen))) > 3
    assert contents(reader) == contents(writer)


@pytest.mark.parametrize("error", [OSError("no"), KeyboardInterrupt()], ids=["OSError", "Ctrl-C"])
def test_a_save_that_failed_is_made_by_the_next_one(error, saved, monkeypatch):
    """Whether or not others have seen it: it may be in the file, and not on the disk."""
    engine, other = NumpyEngine.load(saved), NumpyEngine.load(saved)
    engine.upsert(*new("one"))
    engine.upsert(*new("d3"))
    engine.delete(["d7"])

    def fail(descriptor: int) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        with pytest.raises(IndexFolderError if isinstance(error, OSError) else KeyboardInterrupt):
            engine.save()
    wanted = contents(engine)
    assert other.refresh() and contents(other) == wanted
    other.upsert(*new("two"))
    other.save()
    engine.save()
    assert contents(engine) == contents(NumpyEngine.load(saved))
    assert dict(contents(engine)[0]) == {**dict(wanted[0]), "two": "text 9 of two"}
    assert not other.refresh() and contents(other) == contents(engine)


# What a kill leaves.


def test_a_folder_whose_last_save_is_cut_anywhere_is_the_one_before_or_after(saved):
    engine = NumpyEngine.load(saved)
    engine.upsert(*new("one"))
    engine.save()
    before, path = contents(engine), file_of(saved, "changes.jsonl")
    begin = path.stat().st_size
    engine.upsert(*new("two"))
    engine.delete(["d0"])
    engine.save()
    content, after = path.read_bytes(), contents(engine)
    for length in range(begin, len(content)):
        path.write_bytes(content[:length])
        reader = NumpyEngine.load(saved)
        assert contents(reader) == before
        assert not reader.refresh()
        if length % 50 == 0:  # whoever writes next begins where the last whole save ends
            writer = NumpyEngine.load(saved)
            writer.upsert(*new("three"))
            writer.save()
            assert reader.refresh() and contents(reader) == contents(writer)
            assert contents(NumpyEngine.load(saved)) == contents(writer)
    path.write_bytes(content)
    assert contents(NumpyEngine.load(saved)) == after


def test_a_flipped_bit_in_the_changes_is_said_when_they_are_read_and_read_again(saved):
    reader, writer = NumpyEngine.load(saved), NumpyEngine.load(saved)
    writer.upsert(*new("one"))
    writer.save()
    path = file_of(saved, "changes.jsonl")
    content = path.read_bytes()
    for position in range(0, len(content), 11):
        flipped = bytearray(content)
        flipped[position] ^= 4
        path.write_bytes(flipped)
        for read in (lambda: NumpyEngine.load(saved), reader.refresh, reader.save):
            with pytest.raises(IndexFolderError, match=rf"damaged: {path.name}:\d+ is not"):
                read()
    path.write_bytes(content)
    assert reader.refresh() and contents(reader) == contents(writer)


def test_a_reader_that_meets_a_writer_at_work_looks_again_when_it_is_done(saved):
    """It may see some of what a killed writer left and some of what takes its place."""
    reader, writer = NumpyEngine.load(saved), NumpyEngine.load(saved)
    writer.upsert(*new("one"))
    writer.save()
    path = file_of(saved, "changes.jsonl")
    content = path.read_bytes()
    with ThreadPoolExecutor(1) as pool:
        with FileLock(saved / ".lock"):
            path.write_bytes(b"some of each\n" + content[13:])
            seen = pool.submit(reader.refresh)
            opened = pool.submit(NumpyEngine.load, saved)
            wait([seen], timeout=0.2)
            assert not seen.done()
            path.write_bytes(content)
        assert seen.result(timeout=60)
        assert contents(reader) == contents(writer) == contents(opened.result(timeout=60))


def test_a_file_of_changes_that_is_gone_or_became_shorter_is_said(saved):
    engine = NumpyEngine.load(saved)
    engine.upsert(*new("one"))
    engine.save()
    path = file_of(saved, "changes.jsonl")
    os.truncate(path, 10)
    with pytest.raises(IndexFolderError, match=rf"{path.name} has 10 bytes"):
        engine.refresh()
    path.unlink()
    for read in (lambda: NumpyEngine.load(saved), engine.refresh):
        with pytest.raises(IndexFolderError, match=rf"damaged: .*{path.name}"):
            read()


WRITES = {"write", "truncate", "fsync", "replace", "unlink", "touch", "open", "flock", "tofile"}


def killed_before(step: int, act: Callable[[], object]) -> bool:
    """Runs something in a process that is killed before it writes for the n-th time.

    Returns:
        Whether it was killed.
    """
    child = os.fork()
    if child == 0:
        steps = iter(range(10**6))

        def stop(frame, event, called) -> None:
            if event == "c_call" and called.__name__ in WRITES and next(steps) == step:
                os.kill(os.getpid(), signal.SIGKILL)

        sys.setprofile(stop)
        act()
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) or os.WEXITSTATUS(status) == 0
    return os.WIFSIGNALED(status)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["append", "whole"])
def test_a_kill_between_any_two_steps_leaves_the_state_before_or_after(kind, saved, request):
    if kind == "whole":
        request.getfixturevalue("often")
    step, states = 0, set()
    while True:
        engine = NumpyEngine.load(saved)
        before = contents(engine)[0]
        records = [*make_records(3, first=5), Record(f"s{step}", "new")]
        engine.upsert(records, unit_vectors(4, seed=step))
        engine.delete([f"d{COUNT - 1}", "d8"])
        after = contents(engine)[0]
        killed = killed_before(step, engine.save)
        found = contents(NumpyEngine.load(saved))[0]
        assert found in (before, after)
        states.add(found == after)
        if not killed:
            break
        reader = NumpyEngine.load(saved)
        writer = NumpyEngine.load(saved)
        writer.upsert(*new("after a kill", seed=step))
        if kind == "whole":  # only then it clears what is left
            writer.upsert(make_records(4), unit_vectors(4, seed=step))
        writer.save()
        assert names_of(saved) == FILES
        assert reader.refresh() and contents(reader) == contents(writer)
        step += 1
    assert states == {True, False}
    assert step > (5 if kind == "append" else 20)
