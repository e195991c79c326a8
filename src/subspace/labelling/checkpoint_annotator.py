"""CheckpointAnnotator: labels texts with the heads of a model."""

import hashlib
import json
from collections.abc import Iterator, Sequence

from subspace.data.records import Record
from subspace.encoder.cached_encoder import CachedEncoder
from subspace.errors import ConfigError
from subspace.labelling.annotator import Factors
from subspace.model import Model
from subspace.model.linear_heads import head_tensors

_CHUNK = 1000


class CheckpointAnnotator:
    """Labels texts with the heads of a model.

    Attributes:
        origin: `checkpoint:NAME`.
        identity: Digest of the encoder's fingerprint, the projection and the heads.
        factors: The factors that the model has a head for.
    """

    cache = None  # the encoder's store keeps the vectors; the heads take no time

    def __init__(self, model: Model, *, encoder: CachedEncoder, name: str) -> None:
        """Checks that the model has heads.

        Args:
            model: The model, with its blocks and heads.
            encoder: The model's encoder with its store.
            name: Name of the model in `origin`.

        Raises:
            ConfigError: The model has no heads.
        """
        factors = tuple(name for name, head in model.heads.items() if head.bias is not None)
        if not factors:
            raise ConfigError(
                f"the checkpoint {name} has no heads that predict labels, so it cannot label "
                "texts; fit it again on labelled texts"
            )
        self.origin = f"checkpoint:{name}"
        self.identity = _digest(model)
        self.factors = factors
        self._model = model
        self._encoder = encoder

    def annotate(self, records: Sequence[Record], *, progress: bool = False) -> Iterator[Factors]:
        """Yields the labels of each text, in order; encodes texts that are not stored yet.

        Args:
            records: The texts to label.
            progress: Whether to show a progress bar.
        """
        rows = self._encoder.rows([record.text for record in records], progress=progress)
        for start in range(0, len(rows), _CHUNK):
            vectors = self._encoder.store.read(rows[start : start + _CHUNK])
            labels = self._model.predict(self._model.project(vectors))
            for values in zip(*labels.values(), strict=True):
                yield {
                    factor: round(value, 3) if isinstance(value, float) else value
                    for factor, value in zip(labels, values, strict=True)
                }


def _digest(model: Model) -> str:
    classes = {factor: head.classes for factor, head in model.heads.items()}
    content = [model.fingerprint.digest, model.projection.digest, classes]
    digest = hashlib.sha256(json.dumps(content).encode())
    for _, tensor in head_tensors(model.heads):
        digest.update(tensor.tobytes())
    return digest.hexdigest()
