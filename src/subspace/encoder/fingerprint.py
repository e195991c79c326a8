"""Fingerprint: all settings that determine an encoder's vectors."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from subspace.errors import EncoderError

# Python type of each field as read from JSON.
_JSON_KINDS = {
    **dict.fromkeys(("model", "revision", "pooling", "query_prompt", "document_prompt"), "str"),
    "early_pooling": "str",
    **{"layers": "list", "max_length": "int", "normalise": "bool", "dtype": "str", "dim": "int"},
}


@dataclass(frozen=True)
class Fingerprint:
    """Everything that determines an encoder's vectors: equal fingerprints mean equal vectors.

    Attributes:
        model: Hub id, `minilm` (the embedded model) or the name of a local folder.
        revision: Commit on the hub, or `sha256:...` of the files of a model from elsewhere.
        pooling: How token states become one vector (see `pooling.py`).
        query_prompt: Text put before each query.
        document_prompt: Text put before each document.
        layers: Hidden layers whose vectors are concatenated, in this order; counted from 0, the
            token embeddings.
        max_length: Length in tokens after which texts are cut.
        normalise: Whether each layer's vector has unit length.
        dtype: Precision of the forward pass.
        dim: Length of the vector, all layers together.
        early_pooling: Pooling of the layers before the last; None for that of the last.
    """

    model: str
    revision: str
    pooling: str
    query_prompt: str
    document_prompt: str
    layers: tuple[int, ...]
    max_length: int
    normalise: bool
    dtype: str
    dim: int
    early_pooling: str | None = None

    @property
    def digest(self) -> str:
        """SHA-256 over all fields, as 64 hexadecimal digits."""
        canonical = json.dumps(self.to_json(), sort_keys=True, ensure_ascii=True)
        return hashlib.sha256(canonical.encode()).hexdigest()

    @property
    def last_layer(self) -> slice:
        """Dimensions of the deepest layer in a vector; this part is called the raw embedding."""
        width = self.dim // len(self.layers)
        position = self.layers.index(max(self.layers))
        return slice(position * width, (position + 1) * width)

    def to_json(self) -> dict[str, Any]:
        """Returns the fields as values that `json.dumps` accepts."""
        value = {**asdict(self), "layers": list(self.layers)}
        if self.early_pooling is None:  # as before there was this field
            del value["early_pooling"]
        return value

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Fingerprint":
        """Builds a fingerprint from what `to_json` returned.

        Raises:
            EncoderError: A field is missing, unknown or of the wrong type.
        """
        expected = {field.name for field in fields(cls)} - {"early_pooling"}
        if set(value) - {"early_pooling"} != expected:
            raise EncoderError(
                "an encoder fingerprint must have exactly the fields "
                f"{', '.join(sorted(expected))}; got {', '.join(sorted(value))}"
            )
        layers = value["layers"]
        kinds = {name: type(one).__name__ for name, one in value.items()}
        wanted = {name: _JSON_KINDS[name] for name in value}
        sound = kinds == wanted and layers and all(type(layer) is int for layer in layers)
        if not sound:
            raise EncoderError(f"a field of an encoder fingerprint has the wrong kind: {kinds}")
        return cls(**{**value, "layers": tuple(layers)})

    def differences(self, other: "Fingerprint") -> list[str]:
        """Lists the fields in which `other` differs, as `field: mine, not theirs`."""
        mine, theirs = self.to_json(), other.to_json()
        return [
            f"{key}: {mine.get(key)!r}, not {theirs.get(key)!r}"
            for key in mine | theirs
            if mine.get(key) != theirs.get(key)
        ]
