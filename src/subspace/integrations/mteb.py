"""MTEB: a model as an encoder of the Massive Text Embedding Benchmark.

::

    import mteb
    from subspace.integrations.mteb import BlockEncoder

    results = mteb.evaluate(BlockEncoder("minilm", weights="style=1"), mteb.get_task("STS12"))
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from subspace.arrays import Vectors
from subspace.encoder import Kind
from subspace.errors import ConfigError, WeightsError, check_type
from subspace.integrations.packages import importing
from subspace.model import Model, load
from subspace.model.export.selection import Selection
from subspace.retrieval import Weights

with importing("mteb", module="mteb", extra="mteb"):
    from mteb.models import ModelMeta
    from mteb.models.abs_encoder import AbsEncoder
    from mteb.models.model_meta import ScoringFunction
    from mteb.types import PromptType

__all__ = ["BlockEncoder"]


class BlockEncoder(AbsEncoder):
    """A model as an MTEB encoder, on its default weights, on one block, or on other weights.

    Weights are those of a search: they count in standard deviations of a block's scores. They are
    folded into documents and queries alike, so that the cosine of two vectors is the weighted mean
    of the blocks' cosines, and tasks without queries (clusters, classes, similarity) feel them too.

    Attributes:
        model: The model.
        weights: Weight of each block.
        mteb_model_meta: What MTEB says of it in its results; it stores these apart for other
            weights and for other checkpoints.
    """

    def __init__(
        self,
        model: Model | Path | str,
        revision: str | None = None,
        *,
        device: str | None = None,
        weights: Mapping[str, float] | str | None = None,
        name: str | None = None,
        **options: Any,
    ) -> None:
        """Opens the model; its encoder is loaded with the first texts.

        Args:
            model: A model, a checkpoint folder, a hub id, or `minilm`.
            revision: Commit of a repository on the hub.
            device: Device of the encoder; None for the best there is.
            weights: Weight by block, as `Index.search` takes them: `"style=1"` for one block, or
                `{"topic": 1, "style": 0.5}`. None for the model's default weights.
            name: Name in MTEB's results, `owner/name`; `subspace/NAME` of the checkpoint if None.
            options: None are known.

        Raises:
            CheckpointError: The checkpoint cannot be read.
            ConfigError: An option is unknown.
            WeightsError: A weight is wrong, or is one of recency or importance.
        """
        if options:
            raise ConfigError(f"unknown options: {', '.join(options)}")
        hint = "give a model, a checkpoint folder, a hub id or 'minilm'"
        check_type(model, Model, Path, str, name="model", hint=hint)
        opened = model if isinstance(model, Model) else load(model, revision=revision)
        if device is not None:
            opened = _on_device(opened, device)
        self.model: Model = opened
        self.weights = _read_weights(opened, weights)
        self.mteb_model_meta = self._make_meta(name or f"subspace/{_name_of(model)}")

    def encode(
        self,
        inputs: Iterable[Mapping[str, Any]],
        *,
        task_metadata: Any,
        hf_split: str,
        hf_subset: str,
        prompt_type: PromptType | None = None,
        **options: Any,
    ) -> Vectors:
        """Encodes texts to vectors (N, dim) of unit length.

        Args:
            inputs: Batches with the key `text`.
            task_metadata: Not used: prompts are those of the model.
            hf_split: Not used.
            hf_subset: Not used.
            prompt_type: Whether texts are queries; all others are documents. Only retrieval has
                queries.
            options: MTEB's; `batch_size` and `show_progress_bar` are not used, since the encoder
                chooses its batches by tokens.

        Returns:
            Float32. An empty text, of which nothing can be said, has zeros.

        Raises:
            ConfigError: Another precision than float32 is asked for, or the inputs are no texts.
        """
        del task_metadata, hf_split, hf_subset
        if options.get("precision") not in (None, "float32"):
            raise ConfigError(f"precision must be float32, got {options['precision']!r}")
        texts: list[str] = []
        for batch in inputs:
            if "text" not in batch:
                raise ConfigError(f"the model reads texts alone, got {', '.join(batch)}")
            texts += batch["text"]
        queries = prompt_type == PromptType.query
        filled = np.array([bool(text.strip()) for text in texts], dtype=bool)
        vectors = np.zeros((len(texts), self._selection.projection.layout.dim), dtype=np.float32)
        if filled.any():
            kind: Kind = "query" if queries else "document"
            kept = [text for text, there in zip(texts, filled, strict=True) if there]
            x = self.model.open_encoder().encode(kept, kind=kind)
            vectors[filled] = self._selection(x, queries=queries)
        return vectors

    @cached_property
    def _selection(self) -> Selection:
        """The blocks that have a weight, which is folded in."""
        scaled = self.weights.scaled(self.model.score_scales)
        return Selection.make(
            self.model.projection,
            weights=dict(zip(scaled.layout, scaled.relevance, strict=True)),
            nearness=self.model.nearness,
        )

    def _make_meta(self, name: str) -> ModelMeta:
        named = zip(self.weights.layout, self.weights.relevance, strict=True)
        fingerprint = self.model.fingerprint
        return ModelMeta.create_empty(
            overwrites={
                "name": name,
                "revision": f"{self.model.digest[:20]}{fingerprint.digest[:20]}",
                "embed_dim": self._selection.projection.layout.dim,
                "max_tokens": fingerprint.max_length,
                "similarity_fn_name": ScoringFunction.COSINE,
                "use_instructions": bool(fingerprint.query_prompt or fingerprint.document_prompt),
                "framework": ["PyTorch"],
                "adapted_from": fingerprint.model,
                "experiment_kwargs": {block: weight for block, weight in named if weight},
            }
        )


def _read_weights(model: Model, weights: Mapping[str, float] | str | None) -> Weights:
    if isinstance(weights, str):
        read = Weights.parse(weights, layout=model.layout, default=model.default_weights)
    else:
        read = Weights.from_mapping(weights or model.default_weights, layout=model.layout)
    if read.uses_history:
        raise WeightsError("no usage log goes with a benchmark: leave recency and importance out")
    return read


def _on_device(model: Model, device: str) -> Model:
    return replace(model, encoder=replace(model.encoder, device=device))


def _name_of(model: Model | Path | str) -> str:
    """Returns the last part of a model's path or id, without the revision."""
    if isinstance(model, Model):
        return "model" if model.folder is None else model.folder.name
    return Path(str(model).partition("@")[0]).name
