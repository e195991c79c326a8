"""LlamaIndex: an index as a retriever in its own engines, and nodes as records."""

import asyncio

import pytest
from integration_world import QUERY, RECORDS
from llama_index.core.llms import MockLLM
from llama_index.core.postprocessor import SimilarityPostprocessor
from llama_index.core.query_engine import RetrieverQueryEngine
from llama_index.core.response_synthesizers.no_text import NoText
from llama_index.core.retrievers import QueryFusionRetriever
from llama_index.core.schema import (
    Document,
    ImageNode,
    MetadataMode,
    NodeRelationship,
    NodeWithScore,
    QueryBundle,
    TextNode,
)
from llama_index.core.tools import RetrieverTool
from retrieval_world import ids as ids_of

from subspace.errors import ConfigError, EngineError, QueryError, WeightsError
from subspace.integrations.llama_index import SubspaceRetriever, to_records
from subspace.retrieval import Like


@pytest.fixture
def retriever(index):
    return SubspaceRetriever(index)


def ids(nodes) -> list[str]:
    return [one.node.node_id for one in nodes]


# The retriever.


def test_nodes_are_the_hits_and_say_how_they_got_their_score(retriever, index):
    nodes = retriever.retrieve(QUERY)
    hits = index.search(QUERY, k=4)
    assert len(nodes) == 4
    for one, hit in zip(nodes, hits, strict=True):
        found = one.node.metadata.pop("subspace")
        assert (one.node.node_id, one.node.text, one.score) == (hit.id, hit.text, hit.score)
        assert one.node.metadata == hit.metadata
        assert (found["score"], found["parts"]) == (hit.score, hit.parts)


@pytest.mark.parametrize(
    "arguments",
    [
        {"toward": "complexity=-3"},
        {"weights": {"style": 1}},
        {"preset": "balanced"},
        {"preset": "balanced", "scope": "item"},
        {"where": {"kind": "sport"}},
        {"k": 2},
        {"preset": "recency_heavy", "candidates": 2, "k": 2},
        {"exclude": ["bread"]},
        {"keywords": 0.5, "unlike": Like("tennis")},
    ],
    ids=str,
)
def test_an_argument_means_the_same_as_in_a_search(retriever, index, arguments):
    index.use({"tennis": 1.0, "tax": 0.2})
    wanted = ids_of(index.search(QUERY, **{"k": 4, **arguments}))
    other = retriever.with_arguments(**arguments)
    assert ids(SubspaceRetriever(index, **arguments).retrieve(QUERY)) == wanted
    assert ids(other.retrieve(QueryBundle(QUERY))) == wanted
    assert ids(asyncio.run(other.aretrieve(QUERY))) == wanted
    # Counter-check: the arguments were heard, and the retriever that they were changed of has not.
    assert ids(retriever.retrieve(QUERY)) != wanted


def test_arguments_add_up_and_none_takes_one_back(index):
    first = SubspaceRetriever(index, weights="style=1", k=5, metadata_key="found")
    second = first.with_arguments(toward="complexity=-3")
    plain = ids_of(index.search(QUERY, weights="style=1"))
    assert ids(second.retrieve(QUERY)) == ids_of(
        index.search(QUERY, weights="style=1", toward="complexity=-3")
    )
    assert ids(second.retrieve(QUERY)) != plain
    third = second.with_arguments(toward=None)
    assert ids(third.retrieve(QUERY)) == plain
    assert "found" in third.retrieve(QUERY)[0].metadata


def test_prompts_and_embedders_see_the_metadata_and_not_the_score(retriever):
    node = retriever.retrieve(QUERY)[0].node
    for mode in (MetadataMode.LLM, MetadataMode.EMBED):
        seen = node.get_content(metadata_mode=mode)
        assert node.text in seen
        assert "kind: food" in seen
        assert "query_id" not in seen
    assert "query_id" in node.get_content(metadata_mode=MetadataMode.ALL)


def test_a_query_engine_gives_the_nodes_that_the_retriever_found(index):
    retriever = SubspaceRetriever(index, toward="complexity=-1", k=5)
    nodes = retriever.retrieve(QUERY)
    cutoff = (nodes[1].score + nodes[2].score) / 2
    engine = RetrieverQueryEngine(
        retriever,
        # No text is written, so that no language model is asked.
        response_synthesizer=NoText(llm=MockLLM()),
        node_postprocessors=[SimilarityPostprocessor(similarity_cutoff=cutoff)],
    )
    for response in (engine.query(QUERY), asyncio.run(engine.aquery(QUERY))):
        assert ids(response.source_nodes) == ids(nodes[:2])


def test_a_retriever_is_a_tool_and_a_part_of_a_fusion(retriever):
    output = RetrieverTool.from_defaults(retriever, description="notes").call(QUERY)
    asked = output.raw_input["input"]  # with line breaks that the tool adds
    assert ids(output.raw_output) == ids(retriever.retrieve(asked))
    wanted = ids(retriever.retrieve(QUERY))
    simpler = retriever.with_arguments(toward="complexity=-1")
    fusion = QueryFusionRetriever(
        [retriever, simpler], llm=MockLLM(), num_queries=1, similarity_top_k=9, use_async=False
    )
    assert set(ids(fusion.retrieve(QUERY))) == {*wanted, *ids(simpler.retrieve(QUERY))}


def test_what_a_node_was_worth_is_reported_with_its_query_id(retriever, index):
    node = retriever.retrieve(QUERY)[0].node
    index.use({node.node_id: 0.5}, query_id=node.metadata["subspace"]["query_id"])
    (use,) = [use for _, use in index.blocks.history.log.since()]
    assert (use.item, use.success) == (node.node_id, 0.5)
    assert use.query == node.metadata["subspace"]["query_id"]


# Nodes as records.


def test_nodes_are_found_as_they_were_added(index):
    nodes = [
        TextNode(id_="a", text="plant the beans", metadata={"page": 1, "tags": ["x", None]}),
        Document(id_="b", text="water the beans", metadata={}),
    ]
    nodes[0].relationships[NodeRelationship.SOURCE] = nodes[1].as_related_node_info()
    index.add(to_records(nodes))
    found = SubspaceRetriever(index, k=99).retrieve("beans")
    by_id = {one.node.node_id: one.node for one in found}
    for node in nodes:
        assert by_id[node.node_id].text == node.text
        own = dict(by_id[node.node_id].metadata)
        del own["subspace"]
        assert own == node.metadata
    # What was found is added again as it was.
    assert to_records(found) == to_records(by_id.values())
    again = {record.id: record for record in to_records(found)}
    assert again["a"].metadata == nodes[0].metadata
    assert {name: again[name].metadata for name in ("bread", "tax")} == {
        record.id: record.metadata for record in RECORDS if record.id in ("bread", "tax")
    }


@pytest.mark.parametrize(
    ("node", "message"),
    [
        ("a text", "records are made of nodes, got 'a text'"),
        (TextNode(id_="void", text=""), "node 'void' has no text"),
        (ImageNode(id_="picture", image="aGk="), "node 'picture' has no text"),
        (NodeWithScore(node=TextNode(id_="void", text="")), "node 'void' has no text"),
    ],
)
def test_what_is_no_text_is_no_record(node, message):
    with pytest.raises(QueryError, match=message):
        to_records([TextNode(text="a text"), node])


def test_metadata_that_cannot_be_kept_are_refused_by_name(index):
    records = to_records([TextNode(id_="a", text="a text", metadata={"at": {1, 2}})])
    with pytest.raises(EngineError, match="'at' of document 'a'"):
        index.add(records)


# What is refused.


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"k": 0}, ConfigError, "k must be a whole number, 1 or more"),
        ({"similarity_top_k": 2}, ConfigError, "no option 'similarity_top_k'"),
        ({"scope": "page"}, ConfigError, "scope is one of block, item"),
        ({"where": "kind"}, QueryError, "metadata is filtered by name"),
        ({"toward": "specificity=1"}, QueryError, "specificity"),
        ({"weights": {"taste": 1}}, WeightsError, "taste"),
        ({"preset": "loud"}, WeightsError, "no preset 'loud'"),
    ],
    ids=str,
)
def test_a_wrong_argument_is_refused_before_a_query(retriever, arguments, error, message):
    with pytest.raises(error, match=message):
        SubspaceRetriever(retriever.index, **arguments)
    with pytest.raises(error, match=message):
        retriever.with_arguments(**arguments)


def test_a_filter_by_a_name_that_no_node_has_is_refused(index):
    with pytest.raises(QueryError, match="no item has metadata 'colour'"):
        SubspaceRetriever(index, where={"colour": "red"}).retrieve(QUERY)


def test_the_folder_of_an_index_is_not_an_index():
    with pytest.raises(ConfigError, match=r"Index\.open returns it, not 'runs/index'"):
        SubspaceRetriever("runs/index")
