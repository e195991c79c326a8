"""Text units: the pieces of a document that have a vector each.

Sentences come from `sentencex` (Wikimedia, rules for abbreviations); the title is a sentence by
itself. Blank lines separate paragraphs; in a text without blank lines, three sentences make a
paragraph. A piece without a letter or a digit is left out. A document without any other piece is
one unit as it stands, so every document has at least one.
"""

import re

from subspace.data.records import Record
from subspace.errors import ConfigError, install_command

# Number of sentences per paragraph in a text without blank lines.
RUN = 3
_LANGUAGE = "en"
_BLANK_LINE = re.compile(r"\n\s*\n")


def whole(document: Record) -> list[str]:
    """Returns the document in one piece."""
    return [document.text]


def sentences(document: Record) -> list[str]:
    """Returns the title and every sentence."""
    return _units([document.title, *_sentences(_body(document))]) or whole(document)


def paragraphs(document: Record) -> list[str]:
    """Returns the paragraphs; the first one begins with the title."""
    body = _body(document)
    pieces = _units(_BLANK_LINE.split(body))
    if len(pieces) < 2:
        found = _units(_sentences(body))
        pieces = [" ".join(found[start : start + RUN]) for start in range(0, len(found), RUN)]
    return [_join(document.title, pieces[0]), *pieces[1:]] if pieces else whole(document)


def windows(document: Record, *, words: int) -> list[str]:
    """Returns runs of words, each beginning with the last quarter of the one before.

    The last run has the same length and overlaps more.

    Args:
        document: The document.
        words: Number of words in a run, 4 or more.
    """
    found = document.text.split()
    last = max(0, len(found) - words)
    starts = [*range(0, last, words - words // 4), last]
    pieces = [" ".join(found[start : start + words]) for start in starts]
    return _units(pieces) or whole(document)


def title(document: Record) -> list[str]:
    """Returns the title, or the first sentence of a document without a title."""
    return sentences(document)[:1]


def first_sentence(document: Record) -> list[str]:
    """Returns the document up to the end of its first sentence, title included."""
    found = _units(_sentences(_body(document)))
    return [_join(document.title, found[0])] if found else whole(document)


def first_paragraph(document: Record) -> list[str]:
    """Returns the document up to the end of its first paragraph, title included."""
    return paragraphs(document)[:1]


def _body(document: Record) -> str:
    """Returns the text after the title; empty if there is only a title."""
    if document.text == document.title:
        return ""
    return document.text.removeprefix(f"{document.title}. ") if document.title else document.text


def _sentences(text: str) -> list[str]:
    try:
        from sentencex import segment
    except ImportError as error:
        raise ConfigError(
            "cutting texts into sentences needs the package sentencex: "
            f"{install_command('protocols')}"
        ) from error
    return list(segment(_LANGUAGE, text))


def _units(pieces: list[str]) -> list[str]:
    """Keeps pieces with a letter or a digit; replaces each run of white space by one space."""
    return [" ".join(piece.split()) for piece in pieces if any(map(str.isalnum, piece))]


def _join(heading: str, rest: str) -> str:
    return f"{heading}. {rest}" if heading else rest
