"""sentence-transformers: a model as a folder that `SentenceTransformer(folder)` opens.

::

    from subspace.integrations.sentence_transformers import (
        export_sentence_transformers,
        open_sentence_transformer,
    )

    export_sentence_transformers(subspace.load("minilm"), "runs/st")
    model = open_sentence_transformer("runs/st")
    model.encode_query(["growing tomatoes"], weights={"topic": 1.0, "style": 0.5})

Anyone else opens such a folder with `SentenceTransformer("runs/st", trust_remote_code=True)`.
"""

from subspace.integrations.packages import importing
from subspace.model.export.own_modules import open_folder as open_sentence_transformer
from subspace.model.export.sentence_transformers import Exported, export_sentence_transformers

with importing("sentence-transformers", module="sentence_transformers", extra="export"):
    import sentence_transformers  # noqa: F401  # says here what is missing

__all__ = ["Exported", "export_sentence_transformers", "open_sentence_transformer"]
