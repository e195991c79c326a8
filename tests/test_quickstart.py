"""`subspace quickstart`: raw files in; a checkpoint, a report and a search out."""

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from subspace.block_probes import load_probes
from subspace.checkpoint import load_checkpoint
from subspace.cli.main import main
from subspace.cli.quickstart import _assign_splits
from subspace.records import read_records

ROOT = Path(__file__).resolve().parents[1]


def run(*arguments: str, cwd: Path) -> str:
    result = subprocess.run(
        [sys.executable, "-m", "subspace", *arguments],
        cwd=cwd,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
        text=True,
        capture_output=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-2000:]
    return result.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Sixty files in folders whose names have a blank, and what was printed."""
    folder = tmp_path_factory.mktemp("quick")
    records = read_records([ROOT / "data" / "factorial"])["factorial"][::48]
    for number, record in enumerate(records):
        path = folder / "my texts" / f"part {number % 3}" / f"{number}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(record.text)
    (folder / "my texts" / "noise.md").write_bytes(b"\0\1")
    (folder / "said").write_text(run("quickstart", "my texts", "--output", "my out", cwd=folder))
    return folder


def test_it_says_what_it_did(folder):
    said = (folder / "said").read_text()
    assert "passed over: noise.md is binary" in said
    assert "60 texts -> my out/texts.jsonl" in said
    assert [f"[{n}/8]" in said for n in range(1, 9)] == [True] * 8
    assert "left out: labelled/complexity: a probe needs 30" in said
    assert said.count("query: like part") == 3
    assert "--toward complexity=-1" in said


def test_it_leaves_what_the_other_commands_use(folder):
    output = folder / "my out"
    records = read_records([output / "labelled.jsonl"])["labelled"]
    assert {r.split for r in records} == {"train", "validation", "test"}
    assert all(r.origins["topic"] == "clusters" for r in records)
    checkpoint = load_checkpoint(output / "checkpoint")
    assert checkpoint.training["weak"]["measures"]
    probes = load_probes(checkpoint.folder, layout=checkpoint.projection.layout)
    assert {"topic", "complexity", "specificity"} <= set(probes.heads)
    assert (output / "report" / "separation.html").exists()


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
    found = run(*shlex.split(commands[-2]), cwd=folder)
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
