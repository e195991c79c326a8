"""A file is written whole or not at all, whatever stops the writing."""

import gzip
import hashlib
import json
import os
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from threading import Timer

import pytest

from subspace import files
from subspace.errors import ConfigError
from subspace.files import (
    check_writable,
    partial_folder,
    read_yaml,
    remove_abandoned,
    sha256_bytes,
    sha256_file,
    whole_file,
    whole_files,
    write_lines,
    write_whole,
)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_is_there_after_the_block_and_not_before(tmp_path):
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    with whole_file(path) as stream:
        stream.write(b"new")
        stream.flush()
        assert path.read_bytes() == b"old"
    assert path.read_bytes() == b"new"
    assert names(tmp_path) == ["a.bin"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, OSError])
def test_a_block_that_fails_leaves_what_was_there_and_nothing_else(error, tmp_path):
    write_whole(tmp_path / "old", b"old")
    for name in ("old", "new"):
        with pytest.raises(error), whole_file(tmp_path / name) as stream:
            stream.write(b"half")
            raise error
    assert names(tmp_path) == ["old"]
    assert (tmp_path / "old").read_bytes() == b"old"


def test_a_full_disk_is_an_os_error_and_leaves_what_was_there(tmp_path):
    resource = pytest.importorskip("resource")
    write_whole(tmp_path / "a", b"old")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
    try:
        with pytest.raises(OSError, match="large"):
            write_whole(tmp_path / "a", bytes(101))
        with pytest.raises(ConfigError, match=r"cannot write .*a: .*large"):
            write_lines(tmp_path / "a", [{"text": "x" * 101}])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert names(tmp_path) == ["a"]
    assert (tmp_path / "a").read_bytes() == b"old"


def test_a_folder_that_is_not_there_or_of_that_name_is_an_os_error(tmp_path):
    (tmp_path / "taken").mkdir()
    for path in (tmp_path / "nowhere" / "a", tmp_path / "taken"):
        with pytest.raises(OSError, match=path.name):
            write_whole(path, b"")
    assert names(tmp_path) == ["taken"]


def test_files_that_go_together_are_all_new_or_all_old(tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    for content in (b"old", b"new"):
        with whole_files(first, second) as streams:
            for stream in streams:
                stream.write(content)
            assert names(tmp_path)[2:] == ([] if content == b"old" else ["first", "second"])
    with pytest.raises(ValueError, match="half"), whole_files(first, second) as streams:
        streams[0].write(b"half")
        raise ValueError("half")
    assert [path.read_bytes() for path in (first, second)] == [b"new", b"new"]
    assert names(tmp_path) == ["first", "second"]


@pytest.mark.parametrize("moves", [0, 1, 2])
def test_stopped_between_two_renames_no_old_file_stands_beside_a_new_one(
    moves, tmp_path, monkeypatch
):
    """As a kill there would leave them: what follows takes nothing back."""
    paths, replace, left = (tmp_path / "first", tmp_path / "second"), os.replace, [moves]
    for path in paths:
        path.write_bytes(b"old")

    def stopping(source, target):
        if not left[0]:
            raise KeyboardInterrupt
        left[0] -= 1
        replace(source, target)

    monkeypatch.setattr(os, "replace", stopping)
    with suppress(KeyboardInterrupt), whole_files(*paths) as streams:
        for stream in streams:
            stream.write(b"new")
    found = [path.read_bytes() if path.exists() else None for path in paths]
    assert found == [[b"old", None], [b"new", None], [b"new", b"new"]][moves]


def test_several_that_write_one_file_at_once_write_one_of_theirs(tmp_path):
    path, contents = tmp_path / "a", [bytes([n]) * 10_000 for n in range(3)]

    def write_often(content: bytes) -> None:
        for _ in range(50):
            write_whole(path, content)
            assert path.read_bytes() in contents

    with ThreadPoolExecutor() as pool:
        list(pool.map(write_often, contents))
    assert names(tmp_path) == ["a"]


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_another_takes_for_abandoned_as_it_begins_is_begun_again(tmp_path, monkeypatch, kind):
    """The other one locks it first, and removes it a little later."""
    lock, taken = files._lock, []

    def late(begun, **how) -> bool:
        if not taken:
            taken.extend(tmp_path.iterdir())
            held = os.open(taken[0], os.O_RDONLY)
            assert lock(held)

            def remove() -> None:
                shutil.rmtree(taken[0]) if kind == "folder" else taken[0].unlink()
                os.close(held)

            Timer(0.05, remove).start()
        return lock(begun, **how)

    monkeypatch.setattr(files, "_lock", late)
    if kind == "file":
        write_whole(tmp_path / "a", b"x")
        assert (tmp_path / "a").read_bytes() == b"x"
    else:
        with partial_folder(tmp_path, name="a") as made:
            assert made.is_dir() and made != taken[0]
    assert not taken[0].exists()


def test_other_users_may_read_what_was_written(tmp_path):
    write_whole(tmp_path / "a", b"x")
    (tmp_path / "plain").write_bytes(b"x")
    assert (tmp_path / "a").stat().st_mode == (tmp_path / "plain").stat().st_mode


@pytest.mark.parametrize("name", ["a.jsonl", "deep/a.jsonl", "a.jsonl.gz"])
def test_lines_are_read_as_they_were_written(name, tmp_path):
    values = [{"text": "ünï\u2028code"}, {"id": 3}]
    write_lines(tmp_path / name, values)
    opened = gzip.open if name.endswith(".gz") else open
    with opened(tmp_path / name, "rt", encoding="utf-8", newline="\n") as stream:
        assert [json.loads(line) for line in stream] == values


def test_lines_that_cannot_be_made_leave_what_was_there(tmp_path):
    write_lines(tmp_path / "a.jsonl", [{}])
    with pytest.raises(TypeError):
        write_lines(tmp_path / "a.jsonl", [{"text": "x"}, {"set": {1}}])
    assert names(tmp_path) == ["a.jsonl"]
    assert (tmp_path / "a.jsonl").read_text() == "{}\n"


def test_hashes_are_those_of_the_content(tmp_path):
    (tmp_path / "a").write_bytes(b"content")
    wanted = hashlib.sha256(b"content").hexdigest()
    assert sha256_file(tmp_path / "a") == sha256_bytes(b"content") == wanted


WRITING = """
import sys, time
from subspace.files import whole_file

with whole_file(sys.argv[1]) as stream:
    stream.write(b"half")
    stream.flush()
    print("ready", flush=True)
    time.sleep(60)
"""


def test_what_a_killed_process_left_is_cleared_by_the_next_writer_of_the_file_alone(tmp_path):
    """What another is writing meanwhile is left alone, as its lock is held."""
    path, other = tmp_path / "a.bin", tmp_path / "b.bin"
    processes = [
        subprocess.Popen([sys.executable, "-c", WRITING, str(one)], stdout=subprocess.PIPE)
        for one in (path, path, other)
    ]
    for process in processes:
        assert process.stdout.readline() == b"ready\n"
    processes[0].kill()
    processes[2].kill()
    for process in (processes[0], processes[2]):
        process.communicate()
    assert len(names(tmp_path)) == 3
    write_whole(path, b"new", tidy=False)
    assert len(names(tmp_path)) == 4
    write_whole(path, b"newer")
    found = names(tmp_path)
    assert [name for name in found if not name.endswith(".partial")] == ["a.bin"]
    assert [name[:7] for name in found if name.endswith(".partial")] == [".a.bin.", ".b.bin."]
    remove_abandoned(tmp_path)
    assert [name[:7] for name in names(tmp_path)] == [".a.bin.", "a.bin"]
    processes[1].kill()
    processes[1].communicate()
    write_whole(path, b"newest")
    assert names(tmp_path) == ["a.bin"]


FILLING = """
import sys, time
from pathlib import Path
from subspace.files import partial_folder

with partial_folder(Path(sys.argv[1]), name="mine") as folder:
    (folder / "half").write_text("")
    print("ready", flush=True)
    time.sleep(60)
"""


def test_a_folder_that_a_killed_process_left_is_cleared_by_the_next_of_its_name(tmp_path):
    processes = [
        subprocess.Popen([sys.executable, "-c", FILLING, str(tmp_path)], stdout=subprocess.PIPE)
        for _ in range(2)
    ]
    for process in processes:
        assert process.stdout.readline() == b"ready\n"
    processes[0].kill()
    processes[0].communicate()
    with partial_folder(tmp_path, name="mine") as folder:
        assert len(names(tmp_path)) == 2  # its own, and that of the process that lives
        assert not list(folder.iterdir())
    assert len(names(tmp_path)) == 1
    processes[1].kill()
    processes[1].communicate()
    with partial_folder(tmp_path, name="other"):
        assert len(names(tmp_path)) == 2
    with partial_folder(tmp_path, name="mine") as folder:
        os.replace(folder, tmp_path / "moved")
    assert names(tmp_path) == ["moved"]


def test_whether_a_place_can_be_written_is_said_without_making_it(tmp_path):
    write_whole(tmp_path / "file", b"")
    for free in (tmp_path, tmp_path / "file", tmp_path / "new" / "below"):
        check_writable(free)
    with pytest.raises(NotADirectoryError, match="file"):
        check_writable(tmp_path / "file" / "below")
    assert names(tmp_path) == ["file"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: 1\nb: 2\na: 1\n", "'a' stands twice in one mapping: in line 1 and in line 3"),
        ("list:\n- {x: 1, 'x': 2}\n", "'x' stands twice in one mapping: in line 2 and in line 2"),
    ],
)
def test_yaml_in_which_a_key_stands_twice_is_refused(text, said, tmp_path):
    path = tmp_path / "settings.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=said):
        read_yaml(path)


def test_yaml_may_name_a_key_again_elsewhere_and_share_values(tmp_path):
    path = tmp_path / "settings.yaml"
    path.write_text("a: &shared {x: 1}\nb: {x: 2, <<: *shared, y: *shared}\n1: 0\n'1': 0\n")
    assert read_yaml(path) == {"a": {"x": 1}, "b": {"x": 2, "y": {"x": 1}}, 1: 0, "1": 0}
    path.write_text("")
    assert read_yaml(path) is None
