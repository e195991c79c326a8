"""`subspace label` as its users call it."""

import json
from pathlib import Path

import pytest

from subspace.cli.main import main
from subspace.records import read_records

ROOT = Path(__file__).resolve().parents[1]
CHECKPOINT = ROOT / "checkpoints" / "minilm"


@pytest.fixture
def texts(tmp_path) -> Path:
    """Thirty texts of the project's own corpus; one has labels of its own, the others none."""
    records = read_records([ROOT / "data" / "factorial"])["factorial"][::96]
    path = tmp_path / "texts.jsonl"
    lines = [{"id": r.id, "text": r.text, "mine": n} for n, r in enumerate(records)]
    lines[0]["factors"] = {"style": "mine", "complexity": 7}
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def label(*options, texts: Path, expect: int = 0) -> list[dict]:
    output = texts.with_name("labelled.jsonl")
    arguments = ["label", "--input", texts, "--output", output, *options]
    arguments += ["--store", texts.with_name("store")]
    assert main([str(argument) for argument in arguments]) == expect
    if expect:
        assert not output.exists()
        return []
    return [json.loads(line) for line in output.read_text().splitlines()]


def test_measures_label_what_people_did_not(texts, capsys):
    lines = label(texts=texts)
    assert lines[0]["factors"]["style"] == "mine"
    assert lines[0]["factors"]["complexity"] == 7
    assert lines[0]["origins"] == {"specificity": "measures"}
    assert [line["mine"] for line in lines] == list(range(len(lines)))
    records = read_records([texts.with_name("labelled.jsonl")])["labelled"]
    assert set(records[1].origins.values()) == {"measures"}
    assert "complexity: 1 by human, 29 by measures" in capsys.readouterr().out
    assert not list(texts.parent.glob(".*partial"))


def test_several_annotators_are_compared_and_the_first_one_counts(texts, capsys):
    report = texts.with_name("report.md")
    by = ["--by", "checkpoint,measures", "--checkpoint", CHECKPOINT, "--report", report]
    lines = label(*by, "--overwrite", texts=texts)
    assert {origin for line in lines for origin in line["origins"].values()} == {
        "checkpoint:minilm"
    }
    out = capsys.readouterr().out
    assert "| complexity | checkpoint:minilm | measures | 30 | Spearman |" in out
    assert "| complexity | human |" not in out  # of one text nothing can be said
    assert "| complexity | checkpoint:minilm | measures | 30 |" in report.read_text()


def test_topics_come_from_clusters(texts):
    lines = label("--by", "clusters,measures", "--factors", "topic,complexity", texts=texts)
    topics = {line["factors"]["topic"] for line in lines}
    assert 1 < len(topics) <= 3
    assert lines[1]["origins"] == {"topic": "clusters", "complexity": "measures"}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--by", "magic"], "no 'magic'"),
        (["--by", ""], "--by must read like"),
        (["--factors", "mood"], "nobody labels mood"),
        (["--factors", "style,,"], "--factors must read like"),
        (["--by", "checkpoint"], "needs --checkpoint"),
        (["--by", "checkpoint", "--checkpoint", "nowhere"], "nowhere"),
        (["--by", "clusters", "--factors", "topic", "--layers", "x"], "--layers must read like"),
        (["--report", "."], "is a folder"),
    ],
)
def test_wrong_arguments_are_said_before_any_work(options, said, texts, capsys):
    label(*options, texts=texts, expect=2)
    assert said in capsys.readouterr().err


def test_a_checkpoint_without_probes_says_so(texts, tmp_path, capsys):
    folder = tmp_path / "k"
    folder.mkdir()
    for name in ("config.json", "model.safetensors"):
        (folder / name).symlink_to(CHECKPOINT / name)
    label("--by", "checkpoint", "--checkpoint", folder, texts=texts, expect=2)
    assert "has no probes" in capsys.readouterr().err


def test_wrong_lines_are_said(texts, capsys):
    texts.write_text('{"id": "a"}\n')
    label(texts=texts, expect=2)
    assert "texts.jsonl:1: 'text' must be" in capsys.readouterr().err
