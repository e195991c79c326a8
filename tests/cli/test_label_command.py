"""`subspace label` as its users call it."""

import gzip
import json
from dataclasses import replace
from pathlib import Path

import pytest
from stub_openai import read_texts, serve

from subspace.cli.main import main
from subspace.data.records import read_records
from subspace.encoder.cached_encoder import CachedEncoder
from subspace.labelling.checkpoint_annotator import CheckpointAnnotator
from subspace.model import load_checkpoint
from subspace.model.linear_heads import load_probes

ROOT = Path(__file__).resolve().parents[2]
CHECKPOINT = ROOT / "checkpoints" / "minilm"
RUBRIC = """
mood:
  description: How it feels.
  levels:
    calm: {meaning: at ease, example: All is well.}
    wild: {meaning: excited, example: At last!}
"""


@pytest.fixture
def texts(tmp_path) -> Path:
    """Thirty texts of the project's own corpus; one has labels of its own, the others none."""
    records = read_records([ROOT / "data" / "factorial"])["factorial"][::96]
    path = tmp_path / "texts.jsonl"
    lines = [{"id": r.id, "text": r.text, "mine": n} for n, r in enumerate(records)]
    lines[0]["factors"] = {"style": "mine", "complexity": 7}
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def keep(texts: Path, count: int) -> Path:
    """The first texts alone."""
    texts.write_text("".join(texts.read_text().splitlines(keepends=True)[:count]))
    return texts


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
        (["--report", "."], "--report: . is a folder"),
        (["--by", "clusters"], "nobody labels complexity, specificity, style (labelled are, by"),
    ],
)
def test_wrong_arguments_are_said_before_any_work(options, said, texts, capsys):
    label(*options, texts=texts, expect=2)
    assert said in capsys.readouterr().err
    assert not texts.with_name("store").exists()


def test_clusters_are_not_looked_for_where_no_topic_is_asked_for(texts):
    lines = label("--by", "clusters,measures", "--factors", "complexity", texts=texts)
    assert lines[1]["origins"] == {"complexity": "measures"}
    assert not texts.with_name("store").exists()


@pytest.mark.parametrize(
    ("option", "name"),
    [
        ("--output", "texts.jsonl"),
        ("--output", "link.jsonl"),
        ("--report", "texts.jsonl"),
        ("--report", "labelled.jsonl"),
        ("--answers", "labelled.jsonl"),
    ],
)
def test_no_file_of_a_run_is_written_over_another(option, name, texts, capsys):
    texts.with_name("link.jsonl").symlink_to(texts)
    before = texts.read_bytes()
    label(option, texts.with_name(name), texts=texts, expect=2)
    said = capsys.readouterr().err
    assert option in said
    assert "which would be lost" in said
    assert texts.read_bytes() == before


def test_a_name_that_ends_in_gz_is_gzipped(texts):
    packed = texts.with_name("packed.jsonl.gz")
    assert main(["label", "--input", str(texts), "--output", str(packed)]) == 0
    with gzip.open(packed, "rt") as stream:
        assert list(map(json.loads, stream)) == label(texts=texts)


def test_a_checkpoint_is_named_after_its_folder_and_known_by_its_tensors(texts, monkeypatch):
    monkeypatch.chdir(CHECKPOINT)
    lines = label("--by", "checkpoint", "--checkpoint", ".", texts=keep(texts, 2))
    assert lines[1]["origins"]["complexity"] == "checkpoint:minilm"
    checkpoint = load_checkpoint(CHECKPOINT)
    probes = load_probes(CHECKPOINT, layout=checkpoint.projection.layout)
    turned = replace(checkpoint.projection, weight=-checkpoint.projection.weight)
    fewer = replace(probes, heads={"complexity": probes.heads["complexity"]})
    encoder = CachedEncoder.open(checkpoint.encoder_spec(), root=texts.with_name("store"))
    first, same, other, another = (
        CheckpointAnnotator(one, read, encoder=encoder, name="k").identity
        for one, read in (
            (checkpoint, probes),
            (load_checkpoint(CHECKPOINT), probes),
            (replace(checkpoint, projection=turned), probes),
            (checkpoint, fewer),
        )
    )
    assert first == same
    assert len({first, other, another}) == 3


def test_a_language_model_is_asked_again_for_what_failed_before_an_interruption(texts, capsys):
    lines = keep(texts, 5).read_text().splitlines()
    refused, last = (json.loads(lines[place])["text"] for place in (1, 3))
    rubric = texts.with_name("rubric.yaml")
    rubric.write_text(RUBRIC)
    options = ["--by", "language-model", "--model", "m", "--factors", "mood", "--rubric", rubric]
    options += ["--answers", texts.with_name("answers.jsonl"), "--yes", "--batch", "1"]
    options += ["--parallel", "1"]

    def ask(faults: dict[str, str], *, expect: int = 0) -> tuple[int, set[str]]:
        """Number of labelled texts, and what was asked for them."""

        def behave(number, body):
            (entry,) = read_texts(json.loads(body))
            return faults.get(entry["text"], "good")

        with serve(behave, lambda text: {"mood": "calm"}) as stub:
            lines = label(*options, "--base-url", stub.base_url, texts=texts, expect=expect)
        return sum("mood" in line["factors"] for line in lines), {
            text for asked in stub.texts() for text in asked
        }

    _, asked = ask({refused: "refuse", last: "unauthorised"}, expect=2)
    assert refused in asked
    capsys.readouterr()
    count, asked = ask({refused: "refuse"})
    assert (count, len(asked)) == (4, 3)
    assert refused in asked
    said = capsys.readouterr().out
    assert f"1 text is left out without a label: {json.loads(lines[1])['id']}\n" in said
    assert ask({}) == (5, {refused})


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
