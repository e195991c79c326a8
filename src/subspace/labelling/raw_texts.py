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
    """

    records: tuple[Record, ...]
    skipped: dict[str, str]
    cut: tuple[str, ...]


def read_raw_texts(folder: Path, *, leave_out: Path | None = None) -> RawTexts:
    """Reads all `.txt` and `.md` files below a folder, except hidden ones.

    Files with the same text are read once.

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
    for path in _find(folder):
        if leave_out is not None and leave_out.resolve() in path.resolve().parents:
            continue
        name = path.relative_to(folder).as_posix()
        printable = name.encode(errors="surrogateescape").decode(errors="backslashreplace")
        if printable != name:
            skipped[printable] = "has a name that is not UTF-8"
            continue
        try:
            text = _read(path)
        except (OSError, ValueError) as error:
            skipped[name] = str(error)
            continue
        if text in first:
            skipped[name] = f"is the same text as {first[text]}"
            continue
        first[text] = name
        if len(text) > _MOST_CHARACTERS:
            cut.append(name)
        records.append(Record(id=name, text=text[:_MOST_CHARACTERS]))
    if not records and not skipped:
        raise ConfigError(f"{folder} holds no texts: no file ends in {' or '.join(SUFFIXES)}")
    return RawTexts(records=tuple(records), skipped=skipped, cut=tuple(cut))


def _find(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        parts = path.relative_to(folder).parts
        hidden = any(part.startswith(".") for part in parts)
        if path.suffix.lower() in SUFFIXES and not hidden and path.is_file():
            yield path


def _read(path: Path) -> str:
    """Reads the beginning of a file; it may be longer than the kept text.

    Raises:
        OSError: It cannot be read.
        ValueError: It is not a text; the message says why.
    """
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
