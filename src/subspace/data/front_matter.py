"""Front matter: values by name in YAML, between two lines of `---` at the start of a text.

Read with PyYAML's safe loader, which makes nothing but plain values. Values become JSON; aliases
are refused, as a few lines of them can stand for gigabytes.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from typing import Any

import yaml
import yaml.scanner

from subspace.data.metadata import Value, find_fault
from subspace.files import Problems

# Written in C where PyYAML was built with it, and several times faster.
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_OPEN = re.compile(r"---[ \t]*(?:\n|\Z)")
_CLOSE = re.compile(r"^(?:---|\.\.\.)[ \t]*(?:\n|\Z)", re.MULTILINE)
# Line of the file in which the YAML begins.
_FIRST_LINE = 2
_NULL = "tag:yaml.org,2002:null"
# What the constructors of YAML's own types raise for a text that is none of them.
_WRONG = (ValueError, TypeError, LookupError, ArithmeticError, AttributeError, RecursionError)


@dataclass(frozen=True)
class FrontMatter:
    """What stands at the start of a text.

    Attributes:
        values: JSON values by name.
        lines: Line of each name in the file, from 1.
    """

    values: dict[str, Value]
    lines: dict[str, int]


def read_front_matter(
    text: str, *, path: str, texts: frozenset[str], problems: Problems
) -> tuple[FrontMatter, str] | None:
    """Reads the front matter of a text.

    Args:
        text: The text, with line breaks of one character.
        path: File that the text is from, for problems.
        texts: Names whose values are texts, kept as they are written: `1984`, `on`.
        problems: Receives everything that cannot be read or kept, with file and line.

    Returns:
        The front matter, empty if there is none, and the text after it; None after a problem.
    """
    opened = _OPEN.match(text)
    if not opened:
        return FrontMatter({}, {}), text
    closed = _CLOSE.search(text, opened.end())
    if not closed:
        problems.add(
            f"{path}:1",
            "front matter begins with --- and does not end: put a line of --- after it, or a blank "
            "line before it if it is a rule",
        )
        return None
    before = len(problems)
    found = _read(text[opened.end() : closed.start()], path=path, texts=texts, problems=problems)
    return None if len(problems) > before else (found, text[closed.end() :])


def _read(text: str, *, path: str, texts: frozenset[str], problems: Problems) -> FrontMatter:
    found = FrontMatter({}, {})
    loader = None
    try:
        loader = _Loader(text)  # refuses characters that YAML cannot hold
        for key, node in _pairs(loader.get_single_node()):
            name, line = str(key.value), _line(key)
            if name in found.lines:
                raise _RefusedError(
                    f"'{name:.60}' is given before, in line {found.lines[name]}", line
                )
            found.lines[name] = line
            found.values[name] = _value(loader, node, name=name, as_text=name in texts)
    except _RefusedError as error:
        problems.add(f"{path}:{error.line}", str(error))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        hint = "; a value with ': ' or ' #' in it needs quotes"
        problems.add(
            f"{path}:{1 if mark is None else mark.line + _FIRST_LINE}",
            f"front matter is not YAML: {error.problem or error.context}"
            + (hint if isinstance(error, yaml.scanner.ScannerError) else ""),
        )
    except (yaml.YAMLError, RecursionError) as error:
        line = text.count("\n", 0, getattr(error, "position", 0)) + _FIRST_LINE
        said = str(error).partition("\n")[0] or "it is nested too deeply"
        problems.add(f"{path}:{line}", f"front matter is not YAML: {said}")
    finally:
        if loader is not None:
            loader.dispose()
    return found


class _RefusedError(Exception):
    """YAML that front matter may not hold."""

    def __init__(self, message: str, line: int) -> None:
        super().__init__(message)
        self.line = line


def _pairs(root: Any) -> Iterator[tuple[Any, Any]]:
    """Yields the nodes of names and values."""
    if root is None or (isinstance(root, yaml.ScalarNode) and not root.value.strip()):
        return
    if not isinstance(root, yaml.MappingNode):
        kind = "a list" if isinstance(root, yaml.SequenceNode) else "a text"
        raise _RefusedError(
            f"front matter holds values by name, such as `name: ...`, and is {kind} here",
            _line(root),
        )
    _refuse_aliases(root)
    for key, value in root.value:
        if not isinstance(key, yaml.ScalarNode) or not key.value:
            raise _RefusedError("a name in front matter must be a text", _line(key))
        yield key, value


def _refuse_aliases(root: Any) -> None:
    seen: set[int] = set()
    left = [root]
    while left:
        node = left.pop()
        if id(node) in seen:
            raise _RefusedError("aliases (*) are not read: write the value again", _line(node))
        seen.add(id(node))
        if isinstance(node, yaml.MappingNode):
            left.extend(part for pair in node.value for part in pair)
        elif isinstance(node, yaml.SequenceNode):
            left.extend(node.value)


def _value(loader: Any, node: Any, *, name: str, as_text: bool) -> Value:
    if as_text and node.tag != _NULL:
        if not isinstance(node, yaml.ScalarNode):
            raise _RefusedError(f"'{name}' must be a text", _line(node))
        value: Value = str(node.value)
    else:
        try:
            value = _to_json(loader.construct_document(node))
        except _WRONG as error:
            said = f": {error}" if isinstance(error, ValueError) else ""
            raise _RefusedError(
                f"'{name:.60}' is not what it looks like{said}; a text needs quotes", _line(node)
            ) from error
    fault = find_fault({name: value})
    if fault is not None:
        raise _RefusedError(f"cannot keep '{name:.60}': {fault}", _line(node))
    return value


def _to_json(value: Any) -> Value:
    """Returns a value with dates and times as ISO texts."""
    if isinstance(value, date):  # a datetime is one
        return value.isoformat()
    if isinstance(value, list):
        return [_to_json(one) for one in value]
    if isinstance(value, dict):
        return {name: _to_json(one) for name, one in value.items()}
    return value


def _line(node: Any) -> int:
    """Returns the line of a node in the file."""
    return int(node.start_mark.line) + _FIRST_LINE
