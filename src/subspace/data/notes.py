"""Notes: a folder of agent skills (`SKILL.md`) and Markdown notes, as they lie on disk.

======================  ===========================================================
`X/SKILL.md`            a skill, whose id is the folder: `git-rebase`, `team/deploy`
any other `*.md`        a note, whose id is the file without `.md`: `garden/slugs`
`SKILL.md` at the top   a skill with the name of the whole folder
======================  ===========================================================

A skill is one item: other files in its folder (references, scripts) belong to it and are not read,
except that a further `SKILL.md` deeper inside is a skill of its own. Hidden files and folders and
those of package managers are skipped. Links are followed, and what several links lead to is read
once.
"""

import logging
import os
import re
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from subspace.content import name_content
from subspace.data.metadata import Value, is_text
from subspace.data.records import Record
from subspace.errors import RecordError
from subspace.files import Problems

_log = logging.getLogger(__name__)

SKILL = "SKILL.md"
# Name in the metadata under which a record says from which file of a folder it is.
FILE = "file"
_SUFFIX = ".md"
# Names in front matter whose values are texts; the text of a note begins with them.
IN_TEXT = ("name", "title", "description")
# Folders in which package managers keep what others wrote.
_JUNK = frozenset({"node_modules", "bower_components", "site-packages", "__pycache__", "__MACOSX"})
# A note has at most so many bytes; the encoder reads the first page.
_MOST_BYTES = 1 << 20

_FENCE = re.compile(r" {0,3}(```|~~~)")
_HEADING = re.compile(r" {0,3}#{1,6}[ \t]")
_UNDERLINE = re.compile(r" {0,3}=+[ \t]*$")


@dataclass(frozen=True)
class Notes:
    """What a folder holds.

    Attributes:
        records: The skills and notes that could be read, by rising id.
        problems: What could not be read, each as `file:line: what is wrong`.
        unread: Files and folders (POSIX paths in the folder) that could not be read, so that
            nobody knows what they hold.
    """

    records: tuple[Record, ...]
    problems: tuple[str, ...] = ()
    unread: tuple[str, ...] = ()

    def is_unread(self, file: str) -> bool:
        """Tells whether a file, given as a path in the folder, or a folder above it is unread."""
        return any(file == path or file.startswith(f"{path}/") for path in self.unread)


def read_notes(folder: Path | str) -> tuple[Record, ...]:
    """Reads a folder of agent skills and Markdown notes, by rising id.

    The text of a record begins with its title (`title` or `name` of the front matter, else the
    first heading, else the file's name) and `description`, so that an encoder that reads only the
    beginning reads what it is for; the body follows. Metadata are the values of the front matter,
    with dates as ISO texts; `title`, if a heading gives it; and `file`, the path in the folder,
    which marks the record as coming from a folder. Files without a text are left out with a
    warning.

    Raises:
        RecordError: The folder is missing, holds no skills or notes, or files cannot be read; lists
            each as `file:line: what is wrong`.
    """
    found = scan_notes(folder)
    if found.problems:
        raise RecordError(found.problems)
    if not found.records:
        raise RecordError(
            [f"{folder}: holds no skills or notes ({SKILL} or *{_SUFFIX}) with a text"]
        )
    return found.records


def scan_notes(folder: Path | str) -> Notes:
    """Reads what can be read of a folder of skills and notes; see `read_notes`.

    Raises:
        RecordError: The folder itself is missing or cannot be read.
    """
    root = Path(folder)
    scan = _Scan(root)
    files = scan.find()
    if "" in scan.unread:
        raise RecordError(scan.problems.messages)
    records, empty = [], []
    for file in files:
        text = _read_text(file, problems=scan.problems)
        record = None if text is None else _read_note(file, text, problems=scan.problems)
        if record is None:
            scan.unread.append(file.relative)
        elif record.text:
            records.append(record)
        else:
            empty.append(file.relative)
    if empty:
        shown = ", ".join(empty[:3]) + (", ..." if len(empty) > 3 else "")
        _log.warning("%s: files without a text, left out: %d (%s)", root, len(empty), shown)
    return Notes(tuple(records), scan.problems.messages, tuple(scan.unread))


def file_of(record_id: str, metadata: Mapping[str, Value]) -> str | None:
    """Returns the path of the file that a record was read from by `read_notes`; None if none."""
    file = metadata.get(FILE)
    if not isinstance(file, str) or not file.lower().endswith(_SUFFIX):
        return None
    # The skill at the top has the name of the folder, which may have been renamed.
    return file if file == SKILL or _id_of(file, top=record_id) == record_id else None


def _id_of(file: str, *, top: str) -> str:
    """Returns the id of the record that a file gives; `top` for the skill of the whole folder."""
    path = PurePosixPath(file)
    if path.name != SKILL:
        return file[: -len(_SUFFIX)]
    return top if file == SKILL else path.parent.as_posix()


@dataclass(frozen=True)
class _File:
    """A file to read.

    Attributes:
        path: Where it is.
        relative: Its path in the folder.
        id: Id of its record.
    """

    path: Path
    relative: str
    id: str


@dataclass
class _Scan:
    """A walk through a folder.

    Attributes:
        root: The folder.
        problems: What was found wrong.
        unread: Files and folders that could not be read; the folder itself is the empty path.
    """

    root: Path
    problems: Problems = field(default_factory=Problems)
    unread: list[str] = field(default_factory=list)

    def find(self) -> list[_File]:
        """Finds the files of skills and notes, by rising id; ids that two files have are unread."""
        top = self.root.resolve().name or "skill"
        by_id: dict[str, _File] = {}
        twice: dict[str, None] = {}
        for relative in sorted(self._walk()):
            path = self.root / relative
            if not is_text(relative):
                self._fail(relative, "has a name that is not UTF-8: rename it")
                continue
            file = _File(path, relative, _id_of(relative, top=top))
            first = by_id.setdefault(file.id, file)
            if first is not file:
                self._fail(relative, f"has the id '{file.id}', as {first.path} has: rename one")
                twice[file.id] = None
        for name in twice:
            self.unread.append(by_id.pop(name).relative)
        return sorted(by_id.values(), key=lambda file: file.id)

    def _walk(self) -> Iterator[str]:
        """Yields the paths of files of skills and notes, each real file once."""
        folders, links = deque([("", False)]), deque[tuple[str, bool]]()
        files: dict[str, str] = {}
        linked: list[str] = []
        seen: set[str] = set()
        top = os.path.realpath(self.root)
        while folders or links:  # links last: what lies in the folder has its own path
            relative, in_skill = (folders or links).popleft()
            real = os.path.realpath(self.root / relative)
            if real in seen or (relative and _is_inside(top, real)):
                continue  # read already, or a link to a folder that holds all of this
            seen.add(real)
            entries = self._list(relative)
            in_skill = in_skill or any(one.name == SKILL for one in entries)
            for entry in entries:
                place = f"{relative}/{entry.name}" if relative else entry.name
                kind = self._kind(entry, place, in_skill=in_skill)
                if kind == "folder":
                    (links if entry.is_symlink() else folders).append((place, in_skill))
                elif kind == "file" and entry.is_symlink():
                    linked.append(place)
                elif kind == "file":
                    files[f"{real}{os.sep}{entry.name}"] = place
        for place in linked:
            files.setdefault(os.path.realpath(self.root / place), place)
        yield from files.values()

    def _list(self, relative: str) -> list[os.DirEntry[str]]:
        """Lists the visible entries of a folder by name; none if it cannot be read."""
        try:
            with os.scandir(self.root / relative) as entries:
                return sorted(
                    (one for one in entries if not one.name.startswith(".")),
                    key=lambda entry: entry.name,
                )
        except OSError as error:
            self._fail(relative, f"cannot be read: {error.strerror}")
            return []

    def _kind(self, entry: os.DirEntry[str], place: str, *, in_skill: bool) -> str | None:
        """Returns whether an entry is a `folder` to look into or a `file` to read; else None."""
        wanted = entry.name == SKILL or (not in_skill and entry.name.lower().endswith(_SUFFIX))
        try:
            if entry.is_dir():
                return None if _is_junk(entry) else "folder"
            if entry.is_file():
                return "file" if wanted else None
            gone = entry.is_symlink() and not Path(entry.path).exists()
        except OSError:  # a link to itself, or to what may not be looked at
            gone = True
        if gone and wanted:
            self._fail(place, "is a link to nothing: mend or remove it")
        elif gone:
            # Perhaps a folder on a disk that is not there now: what came from it is to stay.
            self.unread.append(place)
            if not in_skill:
                _log.warning("%s is a link to nothing", self.root / place)
        return None

    def _fail(self, relative: str, message: str) -> None:
        self.problems.add(str(self.root / relative), message)
        self.unread.append(relative)


def _is_inside(path: str, folder: str) -> bool:
    """Tells whether a real path is a folder or lies in it."""
    return path == folder or path.startswith(folder.rstrip(os.sep) + os.sep)


def _is_junk(entry: os.DirEntry[str]) -> bool:
    """Tells whether a folder holds packages: by its name, or as a virtual environment."""
    return entry.name in _JUNK or Path(entry.path, "pyvenv.cfg").is_file()


def _read_text(file: _File, *, problems: Problems) -> str | None:
    """Reads a file with line breaks of one character; adds a problem if it cannot be read."""
    path = file.path
    try:
        with path.open("rb") as stream:
            raw = stream.read(_MOST_BYTES + 1)
    except OSError as error:
        problems.add(str(path), f"cannot be read: {error.strerror}")
        return None
    said = name_content(raw)
    if said is not None:
        problems.add(f"{path}:1", said)
        return None
    if len(raw) > _MOST_BYTES:
        problems.add(
            str(path),
            f"has more than {_MOST_BYTES:,} bytes; an encoder reads the first page of a note: "
            "split it, or give it another ending than .md",
        )
        return None
    try:
        text = raw.decode("utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        problems.add(f"{path}:{line}", f"is not UTF-8 ({error.reason} at byte {error.start})")
        return None
    nul = text.find("\0")
    if nul >= 0:
        line = text.count("\n", 0, nul) + 1
        problems.add(f"{path}:{line}", "contains a NUL character")
        return None
    return text


def _read_note(file: _File, text: str, *, problems: Problems) -> Record | None:
    """Makes a record of a file, with an empty text if there is nothing to encode."""
    from subspace.data.front_matter import read_front_matter  # imports a parser

    read = read_front_matter(text, path=str(file.path), texts=frozenset(IN_TEXT), problems=problems)
    if read is None:
        return None
    front, body = read
    if FILE in front.values:
        problems.add(
            f"{file.path}:{front.lines[FILE]}",
            f"'{FILE}' is the path of the file in every record: give the value another name",
        )
        return None
    texts = {key: str(front.values.get(key) or "").strip() for key in IN_TEXT}
    body = body.strip("\n").rstrip()
    heading, at_start = _first_heading(body)
    if not texts["title"] and not texts["name"]:
        texts["title"] = heading
    title = texts["title"] or texts["name"]
    parts = [title or PurePosixPath(file.id).name, texts["description"], body]
    if not texts["description"] and at_start and heading.casefold() == parts[0].casefold():
        parts = [body]  # which begins with it
    given = {key: value for key, value in texts.items() if value}
    others = {key: value for key, value in front.values.items() if key not in IN_TEXT}
    return Record(
        id=file.id,
        text="\n\n".join(part for part in parts if part) if given or body else "",
        metadata={FILE: file.relative, **given, **others},
        title=title,
    )


def _first_heading(body: str) -> tuple[str, bool]:
    """Returns the first heading of a text, and whether the text begins with it; empty if none."""
    fence, before, begun = "", "", False
    for line in body.split("\n"):
        fenced = _FENCE.match(line)
        if fenced and fence in ("", fenced[1]):
            fence = "" if fence else fenced[1]
        heading = "" if fence else _read_heading(line)
        if heading:
            return heading, not begun
        if not fence and before.strip() and _UNDERLINE.match(line):
            return before.strip(), body.lstrip().startswith(before.strip())
        before = "" if fence or fenced else line
        begun = begun or bool(line.strip())
    return "", False


def _read_heading(line: str) -> str:
    """Returns the text of a line like `## Heading ##`; empty if it is no heading, or has no text.

    Not by one pattern, which would take for ever on a line of many blanks.
    """
    if not _HEADING.match(line):
        return ""
    text = line.strip(" \t").lstrip("#").strip(" \t")
    closed = text.rstrip("#")
    return closed.rstrip(" \t") if closed.endswith((" ", "\t")) or not closed else text
