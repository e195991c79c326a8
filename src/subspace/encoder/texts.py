"""A check that texts can be encoded."""

from collections.abc import Sequence

from subspace.errors import EncoderError


def find_fault(text: object) -> str | None:
    """Returns the reason why a text cannot be encoded; None if it can."""
    if not isinstance(text, str) or not text.strip():
        return f"is empty or no text: {text!r:.60}"
    try:
        text.encode()
    except UnicodeEncodeError:
        return "contains half a surrogate pair, which is not a character"
    return None


def check_texts(texts: Sequence[str]) -> None:
    """Raises unless all texts can be encoded.

    Raises:
        EncoderError: A text cannot be encoded (the message gives the position of the first), or
            `texts` is a single text.
    """
    if isinstance(texts, str):
        raise EncoderError("texts must be a list of texts, got a single one; put it in a list")
    for position, text in enumerate(texts):
        fault = find_fault(text)
        if fault:
            raise EncoderError(f"text {position} {fault}")
