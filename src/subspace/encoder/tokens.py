"""Texts to tokens, and tokens to batches of texts of like length."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from subspace.arrays import Ints
from subspace.errors import EncoderError


class Tokenizer:
    """A model's own tokenizer, which cuts texts after so many tokens and counts how many it cut.

    Attributes:
        truncated: How many texts so far were longer than the maximum length and were cut.
    """

    def __init__(self, folder: Path, *, max_length: int, lowercase: bool) -> None:
        """Loads the tokenizer in a model's folder.

        Raises:
            EncoderError: There is none that can be read.
        """
        from transformers import AutoTokenizer

        try:
            self._tokenizer: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        except (OSError, ValueError) as error:
            raise EncoderError(f"{folder} holds no readable tokenizer: {error}") from error
        self._max_length = max_length
        self._lowercase = lowercase
        self.truncated = 0

    def __call__(self, texts: Sequence[str]) -> list[Ints]:
        """The token ids of each text, special tokens included."""
        texts = self._prepare(texts)
        encoded = self._tokenizer(texts, truncation=True, max_length=self._max_length)["input_ids"]
        ids = [np.asarray(one, dtype=np.int64) for one in encoded]
        self.truncated += self._count_truncated(texts, ids)
        return ids

    def count(self, text: str) -> int:
        """How many tokens a text has, special ones not counted."""
        (prepared,) = self._prepare([text])
        return len(self._tokenizer(prepared, add_special_tokens=False)["input_ids"])

    def is_special(self, ids: Ints) -> npt.NDArray[np.bool_]:
        """Which tokens are no text but marks of its beginning, end and the like.

        What stands for an unknown word is text.
        """
        marks = set(self._tokenizer.all_special_ids) - {self._tokenizer.unk_token_id}
        return np.isin(ids, list(marks))

    def _prepare(self, texts: Sequence[str]) -> list[str]:
        return [text.lower() for text in texts] if self._lowercase else list(texts)

    def _count_truncated(self, texts: Sequence[str], ids: Sequence[Ints]) -> int:
        full = [text for text, one in zip(texts, ids, strict=True) if len(one) >= self._max_length]
        if not full:
            return 0
        whole = self._tokenizer(full, truncation=False, verbose=False)["input_ids"]
        return sum(len(one) > self._max_length for one in whole)


def cut_batches(lengths: Sequence[int], *, most: int, padded: bool = False) -> Iterator[Ints]:
    """Positions of texts, batch by batch, the longest first.

    Args:
        lengths: Tokens of each text.
        most: Tokens per batch; a longer text comes alone.
        padded: Whether every text counts as many as the longest of its batch.
    """
    sizes = np.asarray(lengths, dtype=np.int64)
    order = np.argsort(-sizes, kind="stable")
    start, tokens = 0, 0
    for place, position in enumerate(order):
        # The first is the longest.
        wanted = sizes[order[start]] if padded else sizes[position]
        if tokens + wanted > most and place > start:
            yield order[start:place]
            start, tokens = place, 0
            wanted = sizes[position]
        tokens += int(wanted)
    if start < len(order):
        yield order[start:]


def common_beginning(texts: Sequence[Ints]) -> int:
    """How many tokens all texts begin with; every text has one more at least."""
    first, longest = texts[0], min(map(len, texts)) - 1
    for one in texts[1:]:
        differs = np.flatnonzero(one[:longest] != first[:longest])
        if len(differs):
            longest = int(differs[0])
    return max(longest, 0)
