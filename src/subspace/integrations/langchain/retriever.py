"""SubspaceRetriever: an index as a LangChain retriever, with the arguments of a search."""

from collections.abc import Mapping, Sequence
from typing import Any

from langchain_core.callbacks import (
    AsyncCallbackManagerForRetrieverRun,
    CallbackManagerForRetrieverRun,
)
from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables.config import run_in_executor
from pydantic import ConfigDict, SkipValidation

from subspace.integrations.arguments import K, SearchArguments, check, merge
from subspace.integrations.found import KEY, metadata_of
from subspace.model.toward import Toward
from subspace.retrieval import Index
from subspace.retrieval.engines import Where
from subspace.retrieval.hits import Scope
from subspace.retrieval.index import WeightsLike
from subspace.retrieval.queries import Query
from subspace.retrieval.search_options import SearchKeywords


class SubspaceRetriever(BaseRetriever):
    """An index as a LangChain retriever.

    Each argument can be given here or with a query: `invoke("slugs", toward="complexity=-1")`; with
    a query, None takes it back. Every document found has its own metadata, and under
    `metadata_key` what the search said of it: `score`, `parts` (the score by block, and by
    recency, importance and relevance) and `query_id`, with which `Index.use` and `Index.feedback`
    report what it was worth.

    Attributes:
        index: The index. Closing it is up to who opened it.
        weights: See `Index.search`, as for all others.
        preset: Mix of recency, importance and relevance, or `auto`.
        toward: Prefers more or less of a factor, such as `complexity=-1` for simpler texts.
        k: Number of documents, 1 or more.
        where: Filter by metadata.
        scope: `block` or `item`: how recency and importance are computed.
        candidates: How many items of the highest relevance the weights reorder.
        exclude: Ids that are left out.
        namespace: Whose uses recency and importance come from.
        keywords: Weight of keyword search beside the blocks.
        unlike: What documents are not to be like.
        unlike_weight: How much that takes away.
        metadata_key: Name under which documents have their score.

    Raises:
        ConfigError: An argument is wrong.
        QueryError: `toward` names a factor without a direction, or a filter is malformed.
        WeightsError: A weight or a preset is wrong.
    """

    model_config = ConfigDict(arbitrary_types_allowed=True, extra="forbid")

    index: SkipValidation[Index]
    weights: SkipValidation[WeightsLike | None] = None
    preset: SkipValidation[str | None] = None
    toward: SkipValidation[Toward | str | None] = None
    k: SkipValidation[int] = K
    where: SkipValidation[Where | None] = None
    scope: SkipValidation[Scope | None] = None
    candidates: SkipValidation[int | None] = None
    exclude: SkipValidation[Sequence[str] | None] = None
    namespace: SkipValidation[str | None] = None
    keywords: SkipValidation[float | None] = None
    unlike: SkipValidation[Query | Sequence[Query] | None] = None
    unlike_weight: SkipValidation[float | None] = None
    metadata_key: str = KEY

    def __init__(self, **arguments: Any) -> None:
        """Checks the arguments; see the attributes."""
        super().__init__(**arguments)
        # Not in a validator of pydantic, which would hide errors of this package in its own.
        check(self.index, self._own())

    def _own(self) -> dict[str, Any]:
        names = {*SearchArguments.__annotations__, *SearchKeywords.__annotations__}
        return merge({name: getattr(self, name) for name in sorted(names)})

    def _get_relevant_documents(
        self, query: str, *, run_manager: CallbackManagerForRetrieverRun, **arguments: Any
    ) -> list[Document]:
        del run_manager  # tells of steps within a search, of which there are none
        return self._search(query, arguments)

    async def _aget_relevant_documents(
        self, query: str, *, run_manager: AsyncCallbackManagerForRetrieverRun, **arguments: Any
    ) -> list[Document]:
        del run_manager
        return await run_in_executor(None, self._search, query, arguments)

    def _search(self, query: str, arguments: Mapping[str, Any]) -> list[Document]:
        results = self.index.search(query, **merge(self._own(), arguments))
        return [
            Document(
                id=hit.id,
                page_content=hit.text,
                metadata=metadata_of(hit, results=results, key=self.metadata_key),
            )
            for hit in results
        ]
