"""SubspaceVectorStore: an index as a LangChain vector store."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from langchain_core.documents import Document
from langchain_core.embeddings import Embeddings
from langchain_core.runnables.config import run_in_executor
from langchain_core.vectorstores import VectorStore
from langchain_core.vectorstores.utils import maximal_marginal_relevance

from subspace.arrays import Vectors
from subspace.errors import ConfigError, LayoutError, QueryError
from subspace.integrations.arguments import K, check_index, merge
from subspace.integrations.langchain.documents import to_document, to_records, to_scored
from subspace.integrations.langchain.embeddings import SubspaceEmbeddings, model_of
from subspace.model import Model
from subspace.retrieval import Index
from subspace.retrieval.engines.engine import check_k
from subspace.retrieval.search_options import is_ids
from subspace.retrieval.weights import PARTS


class SubspaceVectorStore(VectorStore):
    """An index as a LangChain vector store.

    All searches take the arguments of `Index.search` (`weights`, `preset`, `toward`, `scope`,
    `where`, `candidates`, `exclude`, `namespace`); `filter` is LangChain's name for `where`. Scores
    are higher for better documents. Documents are returned as they were added; `SubspaceRetriever`
    adds the score and its parts to their metadata.

    The index encodes texts with its own model, which `embeddings` returns.

    Attributes:
        index: The index. Closing it is up to who opened it.
        save_changes: Whether documents are on disk when `add_*` and `delete` return, as in other
            stores. A save takes time for what was changed, but waits for the disk: for many small
            changes pass False, and call `index.save()` or close the index at the end. Servers store
            changes at once anyway.
    """

    def __init__(self, index: Index, *, save_changes: bool = True) -> None:
        """Wraps an open index; see the attributes.

        Raises:
            ConfigError: `index` is not an `Index`.
        """
        check_index(index)
        self.index = index
        self.save_changes = save_changes

    @classmethod
    def from_texts(
        cls,
        texts: Sequence[str],
        embedding: Embeddings | Model | Path | str,
        metadatas: Sequence[dict[str, Any]] | None = None,
        *,
        ids: Sequence[str | None] | None = None,
        target: Path | str | None = None,
        save_changes: bool = True,
        **options: Any,
    ) -> Self:
        """Creates an index of texts, in place of an existing one, and wraps it.

        Its blocks are centred on these texts; see `Index.create`. To add to an index that is
        there, wrap what `Index.open` returns.

        Args:
            texts: The texts.
            embedding: `SubspaceEmbeddings`, a model, or its name as `subspace.load` takes it.
            metadatas: Metadata of each text.
            ids: Ids; those that are left out or None are made up.
            target: Folder or address of the index; see `Index.create`.
            save_changes: See the attributes.
            options: Further arguments of `Index.create`, such as `usage`.

        Raises:
            ConfigError: There is no target, the embeddings are not those of a `subspace` model, or
                the numbers of texts, ids and metadata differ.
            SubspaceError: What `Index.create` raises.
        """
        if target is None:
            raise ConfigError("say where the index is to be: target='runs/index', or an address")
        model = model_of(embedding)
        records = to_records(texts, metadatas, ids=ids)
        store = cls(Index.create(target, model, records, **options), save_changes=save_changes)
        try:
            store._save()
        except BaseException:
            store.index.close()
            raise
        return store

    @property
    def embeddings(self) -> SubspaceEmbeddings:
        """The index's own model; `embed_query` gives what `similarity_search_by_vector` takes."""
        return SubspaceEmbeddings(self.index.model)

    def add_texts(
        self,
        texts: Iterable[str],
        metadatas: Sequence[dict[str, Any]] | None = None,
        *,
        ids: Sequence[str | None] | None = None,
        batch_size: int | None = None,
        **kwargs: Any,
    ) -> list[str]:
        """Encodes texts and adds all of them or none; replaces texts with the same ids.

        What `SubspaceRetriever` added to the metadata of a document that it found is not stored.

        Args:
            texts: The texts, not empty.
            metadatas: Metadata of each text: JSON values by name.
            ids: Ids; those that are left out or None are made up.
            batch_size: Not used, as the encoder makes batches itself; LangChain's `index` gives it.
            kwargs: None are known.

        Returns:
            The ids.

        Raises:
            ConfigError: The numbers of texts, ids and metadata differ, or an argument is unknown.
            EncoderError: A text is empty.
            EngineError: An id is empty or used twice, or metadata cannot be kept.
        """
        del batch_size
        if kwargs:
            raise ConfigError(f"add_texts has no argument '{next(iter(kwargs))}'")
        records = to_records(texts, metadatas, ids=ids)
        if records:
            self.index.add(records)
            self._save()
        return [record.id for record in records]

    def delete(self, ids: Sequence[str] | None = None, **kwargs: Any) -> bool:
        """Removes documents by id, or all documents if `ids` is None; ignores unknown ids.

        Returns:
            True.

        Raises:
            QueryError: `ids` is not a list of ids.
            ConfigError: An argument is unknown.
        """
        if kwargs:
            raise ConfigError(f"delete has no argument '{next(iter(kwargs))}'")
        engine = self.index.blocks.engine
        gone = [name for name, _ in engine.metadata()] if ids is None else _ids(ids)
        if self.index.delete(gone):
            self._save()
        return True

    def get_by_ids(self, ids: Sequence[str], /) -> list[Document]:
        """Returns documents in the order of `ids`; leaves out unknown ids.

        Raises:
            QueryError: `ids` is not a list of ids.
        """
        found = self.index.blocks.engine.fetch(list(dict.fromkeys(_ids(ids))))
        return [to_document(record) for record in found.documents]

    def similarity_search(self, query: str, k: int = K, **kwargs: Any) -> list[Document]:
        """Returns the best `k` documents; see the class for more arguments.

        Raises:
            SubspaceError: What `Index.search` raises.
        """
        return [document for document, _ in self.similarity_search_with_score(query, k, **kwargs)]

    def similarity_search_with_score(
        self, query: str, k: int = K, **kwargs: Any
    ) -> list[tuple[Document, float]]:
        """Returns the best `k` documents with their scores, higher for better ones."""
        return to_scored(self.index.search(query, **_arguments(kwargs, k=k)))

    async def asimilarity_search_with_score(
        self, query: str, k: int = K, **kwargs: Any
    ) -> list[tuple[Document, float]]:
        """Does what `similarity_search_with_score` does, in a thread."""
        return await run_in_executor(None, self.similarity_search_with_score, query, k, **kwargs)

    def similarity_search_by_vector(
        self, embedding: Sequence[float], k: int = K, **kwargs: Any
    ) -> list[Document]:
        """Returns the best `k` documents for a vector of blocks.

        Args:
            embedding: Unit blocks (layout.dim,), such as `embeddings.embed_query` returns.
            k: Number of documents.
            kwargs: As in `similarity_search`, without `preset` and `toward`.

        Raises:
            ConfigError: An argument does not go with a vector, or its value is refused.
            LayoutError: The vector has another length, or is not finite.
            SubspaceError: What `Index.search` raises.
        """
        arguments = _arguments(kwargs, k=k)
        for name in ("preset", "toward"):
            if name in arguments:
                raise ConfigError(f"{name} goes with a query that is a text, not with a vector")
        index = self.index
        table = index.blocks.weights(
            arguments.pop("weights", None), default=index.model.default_weights
        )
        scaled = table.scaled(index.model.score_scales)
        results = index.blocks.search(_to_vector(embedding), weights=scaled, **arguments)
        return [document for document, _ in to_scored(results)]

    def max_marginal_relevance_search(
        self,
        query: str,
        k: int = K,
        fetch_k: int = 20,
        lambda_mult: float = 0.5,
        **kwargs: Any,
    ) -> list[Document]:
        """Returns `k` of the best `fetch_k` documents, relevant and unlike one another.

        The candidates are those of `similarity_search`; among them, likeness is the mean cosine
        over the blocks by the weights of relevance (Carbonell & Goldstein 1998).

        Args:
            query: The query.
            k: Number of documents.
            fetch_k: Number of candidates.
            lambda_mult: From 0 (most diverse) to 1 (relevance alone).
            kwargs: As in `similarity_search`.

        Raises:
            SubspaceError: What `Index.search` raises.
        """
        if not isinstance(lambda_mult, int | float) or not 0 <= lambda_mult <= 1:
            raise ConfigError(f"lambda_mult is from 0 to 1, got {lambda_mult!r}")
        candidates = max(check_k(k), check_k(fetch_k, name="fetch_k"))
        results = self.index.search(query, **_arguments(kwargs, k=candidates))
        if not results:
            return []
        scaled = results.weights.scaled(self.index.model.score_scales)
        if not any(scaled.relevance):
            raise ConfigError("a diverse search needs a weight of relevance above 0")
        # Cosines of vectors whose blocks have the lengths sqrt(w) are means weighted by w.
        lengths = np.sqrt(scaled.per_dimension("relevance"))
        found = self.index.blocks.engine.fetch([hit.id for hit in results])
        chosen = maximal_marginal_relevance(
            self.index.embed([query])[0] * lengths,
            (found.vectors * lengths).tolist(),
            lambda_mult=lambda_mult,
            k=k,
        )
        hits = {hit.id: hit for hit in results}
        return [to_document(hits[found.documents[place].id]) for place in chosen]

    def _similarity_search_with_relevance_scores(
        self, query: str, k: int = K, **kwargs: Any
    ) -> list[tuple[Document, float]]:
        """Brings scores to [0, 1], where 1 is the highest that the weights allow."""
        arguments = _arguments(kwargs, k=k)
        for name in ("toward", "keywords", "unlike"):
            if name in arguments:
                raise ConfigError(
                    f"a threshold of scores does not go with {name}, which has no bound"
                )
        results = self.index.search(query, **arguments)
        scaled = results.weights.scaled(self.index.model.score_scales)
        bound = sum(sum(getattr(scaled, part)) for part in PARTS)
        return [
            (document, float(np.clip((1 + score / bound) / 2, 0, 1)))
            for document, score in to_scored(results)
        ]

    async def _asimilarity_search_with_relevance_scores(
        self, query: str, k: int = K, **kwargs: Any
    ) -> list[tuple[Document, float]]:
        return await run_in_executor(
            None, self._similarity_search_with_relevance_scores, query, k, **kwargs
        )

    def _save(self) -> None:
        if self.save_changes:
            self.index.save()


def _ids(ids: Sequence[str]) -> Sequence[str]:
    if not is_ids(ids):
        raise QueryError(f"ids are given as a list of texts, got {ids!r:.60}")
    return ids


def _to_vector(embedding: Sequence[float]) -> Vectors:
    try:
        return np.asarray(embedding, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise LayoutError(f"a vector is a list of numbers: {error}") from error


def _arguments(kwargs: Mapping[str, Any], *, k: int) -> dict[str, Any]:
    """Returns arguments of `Index.search`; LangChain calls `where` a filter."""
    given = dict(kwargs)
    if "filter" in given:
        if given.get("where") is not None:
            raise ConfigError("filter and where are the same: give one of them")
        given["where"] = given.pop("filter")
    return merge(given, {"k": k})
