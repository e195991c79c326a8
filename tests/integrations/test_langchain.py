"""LangChain: its own standard tests, and what only this store and this retriever do."""

import asyncio
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings
from integration_world import QUERY, RECORDS
from langchain_core.documents import Document
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_core.indexing import InMemoryRecordManager, aindex
from langchain_core.indexing import index as langchain_index
from langchain_core.runnables import RunnableLambda
from langchain_core.vectorstores import InMemoryVectorStore
from langchain_tests.integration_tests import (
    EmbeddingsIntegrationTests,
    RetrieversIntegrationTests,
    VectorStoreIntegrationTests,
)
from retrieval_world import ids as ids_of

from subspace.data.records import Record
from subspace.errors import (
    ConfigError,
    EncoderError,
    EngineError,
    LayoutError,
    QueryError,
    UsageLogError,
    WeightsError,
)
from subspace.integrations.langchain import (
    SubspaceEmbeddings,
    SubspaceRetriever,
    SubspaceVectorStore,
)
from subspace.retrieval import Index, Like, WeightBandit

# What LangChain asks of every store, retriever and embedding.


class TestVectorStore(VectorStoreIntegrationTests):
    @pytest.fixture
    def vectorstore(self, empty):
        return SubspaceVectorStore(empty)


class TestRetriever(RetrieversIntegrationTests):
    retriever_constructor = SubspaceRetriever
    retriever_query_example = QUERY

    @pytest.fixture(autouse=True)
    def _open(self, index):
        self.index = index

    @property
    def retriever_constructor_params(self):
        return {"index": self.index, "k": 2}


class TestEmbeddings(EmbeddingsIntegrationTests):
    embeddings_class = SubspaceEmbeddings

    @pytest.fixture(autouse=True)
    def _load(self, fitted):
        self.fitted = fitted

    @property
    def embedding_model_params(self):
        return {"model": self.fitted}


@pytest.fixture
def store(index):
    return SubspaceVectorStore(index)


@pytest.fixture
def retriever(index):
    return SubspaceRetriever(index=index)


def ids(documents) -> list[str]:
    return [document.id for document in documents]


# The retriever: every argument of a search, before and at a query.


def test_documents_are_the_hits_and_say_how_they_got_their_score(retriever, index):
    documents = retriever.invoke(QUERY)
    hits = index.search(QUERY, k=4)
    assert len(documents) == 4
    for document, hit in zip(documents, hits, strict=True):
        found = document.metadata.pop("subspace")
        assert (document.id, document.page_content) == (hit.id, hit.text)
        assert document.metadata == hit.metadata
        assert found["score"] == hit.score
        assert found["parts"] == hit.parts
        parts = [value for of_block in found["parts"].values() for value in of_block.values()]
        assert sum(parts) == pytest.approx(found["score"])


ARGUMENTS = [
    {"toward": "complexity=-3"},
    {"weights": {"style": 1}},
    {"preset": "balanced"},
    {"preset": "balanced", "scope": "item"},
    {"where": {"kind": "sport"}},
    {"k": 2},
    {"preset": "recency_heavy", "candidates": 2, "k": 2},
    {"exclude": ["bread"]},
    {"keywords": 0.5, "unlike": Like("tennis")},
]


@pytest.mark.parametrize("arguments", ARGUMENTS, ids=str)
def test_an_argument_means_the_same_before_and_at_a_query_and_in_a_search(
    retriever, index, arguments
):
    index.use({"tennis": 1.0, "tax": 0.2})
    wanted = ids_of(index.search(QUERY, **{"k": 4, **arguments}))
    assert ids(SubspaceRetriever(index=index, **arguments).invoke(QUERY)) == wanted
    assert ids(retriever.invoke(QUERY, **arguments)) == wanted
    assert ids(asyncio.run(retriever.ainvoke(QUERY, **arguments))) == wanted
    assert ids(retriever.batch([QUERY, "tax"], **arguments)[0]) == wanted
    # Counter-check: the arguments were heard.
    assert ids(retriever.invoke(QUERY)) != wanted


def test_simpler_is_an_argument_of_invoke_and_none_takes_it_back(index):
    simpler = SubspaceRetriever(index=index, toward="complexity=-3", k=5)
    plain = ids_of(index.search(QUERY))
    assert ids(simpler.invoke(QUERY)) != plain
    assert ids(simpler.invoke(QUERY, toward=None)) == plain
    assert ids(simpler.invoke(QUERY, toward="complexity=3")) != ids(simpler.invoke(QUERY))


def test_a_retriever_is_a_part_of_a_chain(retriever):
    chain = retriever | RunnableLambda(ids)
    assert chain.invoke(QUERY) == ids(retriever.invoke(QUERY))


def test_what_a_document_was_worth_is_reported_with_its_query_id(retriever, index):
    document = retriever.invoke("who won the race", k=1)[0]
    before = index.search(QUERY, weights="topic=1,riv=0,1,0", k=5)
    index.use({document.id: 1.0}, query_id=document.metadata["subspace"]["query_id"])
    (use,) = [use for _, use in index.blocks.history.log.since()]
    assert (use.item, use.success) == (document.id, 1.0)
    assert use.query == document.metadata["subspace"]["query_id"]
    after = index.search(QUERY, weights="topic=1,riv=0,1,0", k=5)
    assert {hit.score for hit in before} == {0}
    assert after[0].id == document.id


def test_a_bandit_learns_from_the_query_id_of_a_document(fitted, index, tmp_path):
    with closing(WeightBandit(":memory:", seed=0)) as bandit:
        options = {"usage": tmp_path / "other.db", "bandit": bandit}
        with Index.create(tmp_path / "other", fitted, RECORDS, **options) as other:
            document = SubspaceRetriever(index=other, preset="auto").invoke(QUERY)[0]
            query_id = document.metadata["subspace"]["query_id"]
            other.feedback(query_id, 0.9)
            with pytest.raises(UsageLogError, match=query_id):
                other.feedback(query_id, 0.9)  # each search is rated once


def test_an_item_with_metadata_of_the_same_name_is_refused_until_another_is_chosen(store):
    store.add_texts(["a text"], [{"subspace": "its own"}], ids=["own"])
    where = {"subspace": "its own"}
    with pytest.raises(ConfigError, match=r"'own' has metadata 'subspace'.*metadata_key="):
        SubspaceRetriever(index=store.index, where=where).invoke("a text")
    named = SubspaceRetriever(index=store.index, where=where, metadata_key="found")
    metadata = named.invoke("a text")[0].metadata
    assert metadata["subspace"] == "its own"
    assert metadata["found"].keys() == {"score", "parts", "query_id"}


# The store: what is added is there, as it was.

TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)  # fmt: skip


@pytest.fixture(scope="module")
def loose(fitted, tmp_path_factory):
    """A store that does not write at every change."""
    with Index.create(tmp_path_factory.mktemp("loose") / "index", fitted) as index:
        yield SubspaceVectorStore(index, save_changes=False)


@given(st.dictionaries(TEXT, JSON, max_size=4))
@settings(max_examples=40)
def test_metadata_pass_unchanged(loose, metadata):
    loose.add_documents([Document(page_content="a text", metadata=metadata, id="one")])
    (got,) = loose.get_by_ids(["one"])
    (found,) = loose.similarity_search("a text")
    assert got == found == Document(page_content="a text", metadata=metadata, id="one")


def test_a_document_that_was_found_is_added_again_as_it_was(store, retriever):
    found = retriever.invoke(QUERY, k=5)
    before = {record.id: record.metadata for record in RECORDS}
    assert store.add_documents(found) == ids(found)
    assert {one.id: one.metadata for one in store.get_by_ids(list(before))} == before


def test_documents_may_be_changed_without_changing_the_index(store, retriever):
    for document in (
        store.similarity_search("tax", where={"tags": "law"})[0],
        store.get_by_ids(["tax"])[0],
        retriever.invoke("tax", where={"tags": "law"})[0],
    ):
        document.metadata["tags"][1]["of"] = 2
        document.metadata["new"] = 1
    assert store.get_by_ids(["tax"])[0].metadata == {"tags": ["law", {"of": 1}]}


def test_documents_are_on_disk_when_adding_and_deleting_return(fitted, tmp_path):
    def others_see() -> set[str]:
        with Index.open(tmp_path / "index", fitted) as other:
            return {name for name, _ in other.blocks.engine.metadata()}

    store = SubspaceVectorStore.from_texts(
        ["one", "two"], fitted, ids=["1", "2"], target=tmp_path / "index"
    )
    assert others_see() == {"1", "2"}
    store.add_texts(["three"], ids=["3"])
    store.delete(["1"])
    assert others_see() == {"2", "3"}
    # Counter-check: unless the store is told not to.
    later = SubspaceVectorStore(store.index, save_changes=False)
    later.add_texts(["four"], ids=["4"])
    assert others_see() == {"2", "3"}
    store.index.close()
    assert others_see() == {"2", "3", "4"}


def test_threads_may_add_and_search_at_once(store, retriever, fitted, tmp_path):
    def work(number: int) -> list[str]:
        added = store.add_texts([f"text {number}"], ids=[str(number)])
        retriever.invoke(QUERY)
        return added

    with ThreadPoolExecutor(8) as pool:
        added = [name for names in pool.map(work, range(24)) for name in names]
    with Index.open(tmp_path / "index", fitted) as other:
        assert ids(SubspaceVectorStore(other).get_by_ids(added)) == added


@pytest.mark.parametrize("way", ["sync", "async"])
def test_langchains_indexing_adds_changes_and_removes(store, way):
    manager = InMemoryRecordManager("here")
    manager.create_schema()

    def synchronise(texts: list[str]) -> dict[str, int]:
        given = [Document(page_content=text, metadata={"source": "s"}) for text in texts]
        options = {"cleanup": "full", "source_id_key": "source", "key_encoder": "sha256"}
        if way == "async":
            return asyncio.run(aindex(given, manager, store, **options))
        return langchain_index(given, manager, store, **options)

    def there() -> list[str]:
        found = store.similarity_search(QUERY, 99, where={"source": "s"})
        return sorted(document.page_content for document in found)

    first = synchronise(["one", "two"])
    assert (first["num_added"], there()) == (2, ["one", "two"])
    second = synchronise(["two", "three"])
    assert (second["num_added"], second["num_deleted"], second["num_skipped"]) == (1, 1, 1)
    assert there() == ["three", "two"]


def test_a_store_is_made_of_documents_by_a_model_of_its_own(fitted, tmp_path):
    documents = [Document(page_content="bread", id="b"), Document(page_content="soup")]
    embedding = SubspaceEmbeddings(fitted)
    made = SubspaceVectorStore.from_documents(documents, embedding, target=tmp_path / "a")
    later = asyncio.run(
        SubspaceVectorStore.afrom_documents(documents, embedding, target=tmp_path / "b")
    )
    for store in (made, later):
        found = store.similarity_search("bread")
        assert [one.page_content for one in found] == ["bread", "soup"]
        assert found[0].id == "b"
        assert found[1].id
        # Centred on these texts, as `Index.create` does it.
        assert store.index.blocks.engine.centre is not None
        store.index.close()


def test_deleting_without_ids_deletes_all(store):
    assert store.delete() is True
    assert store.similarity_search(QUERY) == []
    assert len(store.index) == 0


def test_ids_that_are_not_there_are_passed_over(store):
    assert ids(store.get_by_ids(["tax", "nobody", "bread", "tax"])) == ["tax", "bread"]
    assert store.delete(["nobody"]) is True
    assert len(store.index) == len(RECORDS)


# The store: ways to search.


def test_a_search_of_the_store_takes_the_arguments_of_a_search(store, index):
    arguments = {"weights": {"style": 1}, "toward": "complexity=2"}
    pairs = store.similarity_search_with_score(QUERY, 5, **arguments)
    hits = index.search(QUERY, k=5, **arguments)
    assert [(one.id, score) for one, score in pairs] == [(hit.id, hit.score) for hit in hits]
    assert asyncio.run(store.asimilarity_search_with_score(QUERY, 5, **arguments)) == pairs
    kept = store.as_retriever(search_kwargs={"k": 5, "weights": {"style": 1}})
    assert ids(kept.invoke(QUERY, toward="complexity=2")) == ids_of(hits)


def test_a_filter_is_langchains_name_for_where(store):
    wanted = ids(store.similarity_search(QUERY, where={"n": {">=": 3}}))
    assert sorted(wanted) == ["race", "tennis"]
    assert ids(store.similarity_search(QUERY, filter={"n": {">=": 3}})) == wanted


@pytest.mark.parametrize("arguments", [{}, {"weights": "style=1", "where": {"kind": "food"}}])
def test_the_vector_of_a_query_finds_what_the_query_finds(store, arguments):
    vector = store.embeddings.embed_query(QUERY)
    found = store.similarity_search_by_vector(vector, 3, **arguments)
    assert found == store.similarity_search(QUERY, 3, **arguments)
    other = store.embeddings.embed_query("who won the race")
    assert store.similarity_search_by_vector(other, 5) != store.similarity_search(QUERY, 5)


def test_embeddings_weigh_all_blocks_alike_in_a_store_of_others(index, fitted):
    texts = [record.text for record in RECORDS]
    other = InMemoryVectorStore.from_texts(texts, SubspaceEmbeddings(fitted))
    blocks = fitted.encode_document(texts).array
    scores = blocks @ fitted.encode_query([QUERY]).array[0] / len(fitted.layout)
    found = other.similarity_search_with_score(QUERY, k=5)
    assert [score for _, score in found] == pytest.approx(sorted(scores, reverse=True), abs=1e-5)
    assert SubspaceEmbeddings(fitted).embed_documents([]) == []


@pytest.mark.parametrize("arguments", [{}, {"weights": "topic=3,style=2"}, {"preset": "balanced"}])
def test_relevance_scores_are_in_order_and_between_0_and_1(store, index, arguments):
    index.use({"tennis": 1.0})
    pairs = store.similarity_search_with_relevance_scores(QUERY, 5, **arguments)
    scores = [score for _, score in pairs]
    assert ids(one for one, _ in pairs) == ids_of(index.search(QUERY, **arguments))
    assert scores == sorted(scores, reverse=True)
    assert 0 <= scores[-1] < scores[0] <= 1
    threshold = (scores[1] + scores[2]) / 2
    search = {"k": 5, "score_threshold": threshold, **arguments}
    kept = store.as_retriever(search_type="similarity_score_threshold", search_kwargs=search)
    assert ids(kept.invoke(QUERY)) == ids(one for one, _ in pairs[:2])
    assert asyncio.run(kept.ainvoke(QUERY)) == kept.invoke(QUERY)


def test_a_text_has_the_highest_relevance_score_to_itself(store):
    (best,) = store.similarity_search_with_relevance_scores(RECORDS[0].text, 1)
    assert best[0].id == RECORDS[0].id
    assert best[1] == pytest.approx(1)


def test_a_diverse_search_is_what_its_definition_says(store, index):
    index.add([Record(id=name, text=RECORDS[0].text) for name in "012"])
    weights = {"topic": 2.0, "style": 1.0}
    scaled = index.blocks.weights(weights).scaled(index.model.score_scales)
    roots = np.sqrt(scaled.per_dimension("relevance"))
    found = index.blocks.engine.fetch([name for name, _ in index.blocks.engine.metadata()])
    rows = {
        one.id: vector * roots for one, vector in zip(found.documents, found.vectors, strict=True)
    }
    query = index.embed([QUERY])[0] * roots

    def cosine(a, b) -> float:
        return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))

    chosen: list[str] = []
    while len(chosen) < 4:
        chosen.append(
            max(
                (name for name in rows if name not in chosen),
                key=lambda name: (
                    0.4 * cosine(query, rows[name])
                    - 0.6 * max((cosine(rows[name], rows[one]) for one in chosen), default=0)
                ),
            )
        )
    options = {"k": 4, "fetch_k": 8, "lambda_mult": 0.4, "weights": weights}
    assert ids(store.max_marginal_relevance_search(QUERY, **options)) == chosen
    # Copies of one text fill a plain search, not a diverse one.
    copies = {"bread", "0", "1", "2"}
    assert len(copies & set(chosen)) == 1
    plain = ids(store.similarity_search(RECORDS[0].text, 4))
    assert set(plain) == copies
    diverse = store.as_retriever(search_type="mmr", search_kwargs={"k": 4, "lambda_mult": 0.0})
    assert len(copies & set(ids(diverse.invoke(RECORDS[0].text)))) == 1


def test_a_diverse_search_of_nothing_finds_nothing(empty):
    assert SubspaceVectorStore(empty).max_marginal_relevance_search(QUERY) == []


# What is refused.

BAD_ARGUMENTS = [
    ({"k": 0}, ConfigError, "k must be a whole number, 1 or more"),
    ({"k": "many"}, ConfigError, "k must be"),
    ({"candidates": 0}, ConfigError, "candidates must be"),
    ({"scope": "page"}, ConfigError, "scope is one of block, item"),
    ({"exclude": "bread"}, ConfigError, "exclude is a collection of ids"),
    ({"where": "kind"}, QueryError, "metadata is filtered by name"),
    ({"where": {"kind": {"~": 1}}}, QueryError, "a range of 'kind' has"),
    ({"toward": "specificity=1"}, QueryError, "specificity"),
    ({"toward": "complexity"}, QueryError, "toward must read like"),
    ({"weights": {"taste": 1}}, WeightsError, "taste"),
    ({"weights": {"topic": -1}}, WeightsError, "topic"),
    ({"preset": "loud"}, WeightsError, "no preset 'loud'; the presets are"),
]


@pytest.mark.parametrize(("arguments", "error", "message"), BAD_ARGUMENTS, ids=str)
def test_a_wrong_argument_is_refused_before_and_at_a_query(
    retriever, store, arguments, error, message
):
    with pytest.raises(error, match=message):
        SubspaceRetriever(index=retriever.index, **arguments)
    with pytest.raises(error, match=message):
        retriever.invoke(QUERY, **arguments)
    with pytest.raises(error, match=message):
        store.similarity_search(QUERY, **arguments)


def test_arguments_that_are_unknown_are_named(retriever, store):
    with pytest.raises(ValueError, match="wheights"):
        SubspaceRetriever(index=retriever.index, wheights="topic=1")
    for search in (retriever.invoke, store.similarity_search):
        with pytest.raises(ConfigError, match="no option 'wheights'"):
            search(QUERY, wheights="topic=1")


def test_a_filter_by_a_name_that_no_document_has_is_refused(retriever, store):
    for search, name in (
        (retriever.invoke, "where"),
        (store.similarity_search, "where"),
        (store.similarity_search, "filter"),
    ):
        with pytest.raises(QueryError, match="no item has metadata 'colour'"):
            search(QUERY, **{name: {"colour": "red"}})


def test_weights_of_recency_need_a_usage_log(empty):
    with pytest.raises(ConfigError, match="usage log"):
        SubspaceRetriever(index=empty, preset="balanced").invoke(QUERY)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda s: s.add_texts("a text"), ConfigError, "texts are a list"),
        (lambda s: s.add_texts(["a", "b"], ids=["1"]), ConfigError, "ids must be a list of 2"),
        (lambda s: s.add_texts(["a"], ids="1"), ConfigError, "ids must be a list of 1"),
        (lambda s: s.add_texts(["a"], [{}, {}]), ConfigError, "metadatas must be a list of 1"),
        (lambda s: s.add_texts(["a"], ["b"]), ConfigError, "values by name, got 'b'"),
        (lambda s: s.add_texts(["a"], batch=2), ConfigError, "'batch'"),
        (lambda s: s.add_texts([""]), EncoderError, "empty"),
        (lambda s: s.add_texts(["a", "b"], ids=["1", "1"]), EngineError, "more than once: 1"),
        (lambda s: s.add_texts(["a"], [{"at": {1, 2}}]), EngineError, "'at'"),
        (lambda s: s.delete("bread"), QueryError, "ids are given as a list"),
        (lambda s: s.delete(["bread"], force=True), ConfigError, "'force'"),
        (lambda s: s.get_by_ids("bread"), QueryError, "ids are given as a list"),
        (
            lambda s: s.similarity_search("a", filter={"n": 1}, where={"n": 1}),
            ConfigError,
            "filter and where are the same",
        ),
        (lambda s: s.similarity_search_by_vector(["x"] * 14), LayoutError, "a list of numbers"),
        (lambda s: s.similarity_search_by_vector([1.0]), LayoutError, r"needs \(Q, 14\)"),
        (
            lambda s: s.similarity_search_by_vector([1.0] * 14, toward="complexity=1"),
            ConfigError,
            "toward goes with a query",
        ),
        (
            lambda s: s.similarity_search_with_relevance_scores("a", toward="complexity=1"),
            ConfigError,
            "threshold",
        ),
        (
            lambda s: s.max_marginal_relevance_search("a", lambda_mult=2),
            ConfigError,
            "lambda_mult is from 0 to 1",
        ),
        (lambda s: s.max_marginal_relevance_search("a", k=0), ConfigError, "k must be"),
        (
            lambda s: s.max_marginal_relevance_search("a", weights={"importance": {"topic": 1}}),
            ConfigError,
            "relevance above 0",
        ),
    ],
)
def test_a_wrong_call_of_the_store_is_refused_and_changes_nothing(store, call, error, message):
    with pytest.raises(error, match=message):
        call(store)
    assert len(store.index) == len(RECORDS)


@pytest.mark.parametrize(
    "wrap", [SubspaceVectorStore, lambda index: SubspaceRetriever(index=index)]
)
def test_the_folder_of_an_index_is_not_an_index(wrap):
    with pytest.raises(ConfigError, match=r"Index\.open returns it, not 'runs/index'"):
        wrap("runs/index")


def test_a_store_needs_a_target_and_a_model_of_subspace(fitted, tmp_path):
    with pytest.raises(ConfigError, match="target='runs/index'"):
        SubspaceVectorStore.from_texts(["a"], fitted)
    fake = DeterministicFakeEmbedding(size=6)
    with pytest.raises(ConfigError, match="not with DeterministicFakeEmbedding"):
        SubspaceVectorStore.from_texts(["a"], fake, target=tmp_path / "index")
    assert not (tmp_path / "index").exists()


# What is loaded.

LIGHT = """
import sys

import subspace
import subspace.integrations

assert not {"langchain_core", "llama_index", "pydantic", "torch"} & set(sys.modules)
sys.modules["langchain_core"] = sys.modules["llama_index"] = None
for module, extra in (("langchain", "langchain"), ("llama_index", "llama-index")):
    try:
        __import__(f"subspace.integrations.{module}")
    except subspace.SubspaceError as error:
        assert f"pip install 'subspace-embeddings[{extra}]'" in str(error), error
    else:
        raise AssertionError(module)
"""


def test_importing_subspace_is_light_and_a_missing_package_is_named_with_its_command():
    result = subprocess.run(
        [sys.executable, "-c", LIGHT], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
