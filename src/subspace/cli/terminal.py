"""What is printed: readable on terminals of any encoding, and unable to pass for something else."""

import contextlib
import io
import json
import logging
import re
import sys
import unicodedata
from collections.abc import Iterator
from typing import Any, TextIO, cast

from subspace.errors import ConfigError

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


class _CheckedOutput:
    """Standard output whose failures are an error for people; all else is that of the stream."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Writes a text; see `checked_output` for the errors."""
        with self._checked():
            return self._stream.write(text)

    def flush(self) -> None:
        """Writes what is held back; see `checked_output` for the errors."""
        with self._checked():
            self._stream.flush()

    @contextlib.contextmanager
    def _checked(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            # Python writes what is left at its end, and would fail again: with a traceback.
            with contextlib.suppress(OSError):
                self._stream.close()
            if isinstance(error, BrokenPipeError):
                raise
            raise ConfigError(f"cannot write to standard output: {error}") from error


@contextlib.contextmanager
def checked_output() -> Iterator[None]:
    """Writes all that the block prints, and says what happened if that is not possible.

    Raises:
        ConfigError: It cannot be written, as where a disk is full.
        BrokenPipeError: Nobody reads it any more.
    """
    stream = _CheckedOutput(sys.stdout)
    with contextlib.redirect_stdout(cast(TextIO, stream)):
        try:
            yield
        except SystemExit:  # after --help and --version
            stream.flush()
            raise
        stream.flush()


class ReadableFormatter(logging.Formatter):
    """Formats what is logged as messages that people can read; see `readable`."""

    def format(self, record: logging.LogRecord) -> str:
        """Returns the lines of a message."""
        return readable(super().format(record))


# Longest id on a line of its own, longest word of a message, and longest line of it, in
# characters: what is longer is no name that people gave, but data.
_ID, _WORD, _LINE = 200, 300, 2000
_LONG_WORD = re.compile(rf"\S{{{_WORD},}}")


def readable(message: str) -> str:
    """Returns a message line by line, see `one_line`, with what is very long shortened."""
    return "\n".join(
        one_line(_shortened(_LONG_WORD.sub(lambda word: _shortened(word[0], _WORD), line), _LINE))
        for line in message.split("\n")
    )


def short_id(text: str) -> str:
    """Returns an id on one line, as `one_line` does; its beginning if it is very long."""
    return one_line(_shortened(text, _ID))


def count(number: int, noun: str, *, plural: str | None = None) -> str:
    """Returns a number with its noun: `1 text`, `3 texts`."""
    return f"{number} {noun if number == 1 else plural or noun + 's'}"


def _shortened(text: str, most: int) -> str:
    """Returns the beginning and the end of a text that has more characters than `most`."""
    if len(text) <= most:
        return text
    return f"{text[: most // 2]}…({len(text)} characters)…{text[-most // 8 :]}"


def shorten(text: str, *, width: int) -> str:
    """Returns the beginning of a text on one line, words separated by single blanks."""
    shown = one_line(" ".join(text[: 4 * width].split()))
    return shown if len(shown) <= width else shown[: width - 1].rstrip() + "…"


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
