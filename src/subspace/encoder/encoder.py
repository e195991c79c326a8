"""The frozen encoder: texts in, one unit vector per text and hidden layer out."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from subspace.encoder.fingerprint import Fingerprint
from subspace.encoder.model_files import ModelFiles, ModelRecipe, locate_model, read_recipe
from subspace.encoder.pooling import POOLINGS
from subspace.errors import EncoderError

Kind = Literal["document", "query"]
Vectors = npt.NDArray[np.float32]

# Texts are sorted by length inside a window, so that a batch holds texts of like length.
_WINDOW = 2048
_DTYPES = ("float32", "bfloat16")
# Architectures that count positions from behind the padding token's id (transformers,
# `create_position_ids_from_input_ids`), so that their last positions cannot be reached.
_OFFSET_POSITIONS = frozenset({"roberta", "xlm-roberta", "camembert", "mpnet", "longformer"})


@dataclass(frozen=True)
class EncoderSpec:
    r"""What to load and how to run it; whatever is None is read from the model's own files.

    Attributes:
        model: `minilm` (embedded, needs no network), a folder, or a hub id such as
            `Qwen/Qwen3-Embedding-0.6B`.
        revision: Commit of the hub repository; pin it, since a branch can change.
        pooling: `mean`, `cls`, `lasttoken` or `max`.
        query_prompt: Put before queries, for Qwen3 `Instruct: {task}\nQuery:`.
        document_prompt: Put before documents.
        layers: Hidden layers to pool, side by side in one vector; 0 are the token embeddings,
            -1 the last layer. Several cost no extra forward pass.
        max_length: Cut texts after so many tokens.
        dtype: `float32` or `bfloat16`.
        device: `cpu`, `cuda`, or None for the best there is.
        batch_tokens: Tokens, padding included, per forward pass.
    """

    model: str = "minilm"
    revision: str | None = None
    pooling: str | None = None
    query_prompt: str | None = None
    document_prompt: str | None = None
    layers: tuple[int, ...] = (-1,)
    max_length: int | None = None
    dtype: str = "float32"
    device: str | None = None
    batch_tokens: int = 4096

    @classmethod
    def from_fingerprint(cls, fingerprint: Fingerprint, *, model: str) -> "EncoderSpec":
        """The spec that gives exactly the vectors of `fingerprint`, from `model` on this machine.

        Every setting is spelled out, so that files beside another copy cannot change it.
        """
        on_hub = not fingerprint.revision.startswith("sha256:")
        return cls(
            model=model,
            revision=fingerprint.revision if on_hub else None,
            pooling=fingerprint.pooling,
            query_prompt=fingerprint.query_prompt,
            document_prompt=fingerprint.document_prompt,
            layers=fingerprint.layers,
            max_length=fingerprint.max_length,
            dtype=fingerprint.dtype,
        )


class Encoder:
    """A frozen text encoder.

    Opening one reads only its small files; the weights are loaded at the first text that has to
    be encoded, so that a run whose vectors are all stored never waits for them.

    Attributes:
        spec: What was asked for.
        fingerprint: What its vectors depend on.
        truncated: How many texts so far were longer than the maximum length and were cut.
    """

    def __init__(self, spec: EncoderSpec) -> None:
        """Finds the model and reads how it is meant to be run.

        Raises:
            EncoderError: It cannot be found, or a setting does not fit it.
        """
        self.spec = spec
        self._files: ModelFiles = locate_model(spec.model, revision=spec.revision)
        self._recipe: ModelRecipe = read_recipe(self._files.folder)
        self.fingerprint = self._make_fingerprint()
        self.truncated = 0

    @property
    def dim(self) -> int:
        """Length of a vector: hidden size times number of layers."""
        return self.fingerprint.dim

    def encode(self, texts: Sequence[str], *, kind: Kind = "document") -> Vectors:
        """Encodes `texts` to (N, dim) float32.

        Each hidden layer's part has unit length. A text's vector does not depend on the texts
        it is encoded with (up to rounding).

        Raises:
            EncoderError: A text is empty or no text at all; its position is named.
        """
        vectors = np.empty((len(texts), self.dim), dtype=np.float32)
        for positions, batch in self.encode_batches(texts, kind=kind):
            vectors[positions] = batch
        return vectors

    def encode_batches(
        self, texts: Sequence[str], *, kind: Kind = "document"
    ) -> Iterator[tuple[npt.NDArray[np.int64], Vectors]]:
        """Yields (positions, vectors) batch by batch, each text once; see `encode`."""
        _check_texts(texts)
        prompt = self.prompt(kind)
        for start in range(0, len(texts), _WINDOW):
            window = [prompt + text for text in texts[start : start + _WINDOW]]
            for positions, tokens in self._batches(window):
                yield positions + start, self._forward(tokens)

    def encode_tokens(self, texts: Sequence[str], *, kind: Kind = "document") -> list[Vectors]:
        """The last layer's state of every token: (tokens, hidden size) per text, unit rows.

        Special tokens and those of the prompt are read and left out. A text without any other
        keeps all of its tokens, so that none is without a vector.

        Raises:
            EncoderError: A text is empty or no text at all; its position is named.
        """
        _check_texts(texts)
        prompt = self.prompt(kind)
        skip = self._count_tokens(prompt)
        states: list[Vectors] = [np.empty((0, 0), dtype=np.float32)] * len(texts)
        for start in range(0, len(texts), _WINDOW):
            window = [prompt + text for text in texts[start : start + _WINDOW]]
            for positions, tokens in self._batches(window):
                found = self._forward_tokens(tokens, skip=skip)
                for position, state in zip(positions, found, strict=True):
                    states[position + start] = state
        return states

    def prompt(self, kind: Kind) -> str:
        """What is put before every text of this kind."""
        if kind == "query":
            return self.fingerprint.query_prompt
        return self.fingerprint.document_prompt

    def _make_fingerprint(self) -> Fingerprint:
        spec, recipe, config = self.spec, self._recipe, self._config
        if spec.dtype not in _DTYPES:
            raise EncoderError(f"dtype must be one of {', '.join(_DTYPES)}, got {spec.dtype!r}")
        if spec.batch_tokens < 1:
            raise EncoderError(f"batch_tokens must be 1 or more, got {spec.batch_tokens}")
        pooling = spec.pooling or recipe.pooling
        if pooling is None:
            raise EncoderError(
                f"the files of '{spec.model}' do not say how it pools; set pooling to mean, cls, "
                "lasttoken or max, as its authors do"
            )
        if pooling not in POOLINGS:
            raise EncoderError(f"pooling must be one of {', '.join(POOLINGS)}, got {pooling!r}")
        depth, longest = _read_size(config, model=spec.model)
        if not spec.layers or len(set(spec.layers)) != len(spec.layers):
            raise EncoderError(f"layers must name each layer once, got {list(spec.layers)}")
        for layer in spec.layers:
            if not -depth <= layer <= depth:
                raise EncoderError(
                    f"layers has {layer}, but '{spec.model}' has the layers 0 to {depth} "
                    "(0 are the token embeddings; -1 is the last)"
                )
        max_length = spec.max_length or recipe.max_length or longest
        if not 3 <= max_length <= longest:
            raise EncoderError(f"max_length must be 3 to {longest}, got {max_length}")
        return Fingerprint(
            model=self._files.name,
            revision=self._files.revision,
            pooling=pooling,
            query_prompt=recipe.query_prompt if spec.query_prompt is None else spec.query_prompt,
            document_prompt=(
                recipe.document_prompt if spec.document_prompt is None else spec.document_prompt
            ),
            layers=tuple(layer if layer >= 0 else depth + 1 + layer for layer in spec.layers),
            max_length=max_length,
            normalise=True,
            dtype=spec.dtype,
            dim=config.hidden_size * len(spec.layers),
        )

    @cached_property
    def _config(self) -> Any:
        from transformers import AutoConfig

        try:
            return AutoConfig.from_pretrained(self._files.folder, local_files_only=True)
        except (OSError, ValueError) as error:
            raise EncoderError(f"{self._files.folder} holds no readable model: {error}") from error

    @cached_property
    def _tokenizer(self) -> Any:
        from transformers import AutoTokenizer

        try:
            tokenizer = AutoTokenizer.from_pretrained(self._files.folder, local_files_only=True)
        except (OSError, ValueError) as error:
            raise EncoderError(
                f"{self._files.folder} holds no readable tokenizer: {error}"
            ) from error
        if tokenizer.pad_token is None:
            if tokenizer.eos_token is None:
                raise EncoderError(
                    f"the tokenizer in {self._files.folder} has no padding token, so that texts of "
                    "several lengths cannot be encoded together; name one in its files"
                )
            tokenizer.pad_token = tokenizer.eos_token  # masked, so any token will do
        # Last-token pooling is run with padding on the left, as the authors of Qwen3 do.
        tokenizer.padding_side = "left" if self.fingerprint.pooling == "lasttoken" else "right"
        return tokenizer

    @cached_property
    def _device(self) -> str:
        import torch

        wanted = self.spec.device or ("cuda" if torch.cuda.is_available() else "cpu")
        try:
            torch.empty(0, device=wanted)
        except (RuntimeError, AssertionError) as error:
            reason = str(error).splitlines()[0]
            raise EncoderError(f"device {wanted!r} cannot be used: {reason}") from error
        return wanted

    @cached_property
    def _model(self) -> Any:
        import torch
        from transformers import AutoModel
        from transformers.utils import logging

        dtype = getattr(torch, self.spec.dtype)
        shows_bars = logging.is_progress_bar_enabled()
        logging.disable_progress_bar()  # type: ignore[no-untyped-call]  # a bar of its own for every load would bury ours
        try:
            model = AutoModel.from_pretrained(
                self._files.folder, local_files_only=True, dtype=dtype
            )
        except (OSError, ValueError) as error:
            raise EncoderError(f"{self._files.folder} holds no readable model: {error}") from error
        finally:
            if shows_bars:
                logging.enable_progress_bar()  # type: ignore[no-untyped-call]
        return model.to(self._device).eval().requires_grad_(False)

    def _batches(self, texts: Sequence[str]) -> Iterator[tuple[npt.NDArray[np.int64], Any]]:
        """Padded batches of texts of like length, at most `batch_tokens` tokens each."""
        if self._recipe.lowercase:
            texts = [text.lower() for text in texts]
        limit = self.fingerprint.max_length
        encoded = self._tokenizer(texts, truncation=True, max_length=limit)["input_ids"]
        lengths = np.array([len(ids) for ids in encoded])
        self.truncated += self._count_truncated(texts, lengths)
        order = np.argsort(-lengths, kind="stable")
        start = 0
        while start < len(order):
            size = max(1, self.spec.batch_tokens // max(1, int(lengths[order[start]])))
            positions = order[start : start + size]
            batch = {"input_ids": [encoded[position] for position in positions]}
            yield positions, self._tokenizer.pad(batch, return_tensors="pt")
            start += size

    def _count_truncated(self, texts: Sequence[str], lengths: npt.NDArray[np.int64]) -> int:
        longest = np.flatnonzero(lengths >= self.fingerprint.max_length)
        full = [texts[int(position)] for position in longest]
        if not full:
            return 0
        whole = self._tokenizer(full, truncation=False, verbose=False)["input_ids"]
        return sum(len(ids) > self.fingerprint.max_length for ids in whole)

    def _forward(self, tokens: Any) -> Vectors:
        import torch
        from torch.nn.functional import normalize

        pool = POOLINGS[self.fingerprint.pooling]
        layers, last = self.fingerprint.layers, self._config.num_hidden_layers
        tokens = tokens.to(self._device)
        with torch.inference_mode():
            out = self._model(**tokens, output_hidden_states=layers != (last,))
            # The last layer counts after the model's final norm, which `hidden_states` may lack.
            states = [
                out.last_hidden_state if layer == last else out.hidden_states[layer]
                for layer in layers
            ]
            mask = tokens["attention_mask"]
            pooled = [normalize(pool(state.float(), mask), dim=-1) for state in states]
            return torch.cat(pooled, dim=-1).cpu().numpy()

    def _count_tokens(self, prompt: str) -> int:
        if self._recipe.lowercase:
            prompt = prompt.lower()
        return len(self._tokenizer(prompt, add_special_tokens=False)["input_ids"])

    def _forward_tokens(self, tokens: Any, *, skip: int) -> Iterator[Vectors]:
        """Unit states of each text's tokens, without special ones and the first `skip` others."""
        import torch
        from torch.nn.functional import normalize

        tokens = tokens.to(self._device)
        with torch.inference_mode():
            states = self._model(**tokens).last_hidden_state.float()
            states = normalize(states, dim=-1).cpu().numpy()
        there = tokens["attention_mask"].bool().cpu().numpy()
        special = np.isin(tokens["input_ids"].cpu().numpy(), self._tokenizer.all_special_ids)
        for state, real, plain in zip(states, there, there & ~special, strict=True):
            own = np.flatnonzero(plain)[skip:]
            yield state[own] if len(own) else state[real]


def _read_size(config: Any, *, model: str) -> tuple[int, int]:
    """Number of layers and longest input of a model, as its configuration says."""
    depth = getattr(config, "num_hidden_layers", None)
    longest = getattr(config, "max_position_embeddings", None)
    if getattr(config, "is_encoder_decoder", False) or depth is None or longest is None:
        raise EncoderError(
            f"'{model}' is a {config.model_type} model, which is not supported: it must be an "
            "encoder or a decoder of its own, with num_hidden_layers and max_position_embeddings"
        )
    if config.model_type in _OFFSET_POSITIONS:
        longest -= (config.pad_token_id or 0) + 1
    return int(depth), int(longest)


def _check_texts(texts: Sequence[str]) -> None:
    if isinstance(texts, str):
        raise EncoderError("texts must be a list of texts, got a single one; put it in a list")
    for position, text in enumerate(texts):
        if not isinstance(text, str) or not text.strip():
            raise EncoderError(f"text {position} is empty or no text: {text!r:.60}")
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise EncoderError(
                f"text {position} contains half a surrogate pair, which is not a character"
            ) from error
