"""Text embeddings split into named blocks, searched with a weight per block.

Three lines to a result::

    from subspace import Searcher

    searcher = Searcher.open("checkpoints/demo", "runs/demo/index")
    hits = searcher.search("how do I prune roses", weights="topic=0.7,style=0.3")

Nothing here imports the trainer; training is `subspace fit --config ...`, or
`subspace.training.module.SeparationModule` with `subspace.training.data_module.FactorData`.
"""

from subspace.blocks import BlockLayout
from subspace.data.retrieval_sets import Document
from subspace.encoder import Encoder, EncoderSpec
from subspace.errors import SubspaceError
from subspace.model import Checkpoint, load_checkpoint
from subspace.model.projection import Projection
from subspace.retrieval import (
    PRESETS,
    BlockIndex,
    Decay,
    FactoredBandit,
    Hit,
    Like,
    Results,
    Searcher,
    UsageLog,
    Use,
    WeightBandit,
    Weights,
    create_engine,
)

__all__ = [
    "PRESETS",
    "BlockIndex",
    "BlockLayout",
    "Checkpoint",
    "Decay",
    "Document",
    "Encoder",
    "EncoderSpec",
    "FactoredBandit",
    "Hit",
    "Like",
    "Projection",
    "Results",
    "Searcher",
    "SubspaceError",
    "UsageLog",
    "Use",
    "WeightBandit",
    "Weights",
    "create_engine",
    "load_checkpoint",
]
