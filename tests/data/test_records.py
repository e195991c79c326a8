"""Records are read whole, or refused with every wrong line named."""

import bz2
import codecs
import gzip
import json
import lzma
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from subspace.content import name_content
from subspace.data.records import (
    assign_split,
    by_source,
    hash_records,
    read_records,
    read_sources,
)
from subspace.errors import RecordError

GOOD = {"id": "a", "text": "one", "group": None, "factors": {"topic": "x"}, "split": "train"}


def write(path: Path, *lines: dict | str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    texts = [json.dumps(line) if isinstance(line, dict) else line for line in lines]
    parts = [text.encode() if isinstance(text, str) else text for text in texts]
    path.write_bytes(b"\n".join(parts) + b"\n")
    return path


def good(name: str, **changes) -> dict:
    return {**GOOD, "id": name, **changes}


WRONG = {
    "not json": ("{", "is not JSON"),
    "not UTF-8": (b'{"id": "\xff"}', "is not UTF-8"),
    "not an object": ("[1]", "must be a JSON object"),
    "no id": ({**GOOD, "id": None}, "'id'"),
    "empty text": (good("b", text="  "), "'text'"),
    "NUL": (good("b", text="a\0b"), "NUL"),
    "half a surrogate": ('{"id": "b", "text": "\\ud83d", "factors": {"topic": "x"}}', "surrogate"),
    "no factors": (good("b", factors={}), "'factors'"),
    "NaN": ('{"id": "b", "text": "t", "factors": {"topic": NaN}, "split": "test"}', "finite"),
    "infinity": ('{"id": "b", "text": "t", "factors": {"c": Infinity}}', "finite"),
    "a huge integer": (good("b", factors={"c": 10**400}), "finite"),
    "a truth value": (good("b", factors={"c": True}), "factor 'c'"),
    "an unknown split": (good("b", split="dev"), "train, validation, test"),
    "a missing split": ({k: v for k, v in good("b").items() if k != "split"}, "'split'"),
    "a key that is given twice": (
        '{"id": "a", "id": "b", "text": "t"}',
        "gives 'id' twice: keep one",
    ),
    "a key of a key that is given twice": (
        '{"id": "b", "text": "t", "factors": {"c": 1, "c": 2}}',
        "gives 'c' twice",
    ),
    "the id of a document": (
        {"_id": "b", "text": "t", "factors": {"c": 1}},
        "has '_id' and no 'id', which names a labelled text: rename it",
    ),
    "two ids": (good("b", _id="c"), "has two ids: 'id' is 'b' and '_id' is 'c'; keep one"),
    "a wrong group": (good("b", group=7), "'group'"),
    "deep nesting": ("[" * 100_000, "is not JSON"),
}


@pytest.mark.parametrize("kind", WRONG)
def test_a_wrong_line_is_named_by_file_and_line(kind, tmp_path):
    line, message = WRONG[kind]
    path = write(tmp_path / "s.jsonl", GOOD, line)
    with pytest.raises(RecordError) as caught:
        read_sources([path])
    assert len(caught.value.problems) == 1
    assert caught.value.problems[0].startswith(f"{path}:2: ")
    assert message in caught.value.problems[0]


def test_all_wrong_lines_of_all_files_are_reported_at_once(tmp_path):
    write(tmp_path / "one" / "records.jsonl", GOOD, "{", good("b", text=""))
    write(tmp_path / "two" / "records.jsonl", GOOD, "{")
    with pytest.raises(RecordError) as caught:
        read_sources([tmp_path])
    places = [problem.split(": ")[0] for problem in caught.value.problems]
    assert places == [
        f"{tmp_path}/one/records.jsonl:2",
        f"{tmp_path}/one/records.jsonl:3",
        f"{tmp_path}/two/records.jsonl:2",
    ]
    assert all(place in str(caught.value) for place in places)


def test_a_second_use_of_an_id_names_the_first(tmp_path):
    path = write(tmp_path / "s.jsonl", GOOD, good("b"), GOOD)
    with pytest.raises(RecordError, match=rf"s\.jsonl:3: id 'a' is used before, at {path}:1"):
        read_sources([path])


def test_a_group_in_two_splits_is_refused(tmp_path):
    path = write(tmp_path / "s.jsonl", good("a", group="g"), good("b", group="g", split="test"))
    with pytest.raises(RecordError, match=r"group 'g'.*must share a split"):
        read_sources([path])


def test_a_factor_is_a_text_everywhere_or_a_number_everywhere(tmp_path):
    write(tmp_path / "one.jsonl", good("a", factors={"topic": "x"}))
    write(tmp_path / "two.jsonl", good("b", factors={"topic": 3}))
    said = r"two\.jsonl:1: factor 'topic' is 3\.0 here and a text at .*one\.jsonl:1; use"
    with pytest.raises(RecordError, match=said):
        read_sources([tmp_path / "one.jsonl", tmp_path / "two.jsonl"])
    records = [
        *read_records(tmp_path / "one.jsonl"),
        *read_records(tmp_path / "two.jsonl"),
    ]
    with pytest.raises(RecordError, match=r"factor 'topic' is 3\.0 here and a text at one/a"):
        by_source(records)


def test_plain_and_gzipped_files_say_the_same(tmp_path):
    plain = write(tmp_path / "plain" / "s.jsonl", GOOD, good("b"))
    packed = tmp_path / "packed" / "s.jsonl.gz"
    packed.parent.mkdir()
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    assert read_sources([plain]) == read_sources([packed])


def test_a_cut_off_gzip_is_named(tmp_path):
    path = tmp_path / "s.jsonl.gz"
    lines = "".join(json.dumps(good(str(number))) + "\n" for number in range(500))
    path.write_bytes(gzip.compress(lines.encode())[:-30])
    with pytest.raises(RecordError, match=r"s\.jsonl\.gz: cannot be read"):
        read_sources([path])


@pytest.mark.parametrize("empty", [True, False])
def test_nothing_to_read_is_refused(tmp_path, empty):
    if empty:
        (tmp_path / "s.jsonl").write_text("\n\n")
    with pytest.raises(RecordError, match="holds no records"):
        read_sources([tmp_path])


def test_a_missing_path_is_said_once(tmp_path):
    with pytest.raises(RecordError) as caught:
        read_sources([tmp_path / "nowhere.jsonl"])
    assert len(caught.value.problems) == 1


def test_sources_are_named_after_their_file_or_folder(tmp_path):
    write(tmp_path / "all" / "one" / "records.jsonl", GOOD)
    write(tmp_path / "all" / "two" / "a.jsonl", GOOD)
    write(tmp_path / "all" / "two" / "b.jsonl", good("b"))
    write(tmp_path / "three.jsonl", GOOD)
    sources = read_sources([tmp_path / "all", tmp_path / "three.jsonl"])
    assert {name: len(records) for name, records in sources.items()} == {
        "one": 1,
        "two": 2,
        "three": 1,
    }
    assert list(read_sources([tmp_path / "all"], exclude=["one"])) == ["two"]
    assert list(read_sources([tmp_path / "all" / "one" / "records.jsonl"])) == ["one"]


def test_two_sources_of_one_name_are_refused(tmp_path):
    write(tmp_path / "x" / "s.jsonl", GOOD)
    write(tmp_path / "y" / "s.jsonl", GOOD)
    with pytest.raises(RecordError, match="second source is called 's'"):
        read_sources([tmp_path / "x" / "s.jsonl", tmp_path / "y" / "s.jsonl"])


def test_files_of_a_retrieval_set_are_no_records(tmp_path):
    write(tmp_path / "s" / "texts.jsonl", GOOD)
    write(tmp_path / "s" / "corpus.jsonl", {"_id": "d", "text": "doc"})
    write(tmp_path / "s" / "queries.jsonl", {"_id": "q", "text": "query"})
    assert [record.id for record in read_sources([tmp_path / "s"])["s"]] == ["a"]

    write(tmp_path / "alone" / "corpus.jsonl", {"_id": "d", "text": "doc"})
    assert list(read_sources([tmp_path / "s", tmp_path / "alone"])) == ["s"]
    with pytest.raises(RecordError, match="no records: labelled texts lie in"):
        read_sources([tmp_path / "alone"])


@given(groups=st.lists(st.text(min_size=1, max_size=4).map(lambda t: f"g{t!r}"), min_size=1))
def test_without_splits_a_group_stays_together_whatever_the_order(groups, tmp_path_factory):
    folder = tmp_path_factory.mktemp("s")
    lines = [
        {"id": str(n), "text": "t", "group": group, "factors": {"topic": "x"}}
        for n, group in enumerate(groups)
    ]
    forward = read_sources([write(folder / "s.jsonl", *lines)])["s"]
    backward = read_sources([write(folder / "s.jsonl", *reversed(lines))])["s"]
    assert {r.id: r.split for r in forward} == {r.id: r.split for r in backward}
    assert len({(r.group, r.split) for r in forward}) == len({r.group for r in forward})


def test_splits_are_about_eight_to_one_to_one():
    splits = [assign_split(str(number)) for number in range(5000)]
    shares = [splits.count(split) / 5000 for split in ("train", "validation", "test")]
    assert shares == pytest.approx([0.8, 0.1, 0.1], abs=0.02)


def test_the_hash_sees_every_change_and_nothing_else(tmp_path):
    def hashed(line: str | dict) -> str:
        return hash_records(read_sources([write(tmp_path / "s.jsonl", line)])["s"])

    base = hashed(GOOD)
    assert base == hashed(json.dumps(dict(reversed(GOOD.items())), indent=None))
    changes = {"text": "two", "group": "g", "factors": {"topic": "y"}, "split": "test", "id": "c"}
    assert all(hashed({**GOOD, key: value}) != base for key, value in changes.items())


def test_an_assigned_split_does_not_change_with_the_name_of_the_source(tmp_path):
    """A folder that is renamed keeps its test texts: they never become training texts."""
    lines = "".join(
        f'{{"id": "{n}", "text": "t", "group": "g{n // 2}", "factors": {{"f": 1}}}}\n'
        for n in range(60)
    )
    splits = []
    for name in ("before", "after"):
        (tmp_path / f"{name}.jsonl").write_text(lines)
        (records,) = read_sources([tmp_path / f"{name}.jsonl"]).values()
        splits.append([record.split for record in records])
    assert splits[0] == splits[1]
    assert set(splits[0]) == {"train", "validation", "test"}


@pytest.mark.parametrize("part", ['"group": "\\ud800"', '"factors": {"f": "\\ud800"}'])
def test_half_a_character_is_refused_wherever_it_stands(part, tmp_path):
    line = {"id": "1", "text": "t", "group": None, "factors": {"f": 1.0}}
    text = json.dumps(line)
    for key in ("group", "factors"):
        if part.startswith(f'"{key}"'):
            start = {"group": '"group": null', "factors": '"factors": {"f": 1.0}'}[key]
            text = text.replace(start, part)
    (tmp_path / "a.jsonl").write_text(text + "\n")
    with pytest.raises(RecordError, match=r"a\.jsonl:1"):
        read_sources([tmp_path / "a.jsonl"])


def test_a_damaged_gzip_file_is_named(tmp_path):
    path = tmp_path / "a.jsonl.gz"
    content = bytearray(gzip.compress(b'{"id": "1", "text": "t", "factors": {"f": 1}}\n' * 50))
    content[12:20] = b"\xff" * 8
    path.write_bytes(bytes(content))
    with pytest.raises(RecordError, match=r"a\.jsonl\.gz: cannot be read"):
        read_sources([path])


def test_leaving_out_what_is_not_there_is_said(tmp_path, caplog):
    (tmp_path / "a.jsonl").write_text('{"id": "1", "text": "t", "factors": {"f": 1}}\n')
    read_sources([tmp_path / "a.jsonl"], exclude=["b"])
    assert "there is no source 'b' to leave out; there are a" in caplog.text


def test_hidden_files_and_folders_are_no_sources(tmp_path):
    line = '{"id": "a", "text": "one", "factors": {"f": 1}}\n'
    for name in ("one/records.jsonl", ".ipynb_checkpoints/records.jsonl", "one/._records.jsonl"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(line)
    (tmp_path / "one/._records.jsonl").write_bytes(b"\0\x05")
    assert list(read_sources([tmp_path])) == ["one"]
    assert list(read_sources([tmp_path / "one"])) == ["one"]


def test_two_names_of_the_same_texts_are_noticed(tmp_path, caplog):
    for name, texts in (("a", "xy"), ("b", "yx"), ("c", "xz")):
        lines = [json.dumps({"id": name + t, "text": t, "factors": {"f": 1}}) for t in texts]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(lines))
    read_sources(sorted(tmp_path.iterdir()))
    assert "the sources 'a' and 'b' hold the same texts" in caplog.text
    assert "'c'" not in caplog.text


OTHERS = {
    "is not UTF-8 but gzipped: end its name in .gz": gzip.compress(b'{"id": "a"}'),
    "not UTF-8 but a zip archive": b"PK\x03\x04\x14\0\0\0",
    "not UTF-8 but packed by bzip2": bz2.compress(b'{"id": "a"}'),
    "not UTF-8 but packed by xz": lzma.compress(b'{"id": "a"}'),
    "is not UTF-8 but UTF-32": '{"id": "a"}'.encode("utf-32"),
    "is not UTF-8 but UTF-16": '{"id": "a"}'.encode("utf-16"),
    "is not UTF-8 but UTF-16: save it as UTF-8": codecs.BOM_UTF16_BE
    + '{"id": "a"}'.encode("utf-16-be"),
    "save it as UTF-8": '{"id": "a"}'.encode("utf-16-le"),
    ": save it as UTF-8": '{"id": "a"}'.encode("utf-16-be"),
}


@pytest.mark.parametrize("said", OTHERS)
def test_a_file_that_is_no_utf_8_is_named_once(said, tmp_path):
    path = tmp_path / "s.jsonl"
    path.write_bytes(OTHERS[said] + b"\n\n")
    with pytest.raises(RecordError) as caught:
        read_records(path)
    (problem,) = caught.value.problems
    assert problem.startswith(f"{path}:1: ")
    assert said in problem


def test_a_name_in_capitals_may_say_that_a_file_is_gzipped(tmp_path):
    path = tmp_path / "S.JSONL.GZ"
    path.write_bytes(gzip.compress(json.dumps(GOOD).encode()))
    assert [record.id for record in read_records(path)] == [GOOD["id"]]


@given(st.text(min_size=1).filter(lambda text: text.strip("\0") == text))
def test_no_text_in_utf_8_is_taken_for_something_else(text):
    if "\0" not in text[:4]:
        assert name_content(text.encode()) is None
