"""Fingerprint: what identifies an encoder's output, down to the last setting."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from subspace.errors import EncoderError

# What JSON makes of each field.
_JSON_KINDS = {
    **dict.fromkeys(("model", "revision", "pooling", "query_prompt", "document_prompt"), "str"),
    **{"layers": "list", "max_length": "int", "normalise": "bool", "dtype": "str", "dim": "int"},
}


@dataclass(frozen=True)
class Fingerprint:
    """Everything on which an encoder's vectors depend; equal fingerprints, equal vectors.

    Attributes:
        model: Hub id, `minilm` (the embedded model) or the name of a local folder.
        revision: Commit on the hub, or `sha256:...` of the weights of a local folder.
        pooling: How token states become one vector (see `pooling.py`).
        query_prompt: What is put before a query.
        document_prompt: What is put before a document.
        layers: Hidden layers side by side; 0 are the token embeddings, -1 the last layer.
        max_length: Tokens beyond it are cut off.
        normalise: Each layer's vector has unit length.
        dtype: Precision of the forward pass.
        dim: Length of the vector, all layers together.
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

    @property
    def digest(self) -> str:
        """64 hexadecimal digits over all fields."""
        canonical = json.dumps(self.to_json(), sort_keys=True, ensure_ascii=True)
        return hashlib.sha256(canonical.encode()).hexdigest()

    @property
    def last_layer(self) -> slice:
        """Where the deepest of its layers stands in a vector: what "raw embedding" means."""
        width = self.dim // len(self.layers)
        position = self.layers.index(max(self.layers))
        return slice(position * width, (position + 1) * width)

    def to_json(self) -> dict[str, Any]:
        """Plain values, ready for `json.dumps`."""
        return {**asdict(self), "layers": list(self.layers)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> "Fingerprint":
        """The inverse of `to_json`.

        Raises:
            EncoderError: A field is missing or unknown.
        """
        expected = {field.name for field in fields(cls)}
        if set(value) != expected:
            raise EncoderError(
                "an encoder fingerprint must have exactly the fields "
                f"{', '.join(sorted(expected))}; got {', '.join(sorted(value))}"
            )
        layers = value["layers"]
        kinds = {field.name: type(value[field.name]).__name__ for field in fields(cls)}
        sound = kinds == _JSON_KINDS and layers and all(type(layer) is int for layer in layers)
        if not sound:
            raise EncoderError(f"a field of an encoder fingerprint has the wrong kind: {kinds}")
        return cls(**{**value, "layers": tuple(layers)})

    def differences(self, other: "Fingerprint") -> list[str]:
        """One `field: mine, not theirs` per field in which `other` differs."""
        mine, theirs = self.to_json(), other.to_json()
        return [
            f"{key}: {mine[key]!r}, not {theirs[key]!r}" for key in mine if mine[key] != theirs[key]
        ]
