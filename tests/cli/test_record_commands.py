"""`subspace index` of a folder of notes; `add`, `update`, `delete`, `list` and `show`."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from retrieval_world import make_model

from subspace.cli import index as cli_index
from subspace.cli.main import main
from subspace.retrieval import open_engine

CHECKPOINT = ("--checkpoint", "K")
BUILD = ("index", *CHECKPOINT, "--store", "store", "--output", "I")


@pytest.fixture(scope="module")
def checkpoints(tiny_qwen, tmp_path_factory) -> Path:
    """Two models of one encoder."""
    folder = tmp_path_factory.mktemp("checkpoints")
    make_model(tiny_qwen).save(folder / "K")
    make_model(tiny_qwen, seed=1).save(folder / "L")
    return folder


@pytest.fixture
def place(checkpoints, tmp_path, monkeypatch) -> Path:
    """A folder to work in, with two skills and a note."""
    for name in ("K", "L"):
        (tmp_path / name).symlink_to(checkpoints / name)
    put(tmp_path, "skills/git/SKILL.md", "---\nname: git\ndescription: Commits.\nn: 1\n---\nbody")
    put(tmp_path, "skills/team/deploy/SKILL.md", "---\nname: deploy\n---\nbody")
    put(tmp_path, "skills/slugs.md", "# Slugs\n\nCopper.")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def said(capsys):
    """Runs a command, and returns what it printed."""

    def run(*arguments: str, expect: int = 0) -> str:
        capsys.readouterr()
        code = main(list(arguments))
        out, err = capsys.readouterr()
        assert code == expect, err
        return err if expect else out

    return run


def put(folder: Path, file: str, content: str) -> None:
    path = folder / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)


def held() -> dict[str, str]:
    """Texts of the index by id."""
    engine = open_engine("I")
    records = engine.fetch([name for name, _ in engine.metadata()]).documents
    return {record.id: record.text for record in records}


def test_a_folder_of_skills_becomes_an_index_that_is_brought_up_to_date(place, said):
    assert "3 texts -> I" in said(*BUILD, "--input", "skills")
    assert said("add", *CHECKPOINT, "--index", "I", "--id", "memory", "--text", "mine")
    put(place, "skills/slugs.md", "# Slugs\n\nBeer.")
    put(place, "skills/git/SKILL.md", "---\nname: git\ndescription: Commits.\nn: 2\n---\nbody")
    put(place, "skills/new.md", "# New")
    (place / "skills/team/deploy/SKILL.md").unlink()
    out = said(*BUILD, "--input", "skills")
    assert "1 added, 2 changed, 1 removed, 0 unchanged (2 encoded)\n4 texts -> I" in out
    assert held().keys() == {"git", "slugs", "new", "memory"}
    out = said(*BUILD, "--input", "skills", "--dtype", "float16")
    assert "the index keeps its engine and settings" in out
    assert "0 added, 0 changed, 0 removed, 3 unchanged (0 encoded)" in out
    assert "git" in said("search", *CHECKPOINT, "--index", "I", "--query", "x", "--where", "n=2")


def test_what_others_write_while_it_is_built_again_is_taken_up(place, said, monkeypatch):
    said(*BUILD, "--input", "skills")
    for name in ("kept", "changed", "gone"):
        said("add", *CHECKPOINT, "--index", "I", "--id", name, "--text", "before")
    encoded = cli_index._embedded

    def meanwhile(*arguments, **options):
        found = encoded(*arguments, **options)
        said("add", *CHECKPOINT, "--index", "I", "--id", "new", "--text", "after")
        said("add", *CHECKPOINT, "--index", "I", "--id", "changed", "--text", "after")
        said("delete", "--index", "I", "gone")
        return found

    monkeypatch.setattr(cli_index, "_embedded", meanwhile)
    assert "taken up: 3 texts" in said(*BUILD, "--input", "skills", "--rebuild")
    by_hand = {name: held()[name] for name in held().keys() - {"git", "team/deploy", "slugs"}}
    assert by_hand == {"kept": "before", "changed": "after", "new": "after"}


@pytest.mark.parametrize("given", [("--rebuild", "--dtype", "float16"), ("--checkpoint", "L")])
def test_building_it_again_keeps_what_was_added_otherwise(place, said, given):
    said(*BUILD, "--input", "skills")
    said("add", *CHECKPOINT, "--index", "I", "--id", "memory", "--text", "mine")
    out = said(*BUILD, "--input", "skills", *given)
    assert "are kept: 1" in out
    assert ("another checkpoint" in out) == ("L" in given)
    assert "4 texts -> I" in out
    assert held()["memory"] == "mine"
    assert open_engine("I").vectors.dtype == ("float32" if "L" in given else "float16")


def test_a_broken_file_refuses_the_whole_command_and_leaves_the_index(place, said):
    said(*BUILD, "--input", "skills")
    before = held()
    put(place, "skills/new.md", "# New")
    put(place, "skills/slugs.md", "---\nunclosed")
    for more in ((), ("--rebuild",)):
        err = said(*BUILD, "--input", "skills", *more, expect=2)
        assert "skills/slugs.md:1: front matter begins with ---" in err
        assert held() == before
    put(place, "skills/slugs.md", "# Slugs")
    said("add", *CHECKPOINT, "--index", "I", "--id", "memory", "--text", "mine")
    put(place, "skills/memory.md", "# Memory")
    for more in ((), ("--rebuild",)):
        err = said(*BUILD, "--input", "skills", *more, expect=2)
        assert "skills/memory.md: the index has a text 'memory' that did not come" in err


def test_an_index_of_jsonl_is_built_as_ever(place, said):
    put(place, "texts.jsonl", '{"id": "a", "text": "one"}\n')
    put(place, "skills/corpus.jsonl", '{"_id": "b", "text": "two"}\n')
    assert "1 text -> I" in said(*BUILD, "--input", "texts.jsonl")
    assert "1 text -> I" in said(*BUILD, "--input", "skills")  # a set in the BEIR layout
    assert held() == {"b": "two"}
    (place / "skills/corpus.jsonl").unlink()


def test_a_memory_that_no_folder_was_in_stays_when_one_is_brought_in(place, said):
    put(place, "texts.jsonl", '{"id": "memory", "text": "mine"}\n')
    said(*BUILD, "--input", "texts.jsonl")
    out = said(*BUILD, "--input", "skills")
    assert "3 added, 0 changed, 0 removed" in out
    assert held().keys() == {"git", "slugs", "team/deploy", "memory"}


@pytest.mark.parametrize("more", [(), ("--rebuild",)])
def test_a_damaged_index_of_a_folder_is_not_built_again_without_what_was_added(place, said, more):
    said(*BUILD, "--input", "skills")
    said("add", *CHECKPOINT, "--index", "I", "--id", "memory", "--text", "mine")
    (file,) = Path("I").glob("changes-*")
    content = file.read_bytes()
    damaged = bytearray(content)
    damaged[len(damaged) // 2] ^= 1
    file.write_bytes(damaged)
    err = said(*BUILD, "--input", "skills", *more, expect=2)
    assert "is not as it was written" in err
    assert "bring back a copy, or remove I to build it from the folder alone" in err
    file.write_bytes(content)
    assert "memory" in held()
    said(*BUILD, "--input", "skills", *more)
    assert "memory" in held()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--input", "nowhere"), "nowhere: cannot be read"),
        (("--input", "K"), "K: holds no skills or notes"),
        (("--input", "skills", "--shards", "S"), "--shards goes with JSONL"),
    ],
)
def test_what_cannot_be_an_index_is_said(place, said, arguments, message):
    if arguments[1] == "K":
        (place / "K/README.md").unlink(missing_ok=True)
    assert message in said(*BUILD, *arguments, expect=2)
    assert not (place / "I").exists()


@pytest.fixture
def filled(place, said) -> Path:
    """An index of four texts, added one by one and from a file."""
    put(place, "texts.jsonl", '{"id": "a", "text": "one", "metadata": {"kind": "tip", "n": 1}}\n')
    said(*BUILD, "--input", "texts.jsonl")
    more = [{"id": name, "text": f"text {name}", "metadata": {"n": 2}} for name in "bc"]
    put(place, "more.jsonl", "\n".join(map(json.dumps, more)))
    assert said("add", *CHECKPOINT, "--index", "I", "--input", "more.jsonl") == (
        "2 added, 0 replaced -> I\n"
    )
    given = ("--id", "d", "--text", "fourth\n\x1b[1mline", "--metadata", '{"tags": ["x"]}')
    said("add", *CHECKPOINT, "--index", "I", *given, "--metadata", "n=3", "--metadata", 'm="3"')
    return place


def test_a_text_that_is_added_again_is_replaced(filled, said):
    out = said("add", *CHECKPOINT, "--index", "I", "--id", "a", "--text", "other")
    assert out == "0 added, 1 replaced -> I\n"
    assert json.loads(said("show", "--index", "I", "a", "--json")) == [
        {"id": "a", "text": "other", "metadata": {}}
    ]


def test_update_changes_what_is_given_and_nothing_else(filled, said):
    update = ("update", *CHECKPOINT, "--index", "I")
    out = said(
        *update, "--id", "a", "--metadata", "n=5", "--metadata", "done=true", "--unset", "kind"
    )
    assert out == "1 updated (0 encoded) -> I\n"
    assert "(1 encoded)" in said(*update, "--id", "a", "--text", "new")
    put(filled, "texts.jsonl", '{"id": "b", "text": "text b"}\n{"id": "c", "text": "changed"}\n')
    assert said(*update, "--input", "texts.jsonl") == "2 updated (1 encoded) -> I\n"
    shown = json.loads(said("show", "--index", "I", "a", "b", "c", "--json"))
    assert [(one["text"], one["metadata"]) for one in shown] == [
        ("new", {"n": 5, "done": True}),
        ("text b", {}),
        ("changed", {}),
    ]
    before = held()
    put(filled, "texts.jsonl", '{"id": "b", "text": "x"}\n{"id": "z", "text": "x"}\n')
    assert "not in the index: z" in said(*update, "--input", "texts.jsonl", expect=2)
    assert held() == before


def test_delete_names_what_is_not_there_and_removes_nothing_then(filled, said, capsys):
    assert said("delete", "--index", "I", "a", "b", "a") == "2 deleted -> I\n"
    err = said("delete", "--index", "I", "c", "zz", expect=2)
    assert "not in the index: zz" in err
    assert held().keys() == {"c", "d"}
    assert main(["delete", "--index", "I", "c", "zz", "--missing-ok"]) == 0
    out, err = capsys.readouterr()
    assert (out, err) == ("1 deleted -> I\n", "not in the index: zz\n")
    assert held().keys() == {"d"}


def test_list_pages_through_the_index(filled, said):
    out = said("list", "--index", "I", "--limit", "3")
    assert "a\n      one\n      kind=tip n=1\nb\n" in out
    assert out.endswith("there are more: --after 'c'\n")
    out = said("list", "--index", "I", "--after", "c")
    assert out == 'd\n      fourth \\x1b[1mline\n      tags=["x"] n=3 m=3\n'
    assert said("list", "--index", "I", "--after", "d") == "no texts\n"
    page = json.loads(said("list", "--index", "I", "--where", "n>=2", "--limit", "1", "--json"))
    assert page == {"items": [{"id": "b", "text": "text b", "metadata": {"n": 2}}], "next": "b"}
    page = json.loads(said("list", "--index", "I", "--where", "n>=3", "--json"))
    assert [item["id"] for item in page["items"]] == ["d"]
    assert page["next"] is None
    assert "no item has metadata 'x'" in said("list", "--index", "I", "--where", "x=1", expect=2)
    assert "--limit must be" in said("list", "--index", "I", "--limit", "0", expect=2)


def test_show_prints_the_whole_text_and_no_control_characters(filled, said):
    assert said("show", "--index", "I", "d", "b") == (
        'id: d\nmetadata: tags=["x"] n=3 m=3\ntext:\n  fourth\n  \\x1b[1mline\n'
        "\nid: b\nmetadata: n=2\ntext:\n  text b\n"
    )
    assert "not in the index: zz" in said("show", "--index", "I", "zz", expect=2)


def test_texts_of_a_folder_that_are_changed_by_hand_are_warned_of(place, said, caplog):
    said(*BUILD, "--input", "skills")
    for command in (
        ("add", *CHECKPOINT, "--index", "I", "--id", "git", "--text", "x"),
        ("update", *CHECKPOINT, "--index", "I", "--id", "slugs", "--metadata", "n=1"),
        ("delete", "--index", "I", "team/deploy"),
    ):
        caplog.clear()
        said(*command)
        assert "came from a folder" in caplog.text
    assert "n=1" in said("list", "--index", "I")
    assert "name=" not in said("list", "--index", "I")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("add", "--id", "x"), "give --input, or --id and --text"),
        (("add", "--id", "x", "--text", "t", "--input", "F"), "not both"),
        (("add", "--id", "x", "--text", "t", "--metadata", "n"), "must read like NAME=VALUE"),
        (("add", "--id", "x", "--text", "t", "--metadata", "{n"), "is not JSON"),
        (("add", "--id", "x", "--text", "t", "--metadata", "n=1", "--metadata", "n=2"), "twice"),
        (("add", "--id", "x", "--text", "t", "--metadata", '{"n": 1e999}'), "cannot keep 'n'"),
        (("add", "--id", "x", "--text", " "), "empty"),
        (("update", "--text", "t"), "give --input, or --id"),
        (("update", "--id", "a"), "say what to change"),
        (("update", "--id", "a", "--unset", "zz"), "'a' has no metadata 'zz'"),
        (("update", "--id", "zz", "--text", "t"), "not in the index: zz"),
        (("update", "--input", "more.jsonl", "--unset", "n"), "--unset goes with --id"),
    ],
)
def test_wrong_arguments_are_said_and_change_nothing(filled, said, arguments, message):
    before = held()
    command, *rest = arguments
    assert message in said(command, *CHECKPOINT, "--index", "I", *rest, expect=2)
    assert held() == before


def test_looking_and_deleting_load_no_torch(filled):
    script = (
        "import sys; from subspace.cli.main import main; "
        "codes = [main([*command.split(), '--index', 'I']) for command in "
        "('list', 'show a', 'delete a')]; "
        "assert codes == [0, 0, 0]; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True, capture_output=True)
