"""Raw texts: a folder of files becomes documents; what cannot be one is named and passed over."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from subspace.data.retrieval_sets import Document
from subspace.errors import ConfigError

SUFFIXES = (".txt", ".md")
# What is beyond is not read: about the 8,192 tokens of the longest encoders.
_MOST_CHARACTERS = 30_000
_MOST_BYTES = 4 * _MOST_CHARACTERS


@dataclass(frozen=True)
class RawTexts:
    """What a folder holds.

    Attributes:
        documents: Its texts, by path; the id is the path below the folder.
        skipped: Files that were passed over, with the reason.
        cut: Paths of the texts of which only the beginning was taken.
    """

    documents: tuple[Document, ...]
    skipped: dict[str, str]
    cut: tuple[str, ...]


def read_raw_texts(folder: Path, *, leave_out: Path | None = None) -> RawTexts:
    """Reads all `.txt` and `.md` files below a folder, hidden ones left out.

    A text that is there twice comes once.

    Args:
        folder: Where they are.
        leave_out: A folder that is not read, if it lies there as well.

    Raises:
        ConfigError: The folder is not there, or holds no such file.
    """
    if not folder.is_dir():
        raise ConfigError(f"there is no folder {folder}; give a folder of texts, or one .jsonl")
    documents: list[Document] = []
    first: dict[str, str] = {}
    skipped: dict[str, str] = {}
    cut = []
    for path in _find(folder):
        if leave_out is not None and leave_out.resolve() in path.resolve().parents:
            continue
        name = path.relative_to(folder).as_posix()
        sayable = name.encode(errors="surrogateescape").decode(errors="backslashreplace")
        if sayable != name:
            skipped[sayable] = "has a name that is not UTF-8"
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
        documents.append(Document(id=name, text=text[:_MOST_CHARACTERS]))
    if not documents and not skipped:
        raise ConfigError(f"{folder} holds no texts: no file ends in {' or '.join(SUFFIXES)}")
    return RawTexts(documents=tuple(documents), skipped=skipped, cut=tuple(cut))


def _find(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        parts = path.relative_to(folder).parts
        hidden = any(part.startswith(".") for part in parts)
        if path.suffix.lower() in SUFFIXES and not hidden and path.is_file():
            yield path


def _read(path: Path) -> str:
    """The beginning of a file, of which a little more is read than is kept.

    Raises:
        OSError: It cannot be read.
        ValueError: It is no text; says why.
    """
    with path.open("rb") as stream:
        raw = stream.read(_MOST_BYTES)
        more = bool(stream.read(1))
    if b"\0" in raw:
        raise ValueError("is binary")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        if not more or error.start < len(raw) - 3:  # else a character was cut in two
            raise ValueError(f"is not UTF-8 ({error.reason} at byte {error.start})") from None
        text = raw[: error.start].decode("utf-8-sig")
    if not text.strip():
        raise ValueError("is empty")
    return text.strip()
