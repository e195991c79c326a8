"""A bench reads documents up to a text, and leaves out queries that the model was fitted on."""

import json
from dataclasses import replace

import numpy as np
import pytest
from models import make_model

from subspace.bench.bench_set import read_bench_set, relevance_matrix
from subspace.data.records import Record
from subspace.data.retrieval_sets import RetrievalSet, query_key, read_retrieval_set
from subspace.errors import ConfigError
from subspace.evaluation.unseen_queries import keep_unseen

DATA = RetrievalSet(
    documents=(Record(id="a", text="text"), Record(id="b", text="text")),
    queries={"one": "text", "two": "another"},
    relevance={"one": {"b": 1.0, "a": 0.0}, "two": {"a": 2.0}},
    splits={"two": "test"},
)


def fitted_on(data: RetrievalSet):
    learned = [query_key(t) for q, t in data.queries.items() if data.split(q) == "train"]
    return replace(make_model(), recipe={"queries": {"mine": learned}})


def test_relevant_are_grades_above_0():
    np.testing.assert_array_equal(relevance_matrix(DATA), [[False, True], [True, False]])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"relevance": {"one": {"b": 1.0}}}, "query 'two' has no relevant document"),
        ({"relevance": {**DATA.relevance, "one": {"a": 0.0}}}, "query 'one' has no relevant"),
        ({"queries": {}}, "has no queries"),
    ],
)
def test_a_set_that_measures_nothing_is_refused(change, message):
    with pytest.raises(ConfigError, match=message):
        relevance_matrix(replace(DATA, **change))


def test_queries_that_were_learned_from_are_left_out_and_counted():
    unseen, warning = keep_unseen(DATA, fitted_on(DATA), name="mine")
    assert dict(unseen.queries) == {"two": "another"}
    assert "1 of the 2 queries of 'mine' are left out" in warning
    # Also where judgements, splits or queries were added since.
    more = replace(DATA, queries={**DATA.queries, "three": "new"}, splits={})
    assert list(keep_unseen(more, fitted_on(DATA), name="mine")[0].queries) == ["two", "three"]
    # Counter-check: other queries are kept.
    other = replace(DATA, queries={"one": "first", "two": "second"})
    assert keep_unseen(DATA, fitted_on(other), name="mine") == (DATA, None)
    assert keep_unseen(DATA, make_model(), name="mine") == (DATA, None)


def test_where_no_query_would_be_left_all_stay_and_the_warning_says_so():
    data = replace(DATA, splits={})
    kept, warning = keep_unseen(data, fitted_on(data), name="mine")
    assert kept is data
    assert "fitted on all judged queries of 'mine' (2)" in warning


def test_documents_are_cut_and_none_becomes_empty(tmp_path, caplog):
    lines = [{"_id": "a", "text": "short. Then long."}, {"_id": "b", "text": " Then it begins."}]
    (tmp_path / "corpus.jsonl").write_text("\n".join(map(json.dumps, lines)))
    (tmp_path / "queries.jsonl").write_text('{"_id": "q", "text": "what?"}')
    (tmp_path / "qrels.tsv").write_text("q\ta\t1")
    whole, notes = read_bench_set(tmp_path, model=make_model())
    cut, _ = read_bench_set(tmp_path, model=make_model(), until=" Then")
    assert [document.text for document in whole.documents] == [line["text"] for line in lines]
    assert [document.text for document in cut.documents] == ["short.", " Then it begins."]
    assert (notes, caplog.text) == ((), "")
    model = fitted_on(read_retrieval_set(tmp_path))
    _, notes = read_bench_set(tmp_path, model=model)
    assert "fitted on all judged queries" in notes[0]
    assert notes[0] in caplog.text
