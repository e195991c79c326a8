"""Output goes where its path leads: to files, through links, and into pipes and devices."""

import errno
import os
import pty
import threading
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from subspace.errors import ConfigError
from subspace.files import whole_file, whole_files, write_lines, write_whole
from subspace.outputs import is_same_file, is_stream, naming_full_disks, refuse_same_file


@contextmanager
def reading(path: Path):
    """Reads a pipe to its end while the block runs, and yields a list for what was read."""
    found: list[bytes] = []
    reader = threading.Thread(target=lambda: found.append(path.read_bytes()))
    reader.start()
    yield found
    reader.join(timeout=30)
    assert not reader.is_alive()


@contextmanager
def limited(size: int):
    """Lets no file become longer than `size` bytes: a full disk that needs no disk."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("there", [True, False])
def test_a_link_stays_and_what_it_leads_to_is_written(there, tmp_path):
    target, link = tmp_path / "kept" / "target", tmp_path / "link"
    target.parent.mkdir()
    if there:
        target.write_bytes(b"old")
    link.symlink_to(Path("kept") / "target")
    with pytest.raises(ValueError, match="half"), whole_file(link) as stream:
        stream.write(b"half")
        raise ValueError("half")
    assert target.exists() == there
    write_whole(link, b"new")
    assert link.is_symlink()
    assert target.read_bytes() == link.read_bytes() == b"new"
    assert [path.name for path in target.parent.iterdir()] == ["target"]


def test_a_pipe_stays_a_pipe_and_its_reader_gets_all(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with reading(pipe) as found:
        write_lines(pipe, [{"id": "a"}])
    assert found == [b'{"id": "a"}\n']
    assert is_stream(pipe)
    assert pipe.is_fifo()


def test_a_block_that_fails_sends_nothing_through_a_pipe(tmp_path):
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(ValueError, match="half"), whole_file(pipe) as stream:
        stream.write(b"half")
        raise ValueError("half")  # opening the pipe would have waited for a reader
    with reading(pipe) as found:
        write_whole(pipe, b"whole")
    assert found == [b"whole"]


def test_an_archive_and_a_file_beside_it_go_through_pipes(tmp_path):
    """Archives are written with jumps backwards, which a pipe does not have."""
    pipe, beside = tmp_path / "pipe", tmp_path / "beside"
    os.mkfifo(pipe)
    with reading(pipe) as found, whole_files(pipe, beside) as (stream, other):
        np.savez(stream, a=np.arange(3))
        other.write(b"beside")
    (tmp_path / "copy.npz").write_bytes(found[0])
    assert np.load(tmp_path / "copy.npz")["a"].tolist() == [0, 1, 2]
    assert beside.read_bytes() == b"beside"


def test_a_terminal_is_written_and_not_replaced():
    ours, theirs = pty.openpty()
    path = Path(os.ttyname(theirs))
    write_whole(path, b"shown")
    assert os.read(ours, 100) == b"shown"
    assert path.is_char_device()
    os.close(ours)
    os.close(theirs)


def test_standard_output_that_was_directed_to_a_file_is_continued(tmp_path, monkeypatch):
    import subspace.outputs as outputs

    path = tmp_path / "out"
    with path.open("wb") as opened:
        opened.write(b"before ")
        opened.flush()
        as_stdout = lambda status: (  # noqa: E731
            opened.fileno() if os.path.samestat(os.fstat(opened.fileno()), status) else None
        )
        monkeypatch.setattr(outputs, "_standard_stream", as_stdout)
        write_whole(path, b"content")
        opened.write(b" after")
    assert path.read_bytes() == b"before content after"


def test_two_names_of_one_file_are_one_file(tmp_path):
    kept, hard, soft = (tmp_path / name for name in ("kept", "hard", "soft"))
    kept.write_text("")
    hard.hardlink_to(kept)
    soft.symlink_to(kept)
    for other in (hard, soft, tmp_path / "." / "kept"):
        assert is_same_file(kept, other)
        with pytest.raises(ConfigError, match=r"--output: .* is the file of --input too"):
            refuse_same_file(("--input", kept), ("--report", None), ("--output", other))
    new, link = tmp_path / "new", tmp_path / "link"
    link.symlink_to(new)
    assert is_same_file(new, link)
    assert not is_same_file(kept, new)
    refuse_same_file(("--input", kept), ("--output", new))


@pytest.mark.parametrize("opened", [True, False])
def test_an_array_that_does_not_fit_names_the_reason_and_the_file(opened, tmp_path):
    path = tmp_path / "a.npy"
    array = np.zeros(100_000)
    with limited(50_000):
        with pytest.raises(OSError, match="requested and"):  # what numpy says by itself
            np.save(tmp_path / "by-itself.npy", array)
        with pytest.raises(OSError, match=f"File too large: '{path}'") as raised:
            if opened:
                with whole_file(path) as stream:
                    np.save(stream, array)
            else:
                with naming_full_disks(path):
                    np.save(path, array)
    assert raised.value.errno == errno.EFBIG


def test_bytes_that_do_not_fit_name_the_file(tmp_path):
    with limited(100), pytest.raises(OSError, match=f"large: '{tmp_path / 'a'}'"):
        write_whole(tmp_path / "a", bytes(101))
