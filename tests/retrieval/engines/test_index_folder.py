"""The folder of an index: written whole or not at all, read with care."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from engine_world import ABOUT, DIGEST, LAYOUT, file_of, plain_name, unit_vectors, write_index

from subspace.data.records import Record
from subspace.errors import ConfigError, IndexFolderError
from subspace.retrieval import BlockIndex
from subspace.retrieval.engines import NumpyEngine, create_engine, open_engine
from subspace.retrieval.engines.folder_writer import check_folder
from subspace.retrieval.engines.index_folder import Stored, open_folder, seal

FILES = ["changes.jsonl", "items.jsonl", "manifest.json", "vectors.npy"]
WHOLE = FILES[1:]  # files that are written whole; a file of changes may be cut anywhere
DOCUMENTS = (
    Record(id="plain", text="a text", metadata={"lang": "en", "year": 1999, "good": True}),
    Record(id="lines", text='two\nlines, a "quote", a \\ and a\ttab\r\n'),
    Record(
        id="über/世界 \u2028",
        text="not ASCII: ß 世界 \u2028 \x85 🙂",
        metadata={"'; DROP TABLE items; --": "ß \u2028", "share": 0.1},
    ),
)


def build(*, seed: int = 0, count: int = len(DOCUMENTS), dtype: str = "float32") -> NumpyEngine:
    engine = NumpyEngine(layout=LAYOUT, projection_digest=f"{seed}" * 64, dtype=dtype)
    engine.upsert(DOCUMENTS[:count], unit_vectors(count, seed=seed))
    return engine


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    build().save(tmp_path / "index")
    return tmp_path / "index"


def names_of(folder: Path) -> list[str]:
    """Without the lock."""
    return sorted(plain_name(path) for path in folder.iterdir() if path.name != ".lock")


def refusal(folder: Path) -> str:
    with pytest.raises(IndexFolderError) as caught:
        BlockIndex.open(folder)
    assert str(folder) in str(caught.value)
    return str(caught.value)


def assert_equal(found: NumpyEngine, wanted: NumpyEngine) -> None:
    assert found.documents == wanted.documents
    assert [d.metadata for d in found.documents] == [d.metadata for d in wanted.documents]
    np.testing.assert_array_equal(found.vectors, wanted.vectors)
    assert found.vectors.dtype == wanted.vectors.dtype
    assert (found.layout, found.projection_digest) == (wanted.layout, wanted.projection_digest)


def change_manifest(folder: Path, change: Callable[[dict], object]) -> None:
    manifest = json.loads((folder / "manifest.json").read_text())
    change(manifest)
    if manifest["format_version"] == 4:
        manifest = seal(manifest)
    (folder / "manifest.json").write_text(json.dumps(manifest))


# What is saved is what is opened.


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_a_saved_index_opens_as_it_was_and_is_memory_mapped(dtype, tmp_path):
    build(dtype=dtype).save(tmp_path / "index")
    found = NumpyEngine.load(str(tmp_path / "index"))
    assert_equal(found, build(dtype=dtype))
    assert isinstance(found.vectors, np.memmap)
    assert names_of(tmp_path / "index") == FILES
    assert [path.name for path in tmp_path.iterdir()] == ["index"]


def test_metadata_keeps_its_types(saved):
    """A year is no text, and a truth value no number."""
    found = NumpyEngine.load(saved).documents[0].metadata
    assert [type(value) for value in found.values()] == [str, int, bool]
    assert NumpyEngine.load(saved).documents[1].metadata == {}


def test_an_opened_index_finds_the_same_to_the_bit(saved):
    query = unit_vectors(1, seed=5)[0]
    opened, built = BlockIndex.open(saved), BlockIndex(build())
    for where in (None, {"lang": "en"}, {"year": 1999}, {"good": True}, {"good": [1, True]}):
        assert opened.search(query, where=where).hits == built.search(query, where=where).hits
    assert len(opened.search(query, where={"good": True})) == 1


def test_an_empty_index_can_be_saved_and_opened(tmp_path):
    build(count=0).save(tmp_path / "index")
    assert len(BlockIndex.open(tmp_path / "index")) == 0


def test_a_folder_is_opened_by_the_engine_that_wrote_it(saved):
    assert isinstance(open_engine(saved), NumpyEngine)
    change_manifest(saved, lambda manifest: manifest.update(engine="faiss"))
    with pytest.raises(IndexFolderError, match="an index of the engine 'faiss'"):
        NumpyEngine.load(saved)


def test_changing_an_opened_index_changes_no_file_until_it_is_saved(saved):
    engine = NumpyEngine.load(saved)
    engine.upsert(DOCUMENTS[:1], unit_vectors(1, seed=8))
    engine.upsert([DOCUMENTS[0], Record(id="new", text="new")], unit_vectors(2, seed=7))
    engine.delete(["lines"])
    assert_equal(NumpyEngine.load(saved), build())
    engine.save()
    found = NumpyEngine.load(saved)
    assert [document.id for document in found.documents] == ["plain", DOCUMENTS[2].id, "new"]
    np.testing.assert_array_equal(found.vectors[[0, 2]], unit_vectors(2, seed=7))


def test_saving_needs_a_folder_from_somewhere(tmp_path):
    with pytest.raises(ConfigError, match="which folder"):
        build().save()
    engine = create_engine(tmp_path / "index", **ABOUT)
    assert not (tmp_path / "index").exists()
    engine.save()
    assert len(BlockIndex.open(tmp_path / "index")) == 0


def test_saving_over_an_index_replaces_it_and_leaves_nothing_beside_it(saved):
    opened = NumpyEngine.load(saved)
    build(seed=1, count=2).save(saved)
    assert_equal(NumpyEngine.load(saved), build(seed=1, count=2))
    assert [path.name for path in saved.parent.iterdir()] == ["index"]
    assert_equal(opened, build())  # who has the old one open can go on


def test_saving_into_an_empty_folder_or_a_new_one_below_a_new_one_works(tmp_path):
    (tmp_path / "empty").mkdir()
    for folder in (tmp_path / "empty", tmp_path / "new" / "below"):
        build().save(folder)
        assert_equal(NumpyEngine.load(folder), build())


def test_other_users_may_read_a_saved_index(saved):
    assert saved.stat().st_mode & 0o055 == 0o055
    assert all(path.stat().st_mode & 0o044 == 0o044 for path in saved.iterdir())


def test_saving_through_a_link_writes_where_it_points_and_keeps_the_link(saved, tmp_path):
    link, dangling = tmp_path / "link", tmp_path / "dangling"
    link.symlink_to(saved)
    dangling.symlink_to(tmp_path / "elsewhere" / "index")
    for path in (link, dangling):
        build(seed=1).save(path)
        assert path.is_symlink()
        assert_equal(NumpyEngine.load(path), build(seed=1))
    assert_equal(NumpyEngine.load(saved), build(seed=1))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["dangling", "elsewhere", "index", "link"]


# Files of an engine's own.


def save_with_graph(folder: Path, *, content: bytes = b"edges") -> None:
    engine = build()
    stored = Stored(
        engine.documents, engine.vectors, LAYOUT, DIGEST, "numpy", settings={"edges": 32}
    )
    write_index(folder, stored, more={"graph.bin": lambda path: path.write_bytes(content)})


def test_files_of_an_engines_own_are_written_summed_and_replaced(tmp_path):
    for content in (b"edges", b"other edges"):
        save_with_graph(tmp_path / "index", content=content)
        assert file_of(tmp_path / "index", "graph.bin").read_bytes() == content
        stored = open_folder(tmp_path / "index", lambda stored: stored)
        assert stored.settings == {"edges": 32}
    build().save(tmp_path / "index")  # an engine without such files
    assert names_of(tmp_path / "index") == FILES


@pytest.mark.parametrize("content", [None, b"", b"edge", b"edgez", b"edges!"])
def test_a_changed_file_of_an_engines_own_is_refused(content, tmp_path):
    save_with_graph(tmp_path / "index")
    path = file_of(tmp_path / "index", "graph.bin")
    path.unlink() if content is None else path.write_bytes(content)
    assert "damaged" in refusal(tmp_path / "index")
    assert path.name in refusal(tmp_path / "index")


def test_an_engines_own_file_that_cannot_be_written_leaves_the_old_index(saved):
    def fail(path: Path) -> None:
        path.write_bytes(b"half")
        raise OSError("no space left")

    engine = build(seed=1)
    stored = Stored(engine.documents, engine.vectors, LAYOUT, "1" * 64, "numpy")
    with pytest.raises(IndexFolderError, match="no space left"):
        write_index(saved, stored, more={"graph.bin": fail})
    assert_equal(NumpyEngine.load(saved), build())
    assert [path.name for path in saved.parent.iterdir()] == ["index"]


def as_format(version: int, folder: Path) -> None:
    """Rewrites an index as an earlier version did: without changes, or without marks either."""
    file_of(folder, "changes.jsonl").unlink()
    (folder / ".lock").unlink(missing_ok=True)
    if version == 2:
        for name in ("items.jsonl", "vectors.npy"):
            file_of(folder, name).rename(folder / name)
        change_manifest(folder, lambda manifest: manifest.pop("mark"))
    change_manifest(folder, lambda manifest: manifest.update(format_version=version))


@pytest.mark.parametrize("version", [2, 3])
@pytest.mark.parametrize("changed", [False, True])
def test_an_index_of_an_earlier_format_opens_and_is_replaced_whole_by_a_save(
    version, changed, saved
):
    as_format(version, saved)
    assert names_of(saved) == ["items.jsonl", "manifest.json", "vectors.npy"]
    engine, other = NumpyEngine.load(saved), NumpyEngine.load(saved)
    assert_equal(engine, build())
    assert not engine.refresh()
    if changed:
        engine.upsert(*new("late"))
    engine.save()
    assert names_of(saved) == FILES
    assert json.loads((saved / "manifest.json").read_text())["format_version"] == 4
    assert_equal(NumpyEngine.load(saved), engine)
    other.upsert(*new("later"))
    assert other.refresh() == changed
    other.save()
    assert ids_of(saved)[3:] == ["late", "later"] if changed else ["later"]


@pytest.mark.parametrize("version", [2, 3])
def test_of_two_that_have_an_earlier_format_open_neither_loses_what_it_saves(version, saved):
    as_format(version, saved)
    one, other = NumpyEngine.load(saved), NumpyEngine.load(saved)
    for engine, name in ((one, "one"), (other, "other")):
        engine.upsert(*new(name))
        engine.save()
    assert ids_of(saved)[3:] == ["one", "other"]


# Several writers.


def new(name: str, *, seed: int = 9) -> tuple[list[Record], np.ndarray]:
    return [Record(id=name, text=f"text of {name}")], unit_vectors(1, seed=seed)


def ids_of(folder: Path) -> list[str]:
    return [document.id for document in open_engine(folder).documents]


def test_what_two_writers_save_one_after_the_other_is_all_there(saved):
    """Each adds, replaces and removes; of one document, the later save counts."""
    one, other = NumpyEngine.load(saved), NumpyEngine.load(saved)
    one.upsert(*new("one"))
    one.delete(["lines"])
    one.save()
    other.upsert(*new("other"))
    other.upsert(*new("plain", seed=7))
    other.save()
    assert ids_of(saved) == ["plain", DOCUMENTS[2].id, "one", "other"]
    assert NumpyEngine.load(saved).documents[0].text == "text of plain"
    assert_equal(other, NumpyEngine.load(saved))  # who saved has the others' changes from then on
    one.upsert(*new("again"))
    one.save()
    assert ids_of(saved) == ["plain", DOCUMENTS[2].id, "one", "other", "again"]


def test_what_another_has_removed_stays_away_unless_it_was_changed_here(saved):
    one, other = NumpyEngine.load(saved), NumpyEngine.load(saved)
    one.delete(["plain", "lines"])
    one.save()
    other.upsert(*new("lines"))
    other.save()
    assert ids_of(saved) == [DOCUMENTS[2].id, "lines"]


def test_what_was_removed_and_added_again_comes_at_the_end_for_all(saved):
    one, other = NumpyEngine.load(saved), NumpyEngine.load(saved)
    one.upsert(*new("one"))
    one.save()
    other.delete(["plain"])
    other.upsert(*new("plain"))
    other.save()
    assert ids_of(saved) == ["lines", DOCUMENTS[2].id, "one", "plain"]


def test_changes_of_an_index_that_was_built_again_with_other_vectors_are_refused(saved):
    """Their vectors could not be compared. The rebuild stays, and so does what was refused."""
    engine = NumpyEngine.load(saved)
    engine.upsert(*new("late"))
    build(seed=1, count=2).save(saved)
    for _ in range(2):
        with pytest.raises(IndexFolderError, match=r"built again since .*: open it again"):
            engine.save()
    assert_equal(NumpyEngine.load(saved), build(seed=1, count=2))
    assert engine.documents[-1].id == "late"


def test_a_new_index_takes_the_place_of_what_is_there(saved):
    """The counter-check: that is what it was made for; from then on it merges."""
    engine = create_engine(saved, **ABOUT)
    engine.upsert(*new("first"))
    engine.save()
    assert ids_of(saved) == ["first"]
    other = open_engine(saved)
    other.upsert(*new("second"))
    other.save()
    engine.upsert(*new("third"))
    engine.save()
    assert ids_of(saved) == ["first", "second", "third"]


def test_a_copy_saved_elsewhere_merges_with_what_is_there_only_afterwards(saved, tmp_path):
    engine = NumpyEngine.load(saved)
    build(count=1).save(tmp_path / "other")
    engine.save(tmp_path / "other")
    assert ids_of(tmp_path / "other") == ids_of(saved)


SAVING = """
import sys
import numpy as np
from subspace.data.records import Record
from subspace.retrieval.engines import NumpyEngine, folder_engine

folder_engine._CHANGES = 7  # then all is written whole
folder, name, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
engine = NumpyEngine.load(folder)
vector = np.zeros((1, engine.layout.dim), np.float32)
for number in range(count):
    engine.upsert([Record(id=f"{name}{number}", text="a text")], vector)
    engine.save()
"""


def test_readers_beside_two_writers_see_whole_states_and_no_save_is_lost(saved):
    writers = [
        subprocess.Popen([sys.executable, "-c", SAVING, str(saved), name, "40"]) for name in "ab"
    ]
    seen: list[set[str]] = [set(ids_of(saved))]
    while any(writer.poll() is None for writer in writers):
        seen.append(set(ids_of(saved)))
        assert seen[-2] <= seen[-1]
    assert [writer.wait() for writer in writers] == [0, 0]
    wanted = {document.id for document in DOCUMENTS}
    assert set(ids_of(saved)) == wanted | {f"{name}{n}" for name in "ab" for n in range(40)}
    assert names_of(saved) == FILES


def test_a_damaged_index_is_damaged_however_often_it_is_read(saved):
    """The counter-check to reading again."""
    path = file_of(saved, "items.jsonl")
    path.write_bytes(path.read_bytes()[:-1])
    assert "damaged" in refusal(saved)


# What is left alone.


@pytest.mark.parametrize("name", ["thesis.txt", "manifest.json"])
def test_saving_into_a_folder_with_something_else_is_refused_and_leaves_it(name, tmp_path):
    """Web applications call a file of theirs manifest.json too."""
    (tmp_path / name).write_text('{"name": "mine"}')
    (tmp_path / "more").mkdir()
    with pytest.raises(IndexFolderError, match=str(tmp_path)):
        build().save(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([name, "more"])
    assert (tmp_path / name).read_text() == '{"name": "mine"}'


@pytest.mark.parametrize("sums", [None, [], {"notes.txt": "crc32:00000000"}, "notes.txt", 1])
def test_a_manifest_of_something_else_gives_no_leave_to_delete(sums, tmp_path):
    """Counter-check to files of an engine's own: all of an index must be there."""
    (tmp_path / "manifest.json").write_text(json.dumps({"sums": sums}))
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(IndexFolderError, match="no index and no empty folder"):
        build().save(tmp_path)
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_saving_to_the_path_of_a_file_is_refused_and_leaves_the_file(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("mine")
    for target in (path / "below", path):
        with pytest.raises(IndexFolderError, match=r"notes\.txt"):
            build().save(target)
        assert path.read_text() == "mine"
        assert [p.name for p in tmp_path.iterdir()] == ["notes.txt"]


# What stops a save.


@contextmanager
def full_disk() -> Iterator[None]:
    """The system refuses to write more than 20 bytes to a file, as a full disk does."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_is_reported_and_leaves_the_old_index(saved):
    with full_disk(), pytest.raises(IndexFolderError, match="cannot write the index"):
        build(seed=1).save(saved)
    assert_equal(NumpyEngine.load(saved), build())
    assert [path.name for path in saved.parent.iterdir()] == ["index"]


@pytest.mark.parametrize("error", [OSError("no"), KeyboardInterrupt()], ids=["OSError", "Ctrl-C"])
def test_an_index_that_cannot_be_put_in_place_leaves_the_old_one(error, saved, monkeypatch):
    """The rename that counts fails."""
    replace, calls = os.replace, []

    def failing(source, target):
        calls.append(target)
        if len(calls) == 1:
            raise error
        replace(source, target)

    monkeypatch.setattr(os, "replace", failing)
    with pytest.raises(IndexFolderError if isinstance(error, OSError) else KeyboardInterrupt):
        build(seed=1).save(saved)
    assert_equal(NumpyEngine.load(saved), build())
    assert [path.name for path in saved.parent.iterdir()] == ["index"]


KILLED = """
import sys
from subspace.retrieval.engines import NumpyEngine, folder_engine

folder_engine._CHANGES = 2  # then all is written whole
engine = NumpyEngine.load(sys.argv[1])
documents, vectors = engine.documents[:1], engine.vectors[:1].copy()
print("ready", flush=True)
while True:
    engine.upsert(documents, vectors)
    engine.save()
"""


def test_an_index_whose_saving_is_killed_is_whole_and_the_next_save_clears_what_is_left(saved):
    for pause in (0.0, 0.02, 0.05):
        with subprocess.Popen(
            [sys.executable, "-c", KILLED, str(saved)], stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout.readline() == "ready\n"
            time.sleep(pause)
            process.send_signal(signal.SIGKILL)
        assert_equal(NumpyEngine.load(saved), build())
        assert [path.name for path in saved.parent.iterdir()] == ["index"]
    assert set(names_of(saved)) >= set(FILES)
    build().save(saved)
    assert names_of(saved) == FILES


def test_whether_an_index_can_be_written_is_said_without_writing(saved, tmp_path):
    (tmp_path / "notes").mkdir()
    (tmp_path / "notes" / "thesis.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    for free in (saved, tmp_path / "new", tmp_path / "deep" / "new"):
        check_folder(free)
    for taken in (tmp_path / "notes", tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(IndexFolderError, match=str(taken)):
            check_folder(taken)
        with pytest.raises(IndexFolderError, match=str(taken)):
            create_engine(taken, **ABOUT)
    assert_equal(NumpyEngine.load(saved), build())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "index", "notes"]


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere"
)
def test_a_folder_that_may_not_be_written_is_said_before_the_work(tmp_path):
    tmp_path.chmod(0o555)
    with pytest.raises(IndexFolderError, match="cannot write the index"):
        check_folder(tmp_path / "index")
    tmp_path.chmod(0o755)


def test_what_is_no_folder_and_no_server_is_refused():
    for target in ("ftp://host/index", "redis://host"):
        with pytest.raises(ConfigError, match=r"no engine for .*give a folder"):
            open_engine(target)


@pytest.mark.parametrize("engine", ["milvus", "pgvector", "lucene"])
def test_an_engine_that_needs_a_server_is_refused_for_a_folder(engine, tmp_path):
    with pytest.raises(ConfigError, match=f"the engine '{engine}' does not go with"):
        create_engine(tmp_path / "index", **ABOUT, engine=engine)


# What is refused when it is opened.


def test_a_missing_index_is_refused_with_what_to_do(tmp_path):
    assert "subspace index" in refusal(tmp_path / "nothing")
    (tmp_path / "file").write_text("")
    refusal(tmp_path / "file")


@pytest.mark.parametrize("name", FILES)
def test_an_index_without_one_of_its_files_is_refused_by_its_name(name, saved):
    path = file_of(saved, name)
    path.unlink()
    assert path.name in refusal(saved) or name == "manifest.json"


@pytest.mark.parametrize("name", WHOLE)
def test_a_truncated_file_is_refused_wherever_it_is_cut(name, saved):
    path = file_of(saved, name)
    content = path.read_bytes()
    for length in range(0, len(content) - 1, 7):
        path.write_bytes(content[:length])
        assert "damaged" in refusal(saved)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize(
    "content", [b"[]", b"1", b"null", b"\xff\xfe\n", b"PK\x03\x04 damaged", b"[" * 100_000]
)
def test_a_file_with_other_content_is_refused(name, content, saved):
    file_of(saved, name).write_bytes(content + b"\n" * (name == "changes.jsonl"))
    assert "damaged" in refusal(saved)


@pytest.mark.parametrize("key", ["projection", "blocks", "count", "engine", "settings", "sums"])
def test_a_manifest_without_a_key_is_refused_by_its_name(key, saved):
    change_manifest(saved, lambda manifest: manifest.pop(key))
    assert key in refusal(saved)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("count", 2),
        ("count", "3"),
        ("blocks", {"topic": 5}),
        ("blocks", {"topic": 0}),
        ("blocks", 1),
        ("settings", 1),
        ("sums", 1),
        ("sums", {}),
        ("sums", {"items.jsonl": "sha256:0", "vectors.npy": "crc32:0"}),
    ],
)
def test_a_manifest_that_does_not_fit_the_files_is_refused(key, value, saved):
    change_manifest(saved, lambda manifest: manifest.update({key: value}))
    assert "damaged" in refusal(saved)


@pytest.mark.parametrize("name", ["items.jsonl", "vectors.npy"])
def test_a_file_without_a_sum_is_refused(name, saved):
    change_manifest(saved, lambda manifest: manifest["sums"].pop(name))
    assert "damaged" in refusal(saved)


@pytest.mark.parametrize("version", [0, 1, 5, "4", None])
def test_another_format_version_is_refused_with_both_versions_and_what_to_do(version, saved):
    change_manifest(saved, lambda manifest: manifest.update(format_version=version))
    message = refusal(saved)
    assert f"format version {version!r}" in message
    assert "reads 4; build it again" in message


def test_an_index_of_the_format_before_is_refused_with_what_to_do(tmp_path):
    """As version 0.1.0 wrote it."""
    manifest = {
        "format_version": 1,
        "projection": DIGEST,
        "blocks": LAYOUT.to_widths(),
        "count": 1,
    }
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    (tmp_path / "items.jsonl").write_text('{"id": "a", "text": "b"}\n')
    np.save(tmp_path / "vectors.npy", unit_vectors(1))
    assert "build it again" in refusal(tmp_path)
    build().save(tmp_path)  # which can be done in its place
    assert_equal(NumpyEngine.load(tmp_path), build())


def test_items_of_another_index_are_refused(saved, tmp_path):
    build(count=2).save(tmp_path / "other")
    shutil.copy(file_of(tmp_path / "other", "items.jsonl"), file_of(saved, "items.jsonl"))
    assert "3 documents are promised, there are 2" in refusal(saved)


def test_a_flipped_bit_in_texts_or_vectors_is_refused_wherever_it_is(saved):
    for name in ("items.jsonl", "vectors.npy"):
        path = file_of(saved, name)
        content = path.read_bytes()
        for position in range(0, len(content), 7):
            flipped = bytearray(content)
            flipped[position] ^= 1
            path.write_bytes(flipped)
            assert "damaged" in refusal(saved)
        path.write_bytes(content)
    assert_equal(NumpyEngine.load(saved), build())


@pytest.mark.parametrize("kind", ["float64", "int32", ">f4"])
def test_vectors_of_another_kind_are_refused(kind, tmp_path):
    stored = Stored(DOCUMENTS, unit_vectors(3).astype(kind), LAYOUT, DIGEST, "numpy")
    write_index(tmp_path / "index", stored)
    assert f"vectors are {np.dtype(kind)}, not one of float32, float16" in refusal(
        tmp_path / "index"
    )


def test_vectors_that_would_run_code_are_refused(saved):
    np.save(file_of(saved, "vectors.npy"), np.array([[{}]], dtype=object), allow_pickle=True)
    assert "damaged" in refusal(saved)


def test_ids_that_are_used_twice_are_refused(tmp_path):
    twice = (DOCUMENTS[0], DOCUMENTS[1], DOCUMENTS[0])
    write_index(tmp_path / "index", Stored(twice, unit_vectors(3), LAYOUT, DIGEST, "numpy"))
    assert "damaged: ids are used more than once" in refusal(tmp_path / "index")


@pytest.mark.parametrize(
    "line",
    ['{"id": "a"}', '{"text": "a"}', '["a"]', "1", '{"id": "a", "text": "b", "metadata": 1}'],
)
def test_items_that_are_none_are_refused_though_their_sum_is_right(line, saved):
    stored = Stored(DOCUMENTS, unit_vectors(3), LAYOUT, DIGEST, "numpy")
    write_index(saved, stored, more={"items.jsonl": lambda p: p.write_text(f"{line}\n" * 3)})
    assert "damaged" in refusal(saved)


@pytest.mark.parametrize("name", [".DS_Store", ".nfs0001", "README.md", "notes"])
def test_what_others_put_into_an_index_folder_stands_in_no_way_and_stays(name, saved):
    if name == "notes":
        (saved / name).mkdir()
    else:
        (saved / name).write_text("not of the index")
    engine = open_engine(saved)
    engine.upsert([Record(id="new", text="new")], unit_vectors(1))
    engine.save()
    build(seed=1).save(saved)  # in place of it
    assert (saved / name).exists()
    assert {document.id for document in NumpyEngine.load(saved).documents} == {
        document.id for document in DOCUMENTS
    }


def test_a_folder_of_something_else_is_refused_by_what_it_holds(tmp_path):
    (tmp_path / "letters.txt").write_text("dear")
    with pytest.raises(IndexFolderError, match=r"it holds letters\.txt"):
        build().save(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["letters.txt"]
    (tmp_path / "letters.txt").unlink()
    (tmp_path / ".DS_Store").write_text("hidden")
    build().save(tmp_path)


def test_every_flipped_bit_of_a_manifest_is_noticed_or_changes_nothing(saved):
    """Also those that leave it JSON: other blocks, another count, another digest."""
    path = saved / "manifest.json"
    whole = path.read_bytes()
    before = json.loads(whole)
    rng = np.random.default_rng(0)
    for bit in rng.choice(8 * len(whole), size=300, replace=False):
        broken = bytearray(whole)
        broken[bit // 8] ^= 1 << bit % 8
        path.write_bytes(bytes(broken))
        try:
            open_folder(saved, lambda stored: stored)
        except IndexFolderError:
            continue
        assert json.loads(bytes(broken)) == before
    manifest = dict(before, blocks=dict(reversed(before["blocks"].items())))
    path.write_text(json.dumps(manifest))
    assert "manifest.json was changed" in refusal(saved)
