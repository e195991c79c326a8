"""Atomic writing and hashing of files, and JSONL reading that reports every invalid line."""

import codecs
import errno
import fcntl
import gzip
import hashlib
import json
import os
import re
import shutil
import tempfile
import uuid
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

from subspace.content import HEAD, name_content
from subspace.errors import ConfigError, RecordError
from subspace.outputs import naming_full_disks, place_of, pour


@dataclass(frozen=True)
class Line:
    """One JSON object of a JSONL file and its place in it.

    Attributes:
        value: The object.
        where: `file:line`.
        number: Number of the line, from 1.
        offset: Number of bytes before the line in the (unpacked) file.
    """

    value: Mapping[str, Any]
    where: str
    number: int
    offset: int


class Problems:
    """Problems found in data files, collected so that all can be reported at once."""

    def __init__(self) -> None:
        """Starts without problems."""
        self._messages: list[str] = []

    def add(self, where: str, message: str) -> None:
        """Adds one problem at `where` (`file:line`, or a file or folder)."""
        self._messages.append(f"{where}: {message}")

    def __len__(self) -> int:
        """Returns the number of problems added so far."""
        return len(self._messages)

    @property
    def messages(self) -> tuple[str, ...]:
        """The problems so far, each as `where: what is wrong`."""
        return tuple(self._messages)

    def raise_if_any(self) -> None:
        """Raises `RecordError` with all problems, if there are any."""
        if self._messages:
            raise RecordError(self._messages)


def read_lines(
    path: Path, *, problems: Problems, start: tuple[int, int] = (0, 1)
) -> Iterator[Line]:
    """Yields the JSON objects of a plain or gzipped JSONL file; skips and reports other lines.

    Args:
        path: The file.
        problems: Receives a problem per invalid line, or one if the file cannot be read.
        start: Offset and number of the first line to read, as in `Line`.
    """
    opened = gzip.open if is_gzipped(path) else open
    try:
        with opened(path, "rb") as stream:
            said = name_content(stream.peek(HEAD)[:HEAD])
            if said is not None:
                problems.add(f"{path}:1", said)
                return
            offset = stream.seek(start[0])
            for number, raw in enumerate(stream, start=start[1]):
                where, begins = f"{path}:{number}", offset
                offset += len(raw)
                if begins == 0:
                    raw = raw.removeprefix(codecs.BOM_UTF8)
                if not raw.strip():
                    continue
                value = _parse(raw, where=where, problems=problems)
                if value is not None:
                    yield Line(value=value, where=where, number=number, offset=begins)
    except (OSError, EOFError, zlib.error) as error:  # missing, unreadable or damaged (gzip)
        problems.add(str(path), f"cannot be read: {error}")


def is_gzipped(path: Path) -> bool:
    """Tells whether a file is gzipped, by its name."""
    return path.suffix.lower() == ".gz"


def is_hidden(path: Path) -> bool:
    """Tells whether a file or folder is hidden, as system files and leftovers of editors are.

    These are `._*` of macOS, `.ipynb_checkpoints` of notebooks, and partly written files.
    """
    return path.name.startswith(".")


def to_line(value: Mapping[str, Any]) -> str:
    """Returns a line of JSONL, with its end."""
    return json.dumps(value, ensure_ascii=False) + "\n"


def write_lines(path: Path, values: Iterable[Mapping[str, Any]]) -> None:
    """Writes JSON objects as JSONL atomically; gzipped if the name ends in `.gz`.

    Raises:
        ConfigError: The file cannot be written.
    """
    lines = (to_line(value).encode() for value in values)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with whole_file(path) as stream:
            if is_gzipped(path):
                with gzip.GzipFile(path.stem, "wb", fileobj=stream) as packed:
                    packed.writelines(lines)
            else:
                stream.writelines(lines)
    except OSError as error:
        raise ConfigError(f"cannot write {path}: {error}") from error


def read_yaml(path: Path | str) -> Any:
    """Reads a YAML file.

    Raises:
        OSError: The file cannot be read.
        ValueError: It is not YAML in UTF-8, or a key stands twice in one mapping, of which YAML's
            parser would keep the last. The parser's own errors are of many kinds: a date that does
            not exist, or brackets without end, are no `YAMLError`.
    """
    import yaml

    try:
        text = Path(path).read_text(encoding="utf-8-sig")
        refuse_repeated_keys(text)
        return yaml.safe_load(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except (yaml.YAMLError, TypeError, OverflowError) as error:
        raise ValueError(str(error)) from error


def refuse_repeated_keys(text: str) -> None:
    """Raises if a key stands twice in one mapping of YAML, of which parsers keep the last.

    Raises:
        RepeatedKeyError: It does.
        YAMLError: It is not YAML.
    """
    import yaml

    seen: set[int] = set()
    left: list[Any] = [yaml.compose(text, Loader=yaml.SafeLoader)]
    while left:
        node = left.pop()
        if id(node) in seen:  # an alias
            continue
        seen.add(id(node))
        if isinstance(node, yaml.SequenceNode):
            left.extend(node.value)
        elif isinstance(node, yaml.MappingNode):
            left.extend(part for pair in node.value for part in pair)
            lines: dict[tuple[str, str], int] = {}
            for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
                line, name = key.start_mark.line + 1, (key.tag, key.value)
                if name in lines:
                    raise RepeatedKeyError(
                        f"'{key.value:.60}' stands twice in one mapping: in line {lines[name]} and "
                        f"in line {line}"
                    )
                lines[name] = line


def read_text(value: Mapping[str, Any], key: str, *, where: str, problems: Problems) -> str | None:
    """Reads the text under `key`; adds a problem and returns None if it cannot be tokenised."""
    text = value.get(key)
    if not isinstance(text, str) or not text.strip():
        problems.add(where, f"'{key}' must be a text that is not empty, got {text!r:.60}")
        return None
    if "\0" in text:
        problems.add(where, f"'{key}' contains a NUL character")
        return None
    try:
        text.encode()
    except UnicodeEncodeError:
        problems.add(where, f"'{key}' contains half a surrogate pair, which is not a character")
        return None
    return text


class RepeatedKeyError(ValueError):
    """A mapping of JSON or YAML holds a key twice, and readers differ in which value counts."""


def unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Makes an object of its keys and values; an `object_pairs_hook` of `json.loads`.

    Raises:
        RepeatedKeyError: A key is there twice.
    """
    value = dict(pairs)
    if len(value) < len(pairs):
        twice = Counter(key for key, _ in pairs).most_common(1)[0][0]
        raise RepeatedKeyError(f"gives {twice!r:.60} twice: keep one")
    return value


def _parse(raw: bytes, *, where: str, problems: Problems) -> Mapping[str, Any] | None:
    try:
        value = json.loads(raw.decode(), object_pairs_hook=unique_keys)
    except UnicodeDecodeError as error:
        problems.add(where, f"is not UTF-8 ({error.reason} at byte {error.start})")
        return None
    except RepeatedKeyError as error:
        problems.add(where, str(error))
        return None
    except (ValueError, RecursionError) as error:  # also numbers of more than 4,300 digits
        problems.add(where, f"is not JSON ({error})")
        return None
    if not isinstance(value, dict):
        problems.add(where, f"must be a JSON object, got {type(value).__name__}")
        return None
    return value


def check_writable(target: Path) -> None:
    """Raises unless a file or folder can be made at `target`, or changed; creates nothing.

    Raises:
        OSError: It may not be written, or lies below something that is no folder.
    """
    place = target
    while not os.path.lexists(place) and place != place.parent:
        place = place.parent
    if place != target and not place.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(place))
    if not os.access(place, os.W_OK | (os.X_OK if place.is_dir() else 0)):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(place))


@contextmanager
def whole_file(path: Path | str, *, tidy: bool = True) -> Iterator[BinaryIO]:
    """Opens a file for atomic writing: it is put in place if the block ends without an error.

    If the block fails, an earlier version of the file stays. See `whole_files` for several files
    that belong together, and for `tidy`.

    Raises:
        OSError: The file cannot be written.
    """
    with whole_files(path, tidy=tidy) as (stream,):
        yield stream


@contextmanager
def whole_files(*paths: Path | str, tidy: bool = True) -> Iterator[tuple[BinaryIO, ...]]:
    """Opens files for atomic writing: they are put in place if the block ends without an error.

    If the block fails, earlier versions stay. Each file is written in its folder under a hidden
    temporary name that no other call uses, so that several processes may write the same file, and
    is locked until it is in place, so that what a killed process left is told by its free lock. The
    files are renamed once all of them are on disk. Before that, the earlier versions of all but
    the first are removed: if the process is killed between two renamings, files may be missing,
    but an old file is never left beside a new one.

    A link stays, and the file that it leads to is written. What is no file, such as a pipe, a
    terminal or /dev/stdout, stays too, and gets the content once the block has ended.

    Args:
        paths: The files, in the order of their renaming; their folders must exist.
        tidy: Whether to remove what killed processes left of the same files, which lists the
            folder; see `remove_abandoned`.

    Raises:
        OSError: A file cannot be written; says why, and which one.
    """
    places = [place_of(Path(path)) for path in paths]
    if tidy:
        for file in filter(None, places):
            remove_abandoned(file.parent, name=file.name)
    with ExitStack() as opened:
        begun = [opened.enter_context(_partial(place)) for place in places]
        streams = tuple(stream for stream, _ in begun)
        with naming_full_disks(paths[0], stream=streams[0]):
            yield streams
            for stream in streams:
                stream.flush()
                os.fsync(stream.fileno())
        moves = [(one, file) for (_, one), file in zip(begun, places, strict=True) if one and file]
        for _, file in moves[1:]:
            file.unlink(missing_ok=True)
        for partial, file in moves:
            os.replace(partial, file)
        for path, place, stream in zip(paths, places, streams, strict=True):
            if place is None:
                pour(stream, Path(path))


@contextmanager
def _partial(place: Path | None) -> Iterator[tuple[BinaryIO, Path | None]]:
    """Yields a file to write and its temporary name, None if it is for no file but a stream."""
    if place is None:
        with tempfile.TemporaryFile() as spooled:
            yield cast(BinaryIO, spooled), None
        return
    stream, partial = _begin(place)
    try:
        yield stream, partial
    finally:
        with suppress(OSError):  # must not hide the error that led here
            stream.close()
        with suppress(OSError):
            partial.unlink(missing_ok=True)


def _begin(target: Path) -> tuple[BinaryIO, Path]:
    """Makes and locks a file that is to replace `target`; returns it and its temporary name."""
    while True:
        partial = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.partial")
        stream = partial.open("xb")
        _lock(stream, wait=True)
        if os.fstat(stream.fileno()).st_nlink:
            return stream, partial
        stream.close()  # another process took it for abandoned just before it was locked


def remove_abandoned(folder: Path, *, name: str | None = None) -> None:
    """Removes what killed processes left of files that they were writing with `whole_files`.

    Args:
        folder: Where the files are.
        name: Name of the file; every file if None.
    """
    mine = re.compile(rf"\.{'.+' if name is None else re.escape(name)}\.[0-9a-f]{{8}}\.partial")
    with suppress(OSError):
        for path in [one for one in folder.iterdir() if mine.fullmatch(one.name)]:
            with path.open("rb") as stream:
                if _lock(stream):
                    path.unlink(missing_ok=True)


@contextmanager
def partial_folder(parent: Path, *, name: str) -> Iterator[Path]:
    """Makes a hidden folder to write files in; removes it after the block unless it was moved.

    It is locked meanwhile, and those that killed processes left under this name are removed.

    Args:
        parent: Where the folder is made.
        name: What its name begins with, after a dot.

    Raises:
        OSError: It cannot be made.
    """
    mine = re.compile(rf"\.{re.escape(name)}-[0-9a-f]{{8}}\.partial")
    for path in [one for one in parent.iterdir() if mine.fullmatch(one.name)]:
        with suppress(OSError), _opened_folder(path) as descriptor:
            if _lock(descriptor):
                shutil.rmtree(path, ignore_errors=True)
    while True:
        path = parent / f".{name}-{uuid.uuid4().hex[:8]}.partial"
        path.mkdir()
        with _opened_folder(path) as descriptor:
            _lock(descriptor, wait=True)
            if not path.exists():
                continue  # another process took it for abandoned just before it was locked
            try:
                yield path
            finally:
                shutil.rmtree(path, ignore_errors=True)
            return


@contextmanager
def _opened_folder(path: Path) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _lock(stream: BinaryIO | int, *, wait: bool = False) -> bool:
    """Locks a file until it is closed, or its process ends; tells whether that was possible.

    Whoever begins a file waits: one who holds it took it for abandoned, and is about to remove it.
    """
    try:
        fcntl.flock(stream, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # held by another, or a file system without locks
        return False
    return True


def write_whole(path: Path | str, content: bytes, *, tidy: bool = True) -> None:
    """Writes a file atomically; see `whole_files` for `tidy`.

    Raises:
        OSError: The file cannot be written.
    """
    with whole_file(path, tidy=tidy) as stream:
        stream.write(content)


def sha256_file(path: Path | str) -> str:
    """Returns the SHA-256 of a file's content in hexadecimal digits.

    Raises:
        OSError: The file cannot be read.
    """
    with Path(path).open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def sha256_bytes(content: bytes) -> str:
    """Returns the SHA-256 of bytes in hexadecimal digits."""
    return hashlib.sha256(content).hexdigest()
