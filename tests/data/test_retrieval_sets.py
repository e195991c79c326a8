"""Documents, queries and judgements are read whole or refused line by line."""

from dataclasses import replace

import pytest

from subspace.data.records import Record
from subspace.data.retrieval_sets import (
    RetrievalSet,
    find_retrieval_sets,
    read_documents,
    read_retrieval_set,
)
from subspace.errors import RecordError


def write_set(folder, *, qrels: str):
    (folder / "corpus.jsonl").write_text(
        '{"_id": "d1", "title": "Title", "text": "body"}\n{"_id": "d2", "text": "other"}\n'
    )
    (folder / "queries.jsonl").write_text('{"_id": "q1", "text": "query"}\n')
    (folder / "qrels.tsv").write_text("query-id\tcorpus-id\tscore\n" + qrels)
    return folder


def test_a_title_is_put_before_its_text(tmp_path):
    data = read_retrieval_set(write_set(tmp_path, qrels="q1\td1\t2\nq1\td2\t0\n"))
    assert [document.text for document in data.documents] == ["Title. body", "other"]
    assert data.queries == {"q1": "query"}
    assert data.relevance == {"q1": {"d1": 2.0, "d2": 0.0}}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("q1\td1", "a grade"),
        ("q1\td1\tbest", "a grade"),
        ("q1\td1\tnan", "a grade"),
        ("q9\td1\t1", "unknown query"),
        ("q1\td9\t1", "unknown query or document"),
    ],
)
def test_a_wrong_judgement_is_named_by_line(tmp_path, line, message):
    with pytest.raises(RecordError, match=rf"qrels\.tsv:3: .*{message}"):
        read_retrieval_set(write_set(tmp_path, qrels=f"q1\td1\t1\n{line}\n"))


def test_a_missing_file_is_named(tmp_path):
    folder = write_set(tmp_path, qrels="")
    (folder / "qrels.tsv").unlink()
    with pytest.raises(RecordError, match=r"neither qrels\.tsv nor qrels/"):
        read_retrieval_set(folder)
    assert find_retrieval_sets([folder]) == {}
    (folder / "qrels.tsv").mkdir()
    with pytest.raises(RecordError, match=r"has no judgements"):
        read_retrieval_set(folder)


def test_the_files_of_a_qrels_folder_are_splits_and_need_no_header(tmp_path):
    folder = write_set(tmp_path, qrels="")
    (folder / "qrels.tsv").unlink()
    (folder / "qrels").mkdir()
    (folder / "qrels" / "test.tsv").write_text("q1\td1\t1\n")
    data = read_retrieval_set(folder)
    assert data.relevance == {"q1": {"d1": 1.0}}
    assert data.splits == {"q1": "test"}
    assert find_retrieval_sets([folder]) == {folder.name: folder}
    assert find_retrieval_sets([folder.parent])[folder.name] == folder


def test_the_split_of_a_query_may_stand_in_its_metadata(tmp_path):
    folder = write_set(tmp_path, qrels="q1\td1\t1\n")
    query = '{"_id": "q1", "text": "query", "metadata": {"split": "train"}}\n'
    (folder / "queries.jsonl").write_text(query)
    assert read_retrieval_set(folder).splits == {"q1": "train"}


def test_a_title_alone_is_a_text(tmp_path):
    path = tmp_path / "corpus.jsonl"
    path.write_text('{"_id": "d", "title": "Title", "text": ""}\n')
    assert [document.text for document in read_documents(path)] == ["Title"]


def test_records_and_beir_documents_are_both_documents(tmp_path):
    path = tmp_path / "texts.jsonl"
    path.write_text('{"id": "a", "text": "one", "factors": {}}\n{"_id": "b", "text": "two"}\n')
    assert [(d.id, d.text) for d in read_documents(path)] == [("a", "one"), ("b", "two")]


def test_wrong_documents_are_all_named(tmp_path):
    path = tmp_path / "texts.jsonl"
    path.write_text('{"id": "a", "text": ""}\n{"text": "x"}\n{"id": "b", "text": "y"}\n' * 2)
    with pytest.raises(RecordError) as caught:
        read_documents(path)
    assert [problem.split(": ")[0].split(":")[-1] for problem in caught.value.problems] == [
        *("1", "2", "4", "5", "6")
    ]


def test_an_empty_file_is_refused(tmp_path):
    (tmp_path / "texts.jsonl").write_text("")
    with pytest.raises(RecordError, match="holds no texts"):
        read_documents(tmp_path / "texts.jsonl")


def test_the_hash_of_judgements_does_not_hang_on_how_documents_are_cut(tmp_path):
    one = RetrievalSet(
        documents=(Record("d", "a long text"),), queries={"q": "x"}, relevance={"q": {"d": 1.0}}
    )
    cut = replace(one, documents=(Record("d", "a"),))
    assert one.judgements_sha256 == cut.judgements_sha256
    assert one.judgements_sha256 != replace(one, queries={"q": "y"}).judgements_sha256
    assert one.judgements_sha256 != replace(one, relevance={"q": {"d": 2.0}}).judgements_sha256
