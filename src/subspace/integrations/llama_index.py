"""LlamaIndex: an index as a retriever, and nodes as records of an index.

::

    from subspace.integrations.llama_index import SubspaceRetriever

    retriever = SubspaceRetriever(index)
    simpler = retriever.with_arguments(toward="complexity=-1")  # the same topic, simpler
    simpler.retrieve("growing tomatoes")
"""

import asyncio
from collections.abc import Iterable
from typing import Any, Self, Unpack

from subspace.data.records import Record
from subspace.errors import QueryError
from subspace.integrations.arguments import SearchArguments, check, merge
from subspace.integrations.found import KEY, metadata_of, without_found
from subspace.integrations.packages import importing
from subspace.retrieval import Index

with importing("llama-index-core", module="llama_index", extra="llama-index"):
    from llama_index.core.base.base_retriever import BaseRetriever
    from llama_index.core.callbacks import CallbackManager
    from llama_index.core.schema import (
        BaseNode,
        MetadataMode,
        NodeWithScore,
        QueryBundle,
        TextNode,
    )

__all__ = ["SubspaceRetriever", "to_records"]


class SubspaceRetriever(BaseRetriever):
    """An index as a LlamaIndex retriever.

    Every node found has its own metadata, and under `metadata_key` what the search said of it:
    `score`, `parts` (the score by block, and by recency, importance and relevance) and `query_id`,
    with which `Index.use` and `Index.feedback` report what it was worth. Prompts and embedders do
    not see that.

    Attributes:
        index: The index. Closing it is up to who opened it.
        arguments: The arguments of every search.
        metadata_key: Name under which nodes have their score.
    """

    def __init__(
        self,
        index: Index,
        *,
        metadata_key: str = KEY,
        callback_manager: CallbackManager | None = None,
        verbose: bool = False,
        **arguments: Unpack[SearchArguments],
    ) -> None:
        """Checks the arguments; the index stays open until who opened it closes it.

        Args:
            index: The index.
            metadata_key: Name under which nodes have their score.
            callback_manager: LlamaIndex's.
            verbose: LlamaIndex's.
            arguments: `weights`, `preset`, `toward`, `k` (4 unless given), `where`, `scope`,
                `candidates`, `exclude`, `namespace`, `keywords`, `unlike` and `unlike_weight`; see
                `Index.search`.

        Raises:
            ConfigError: An argument is unknown, or its value is refused.
            QueryError: `toward` names a factor without a direction, or a filter is malformed.
            WeightsError: A weight or a preset is wrong.
        """
        super().__init__(callback_manager=callback_manager, verbose=verbose)
        self.index = index
        self.arguments = merge(arguments)
        self.metadata_key = metadata_key
        check(index, self.arguments)

    def with_arguments(self, **arguments: Unpack[SearchArguments]) -> Self:
        """Returns a retriever of the same index with other arguments; None takes one back.

        Raises:
            ConfigError: An argument is unknown, or its value is refused.
            QueryError: `toward` names a factor without a direction, or a filter is malformed.
            WeightsError: A weight or a preset is wrong.
        """
        return type(self)(
            self.index,
            metadata_key=self.metadata_key,
            callback_manager=self.callback_manager,
            verbose=self._verbose,
            **merge(self.arguments, arguments),
        )

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        results = self.index.search(query_bundle.query_str, **self.arguments)
        found = []
        for hit in results:
            node = TextNode(
                id_=hit.id,
                text=hit.text,
                metadata=metadata_of(hit, results=results, key=self.metadata_key),
                excluded_llm_metadata_keys=[self.metadata_key],
                excluded_embed_metadata_keys=[self.metadata_key],
            )
            found.append(NodeWithScore(node=node, score=hit.score))
        return found

    async def _aretrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        return await asyncio.to_thread(self._retrieve, query_bundle)


def to_records(nodes: Iterable[BaseNode]) -> list[Record]:
    """Returns nodes or documents as records, which `Index.add` and `Index.create` take.

    A record has the node's id, its text without metadata, and its metadata. Relations between nodes
    are not kept, nor what `SubspaceRetriever` added to the metadata of a node that it found.

    Raises:
        QueryError: An element is not a node, or has no text.
    """
    return [_record(node) for node in nodes]


def _record(node: Any) -> Record:
    if isinstance(node, NodeWithScore):
        node = node.node
    if not isinstance(node, BaseNode):
        raise QueryError(f"records are made of nodes, got {node!r:.60}")
    text = node.get_content(metadata_mode=MetadataMode.NONE)
    if not text:
        raise QueryError(f"node '{node.node_id:.60}' has no text")
    return Record(id=node.node_id, text=text, metadata=without_found(node.metadata))
