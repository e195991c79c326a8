"""Modules of sentence-transformers for models that its own modules cannot express.

`LayerTransformer` gives the vectors of several layers of a transformer side by side, `Blocks`
projects them to named blocks. A copy of this file lies in every folder that needs it, where
sentence-transformers runs it without the package `subspace`: it imports nothing of that package.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Self

import torch
from sentence_transformers.base.modules import Module, Transformer
from torch import Tensor, nn
from torch.nn.functional import linear, normalize

FORMAT_VERSION = 1
# Only tokens of the text itself are pooled: not the prompt's, nor special ones.
_OWN_MEAN = "own mean"
_OWN_TOKENS = "own_tokens"
_QUERY, _DOCUMENT = "query", "document"
_SIDES = ("document", "query")
_NUMBERS = ("sharpness", "cosine", "classes")


class LayerTransformer(Transformer):
    """A transformer that pools some of its layers, each to unit length, into one vector.

    Args:
        model_name_or_path: The transformer's folder.
        layers: Numbers of the layers, in the order of their parts; 0 are the token embeddings.
        pooling: Pooling of the last layer: `mean`, `cls`, `lasttoken` or `max`.
        early_pooling: Pooling of the other layers: one of these, or `own mean`, which leaves out
            the tokens of the prompt and special ones, and takes each of the others at unit length.
        options: Those of the library's `Transformer`.
    """

    config_keys: list[str] = [*Transformer.config_keys, "layers", "pooling", "early_pooling"]  # noqa: RUF012 (as in the class above)

    def __init__(
        self,
        model_name_or_path: str,
        *,
        layers: Sequence[int],
        pooling: str,
        early_pooling: str,
        **options: Any,
    ) -> None:
        """Loads the transformer."""
        # Pooling needs a row of tokens for each text.
        super().__init__(model_name_or_path, **{**options, "unpad_inputs": False})
        self.layers = list(layers)
        self.pooling = pooling
        self.early_pooling = early_pooling
        self.model.config.output_hidden_states = True

    def get_embedding_dimension(self) -> int:
        """Returns the length of a vector: hidden size times number of layers."""
        return int(super().get_embedding_dimension()) * len(self.layers)

    def preprocess(
        self,
        inputs: Any,
        prompt: str | None = None,
        processing_kwargs: Any = None,
        **options: Any,
    ) -> dict[str, Any]:
        """Tokenises texts, and marks the tokens that early layers pool.

        Args:
            inputs: The texts.
            prompt: Put before each text.
            processing_kwargs: The library's.
            options: Those of the library's `Transformer`, and `weights`, which go to `Blocks`.
        """
        options.pop("weights", None)
        options["processing_kwargs"] = processing_kwargs
        features: dict[str, Any] = super().preprocess(inputs, prompt=prompt, **options)
        if features and self.early_pooling == _OWN_MEAN:
            beginning = self._prompt_ids(prompt, **options) if prompt else []
            features[_OWN_TOKENS] = torch.stack(
                [
                    self._mark_own(ids, there, beginning)
                    for ids, there in zip(
                        features["input_ids"], features["attention_mask"].bool(), strict=True
                    )
                ]
            )
        return features

    def forward(self, features: dict[str, Any], **options: Any) -> dict[str, Any]:
        """Writes the vectors of texts as `sentence_embedding` (texts, dimension), float32."""
        own = features.pop(_OWN_TOKENS, None)
        features = super().forward(features, **options)
        states = features.pop("all_layer_embeddings")
        there = features["attention_mask"].bool()
        parts = []
        for layer in self.layers:
            if layer == len(states) - 1:
                part = _pool(features["token_embeddings"].float(), there, self.pooling)
            elif self.early_pooling == _OWN_MEAN:
                part = _pool(normalize(states[layer].float(), dim=-1), own, "mean")
            else:
                part = _pool(states[layer].float(), there, self.early_pooling)
            parts.append(normalize(part, dim=-1))
        features["sentence_embedding"] = torch.cat(parts, dim=-1)
        return features

    def _prompt_ids(self, prompt: str, **options: Any) -> list[int]:
        """Returns the tokens that a text with this prompt begins with, special ones included.

        The last of them may differ where the prompt's end and the text's first word are one token.
        """
        found = super().preprocess([prompt], **options)
        ids: list[int] = found["input_ids"][0][found["attention_mask"][0].bool()].tolist()
        own = [place for place, one in enumerate(ids) if one not in self._special]
        return ids[: own[-1] + 1] if own else []

    def _mark_own(self, ids: Tensor, there: Tensor, beginning: Sequence[int]) -> Tensor:
        """Marks a text's own tokens (tokens,), or all behind the prompt if it has none."""
        places = there.nonzero()[:, 0].tolist()
        tokens = ids[there].tolist()
        skip = 0
        while skip < min(len(tokens), len(beginning)) and tokens[skip] == beginning[skip]:
            skip += 1
        own = [at for at in range(skip, len(tokens)) if tokens[at] not in self._special]
        if not own:
            own = list(range(min(skip, len(tokens) - 1), len(tokens)))
        marked = torch.zeros_like(there)
        marked[[places[at] for at in own]] = True
        return marked

    @property
    def _special(self) -> set[int]:
        """Tokens that only mark the beginning or the end of a text, padding and the like."""
        tokenizer: Any = self.tokenizer
        return set(tokenizer.all_special_ids) - {tokenizer.unk_token_id}


class Blocks(Module):
    """Projects vectors to named blocks of unit length: W (x - mean) - c, block by block.

    `encode_document` and `encode_query` give all blocks; `encode(texts, task="NAME")` one block of
    documents, and `task="NAME-query"` of queries. With `encode_query(texts, weights={...})`, the
    inner product of a query and a document is the sum of the blocks' cosines times these weights.

    Args:
        input_dim: Dimension of a vector.
        widths: Dimensions of each block, in order.
        queries: Whether queries have a matrix W and an offset c of their own.
        scale: Factor of each block after it has unit length, in queries and in documents.
        score_scales: Factor of each block beside a weight that is given with a query.
        nearness: By block, how queries prefer texts of their own classes: the number of `rows` of
            its matrix, `sharpness`, `cosine` and `classes`.
        format_version: Version of these settings.
    """

    config_keys: list[str] = [  # noqa: RUF012 (as in the class above)
        *("format_version", "input_dim", "widths", "queries"),
        *("scale", "score_scales", "nearness"),
    ]
    forward_kwargs: set[str] = {"task", "weights"}  # noqa: RUF012 (as in the class above)

    def __init__(
        self,
        *,
        input_dim: int,
        widths: Mapping[str, int],
        queries: bool = False,
        scale: Mapping[str, float] | None = None,
        score_scales: Mapping[str, float] | None = None,
        nearness: Mapping[str, Mapping[str, float]] | None = None,
        format_version: int = FORMAT_VERSION,
    ) -> None:
        """Makes room for the tensors, which `load` reads."""
        super().__init__()  # type: ignore[no-untyped-call]
        if format_version != FORMAT_VERSION:
            raise ValueError(
                f"these blocks are of format {format_version}, and this code reads "
                f"{FORMAT_VERSION}: open them with the version that wrote them"
            )
        self.format_version = format_version
        self.input_dim = input_dim
        self.widths = dict(widths)
        self.queries = queries
        self.scale = {name: float((scale or {}).get(name, 1.0)) for name in widths}
        self.score_scales = {name: float((score_scales or {}).get(name, 1.0)) for name in widths}
        self.nearness = {name: dict(numbers) for name, numbers in (nearness or {}).items()}
        dim = sum(self.widths.values())
        self.mean = nn.Parameter(torch.zeros(input_dim))
        for side in _SIDES if queries else _SIDES[:1]:
            self.register_parameter(f"{side}_weight", nn.Parameter(torch.zeros(dim, input_dim)))
            self.register_parameter(f"{side}_offset", nn.Parameter(torch.zeros(dim)))
        for place, (name, numbers) in enumerate(self.nearness.items()):
            rows = int(numbers["rows"])
            shapes = {"weight": (rows, self.widths[name]), "bias": (rows,), "mean": (rows,)}
            for part, shape in shapes.items():
                parameter = nn.Parameter(torch.zeros(shape))
                self.register_parameter(_nearness_name(place, part), parameter)

    def get_embedding_dimension(self) -> int:
        """Returns the number of dimensions of all blocks."""
        return sum(self.widths.values())

    def forward(
        self,
        features: dict[str, Any],
        task: str | None = None,
        weights: Mapping[str, float] | None = None,
        **options: Any,
    ) -> dict[str, Any]:
        """Replaces `sentence_embedding` by its blocks (texts, dimension), float32.

        Args:
            features: Has `sentence_embedding`.
            task: `document`, `query`, a block's name, or `NAME-query`; None for `document`.
            weights: Weight by block, 0 or more, for queries; blocks that are not named weigh 0.
            options: None are known.

        Raises:
            ValueError: There is no such task or block, or the weights cannot be used.
        """
        if options:
            raise ValueError(f"unknown options: {', '.join(options)}")
        names, queries = self._read_task(task)
        factors = self._read_weights(weights, queries=queries)
        side = _SIDES[queries and self.queries]
        x = features["sentence_embedding"].float() - self.mean.float()
        weight = getattr(self, f"{side}_weight").float()
        z = linear(x, weight) - getattr(self, f"{side}_offset").float()
        parts = dict(zip(self.widths, z.split(list(self.widths.values()), dim=-1), strict=True))
        found = []
        for name in names:
            part = normalize(parts[name], dim=-1)
            if queries and name in self.nearness:
                part = self._near_classes(name, part)
            found.append(part * factors[name])
        features["sentence_embedding"] = torch.cat(found, dim=-1)
        return features

    def save(
        self,
        output_path: str,
        *args: Any,  # noqa: ARG002  # the library's signature
        safe_serialization: bool = True,
        **kwargs: Any,  # noqa: ARG002
    ) -> None:
        """Writes settings and tensors to a folder."""
        self.save_config(output_path)
        self.save_torch_weights(output_path, safe_serialization)

    @classmethod
    def load(
        cls,
        model_name_or_path: str,
        subfolder: str = "",
        token: bool | str | None = None,
        cache_folder: str | None = None,
        revision: str | None = None,
        local_files_only: bool = False,
        init_defaults: dict[str, Any] | None = None,
        **kwargs: Any,  # noqa: ARG003  # the library's signature
    ) -> Self:
        """Reads what `save` wrote, from a folder or the hub."""
        where: dict[str, Any] = {
            "subfolder": subfolder,
            "token": token,
            "cache_folder": cache_folder,
            "revision": revision,
            "local_files_only": local_files_only,
        }
        config = cls.load_config(model_name_or_path, **where)
        module: Any = cls(**{**(init_defaults or {}), **config})
        found: Self = cls.load_torch_weights(model_name_or_path, model=module, **where)
        return found

    def _read_task(self, task: str | None) -> tuple[list[str], bool]:
        """Returns the blocks that a task asks for, and whether the texts are queries."""
        if task in (None, *_SIDES):
            return list(self.widths), task == _QUERY
        for name in self.widths:
            if task in (name, f"{name}-{_QUERY}"):
                return [name], task != name
        names = ", ".join(f"{name}, {name}-{_QUERY}" for name in self.widths)
        raise ValueError(f"no task '{task}': it is {_DOCUMENT}, {_QUERY}, {names}")

    def _read_weights(
        self, weights: Mapping[str, float] | None, *, queries: bool
    ) -> dict[str, float]:
        if weights is None:
            return self.scale
        if not queries:
            raise ValueError("weights go with queries: encode_query(texts, weights={...})")
        if {*self.scale.values()} != {1.0}:
            raise ValueError("other weights were folded into these vectors when they were exported")
        unknown = sorted(set(weights) - set(self.widths))
        if unknown:
            raise ValueError(f"no block '{unknown[0]}': the blocks are {', '.join(self.widths)}")
        if not all(0 <= weight < math.inf for weight in weights.values()):
            raise ValueError(f"weights must be finite and 0 or more, got {dict(weights)}")
        return {n: weights.get(n, 0.0) * scale for n, scale in self.score_scales.items()}

    def _near_classes(self, name: str, queries: Tensor) -> Tensor:
        """Adds to queries of unit length the classes that they probably have."""
        place, numbers = list(self.nearness).index(name), self.nearness[name]
        weight, bias, mean = (
            getattr(self, _nearness_name(place, part)).float()
            for part in ("weight", "bias", "mean")
        )
        sharpness, cosine, classes = (numbers[number] for number in _NUMBERS)
        chances = torch.softmax(sharpness * linear(queries, weight) + bias, dim=-1)
        near = cosine * queries + classes * ((chances - mean) @ weight)
        return torch.where(queries.any(dim=-1, keepdim=True), near, 0.0)


def _nearness_name(place: int, part: str) -> str:
    """Names a tensor by its block's place, as names of blocks may hold dots."""
    return f"nearness_{place}_{part}"


def _pool(states: Tensor, there: Tensor, how: str) -> Tensor:
    """Pools the states (texts, tokens, dim) of the tokens that are there (texts, tokens)."""
    rows = torch.arange(len(states), device=states.device)
    places = torch.arange(there.shape[1], device=states.device)
    if how == "mean":
        kept = there.unsqueeze(-1).to(states.dtype)
        return (states * kept).sum(dim=1) / kept.sum(dim=1)
    if how == "max":
        return states.masked_fill(~there.unsqueeze(-1), -math.inf).amax(dim=1)
    if how == "cls":
        return states[rows, places.masked_fill(~there, there.shape[1]).amin(dim=1)]
    if how == "lasttoken":
        return states[rows, places.masked_fill(~there, -1).amax(dim=1)]
    raise ValueError(f"no pooling '{how}': it is mean, cls, lasttoken or max")
