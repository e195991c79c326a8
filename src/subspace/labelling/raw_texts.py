"""Raw texts: reads a folder of text files as records, and lists the files it cannot read."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from subspace.content import name_content
from subspace.data.records import Record
from subspace.errors import ConfigError

SUFFIXES = (".txt", ".md")
# About the 8,192 tokens that the longest encoders read; the rest of a file is left out.
_MOST_CHARACTERS = 30_000
_MOST_BYTES = 4 * _MOST_CHARACTERS


@dataclass(frozen=True)
class RawTexts:
    """The texts of a folder.

    Attributes:
        records: The texts, sorted by path; the id is the path below the folder.
        skipped: Files that were left out, with the reason.
        cut: Ids of the texts that were cut at 30,000 characters.
        hidden: Number of hidden files that would have been read otherwise.
    """

    records: tuple[Record, ...]
    skipped: dict[str, str]
    cut: tuple[str, ...]
    hidden: int = 0


def read_raw_texts(folder: Path, *, leave_out: Path | None = None) -> RawTexts:
    """Reads all `.txt` and `.md` files below a folder, except hidden ones.

    Files with the same text are read once. Links to folders, and links to files outside the folder,
    are not followed.

    Args:
        folder: The folder.
        leave_out: A folder inside `folder` that is not read.

    Raises:
        ConfigError: The folder does not exist, or holds no such file.
    """
    if not folder.is_dir():
        raise ConfigError(f"there is no folder {folder}; give a folder of texts, or one .jsonl")
    records: list[Record] = []
    first: dict[str, str] = {}
    skipped: dict[str, str] = {}
    cut = []
    hidden = 0
    for path in _find(folder):
        if leave_out is not None and leave_out.resolve() in path.resolve().parents:
            continue
        name = path.relative_to(folder).as_posix()
        if any(part.startswith(".") for part in name.split("/")):
            hidden += path.is_file()
            continue
        try:
            text = _read(path, folder=folder)
            if text in first:
                raise ValueError(f"is the same text as {first[text]}")
        except (OSError, ValueError) as error:
            skipped[_printable(name)] = str(error)
            continue
        first[text] = name
        if len(text) > _MOST_CHARACTERS:
            cut.append(name)
        records.append(Record(id=name, text=text[:_MOST_CHARACTERS]))
    if not records and not skipped and not hidden:
        raise ConfigError(f"{folder} holds no texts: no file ends in {' or '.join(SUFFIXES)}")
    return RawTexts(records=tuple(records), skipped=skipped, cut=tuple(cut), hidden=hidden)


def _find(folder: Path) -> Iterator[Path]:
    """Yields files of texts, also hidden ones, and links to such files and to folders."""
    for path in sorted(folder.rglob("*")):
        named = path.suffix.lower() in SUFFIXES
        if path.is_symlink():
            if named or path.is_dir():
                yield path
        elif named and path.is_file():
            yield path


def _printable(name: str) -> str:
    return name.encode(errors="surrogateescape").decode(errors="backslashreplace")


def _check_path(path: Path, *, folder: Path) -> None:
    """Raises `ValueError` if a file is not to be read; the message says why."""
    name = path.relative_to(folder).as_posix()
    if _printable(name) != name:
        raise ValueError("has a name that is not UTF-8")
    if not path.is_symlink():
        return
    if path.is_dir():
        raise ValueError("is a link to a folder, which is not followed")
    if not path.exists():
        raise ValueError("is a link to nothing")
    if folder.resolve() not in path.resolve().parents:
        raise ValueError("is a link to a file outside the folder, which is not followed")


def _read(path: Path, *, folder: Path) -> str:
    """Reads the beginning of a file; it may be longer than the kept text.

    Raises:
        OSError: It cannot be read.
        ValueError: It is not a text, or not one of the folder; the message says why.
    """
    _check_path(path, folder=folder)
    with path.open("rb") as stream:
        raw = stream.read(_MOST_BYTES)
        more = bool(stream.read(1))
    said = name_content(raw)
    if said is not None:
        raise ValueError(said)
    if b"\0" in raw:
        raise ValueError("is binary")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        if not more or error.start < len(raw) - 3:  # otherwise the cut split a character
            raise ValueError(f"is not UTF-8 ({error.reason} at byte {error.start})") from None
        text = raw[: error.start].decode("utf-8-sig")
    if not text.strip():
        raise ValueError("is empty")
    return text.strip()
