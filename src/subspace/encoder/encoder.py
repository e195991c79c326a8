"""The frozen encoder: maps each text to one unit vector per hidden layer."""

import logging
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cached_property
from itertools import pairwise
from typing import Any, Literal

import numpy as np

from subspace.arrays import Ints, Vectors
from subspace.encoder.backends import ConvertedModel, convert, find_converted
from subspace.encoder.backends.runtimes import named_backend
from subspace.encoder.fingerprint import Fingerprint
from subspace.encoder.model import OFFSET_POSITIONS, FrozenModel
from subspace.encoder.model_files import (
    ModelFiles,
    ModelRecipe,
    locate_model,
    read_plain_config,
    read_recipe,
)
from subspace.encoder.pooling import EARLY_POOLINGS, OWN_MEAN, POOLINGS
from subspace.encoder.precision import choose_dtype
from subspace.encoder.spec import EncoderSpec
from subspace.encoder.texts import check_texts
from subspace.encoder.tokens import Tokenizer, Tokens, load_tokenizer
from subspace.encoder.torch_backend import TorchBackend
from subspace.encoder.truncation import Truncation
from subspace.errors import EncoderError

Kind = Literal["document", "query"]
_NAMES: dict[Kind, str] = {"document": "texts", "query": "queries"}

_log = logging.getLogger(__name__)

# Texts per window. A window is sorted by length, so that a batch holds texts of similar length.
_WINDOW = 2048
# Characters per window: a tokenizer takes about 50 bytes of memory for each, also for cut ones.
_WINDOW_CHARACTERS = 4_000_000
_DTYPES = ("float32", "bfloat16", "auto")
# As many texts or fewer are encoded by a converted model even where torch is faster in bulk.
_FEW = 8
# So many texts are worth a conversion of the model, which takes seconds and is done once.
_MANY = 64


class Encoder:
    """A frozen text encoder.

    The weights are loaded when the first text is encoded, so that a run whose vectors are all
    stored never loads them. Only `dtype="auto"` loads them at once, to compare precisions. Where a
    converted model is ready (see `prepare`), neither torch nor transformers is imported.

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
        self._converted: ConvertedModel | None = None
        self.fingerprint = self._find_fingerprint()

    @property
    def backend(self) -> str:
        """What computes vectors: `torch`, `openvino` or `onnx`."""
        return "torch" if self._converted is None else self._converted.runtime

    def prepare(self) -> str:
        """Converts the model for a faster runtime, so that later searches import no torch.

        Does nothing if that was done before, if no runtime is installed, or if the backend is to be
        torch. With `backend="auto"`, a model that cannot be converted stays with torch.

        Returns:
            What computes vectors from now on; see `backend`.

        Raises:
            EncoderError: The backend that the spec names is not installed or too old, or the
                converted model gives other vectors than torch.
        """
        if self._converted is None:
            self._converted = convert(
                self._backend,
                fingerprint=self.fingerprint,
                folder=self._files.folder,
                lowercase=self._recipe.lowercase,
            )
            if self._converted is not None:
                vars(self).pop("_torch", None)  # its memory is needed no more
        return self.backend

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
        if len(texts) >= _MANY or named_backend(self._backend) not in ("auto", "torch"):
            self.prepare()
        backend = self._choose_backend(len(texts))
        own = self._tokenizer.own_tokens(self.prompt(kind))
        for start, tokens in self._windows(texts, kind=kind):
            truncations.append(tokens.truncation)
            for positions, vectors in backend.encode(tokens.ids, own=own):
                yield positions + start, vectors

    def _choose_backend(self, texts: int) -> "ConvertedModel | TorchBackend":
        """Returns what encodes so many texts: a converted model, unless torch is faster in bulk.

        Raises:
            EncoderError: The converted model cannot be used, and the spec names its runtime.
        """
        found = self._converted
        if found is None or (texts > _FEW and not found.fast_in_bulk):
            return self._torch
        try:
            found.check()
        except EncoderError as error:
            self._discard(found, error)
            return self._torch
        return found

    def _discard(self, found: ConvertedModel, error: EncoderError) -> None:
        """Gives up a converted model that cannot be used, in favour of torch.

        Raises:
            EncoderError: The spec names its runtime.
        """
        found.discard()
        self._converted = None
        if found.required:
            raise EncoderError(f"{error}; it is converted again when it is used next") from error
        _log.warning("%s; torch is used instead, and the next index converts it again", error)

    def encode_tokens(self, texts: Sequence[str], *, kind: Kind = "document") -> list[Vectors]:
        """Encodes each text to its tokens' states in the last layer, (tokens, hidden size).

        Every state is scaled to unit length. Special tokens and those of the prompt are run but
        left out of the result. A text with no other tokens keeps all of them, so that every text
        has at least one state.

        Raises:
            EncoderError: A text is empty or not a string; the message gives its position.
        """
        from torch.nn.functional import normalize

        own = self._tokenizer.own_tokens(self.prompt(kind))
        states: list[Vectors] = [np.empty((0, 0), dtype=np.float32)] * len(texts)
        for start, tokens in self._windows(texts, kind=kind):
            ids = tokens.ids
            for positions in self._torch.cut(ids):
                batch = [ids[position] for position in positions]
                (found,) = self._model.run(
                    batch,
                    layers=[self._model.depth],
                    reduce=lambda _, rows: normalize(rows, dim=-1),
                )
                ends = np.cumsum([len(one) for one in batch])[:-1]
                parts = np.split(found.cpu().numpy(), ends)
                for position, one, rows in zip(positions, batch, parts, strict=True):
                    found_own = own.find(one)
                    states[position + start] = rows[found_own] if len(found_own) else rows
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

    def _find_fingerprint(self) -> Fingerprint:
        """Makes the fingerprint, and finds the model that was converted for it, if there is one.

        What `config.json` says literally gives the digest by which a converted model is found, and
        that one's fingerprint was made with transformers. Without one, transformers reads the
        configuration, which knows what the file leaves out.
        """
        plain = read_plain_config(self._files.folder)
        if plain is not None and self.spec.dtype != "auto":
            with suppress(EncoderError):  # raised again below, unless transformers knows better
                guess = self._make_fingerprint(plain)
                self._converted = find_converted(guess, backend=self._backend)
                if self._converted is not None:
                    return guess
        fingerprint = self._make_fingerprint(self._config)
        self._converted = find_converted(fingerprint, backend=self._backend)
        return fingerprint

    def _make_fingerprint(self, config: Any) -> Fingerprint:
        spec, recipe = self.spec, self._recipe
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

    @property
    def _backend(self) -> str:
        """The backend that the spec asks for; other runtimes than torch need the processor.

        Raises:
            EncoderError: Another runtime is named together with another device.
        """
        backend, device = self.spec.backend, self.spec.device
        if device is None or device == "cpu":
            return backend
        if backend not in ("auto", "torch"):
            raise EncoderError(f"backend {backend!r} computes on the cpu, not on {device!r}")
        return "torch"

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
            self._load_library_tokenizer(),
            max_length=max_length,
            lowercase=self._recipe.lowercase,
        )

    def _load_library_tokenizer(self) -> Any:
        found = self._converted
        if found is not None:
            try:
                return found.load_tokenizer()
            except EncoderError as error:
                self._discard(found, error)
        return load_tokenizer(self._files.folder)

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
    def _torch(self) -> TorchBackend:
        return TorchBackend(
            self._files.folder,
            fingerprint=self.fingerprint,
            device=self._device,
            batch_tokens=self.spec.batch_tokens,
        )

    @property
    def _model(self) -> FrozenModel:
        return self._torch.model

    def _windows(self, texts: Sequence[str], *, kind: Kind) -> Iterator[tuple[int, Tokens]]:
        """Yields the first text's position and the tokens of the texts, window by window.

        The next window is tokenised in a thread while the caller works on this one.
        """
        check_texts(texts)
        prompt = self.prompt(kind)
        windows = _cut_windows(texts)

        def tokenise(window: slice) -> Tokens:
            return self._tokenizer([prompt + text for text in texts[window]])

        if len(windows) == 1:
            yield windows[0].start, tokenise(windows[0])
            return
        with ThreadPoolExecutor(max_workers=1) as beside:
            coming = [beside.submit(tokenise, window) for window in windows[:1]]
            for place, window in enumerate(windows):
                coming += [
                    beside.submit(tokenise, later) for later in windows[place + 1 : place + 2]
                ]
                yield window.start, coming.pop(0).result()


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
        longest -= (getattr(config, "pad_token_id", None) or 0) + 1
    return int(depth), int(longest)
