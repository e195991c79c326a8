"""Tokenisation, and batches of texts of similar length."""

from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from subspace.arrays import Ints
from subspace.errors import EncoderError


class Tokenizer:
    """A model's own tokenizer; cuts texts at a maximum length and counts those it cut.

    Attributes:
        truncated: Number of texts so far that were longer than the maximum length and were cut.
    """

    def __init__(self, folder: Path, *, max_length: int, lowercase: bool) -> None:
        """Loads the tokenizer in a model's folder.

        Raises:
            EncoderError: The folder has no readable tokenizer.
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
        """Returns the token ids of each text, special tokens included."""
        texts = self._prepare(texts)
        encoded = self._tokenizer(texts, truncation=True, max_length=self._max_length)["input_ids"]
        ids = [np.asarray(one, dtype=np.int64) for one in encoded]
        self.truncated += self._count_truncated(texts, ids)
        return ids

    def prompt_ids(self, prompt: str) -> Ints:
        """Returns the token ids that a text with this prompt begins with, special ones included.

        The last of them may differ where the prompt's end and the text's first word are one token.
        """
        ids = np.asarray(self._tokenizer(*self._prepare([prompt]))["input_ids"], dtype=np.int64)
        own = np.flatnonzero(~self.is_special(ids))
        return ids[: own[-1] + 1] if len(own) else ids[:0]

    def is_special(self, ids: Ints) -> npt.NDArray[np.bool_]:
        """Tells which tokens only mark the beginning or end of a text, padding and the like.

        The token for unknown words is not among them.
        """
        return np.isin(ids, self._special)

    @cached_property
    def _special(self) -> Ints:
        marks = set(self._tokenizer.all_special_ids) - {self._tokenizer.unk_token_id}
        return np.array(sorted(marks), dtype=np.int64)

    def _prepare(self, texts: Sequence[str]) -> list[str]:
        return [text.lower() for text in texts] if self._lowercase else list(texts)

    def _count_truncated(self, texts: Sequence[str], ids: Sequence[Ints]) -> int:
        full = [text for text, one in zip(texts, ids, strict=True) if len(one) >= self._max_length]
        if not full:
            return 0
        whole = self._tokenizer(full, truncation=False, verbose=False)["input_ids"]
        return sum(len(one) > self._max_length for one in whole)


def cut_batches(lengths: Sequence[int], *, most: int, padded: bool = False) -> Iterator[Ints]:
    """Yields the positions of the texts of each batch, the longest texts first.

    Args:
        lengths: Number of tokens of each text.
        most: Maximum number of tokens per batch; a longer text gets a batch of its own.
        padded: Whether texts are padded, so that each counts as long as the longest of its batch.
    """
    sizes = np.asarray(lengths, dtype=np.int64)
    order = np.argsort(-sizes, kind="stable")
    start, tokens = 0, 0
    for place, position in enumerate(order):
        # The first text of a batch is its longest.
        wanted = sizes[order[start]] if padded else sizes[position]
        if tokens + wanted > most and place > start:
            yield order[start:place]
            start, tokens = place, 0
            wanted = sizes[position]
        tokens += int(wanted)
    if start < len(order):
        yield order[start:]


def count_shared(ids: Ints, beginning: Ints) -> int:
    """Counts the leading tokens of `ids` that are those of `beginning`."""
    most = min(len(ids), len(beginning))
    differs = np.flatnonzero(ids[:most] != beginning[:most])
    return int(differs[0]) if len(differs) else most


def common_beginning(texts: Sequence[Ints]) -> int:
    """Counts the tokens that all texts begin with, at most the shortest length minus 1."""
    first, longest = texts[0], min(map(len, texts)) - 1
    for one in texts[1:]:
        differs = np.flatnonzero(one[:longest] != first[:longest])
        if len(differs):
            longest = int(differs[0])
    return max(longest, 0)
