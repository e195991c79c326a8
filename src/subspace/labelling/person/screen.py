"""Screen: shows texts to a person and reads replies, so that no text can pass for a prompt."""

import re
import shutil
import textwrap
import unicodedata
from typing import TextIO

# Every line of a text begins with it, and nothing else does.
_MARGIN = "  | "
_FEWEST_COLUMNS = 20


class Screen:
    """A terminal, or any two streams.

    Every line of a text gets a margin, and characters that could move the cursor or hide others are
    shown escaped.
    """

    def __init__(self, *, replies: TextIO, shown: TextIO, columns: int | None = None) -> None:
        """Keeps the streams.

        Args:
            replies: Where the person's lines come from.
            shown: Where texts and prompts go.
            columns: Width of a line; None for that of the terminal.
        """
        self._replies = replies
        self._shown = shown
        self._columns = columns

    def say(self, line: str) -> None:
        """Shows a line of this program."""
        self._write(escape(line) + "\n")

    def show(self, text: str) -> None:
        """Shows a part of a text, behind a margin."""
        columns = self._columns or shutil.get_terminal_size().columns  # windows change
        width = max(_FEWEST_COLUMNS, columns - len(_MARGIN) - 1)
        for paragraph in re.sub(r"\s*\n\s*\n\s*", "\n\n", text).splitlines():
            line = escape(paragraph)
            wide = any(unicodedata.east_asian_width(one) in "WF" for one in line)
            for piece in textwrap.wrap(line, width // 2 if wide else width) or [""]:
                self._write(f"{_MARGIN}{piece}\n")

    def ask(self, prompt: str) -> str | None:
        """Shows a prompt and returns the line that is typed; None at the end of the input."""
        self._write(f"{escape(prompt)} > ")
        try:
            line = self._replies.readline()
        except UnicodeDecodeError:
            return "\N{REPLACEMENT CHARACTER}"  # which is no answer to anything
        if not line:
            self._write("\n")
            return None
        return line.strip()

    def _write(self, text: str) -> None:
        encoding = self._shown.encoding or "utf-8"
        self._shown.write(text.encode(encoding, "backslashreplace").decode(encoding))
        self._shown.flush()


def escape(text: str) -> str:
    r"""Writes what is not printable as an escape (`\x1b`, `\u202e`), and other spaces as spaces."""
    return "".join(
        one
        if one.isprintable()
        else " "
        if one == "\t" or unicodedata.category(one) == "Zs"
        else one.encode("unicode_escape", "surrogatepass").decode()
        for one in text
    )
