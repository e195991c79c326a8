"""A model's tokenizer without transformers, as transformers had made it."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any


class RustTokenizer:
    """A tokenizer of the tokenizers library, called like one of transformers.

    Attributes:
        all_special_ids: Token ids that mark beginnings and ends, and the unknown token.
        unk_token_id: Id of the unknown token, or None.
        is_fast: True: it says where in the text a token is.
    """

    is_fast = True

    def __init__(self, file: Path, *, settings: Mapping[str, Any]) -> None:
        """Reads what `save` wrote.

        Args:
            file: The file.
            settings: What `save` returned.

        Raises:
            OSError: The file cannot be read.
            ValueError: It is another one than `save` wrote.
        """
        from tokenizers import Tokenizer

        content = file.read_bytes()
        if hashlib.sha256(content).hexdigest() != settings["sha256"]:
            raise ValueError(f"{file.name} is damaged")
        self._tokenizer = Tokenizer.from_str(content.decode())
        self._tokenizer.no_padding()
        self._side: str = settings["truncation_side"]
        self.all_special_ids: list[int] = settings["special"]
        self.unk_token_id: int | None = settings["unknown"]

    def __call__(
        self,
        texts: Sequence[str],
        *,
        truncation: bool,
        max_length: int = 0,
        return_offsets_mapping: bool = False,
        verbose: bool = True,  # noqa: ARG002 (the interface of transformers)
    ) -> dict[str, Any]:
        """Returns `input_ids` of each text, and `offset_mapping` if it is asked for."""
        if truncation:
            self._tokenizer.enable_truncation(max_length, direction=self._side)
        else:
            self._tokenizer.no_truncation()
        if len(texts) == 1:  # without waiting for another thread
            found = [self._tokenizer.encode(texts[0])]
        else:
            found = self._tokenizer.encode_batch(list(texts))
        encoded: dict[str, Any] = {"input_ids": [one.ids for one in found]}
        if return_offsets_mapping:
            encoded["offset_mapping"] = [one.offsets for one in found]
        return encoded


def save(tokenizer: Any, file: Path) -> dict[str, Any]:
    """Writes a fast tokenizer of transformers, and returns what the file does not hold."""
    tokenizer.backend_tokenizer.save(str(file))
    return {
        "truncation_side": tokenizer.truncation_side,
        "special": sorted(set(tokenizer.all_special_ids)),
        "unknown": tokenizer.unk_token_id,
        "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
    }
