"""Text embeddings split into named blocks, searched with a weight per block.

Three lines to a result::

    from subspace import BlockWeights, Searcher

    searcher = Searcher.open("checkpoints/demo", "runs/demo/index")
    weights = BlockWeights.parse("topic=0.7,style=0.3", layout=searcher.index.layout)
    hits = searcher.search("how do I prune roses", weights=weights)

Nothing here imports the trainer; training is `subspace fit --config ...`, or
`subspace.training.SeparationModule` with `subspace.datamodule.FactorData`.
"""

from subspace.blocks import BlockLayout
from subspace.checkpoint import Checkpoint, load_checkpoint
from subspace.encoder import Encoder, EncoderSpec
from subspace.errors import SubspaceError
from subspace.projection import Projection
from subspace.retrieval import BlockIndex, BlockWeights, Hit, Searcher

__all__ = [
    "BlockIndex",
    "BlockLayout",
    "BlockWeights",
    "Checkpoint",
    "Encoder",
    "EncoderSpec",
    "Hit",
    "Projection",
    "Searcher",
    "SubspaceError",
    "load_checkpoint",
]
