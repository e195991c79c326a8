"""Where output goes: files, what links lead to, pipes and devices; what is said of full disks."""

import errno
import os
import re
import shutil
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from subspace.errors import ConfigError

# What the system says if a disk, a quota or a limit is full.
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# What numpy says of an array that was written in part.
_WRITTEN_IN_PART = re.compile(r"\d+ requested and \d+ written")


def is_stream(path: Path | str) -> bool:
    """Tells whether a path is standard output, a pipe, a terminal or another device, and no file.

    Raises:
        OSError: It may not be looked at.
    """
    try:
        status = Path(path).stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return not _is_kept(status) or _standard_stream(status) is not None


def is_same_file(first: Path | str, second: Path | str) -> bool:
    """Tells whether two paths lead to one file, by whatever links; also where there is none yet."""
    try:
        return Path(first).samefile(second)
    except OSError:
        return os.path.realpath(first) == os.path.realpath(second)


def refuse_same_file(*files: tuple[str, Path | str | None]) -> None:
    """Raises unless all options name different files, since one would be written over another.

    Args:
        files: The name of each option with its file, None where it is not given; what is read
            comes before what is written.

    Raises:
        ConfigError: Two options name the same file.
    """
    given = [(option, path) for option, path in files if path is not None]
    for place, (option, path) in enumerate(given):
        for other, earlier in given[:place]:
            if is_same_file(path, earlier):
                raise ConfigError(
                    f"{option}: {path} is the file of {other} too, which would be lost"
                )


def _is_kept(status: os.stat_result) -> bool:
    return stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)


def _standard_stream(status: os.stat_result) -> int | None:
    """Returns the number of the standard stream that a file is, if it is one."""
    for number, stream in ((1, sys.__stdout__), (2, sys.__stderr__)):
        if stream is None:  # closed before the start: the number is free for any file
            continue
        with suppress(OSError):  # closed
            if os.path.samestat(os.fstat(number), status):
                return number
    return None


def place_of(path: Path) -> Path | None:
    """Returns the file that a path leads to; None if it is written straight through.

    Raises:
        OSError: It may not be looked at.
    """
    if is_stream(path):
        return None
    return Path(os.path.realpath(path)) if path.is_symlink() else path


def pour(content: BinaryIO, path: Path) -> None:
    """Writes all of `content` to a pipe or device, or to standard output.

    Raises:
        OSError: It cannot be written.
    """
    status = path.stat()
    if stat.S_ISBLK(status.st_mode):
        raise OSError(errno.EINVAL, "it is a disk, which is not written", str(path))
    number = _standard_stream(status)
    if number is None:
        descriptor = os.open(path, os.O_WRONLY | os.O_NOCTTY)
    else:
        sys.stdout.flush()
        descriptor = os.dup(number)  # keeps the place in a file that it was directed to
    content.seek(0)
    with os.fdopen(descriptor, "wb") as stream:
        shutil.copyfileobj(content, stream)


@contextmanager
def naming_full_disks(path: Path | str, *, stream: BinaryIO | None = None) -> Iterator[None]:
    """Makes errors of a full disk say so, and name the file.

    numpy says how much of an array was written, but neither why nor where.

    Args:
        path: The file that the block writes.
        stream: It, if it is still open; otherwise `path` must be there.

    Raises:
        OSError: In the place of one that says less.
    """
    try:
        yield
    except OSError as error:
        if error.errno is None and _WRITTEN_IN_PART.search(str(error)):
            raise _ask_why(path, stream=stream, error=error) from error
        if error.errno in _FULL and error.filename is None:
            error.filename = str(path)
        raise


def _ask_why(path: Path | str, *, stream: BinaryIO | None, error: OSError) -> OSError:
    """Returns why an array could not be written, by writing a little more to what is given up."""
    descriptor = os.open(path, os.O_WRONLY) if stream is None else os.dup(stream.fileno())
    try:
        os.lseek(descriptor, 0, os.SEEK_END)
        for _ in range(64):
            os.write(descriptor, bytes(2**16))
    except OSError as why:
        return OSError(why.errno, why.strerror, str(path))
    finally:
        os.close(descriptor)
    return OSError(errno.EIO, f"{error}; the disk may be full", str(path))
