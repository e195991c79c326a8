"""Text units: the pieces of a document that get a vector of their own.

Sentences come from `sentencex` (Wikimedia, rules for abbreviations), the title is one by itself.
Paragraphs are what blank lines separate; a text without blank lines is read in runs of three
sentences. A piece without a letter or a digit is no unit; a document that has nothing else is one
unit as it stands, so that every document has one.
"""

import re

from subspace.data.retrieval_sets import Document
from subspace.errors import ConfigError

RUN = 3
_LANGUAGE = "en"
_BLANK_LINE = re.compile(r"\n\s*\n")


def whole(document: Document) -> list[str]:
    """The document in one piece."""
    return [document.text]


def sentences(document: Document) -> list[str]:
    """The title and every sentence."""
    return _units([document.title, *_sentences(_body(document))]) or whole(document)


def paragraphs(document: Document) -> list[str]:
    """What blank lines separate, or runs of three sentences; the title goes with the first."""
    body = _body(document)
    pieces = _units(_BLANK_LINE.split(body))
    if len(pieces) < 2:
        found = _units(_sentences(body))
        pieces = [" ".join(found[start : start + RUN]) for start in range(0, len(found), RUN)]
    return [_join(document.title, pieces[0]), *pieces[1:]] if pieces else whole(document)


def windows(document: Document, *, words: int) -> list[str]:
    """Runs of so many words, each beginning with the last quarter of the one before.

    The last one is as long as the others and overlaps more.
    """
    found = document.text.split()
    last = max(0, len(found) - words)
    starts = [*range(0, last, words - words // 4), last]
    pieces = [" ".join(found[start : start + words]) for start in starts]
    return _units(pieces) or whole(document)


def title(document: Document) -> list[str]:
    """The title, or the first sentence of a document without one."""
    return sentences(document)[:1]


def first_sentence(document: Document) -> list[str]:
    """The document up to the end of its first sentence, title included."""
    found = _units(_sentences(_body(document)))
    return [_join(document.title, found[0])] if found else whole(document)


def first_paragraph(document: Document) -> list[str]:
    """The document up to the end of its first paragraph, title included."""
    return paragraphs(document)[:1]


def _body(document: Document) -> str:
    """The text behind the title; empty if the title is all there is."""
    if document.text == document.title:
        return ""
    return document.text.removeprefix(f"{document.title}. ") if document.title else document.text


def _sentences(text: str) -> list[str]:
    try:
        from sentencex import segment
    except ImportError as error:
        raise ConfigError(
            "cutting texts into sentences needs the package sentencex: "
            "pip install 'subspace[protocols]'"
        ) from error
    return list(segment(_LANGUAGE, text))


def _units(pieces: list[str]) -> list[str]:
    """Pieces that say something, their white space evened."""
    return [" ".join(piece.split()) for piece in pieces if any(map(str.isalnum, piece))]


def _join(heading: str, rest: str) -> str:
    return f"{heading}. {rest}" if heading else rest
