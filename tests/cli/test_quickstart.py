"""`subspace quickstart`: raw files in; a checkpoint, a report and a search out."""

import json
import shlex
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from command_line import ROOT, run
from models import make_model

from subspace.cli.main import main
from subspace.cli.quickstart import _assign_splits, _by_hand, _check_labelled, _check_output
from subspace.data.records import read_sources
from subspace.errors import ConfigError
from subspace.fitting.block_spec import DEFAULT_BLOCKS, DEFAULT_LAYERS
from subspace.model import LinearHead, load
from subspace.model.toward import read_toward

COLOURS = ("red", "blue", "small", "large", "wooden")
WARES = ("mug", "chair", "vase", "lamp", "pillow", "knife", "table")
ZH = ("\u82f9\u679c", "\u6905\u5b50", "\u706f", "\u676f\u5b50", "\u5200", "\u684c\u5b50")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Sixty files in folders whose names have a blank, and what was printed."""
    folder = tmp_path_factory.mktemp("quick")
    records = read_sources([ROOT / "data" / "factorial"])["factorial"][::48]
    for number, record in enumerate(records):
        path = folder / "my texts" / f"part {number % 3}" / f"{number}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(record.text)
    (folder / "my texts" / "noise.md").write_bytes(b"\0\1")
    out = run("quickstart", "my texts", "--output", "my out", cwd=folder).stdout
    (folder / "said").write_text(out)
    return folder


def test_it_says_what_it_did(folder):
    said = (folder / "said").read_text()
    assert "passed over: noise.md is binary" in said
    assert "60 texts -> my out/texts.jsonl" in said
    assert [f"[{n}/8]" in said for n in range(1, 9)] == [True] * 8
    assert "not measured: labelled/complexity: a probe needs 30" in said
    assert said.count("query: like part") == 3
    assert "--toward complexity=-1" in said
    by_hand = [line.split()[:2] for line in said.splitlines() if line.startswith("  subspace ")]
    assert by_hand == [["subspace", name] for name in ("label", "adapt", "search")]


def test_it_leaves_what_the_other_commands_use(folder):
    output = folder / "my out"
    records = read_sources([output / "labelled.jsonl"])["labelled"]
    assert {r.split for r in records} == {"train", "validation", "test"}
    assert all(r.origins["topic"] == "clusters" for r in records)
    model = load(output / "checkpoint")
    assert {"topic", "complexity", "specificity"} <= set(model.heads)
    assert (output / "report" / "separation.html").exists()


@pytest.mark.parametrize(
    ("make", "gone"),
    [
        (lambda n: f"{COLOURS[n % 5]} {WARES[n % 7]} with {WARES[n // 7 % 7]}", {"style"}),
        (
            lambda n: f"\u8d2d\u4e70{ZH[n % 6]}\u548c{ZH[n // 6 % 6]}\u7684\u4eba" * (n % 3 + 1),
            set(),
        ),
    ],
    ids=["one register", "another language"],
)
def test_it_goes_on_with_the_blocks_that_can_be_had(make, gone, tmp_path):
    write(tmp_path / "texts.jsonl", *({"id": f"p{n}", "text": make(n)} for n in range(100)))
    out = run("quickstart", "texts.jsonl", "--output", "out", cwd=tmp_path)
    blocks = set(load(tmp_path / "out/checkpoint").layout)
    missing = {"style", "complexity", "specificity"} - blocks
    assert gone <= missing
    for name in missing:
        assert f"there is no block of '{name}'" in out.stderr
    for name in missing - {"style"}:
        assert f"passed over, as these texts gave no block of '{name}'" in out.stdout
    assert "[8/8]" in out.stdout
    assert "done in" in out.stdout


def test_a_command_that_it_names_does_the_step_alone(folder):
    said = (folder / "said").read_text()
    commands = [line[len("$ subspace ") :] for line in said.splitlines() if line.startswith("$ ")]
    assert [command.split()[0] for command in commands] == [
        "label",
        "fit",
        "probe",
        "index",
        "search",
        "search",
        "search",
    ]
    found = run(*shlex.split(commands[-2]), cwd=folder).stdout
    assert found.strip() in said


def test_simpler_texts_come_first_when_asked_for(folder):
    said = (folder / "said").read_text()
    plain, simpler = (part.split("[")[1:] for part in said.split("query: ")[1:3])
    assert plain != simpler


@pytest.mark.parametrize(
    ("names", "said"),
    [([], "holds no texts"), (["a.txt"], "1 usable texts, and 50 are needed")],
)
def test_too_little_is_refused_with_words(names, said, tmp_path, capsys):
    source = tmp_path / "texts"
    source.mkdir()
    for name in names:
        (source / name).write_text("one long text")
    arguments = ["quickstart", str(source), "--output", str(tmp_path / "out")]
    assert main(arguments) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_what_is_not_there_or_no_folder_is_refused(tmp_path, capsys):
    (tmp_path / "a.pdf").write_text("x")
    for name in ("none", "a.pdf"):
        assert main(["quickstart", str(tmp_path / name), "--output", str(tmp_path / "out")]) == 2
        assert "give a folder of texts, or one .jsonl" in capsys.readouterr().err


def test_wrong_lines_of_a_jsonl_are_named(tmp_path, capsys):
    (tmp_path / "a.jsonl").write_text('{"id": 1}\n')
    assert main(["quickstart", str(tmp_path / "a.jsonl"), "--output", str(tmp_path / "o")]) == 2
    assert "a.jsonl:1" in capsys.readouterr().err


@pytest.mark.parametrize(("count", "held"), [(60, 12), (150, 30), (200, 30), (1000, 100)])
def test_as_many_texts_are_held_out_as_probes_need(count, held):
    lines = [{"id": f"t{n}"} for n in range(count)]
    _assign_splits(lines)
    assert json.dumps(lines).count('"test"') == json.dumps(lines).count('"validation"') == held
    again = [{"id": f"t{n}"} for n in reversed(range(count))]
    _assign_splits(again)
    assert sorted(map(json.dumps, again)) == sorted(map(json.dumps, lines))


@pytest.fixture
def lines(tmp_path) -> Path:
    """Fifty labelled lines."""
    return write(tmp_path / "texts.jsonl", *(line(n) for n in range(50)))


def line(number: int, **more) -> dict:
    return {"id": f"t{number}", "text": f"some text {number}", **more}


def write(path: Path, *lines: dict) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def refused(source: Path, *, output: Path, capsys) -> str:
    before = {path: path.read_bytes() for path in source.parent.rglob("*.jsonl")}
    assert main(["quickstart", str(source), "--output", str(output)]) == 2
    assert before == {path: path.read_bytes() for path in source.parent.rglob("*.jsonl")}
    return capsys.readouterr().err


def test_labels_of_people_from_an_earlier_run_are_not_lost(lines, capsys):
    output = lines.parent / "my out"
    own = {"factors": {"style": "dry", "topic": "x"}, "origins": {"topic": "clusters"}}
    write(output / "labelled.jsonl", line(0), line(1, **own))
    said = refused(lines, output=output, capsys=capsys)
    assert "labelled.jsonl:1 holds" not in said
    assert "labelled.jsonl:2 holds a label of 'style' from people" in said
    assert f"subspace fit --config '{output / 'fit.yaml'}'" in said


def test_only_labels_that_the_source_lacks_are_labels_of_people_to_be_lost(lines):
    output = lines.parent / "out"
    write(output / "labelled.jsonl", line(0, factors={"style": "dry"}))
    given = [line(0, factors={"style": "dry"}), line(1)]
    _check_labelled(output, lines=given)
    for factors in ({"style": "wet"}, {}):
        with pytest.raises(ConfigError, match="from people"):
            _check_labelled(output, lines=[line(0, factors=factors), line(1)])
    machine = line(0, factors={"style": "dry"}, origins={"style": "features"})
    with pytest.raises(ConfigError, match="from people"):
        _check_labelled(output, lines=[machine])


@pytest.mark.parametrize("name", ["texts.jsonl", "labelled.jsonl"])
def test_its_own_files_are_no_input(name, lines, capsys):
    source = lines.rename(lines.with_name(name))
    assert "would be written over" in refused(source, output=source.parent, capsys=capsys)


def test_labels_of_another_kind_are_named_before_any_work(lines, capsys):
    wrong = [line(n, factors={"complexity": "hard", "topic": 3, "mood": "x"}) for n in range(2)]
    write(lines, line(9), *wrong)
    said = refused(lines, output=lines.parent / "out", capsys=capsys)
    assert "4 problems" in said
    assert "texts.jsonl:3: 'complexity' must be a number for quickstart, got 'hard'" in said
    assert "texts.jsonl:2: 'topic' must be a text for quickstart, got 3.0" in said


def test_a_folder_is_read_without_the_output_inside_it(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for name in ("a.txt", "out/b.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    assert main(["quickstart", ".", "--output", "out"]) == 2
    assert "holds 1 usable texts" in capsys.readouterr().err
    assert main(["quickstart", "out", "--output", "."]) == 2  # the texts lie in the output
    assert "holds 1 usable texts" in capsys.readouterr().err
    assert main(["quickstart", ".", "--output", "."]) == 2
    assert "would be written over" in capsys.readouterr().err


def test_it_fits_with_the_defaults_of_the_library(folder):
    model = load(folder / "my out" / "checkpoint")
    assert set(model.layout) == set(DEFAULT_BLOCKS)
    assert model.fingerprint.layers == DEFAULT_LAYERS
    assert model.recipe["blocks"]["style"] == DEFAULT_BLOCKS["style"].to_json()


@pytest.mark.parametrize("foreign", ["manifest.json", "records.jsonl", "report.txt"])
def test_an_output_with_other_things_is_refused_and_one_of_an_earlier_run_is_not(
    foreign, lines, capsys
):
    output = lines.parent / "out"
    output.mkdir()
    (output / foreign).write_text("mine")
    said = refused(lines, output=output, capsys=capsys)
    assert f"out holds {foreign}, which quickstart did not write: give a new or an empty" in said
    (output / foreign).unlink()
    for ours in ("fit.yaml", ".lock", "index", "store"):
        (output / ours).mkdir()
    _check_output(output, beside=[output / "store" / "deep"])
    with pytest.raises(ConfigError, match="holds store"):
        _check_output(output, beside=[lines])


def test_a_store_where_the_index_is_to_be_is_refused(lines, capsys):
    output = lines.parent / "out"
    given = ["quickstart", str(lines), "--output", str(output)]
    assert main([*given, "--store", str(output / "index" / "store")]) == 2
    assert "an index has its folder for itself: give another --store" in capsys.readouterr().err
    assert not output.exists()


@pytest.mark.parametrize(
    ("classes", "toward", "asked"),
    [
        (None, "topic=-1", []),
        (("blue", "red"), "topic:red=1", ["--classes", "blue,red"]),
        (("blue", "old", "red"), "topic:red=1", ["--classes", "blue,old,red"]),
        (("a,b", "c"), "topic:c=1", []),
    ],
)
def test_what_it_advises_for_a_topic_alone_can_be_searched(classes, toward, asked, tmp_path):
    outputs = len(classes or "1")
    weight = np.random.default_rng(0).normal(size=(outputs, 3)).astype(np.float32)
    head = LinearHead(weight=weight, bias=np.zeros(outputs, np.float32), classes=classes)
    model = replace(make_model(widths={"topic": 3}), heads={"topic": head})
    model.save(tmp_path / "checkpoint")
    by_hand, _, search = _by_hand(tmp_path)
    assert search[search.index("--toward") :] == ["--toward", toward]
    assert by_hand[by_hand.index("30") + 1 :] == asked
    assert set(read_toward(toward)) <= set(model.directions)
