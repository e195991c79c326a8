"""Other runtimes than torch for the encoder's forward pass.

A model is converted from torch once, and kept in a folder beside the hub's cache (`store`). The
converted model gives the vectors of the same fingerprint, up to a cosine of 0.9999 in float32 and
0.999 in bfloat16, or it is refused. Reading it needs the runtime, the tokenizers library and numpy,
but neither torch nor transformers.
"""

from subspace.encoder.backends.converted import ConvertedModel
from subspace.encoder.backends.prepare import convert, find_converted

__all__ = ["ConvertedModel", "convert", "find_converted"]
