"""Tokenisation, and batches of texts of similar length."""

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from subspace.arrays import Ints
from subspace.encoder.truncation import Truncation
from subspace.errors import EncoderError

# Of a text with more characters per token than these, only the beginning is tokenised, as long as
# it has enough tokens.
_CHARACTERS_PER_TOKEN = 16
# More than a tokenizer adds to mark the beginning and the end of a text.
_SPECIAL = 8


@dataclass(frozen=True, eq=False)  # arrays compare element by element
class Tokens:
    """The tokens of some texts.

    Attributes:
        ids: Token ids of each text, special tokens included.
        truncation: The texts that were longer than the maximum length, and were cut.
    """

    ids: list[Ints]
    truncation: Truncation


def load_tokenizer(folder: Path) -> Any:
    """Loads the tokenizer in a model's folder with transformers.

    Raises:
        EncoderError: The folder has no readable tokenizer.
    """
    from transformers import AutoTokenizer

    try:
        return AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError) as error:
        raise EncoderError(f"{folder} holds no readable tokenizer: {error}") from error


class Tokenizer:
    """A model's own tokenizer; cuts texts at a maximum length and counts what it cut.

    Any number of threads may use it.
    """

    def __init__(self, tokenizer: Any, *, max_length: int, lowercase: bool) -> None:
        """Wraps a tokenizer.

        Args:
            tokenizer: What `load_tokenizer` returns, or a `RustTokenizer`.
            max_length: Number of tokens after which texts are cut.
            lowercase: Whether texts are lower-cased before.
        """
        self._tokenizer = tokenizer
        self._max_length = max_length
        self._lowercase = lowercase
        self._truncation = Truncation()
        # A call sets in the library whether texts are cut, and is not to be overtaken by another.
        self._lock = threading.RLock()

    @property
    def truncation(self) -> Truncation:
        """The texts so far that were longer than the maximum length, and were cut."""
        return self._truncation

    def __call__(self, texts: Sequence[str]) -> Tokens:
        """Returns the tokens of texts."""
        beginnings = self._prepare([self._beginning(text) for text in texts])
        encoded = self._cut(beginnings)
        ids = [np.asarray(one, dtype=np.int64) for one in encoded]
        full = [place for place, one in enumerate(ids) if len(one) >= self._max_length]
        lengths = [len(text) for text in texts]
        truncation = self._measure(
            [beginnings[place] for place in full], lengths=[lengths[place] for place in full]
        )
        with self._lock:
            self._truncation += truncation
        return Tokens(ids, truncation)

    def _cut(self, texts: Sequence[str]) -> Any:
        return self._run(texts, truncation=True, max_length=self._max_length)["input_ids"]

    def _whole(self, texts: Sequence[str]) -> Any:
        return self._run(texts, truncation=False, verbose=False)["input_ids"]

    def _run(self, texts: Sequence[str], **options: Any) -> Any:
        with self._lock:
            return self._tokenizer(list(texts), **options)

    def _beginning(self, text: str) -> str:
        """Returns a beginning of a text whose first tokens are those of the text.

        A tokenizer takes seconds and a gigabyte for ten megabytes of which it keeps 256 tokens.
        The beginning ends before a space, where tokens end as well; without spaces, it has twice
        as many tokens as are kept, so that its end changes none of these.
        """
        size = _CHARACTERS_PER_TOKEN * self._max_length
        while size < len(text):
            end = _last_space(text, after=size // 2, before=size)
            beginning = text[: end or size]
            wanted = (self._max_length + 1) * (1 if end else 2)
            (ids,) = self._whole(self._prepare([beginning]))
            if len(ids) >= wanted + _SPECIAL:
                return beginning
            size *= 4
        return text

    def prompt_ids(self, prompt: str) -> Ints:
        """Returns the token ids that a text with this prompt begins with, special ones included.

        The last of them may differ where the prompt's end and the text's first word are one token.
        """
        (found,) = self._whole(self._prepare([prompt]))
        ids = np.asarray(found, dtype=np.int64)
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

    def own_tokens(self, prompt: str) -> "OwnTokens":
        """Returns what finds the tokens of texts themselves, which follow this prompt."""
        return OwnTokens(prompt=self.prompt_ids(prompt), is_special=self.is_special)

    def _prepare(self, texts: Sequence[str]) -> list[str]:
        return [text.lower() for text in texts] if self._lowercase else list(texts)

    def _measure(self, texts: Sequence[str], *, lengths: Sequence[int]) -> Truncation:
        """Counts texts with more tokens than the maximum, and their characters that are cut off.

        Args:
            texts: Prepared texts, or beginnings of them, with as many tokens as the maximum.
            lengths: Characters of the whole texts.
        """
        if not texts:
            return Truncation()
        whole = self._whole(texts)
        cut = [place for place, ids in enumerate(whole) if len(ids) > self._max_length]
        if not cut:
            return Truncation()
        if not self._tokenizer.is_fast:  # it does not say where in the text a token is
            return Truncation(texts=len(cut))
        kept = self._run(
            [texts[place] for place in cut],
            truncation=True,
            max_length=self._max_length,
            return_offsets_mapping=True,
        )
        ends = [max(end for _, end in offsets) for offsets in kept["offset_mapping"]]
        unread = sum(max(0, lengths[place] - end) for place, end in zip(cut, ends, strict=True))
        return Truncation(
            texts=len(cut), unread=unread, characters=sum(lengths[place] for place in cut)
        )


@dataclass(frozen=True, eq=False)  # arrays compare element by element
class OwnTokens:
    """Finds a text's own tokens: neither those of the prompt nor special ones.

    Attributes:
        prompt: Token ids of the prompt, as `Tokenizer.prompt_ids` gives them.
        is_special: Tells which token ids are special.
    """

    prompt: Ints
    is_special: Callable[[Ints], npt.NDArray[np.bool_]]

    def find(self, ids: Ints) -> Ints:
        """Returns the positions of a text's own tokens."""
        skip = count_shared(ids, self.prompt)
        return np.flatnonzero(~self.is_special(ids[skip:])) + skip

    def pooled(self, ids: Ints) -> Ints:
        """Returns the positions of a text's own tokens, or of others if it has none.

        These are behind the prompt, so that a shared prompt changes nothing: the special ones, or
        the last token where the text was cut before.
        """
        own = self.find(ids)
        behind = min(count_shared(ids, self.prompt), len(ids) - 1)
        return own if len(own) else np.arange(behind, len(ids))


def _last_space(text: str, *, after: int, before: int) -> int | None:
    """Returns the position of the last blank between two positions; None without one."""
    return next((at for at in range(before - 1, after, -1) if text[at].isspace()), None)


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
