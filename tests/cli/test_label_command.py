"""`subspace label` as its users call it."""

import argparse
import gzip
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from stub_openai import read_texts, serve

from subspace.blocks import BlockLayout
from subspace.cli import label, rewrite
from subspace.data.records import read_sources
from subspace.encoder import Encoder, EncoderSpec
from subspace.encoder.cached_encoder import CachedEncoder
from subspace.errors import SubspaceError
from subspace.labelling import CheckpointAnnotator
from subspace.model import LinearHead, Model, Projection
from subspace.model import load as load_model

ROOT = Path(__file__).resolve().parents[2]
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
    records = read_sources([ROOT / "data" / "factorial"])["factorial"][::96]
    path = tmp_path / "texts.jsonl"
    lines = [{"id": r.id, "text": r.text, "mine": n} for n, r in enumerate(records)]
    lines[0]["factors"] = {"style": "mine", "complexity": 7}
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def keep(texts: Path, count: int) -> Path:
    """The first texts alone."""
    texts.write_text("".join(texts.read_text().splitlines(keepends=True)[:count]))
    return texts


@pytest.fixture(scope="module")
def checkpoint(tiny_qwen, tmp_path_factory) -> Path:
    """A model of the tiny encoder, with a head of numbers and one of categories."""
    rng = np.random.default_rng(0)

    def draw(*shape: int) -> np.ndarray:
        return rng.normal(size=shape).astype(np.float32)

    layout = BlockLayout.from_widths({"complexity": 4, "style": 6, "residual": 8})
    encoder = Encoder(EncoderSpec(model=str(tiny_qwen)))
    model = Model(
        projection=Projection(weight=draw(layout.dim, 32), mean=draw(32) / 10, layout=layout),
        encoder=EncoderSpec(model=str(tiny_qwen)),
        fingerprint=encoder.fingerprint,
        heads={
            "complexity": LinearHead(weight=draw(1, 4), bias=draw(1), classes=None),
            "style": LinearHead(weight=draw(2, 6), bias=draw(2), classes=("plain", "loud")),
        },
    )
    folder = tmp_path_factory.mktemp("checkpoints") / "tiny"
    model.save(folder)
    return folder


def call(*arguments: object) -> None:
    """Runs a command in this process."""
    parser = argparse.ArgumentParser()
    commands = parser.add_subparsers()
    for command in (label, rewrite):
        command.add_command(commands)
    parsed = parser.parse_args([str(argument) for argument in arguments])
    parsed.run(parsed)


def run(*options: object, texts: Path) -> list[dict]:
    output = texts.with_name("labelled.jsonl")
    store = texts.with_name("store")
    call("label", "--input", texts, "--output", output, "--store", store, *options)
    return [json.loads(line) for line in output.read_text().splitlines()]


def refuse(*options: object, texts: Path) -> str:
    """The message of a run that must be refused and write nothing."""
    with pytest.raises(SubspaceError) as info:
        run(*options, texts=texts)
    assert not texts.with_name("labelled.jsonl").exists()
    return str(info.value)


def test_features_label_what_people_did_not(texts, capsys):
    lines = run(texts=texts)
    assert lines[0]["factors"]["style"] == "mine"
    assert lines[0]["factors"]["complexity"] == 7
    assert lines[0]["origins"] == {"specificity": "features"}
    assert [line["mine"] for line in lines] == list(range(len(lines)))
    records = read_sources([texts.with_name("labelled.jsonl")])["labelled"]
    assert set(records[1].origins.values()) == {"features"}
    assert "complexity: 1 by human, 29 by features" in capsys.readouterr().out
    assert not list(texts.parent.glob(".*partial"))


def test_several_annotators_are_compared_and_the_first_one_counts(texts, checkpoint, capsys):
    report = texts.with_name("report.md")
    by = ["--by", "checkpoint,features", "--checkpoint", checkpoint, "--report", report]
    lines = run(*by, "--factors", "complexity,style", "--overwrite", texts=texts)
    assert {origin for line in lines for origin in line["origins"].values()} == {"checkpoint:tiny"}
    assert {line["factors"]["style"] for line in lines} == {"plain", "loud"}
    assert all(isinstance(line["factors"]["complexity"], float) for line in lines)
    out = capsys.readouterr().out
    assert "| complexity | checkpoint:tiny | features | 30 | Spearman |" in out
    assert "| style | checkpoint:tiny | features | 30 | Cramér's V |" in out
    assert "| complexity | human |" not in out  # nothing can be compared over one text
    assert "| complexity | checkpoint:tiny | features | 30 |" in report.read_text()


def test_heads_read_what_the_model_predicts(texts, checkpoint):
    by = ["--by", "checkpoint", "--checkpoint", checkpoint, "--factors", "complexity,style"]
    lines = run(*by, "--overwrite", texts=keep(texts, 5))
    model = load_model(checkpoint)
    predicted = model.predict(model.encode_document([line["text"] for line in lines]))
    assert [line["factors"]["style"] for line in lines] == predicted["style"]
    labelled = [line["factors"]["complexity"] for line in lines]
    assert labelled == pytest.approx(predicted["complexity"], abs=0.0011)


def test_topics_come_from_clusters(texts, tiny_qwen, checkpoint):
    by = ["--by", "clusters,features", "--factors", "topic,complexity"]
    for encoder in (["--encoder", tiny_qwen, "--layers", "1,2"], ["--checkpoint", checkpoint]):
        lines = run(*by, *encoder, texts=texts)
        topics = {line["factors"]["topic"] for line in lines}
        assert 1 < len(topics) <= 3
        assert lines[1]["origins"] == {"topic": "clusters", "complexity": "features"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--by", "magic"], "no annotator 'magic'"),
        (["--by", ""], "--by must read like"),
        (["--factors", "mood"], "no annotator labels mood"),
        (["--factors", "style,,"], "--factors must read like"),
        (["--by", "checkpoint"], "needs --checkpoint"),
        (["--by", "checkpoint", "--checkpoint", "nowhere"], "nowhere"),
        (["--by", "clusters", "--factors", "topic", "--layers", "x"], "--layers must read like"),
        (["--report", "."], "--report: . is a folder"),
        (
            ["--by", "clusters"],
            "no annotator labels complexity, specificity, style (clusters labels",
        ),
    ],
)
def test_wrong_arguments_are_refused_before_any_work(options, message, texts):
    assert message in refuse(*options, texts=texts)
    assert not texts.with_name("store").exists()


def test_clusters_are_not_looked_for_if_no_topic_is_asked_for(texts):
    lines = run("--by", "clusters,features", "--factors", "complexity", texts=texts)
    assert lines[1]["origins"] == {"complexity": "features"}
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
def test_no_file_of_a_run_is_written_over_another(option, name, texts):
    texts.with_name("link.jsonl").symlink_to(texts)
    before = texts.read_bytes()
    model = ["--by", "language-model", "--base-url", "http://127.0.0.1:9/v1", "--model", "m"]
    options = model if option == "--answers" else []
    message = refuse(*options, option, texts.with_name(name), texts=texts)
    assert option in message
    assert "which would be lost" in message
    assert texts.read_bytes() == before


def test_a_name_that_ends_in_gz_is_gzipped(texts):
    packed = texts.with_name("packed.jsonl.gz")
    call("label", "--input", texts, "--output", packed)
    with gzip.open(packed, "rt") as stream:
        assert list(map(json.loads, stream)) == run(texts=texts)


def test_a_checkpoint_is_named_after_its_folder_and_known_by_its_tensors(
    texts, checkpoint, monkeypatch
):
    monkeypatch.chdir(checkpoint)
    by = ["--by", "checkpoint", "--checkpoint", ".", "--factors", "complexity"]
    lines = run(*by, texts=keep(texts, 2))
    assert lines[1]["origins"]["complexity"] == "checkpoint:tiny"
    model = load_model(checkpoint)
    projection = replace(model.projection, weight=-model.projection.weight)
    encoder = CachedEncoder.open(model.encoder, root=texts.with_name("store"))
    first, same, other, another = (
        CheckpointAnnotator(one, encoder=encoder, name="k").identity
        for one in (
            model,
            load_model(checkpoint),
            replace(model, projection=projection),
            replace(model, heads={"complexity": model.heads["complexity"]}),
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

    def ask(faults: dict[str, str], *, fails: bool = False) -> tuple[int, set[str]]:
        """Number of labelled texts, and what was asked for them."""

        def behave(number, body):
            (entry,) = read_texts(json.loads(body))
            return faults.get(entry["text"], "good")

        with serve(behave, lambda text: {"mood": "calm"}) as stub:
            given = [*options, "--base-url", stub.base_url]
            found = [] if fails else run(*given, texts=texts)
            assert not fails or "OPENAI_API_KEY" in refuse(*given, texts=texts)
        return sum("mood" in line["factors"] for line in found), {
            text for asked in stub.texts() for text in asked
        }

    _, asked = ask({refused: "refuse", last: "unauthorised"}, fails=True)
    assert refused in asked
    capsys.readouterr()
    count, asked = ask({refused: "refuse"})
    assert (count, len(asked)) == (4, 3)
    assert refused in asked
    said = capsys.readouterr().out
    assert f"1 text is left out without a label: {json.loads(lines[1])['id']}\n" in said
    assert ask({}) == (5, {refused})


def test_a_checkpoint_without_heads_is_refused(texts, checkpoint, tmp_path):
    replace(load_model(checkpoint), heads={}).save(tmp_path / "k")
    message = refuse("--by", "checkpoint", "--checkpoint", tmp_path / "k", texts=texts)
    assert "the checkpoint k has no heads" in message


def test_wrong_lines_are_named(texts):
    texts.write_text('{"id": "a"}\n')
    assert "texts.jsonl:1: 'text' must be" in refuse(texts=texts)


def test_rewrite_prints_what_it_wrote(texts, capsys):
    output = texts.with_name("rewritten.jsonl")
    options = ["--factors", "specificity", "--rules", 1]
    texts.write_text('{"id": "a", "text": "Anna met 27 people in Boston."}\n')
    call("rewrite", "--input", texts, "--output", output, *options)
    assert len(output.read_text().splitlines()) == 2
    assert f"1 text, 1 rewrite -> {output}" in capsys.readouterr().out
