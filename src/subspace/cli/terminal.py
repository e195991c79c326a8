"""What is printed: readable on terminals of any encoding, and unable to pass for something else."""

import contextlib
import io
import json
import sys
import unicodedata
from typing import Any

# Categories of characters that move the cursor, break the line or are no characters: control
# characters, line and paragraph separators, halves of surrogate pairs.
_ESCAPED = {"Cc", "Zl", "Zp", "Cs"}
# Marks that reverse the order of what follows on a line.
_REVERSING = {*"\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"}


def prepare_streams() -> None:
    """Makes standard output and errors write characters that they lack as escapes, as in Python."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            with contextlib.suppress(ValueError):  # detached or closed
                stream.reconfigure(errors="backslashreplace")


def one_line(text: str) -> str:
    """Returns a text on one line: line breaks and other control characters become escapes.

    A text from a file can thus neither look like a further hit nor command the terminal. Joiners,
    soft hyphens and blanks of any kind stay.
    """
    if text.isascii() and text.isprintable():
        return text
    return "".join(
        character.encode("unicode_escape").decode()
        if character in _REVERSING or unicodedata.category(character) in _ESCAPED
        else character
        for character in text
    )


def print_json(value: Any) -> None:
    """Prints JSON; in ASCII unless the terminal is one of UTF-8, as escapes keep it JSON."""
    encoding = (getattr(sys.stdout, "encoding", None) or "utf-8").lower().replace("_", "-")
    print(json.dumps(value, ensure_ascii=encoding not in ("utf-8", "utf8"), indent=1))
