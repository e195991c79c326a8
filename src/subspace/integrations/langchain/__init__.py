"""LangChain: an index as a vector store and as a retriever, and its model as embeddings.

::

    from subspace.integrations.langchain import SubspaceRetriever, SubspaceVectorStore

    store = SubspaceVectorStore(index)
    retriever = SubspaceRetriever(index=index)
    retriever.invoke("growing tomatoes", toward="complexity=-1")  # the same topic, simpler
"""

from subspace.integrations.packages import importing

with importing("langchain-core", module="langchain_core", extra="langchain"):
    from subspace.integrations.langchain.embeddings import SubspaceEmbeddings
    from subspace.integrations.langchain.retriever import SubspaceRetriever
    from subspace.integrations.langchain.vector_store import SubspaceVectorStore

__all__ = ["SubspaceEmbeddings", "SubspaceRetriever", "SubspaceVectorStore"]
