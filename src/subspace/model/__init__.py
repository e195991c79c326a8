"""What a trained projection promises: written, read, refused, shared on the hub."""

from subspace.model.checkpoint import (
    MANIFEST_KEY,
    Checkpoint,
    load_checkpoint,
    read_state,
)

__all__ = ["MANIFEST_KEY", "Checkpoint", "load_checkpoint", "read_state"]
