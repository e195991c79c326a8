"""SubspaceEmbeddings: the blocks of a model, as other parts of LangChain take vectors."""

from pathlib import Path

from langchain_core.embeddings import Embeddings

from subspace.errors import ConfigError
from subspace.model import Model, load


class SubspaceEmbeddings(Embeddings):
    """The blocks of a model, side by side, as LangChain's embeddings.

    A cosine of two of them weighs all blocks alike. Weights and directions need an index: see
    `SubspaceVectorStore`.
    """

    def __init__(self, model: Model | Path | str) -> None:
        """Takes a model, or its name as `subspace.load` takes it.

        Raises:
            CheckpointError: There is no such model.
        """
        self.model = model if isinstance(model, Model) else load(model)

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """Returns the unit blocks of texts to search, one list of `layout.dim` numbers per text."""
        if not texts:
            return []
        found: list[list[float]] = self.model.encode_document(texts).array.tolist()
        return found

    def embed_query(self, text: str) -> list[float]:
        """Returns the unit blocks of a query, a list of `layout.dim` numbers."""
        blocks = self.model.near_classes(self.model.encode_query([text]).array)
        found: list[float] = blocks[0].tolist()
        return found


def model_of(embedding: Embeddings | Model | Path | str) -> Model | Path | str:
    """Returns the model of embeddings, or a model or its name as it is.

    Raises:
        ConfigError: The embeddings are not of a model of this package.
    """
    if isinstance(embedding, SubspaceEmbeddings):
        return embedding.model
    if isinstance(embedding, Embeddings):
        raise ConfigError(
            "an index encodes texts with a model of its own, not with "
            f"{type(embedding).__name__}: give SubspaceEmbeddings, or the name of a model"
        )
    return embedding
