"""Documents, queries and judgements are read whole or refused line by line."""

import json
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from subspace.data.document_file import DocumentFile
from subspace.data.records import Record, read_records
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


def test_files_are_read_as_other_systems_write_them(tmp_path):
    """With byte order marks, CRLF, blank last lines and system files beside them."""
    bom = "\ufeff".encode()
    (tmp_path / "a").mkdir()
    folder = write_set(tmp_path / "a", qrels="")
    for name in ("corpus.jsonl", "queries.jsonl"):
        path = folder / name
        path.write_bytes(bom + path.read_bytes().replace(b"\n", b"\r\n") + b"\r\n\r\n")
    (folder / "qrels.tsv").unlink()
    (folder / "qrels").mkdir()
    judged = "query-id\tcorpus-id\tscore\r\nq1\td1\t1\r\n\r\n"
    (folder / "qrels/test.tsv").write_bytes(bom + judged.encode())
    (folder / "qrels/._test.tsv").write_bytes(b"\0\x05\x16\x07")
    (tmp_path / ".ipynb_checkpoints").symlink_to(folder)
    data = read_retrieval_set(folder)
    assert [document.id for document in data.documents] == ["d1", "d2"]
    assert data.relevance == {"q1": {"d1": 1.0}}
    assert find_retrieval_sets([tmp_path]) == {"a": folder}
    (folder / "qrels/test.tsv").write_bytes(bom + b"q1\td1\t1\r\n")  # without a header
    assert read_retrieval_set(folder).relevance == {"q1": {"d1": 1.0}}


def test_an_empty_document_is_passed_over_and_counted(tmp_path, caplog):
    folder = write_set(tmp_path, qrels="q1\td1\t1\nq1\te1\t1\nq1\te2\t0\n")
    with (folder / "corpus.jsonl").open("a") as stream:
        stream.write('{"_id": "e1", "title": "", "text": ""}\n{"_id": "e2", "text": " \\u3000"}\n')
    data = read_retrieval_set(folder)
    assert [document.id for document in data.documents] == ["d1", "d2"]
    assert data.relevance == {"q1": {"d1": 1.0}}
    assert "no search finds: 2 ('e1', 'e2'); judgements of them that are left out: 2" in caplog.text
    caplog.clear()
    assert read_documents(folder / "corpus.jsonl") == data.documents
    assert "2 ('e1', 'e2')" in caplog.text
    caplog.clear()
    parts = DocumentFile.scan(folder / "corpus.jsonl", texts_per_part=1)
    assert [parts.read(number)[0].id for number in (1, 0)] == ["d2", "d1"]
    assert "2 ('e1', 'e2')" in caplog.text


def test_an_empty_query_is_refused(tmp_path):
    folder = write_set(tmp_path, qrels="q1\td1\t1\n")
    with (folder / "queries.jsonl").open("a") as stream:
        stream.write('{"_id": "q2", "text": ""}\n')
    with pytest.raises(RecordError, match=r"queries\.jsonl:2: 'text' must be a text"):
        read_retrieval_set(folder)


def test_a_pair_may_be_judged_twice_if_the_grades_agree(tmp_path):
    folder = write_set(tmp_path, qrels="q1\td1\t1\nq1\td1\t1.0\n")
    assert read_retrieval_set(folder).relevance == {"q1": {"d1": 1.0}}
    write_set(tmp_path, qrels="q1\td1\t1\nq1\td1\t0\n")
    with pytest.raises(RecordError, match=r"qrels\.tsv:3: gives 'q1' and 'd1' the grade 0, before"):
        read_retrieval_set(folder)


def test_metadata_are_kept_or_named(tmp_path):
    path = tmp_path / "texts.jsonl"
    kept = {"a": "x\u00a0y\n", "b": [1, None, {"c": 10**30}], "": True}
    path.write_text(json.dumps({"id": "a", "text": "b", "metadata": kept, "factors": {"f": 1}}))
    assert read_documents(path)[0].metadata == {"f": 1, **kept}
    for wrong, said in (
        ('{"b": NaN}', "'metadata' cannot keep 'b'.*not nan"),
        ('{"b": [1e999]}', "'metadata' cannot keep 'b'.*not inf"),
        ('{"b": "\\u0000"}', "'metadata' cannot keep 'b'"),
        ('{"b": {"\\ud800": 1}}', "'metadata' cannot keep 'b': a name"),
        ("[1]", "'metadata' must hold values by name"),
        ('{"b": ' + "9" * 5000 + "}", "is not JSON"),
        ('{"b": ' + "[" * 60 + "]" * 60 + "}", "nested in more than 32 levels"),
    ):
        path.write_text('{"id": "a", "text": "b", "metadata": ' + wrong + "}")
        with pytest.raises(RecordError, match=rf"texts\.jsonl:1: .*{said}"):
            read_documents(path)
        with pytest.raises(RecordError, match=rf"texts\.jsonl:1: .*{said}"):
            read_records(path)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ({"id": "a", "_id": "b", "text": "t"}, "has two ids: 'id' is 'a' and '_id' is 'b'"),
        (
            {"id": "a", "text": "t", "factors": {"c": 1}, "metadata": {"c": 2}},
            "'c' is 1 in 'factors' and 2 in 'metadata', and a search filters by both",
        ),
    ],
)
def test_what_is_said_twice_and_differs_is_named(line, said, tmp_path):
    path = tmp_path / "texts.jsonl"
    path.write_text(json.dumps(line))
    with pytest.raises(RecordError, match=rf"texts\.jsonl:1: {said}"):
        read_documents(path)
    agreeing = {**line, "metadata": line.get("factors", {}), "id": line.get("_id", "a")}
    path.write_text(json.dumps(agreeing))
    (document,) = read_documents(path)
    assert (document.id, document.metadata) == (agreeing["id"], agreeing["metadata"])


def test_judgements_in_utf_16_are_named(tmp_path):
    folder = write_set(tmp_path, qrels="")
    (folder / "qrels.tsv").write_text("q1\td1\t1\n", encoding="utf-16")
    with pytest.raises(
        RecordError, match=r"qrels\.tsv:1: is not UTF-8 but UTF-16: save it as UTF-8"
    ):
        read_retrieval_set(folder)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda values: st.lists(values, max_size=3) | st.dictionaries(st.text(), values, max_size=3),
    max_leaves=5,
)
JUDGED = st.text("qd1\t\r", max_size=9).map(str.encode)
LINES = (
    st.dictionaries(
        st.sampled_from(["_id", "id", "text", "title", "metadata", "factors", "group", "split"]),
        JSON | st.text(min_size=1),
    ).map(lambda value: json.dumps(value).encode())
    | st.binary(max_size=30)
    | st.sampled_from([b"", b"\r", "\ufeff".encode(), b"{", b"null", b'{"id": "a", "text": "b"}'])
)


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(LINES, max_size=4), st.lists(st.binary(max_size=20) | JUDGED, max_size=4))
def test_whatever_is_in_the_files_is_read_or_named(tmp_path, lines, judgements):
    path = tmp_path / "x.jsonl"
    path.write_bytes(b"\n".join(lines))
    for name in ("corpus.jsonl", "queries.jsonl"):
        (tmp_path / name).write_bytes(b"\n".join(lines))
    (tmp_path / "qrels.tsv").write_bytes(b"\n".join(judgements))
    for read in (
        lambda: read_documents(path),
        lambda: read_records(path),
        lambda: DocumentFile.scan(path, texts_per_part=2),
        lambda: read_retrieval_set(tmp_path),
    ):
        try:
            read()
        except RecordError as error:
            assert all(problem for problem in error.problems)
