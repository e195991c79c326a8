"""The frozen encoder: maps each text to one unit vector per hidden layer."""

import logging
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from subspace.arrays import Ints, Vectors
from subspace.encoder.fingerprint import Fingerprint
from subspace.encoder.model import OFFSET_POSITIONS, Beginning, FrozenModel
from subspace.encoder.model_files import ModelFiles, ModelRecipe, locate_model, read_recipe
from subspace.encoder.pooling import EARLY_POOLINGS, OWN_MEAN, POOLINGS, mean_tokens
from subspace.encoder.precision import choose_dtype
from subspace.encoder.spec import EncoderSpec
from subspace.encoder.texts import check_texts
from subspace.encoder.tokens import Tokenizer, Tokens, common_beginning, count_shared, cut_batches
from subspace.encoder.truncation import Truncation
from subspace.errors import EncoderError

if TYPE_CHECKING:
    from torch import Tensor

Kind = Literal["document", "query"]
_NAMES: dict[Kind, str] = {"document": "texts", "query": "queries"}

_log = logging.getLogger(__name__)

# Texts per window. A window is sorted by length, so that a batch holds texts of similar length.
_WINDOW = 2048
# Characters per window: a tokenizer takes about 50 bytes of memory for each, also for cut ones.
_WINDOW_CHARACTERS = 4_000_000
_DTYPES = ("float32", "bfloat16", "auto")
# With fewer texts or shared tokens, a separate forward pass for the shared beginning saves no time.
_SHARED_TEXTS, _SHARED_TOKENS = 4, 8
# After a shared beginning, attention needs a mask of tokens x tokens: too large for longer texts.
_LONGEST_BEHIND = 2048
# This many tokens of a shared beginning take about as much memory as one computed token.
_BEHIND_PER_TOKEN = 64


class Encoder:
    """A frozen text encoder.

    The weights are loaded when the first text is encoded, so that a run whose vectors are all
    stored never loads them. Only `dtype="auto"` loads them at once, to compare precisions.

    Attributes:
        spec: The requested settings.
        fingerprint: Everything that determines the vectors.
    """

    def __init__(self, spec: EncoderSpec) -> None:
        """Finds the model and reads its authors' settings.

        Raises:
            EncoderError: The model cannot be found, or a setting does not fit it.
        """
        self.spec = spec
        self._files: ModelFiles = locate_model(spec.model, revision=spec.revision)
        self._recipe: ModelRecipe = read_recipe(self._files.folder)
        self.fingerprint = self._make_fingerprint()

    @property
    def truncated(self) -> int:
        """Number of texts so far that were longer than the maximum length and were cut."""
        return self.truncation.texts

    @property
    def truncation(self) -> Truncation:
        """The texts so far that were longer than the maximum length, and how much was not read."""
        return self._tokenizer.truncation if "_tokenizer" in vars(self) else Truncation()

    @property
    def dim(self) -> int:
        """Length of a vector: hidden size times number of layers."""
        return self.fingerprint.dim

    def encode(self, texts: Sequence[str], *, kind: Kind = "document") -> Vectors:
        """Encodes `texts` to (N, dim) float32.

        Each hidden layer's part has unit length. Up to rounding, a text's vector does not depend
        on the other texts. Texts that are cut are counted in a warning.

        Raises:
            EncoderError: A text is empty or not a string; the message gives its position.
        """
        truncations: list[Truncation] = []
        vectors = np.empty((len(texts), self.dim), dtype=np.float32)
        for positions, batch in self._encode_batches(texts, kind=kind, truncations=truncations):
            vectors[positions] = batch
        cut = sum(truncations, Truncation())
        if cut:
            _log.warning(
                cut.say(max_length=self.fingerprint.max_length, of=len(texts), what=_NAMES[kind])
            )
        return vectors

    def encode_batches(
        self, texts: Sequence[str], *, kind: Kind = "document"
    ) -> Iterator[tuple[Ints, Vectors]]:
        """Yields (positions, vectors) batch by batch, each text once; see `encode`."""
        return self._encode_batches(texts, kind=kind, truncations=[])

    def _encode_batches(
        self, texts: Sequence[str], *, kind: Kind, truncations: list[Truncation]
    ) -> Iterator[tuple[Ints, Vectors]]:
        """Does what `encode_batches` says, and adds what was cut to `truncations`."""
        prompt = self._tokenizer.prompt_ids(self.prompt(kind))
        for start, tokens in self._windows(texts, kind=kind):
            ids = tokens.ids
            truncations.append(tokens.truncation)
            shared = self._share_beginning(ids, prompt=prompt)
            skip = shared.length if shared else 0
            for positions in self._cut([one[skip:] for one in ids], behind=skip):
                batch = [ids[position] for position in positions]
                yield positions + start, self._pool(batch, beginning=shared, prompt=prompt)

    def encode_tokens(self, texts: Sequence[str], *, kind: Kind = "document") -> list[Vectors]:
        """Encodes each text to its tokens' states in the last layer, (tokens, hidden size).

        Every state is scaled to unit length. Special tokens and those of the prompt are run but
        left out of the result. A text with no other tokens keeps all of them, so that every text
        has at least one state.

        Raises:
            EncoderError: A text is empty or not a string; the message gives its position.
        """
        from torch.nn.functional import normalize

        prompt = self._tokenizer.prompt_ids(self.prompt(kind))
        states: list[Vectors] = [np.empty((0, 0), dtype=np.float32)] * len(texts)
        for start, tokens in self._windows(texts, kind=kind):
            ids = tokens.ids
            for positions in self._cut(ids):
                batch = [ids[position] for position in positions]
                (found,) = self._model.run(
                    batch,
                    layers=[self._model.depth],
                    reduce=lambda _, rows: normalize(rows, dim=-1),
                )
                ends = np.cumsum([len(one) for one in batch])[:-1]
                parts = np.split(found.cpu().numpy(), ends)
                for position, one, rows in zip(positions, batch, parts, strict=True):
                    own = self._find_own(one, prompt=prompt)
                    states[position + start] = rows[own] if len(own) else rows
        return states

    def measure_truncation(self, texts: Sequence[str], *, kind: Kind = "document") -> Truncation:
        """Measures what of the texts, prompt included, is beyond the maximum length.

        Encodes nothing.
        """
        prompt, longest = self.prompt(kind), self.fingerprint.max_length
        # A token takes at least one byte; 4 leaves room for special tokens.
        long = [text for text in texts if len((prompt + text).encode()) > longest - 4]
        windows = ([prompt + text for text in long[window]] for window in _cut_windows(long))
        return sum((self._counter(window).truncation for window in windows), Truncation())

    def prompt(self, kind: Kind) -> str:
        """Returns the text that is put before every text of this kind."""
        if kind == "query":
            return self.fingerprint.query_prompt
        return self.fingerprint.document_prompt

    def _make_fingerprint(self) -> Fingerprint:
        spec, recipe, config = self.spec, self._recipe, self._config
        if spec.dtype not in _DTYPES:
            raise EncoderError(f"dtype must be one of {', '.join(_DTYPES)}, got {spec.dtype!r}")
        if spec.batch_tokens is not None and spec.batch_tokens < 1:
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
        layers = tuple(layer if layer >= 0 else depth + 1 + layer for layer in spec.layers)
        usual = min(longest, recipe.tokenizer_length or longest)
        max_length = spec.max_length or recipe.max_length or usual
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
            layers=layers,
            max_length=max_length,
            normalise=True,
            dtype=self._choose_dtype(pooling, max_length) if spec.dtype == "auto" else spec.dtype,
            dim=config.hidden_size * len(spec.layers),
            early_pooling=_choose_early_pooling(spec, pooling, early=min(layers) < depth),
        )

    @cached_property
    def _config(self) -> Any:
        from transformers import AutoConfig

        try:
            return AutoConfig.from_pretrained(self._files.folder, local_files_only=True)
        except (OSError, ValueError) as error:
            raise EncoderError(f"{self._files.folder} holds no readable model: {error}") from error

    @cached_property
    def _tokenizer(self) -> Tokenizer:
        return self._load_tokenizer(self.fingerprint.max_length)

    @cached_property
    def _counter(self) -> Tokenizer:
        return self._load_tokenizer(self.fingerprint.max_length)

    def _load_tokenizer(self, max_length: int) -> Tokenizer:
        return Tokenizer(
            self._files.folder, max_length=max_length, lowercase=self._recipe.lowercase
        )

    def _choose_dtype(self, pooling: str, max_length: int) -> str:
        return choose_dtype(
            self._files.folder,
            tokenizer=self._load_tokenizer(max_length),
            device=self._device,
            pool=POOLINGS[pooling],
        )

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
    def _model(self) -> FrozenModel:
        return FrozenModel(self._files.folder, dtype=self.fingerprint.dtype, device=self._device)

    def _windows(self, texts: Sequence[str], *, kind: Kind) -> Iterator[tuple[int, Tokens]]:
        """Yields the first text's position and the tokens of the texts, window by window.

        The next window is tokenised in a thread while the caller works on this one.
        """
        check_texts(texts)
        prompt = self.prompt(kind)
        windows = _cut_windows(texts)

        def tokenise(window: slice) -> Tokens:
            return self._tokenizer([prompt + text for text in texts[window]])

        with ThreadPoolExecutor(max_workers=1) as beside:
            coming = [beside.submit(tokenise, window) for window in windows[:1]]
            for place, window in enumerate(windows):
                coming += [
                    beside.submit(tokenise, later) for later in windows[place + 1 : place + 2]
                ]
                yield window.start, coming.pop(0).result()

    def _cut(self, ids: Sequence[Ints], *, behind: int = 0) -> Iterator[Ints]:
        """Yields the positions of each batch's texts, which follow `behind` shared tokens."""
        most = self.spec.batch_tokens or self._model.batch_tokens()
        # Attention copies the keys and values of the shared beginning for every text.
        lengths = [len(one) + behind // _BEHIND_PER_TOKEN for one in ids]
        if self._model.alone:
            most = 1
        return cut_batches(lengths, most=most, padded=not self._model.packs)

    @property
    def _pools_own(self) -> bool:
        return self.fingerprint.early_pooling == OWN_MEAN

    def _share_beginning(self, ids: Sequence[Ints], *, prompt: Ints) -> Beginning | None:
        """Runs the tokens that all texts begin with; None if inexact or without a gain in time."""
        early = self.fingerprint.early_pooling in (None, OWN_MEAN)
        if len(ids) < _SHARED_TEXTS or self.fingerprint.pooling != "lasttoken" or not early:
            return None
        length = common_beginning(ids)
        if self._pools_own:  # the texts' own tokens are needed, each for its text
            length = min(length, *(count_shared(one, prompt) for one in ids))
        if length < _SHARED_TOKENS or max(map(len, ids)) > _LONGEST_BEHIND:
            return None
        if not (self._model.packs and self._model.causal):
            return None
        return self._model.begin(ids[0][:length])

    def _find_own(self, ids: Ints, *, prompt: Ints) -> Ints:
        """Returns the positions of a text's own tokens: neither of the prompt nor special."""
        skip = count_shared(ids, prompt)
        return np.flatnonzero(~self._tokenizer.is_special(ids[skip:])) + skip

    def _pooled_tokens(self, ids: Ints, *, prompt: Ints) -> Ints:
        """Returns the positions of a text's own tokens, or of others if it has none.

        These are behind the prompt, so that a shared prompt changes nothing: the special ones, or
        the last token where the text was cut before.
        """
        own = self._find_own(ids, prompt=prompt)
        behind = min(count_shared(ids, prompt), len(ids) - 1)
        return own if len(own) else np.arange(behind, len(ids))

    def _pool_early(
        self, batch: Sequence[Ints], *, lengths: "Tensor", skip: int, prompt: Ints
    ) -> "Callable[[Tensor], Tensor]":
        """Returns the pooling of the layers before the last, for the tokens after `skip`."""
        import torch
        from torch.nn.functional import normalize

        if not self._pools_own:
            pool = POOLINGS[self.fingerprint.early_pooling or self.fingerprint.pooling]
            return lambda states: pool(states, lengths)
        own = [self._pooled_tokens(ids, prompt=prompt) - skip for ids in batch]
        starts = np.cumsum([0, *(len(ids) - skip for ids in batch[:-1])])
        rows = np.concatenate([kept + start for kept, start in zip(own, starts, strict=True)])
        kept = torch.from_numpy(rows).to(self._device)
        counts = torch.tensor([len(one) for one in own], device=self._device)
        return lambda states: mean_tokens(normalize(states[kept], dim=-1), counts)

    def _pool(self, batch: Sequence[Ints], *, beginning: Beginning | None, prompt: Ints) -> Vectors:
        """Runs texts, whose first tokens may be a shared beginning that was run before."""
        import torch
        from torch.nn.functional import normalize

        skip = beginning.length if beginning else 0
        last, depth = POOLINGS[self.fingerprint.pooling], self._model.depth
        lengths = torch.tensor([len(ids) - skip for ids in batch], device=self._device)
        early = self._pool_early(batch, lengths=lengths, skip=skip, prompt=prompt)

        def reduce(layer: int, states: "Tensor") -> "Tensor":
            pooled = last(states, lengths) if layer == depth else early(states)
            return normalize(pooled, dim=-1)

        pooled = self._model.run(
            [ids[skip:] for ids in batch],
            layers=self.fingerprint.layers,
            reduce=reduce,
            beginning=beginning,
        )
        vectors: Vectors = torch.cat(pooled, dim=-1).cpu().numpy()
        return vectors


def _choose_early_pooling(spec: EncoderSpec, pooling: str, *, early: bool) -> str | None:
    """Returns the pooling of layers before the last; None if it is that of the last.

    Raises:
        EncoderError: There is no such pooling.
    """
    usual = pooling if pooling == "mean" else OWN_MEAN
    chosen = usual if spec.early_pooling is None else spec.early_pooling
    if chosen not in EARLY_POOLINGS:
        raise EncoderError(
            f"early_pooling must be one of {', '.join(EARLY_POOLINGS)}, got {chosen!r}"
        )
    return chosen if early and chosen != pooling else None


def _cut_windows(texts: Sequence[str]) -> list[slice]:
    """Cuts texts into windows small enough for memory to hold their tokens."""
    ends, characters = [0], 0
    for place, text in enumerate(texts):
        full = place - ends[-1] >= _WINDOW or characters + len(text) > _WINDOW_CHARACTERS
        if full and place > ends[-1]:
            ends.append(place)
            characters = 0
        characters += len(text)
    ends.append(len(texts))
    return [slice(start, end) for start, end in pairwise(ends) if end > start]


def _read_size(config: Any, *, model: str) -> tuple[int, int]:
    """Reads a model's number of layers and longest input from its configuration.

    Raises:
        EncoderError: Models of this type are not supported.
    """
    depth = getattr(config, "num_hidden_layers", None)
    longest = getattr(config, "max_position_embeddings", None)
    if getattr(config, "is_encoder_decoder", False) or depth is None or longest is None:
        raise EncoderError(
            f"'{model}' is a {config.model_type} model, which is not supported: it must be an "
            "encoder or a decoder of its own, with num_hidden_layers and max_position_embeddings"
        )
    if config.model_type in OFFSET_POSITIONS:
        longest -= (config.pad_token_id or 0) + 1
    return int(depth), int(longest)
