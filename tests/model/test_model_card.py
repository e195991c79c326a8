"""A card says what was measured and stated, and where nothing was."""

import json
from dataclasses import replace

import pytest
from huggingface_hub import ModelCard
from test_checkpoint import make_checkpoint
from test_report import measure

from subspace.errors import ConfigError
from subspace.evaluation import CROSS_CORPUS, Report, write_report
from subspace.model import Checkpoint
from subspace.model.projection import digest_projection


@pytest.fixture(scope="module")
def checkpoint() -> Checkpoint:
    checkpoint = make_checkpoint(widths={"topic": 3, "style": 2})
    sources = {"known": "ab" * 32, "second": "cd" * 32}
    return replace(checkpoint, data_sha256=sources, training={"ranks": {"topic": 2}})


@pytest.fixture(scope="module")
def measured(checkpoint) -> Report:
    about = {
        "checkpoint": checkpoint.manifest(),
        "projection": digest_projection(checkpoint.projection),
        "data": {"known": "ab", "new": "cd"},
    }
    return measure(about=about, baselines={}, seeds=1)


@pytest.fixture(scope="module")
def report(measured, tmp_path_factory):
    """The folder of a report."""
    folder = tmp_path_factory.mktemp("report")
    write_report(measured, folder=folder)
    return folder


def rows(card: ModelCard, heading: str) -> dict[str, list[str]]:
    """The table below a heading: cells by the first of their line."""
    section = card.text.split(f"# {heading}")[1].split("\n#")[0]
    lines = [line.strip("| ").split(" | ") for line in section.splitlines() if line[:1] == "|"]
    return {line[0]: line[1:] for line in lines}


def matrix(folder, model: str) -> dict:
    found = json.loads((folder / "separation.json").read_text())["matrices"]
    wanted = {"model": model, "probe": "linear", "controlled": True}
    return next(each for each in found if wanted.items() <= each.items())


def test_every_figure_of_the_card_is_the_reports(checkpoint, report):
    card = checkpoint.generate_model_card(report=report)
    for model in ("cross-corpus", "in-corpus"):
        measured = matrix(report, model)
        shown = rows(card, f"{model.capitalize()}, linear probe")
        assert shown["block"] == measured["factors"]
        for block, values in zip(measured["blocks"], measured["values"], strict=True):
            told = ["-" if value is None else f"{value:.2f}" for value in values]
            assert [cell.strip("*") for cell in shown[block]] == told
    base = json.loads((report / "separation.json").read_text())["base_retrieval"][0]
    told = [f"{base[key]:.2f}" for key in ("ndcg", "raw_ndcg", "relative")]
    assert rows(card, "Base retrieval")["set"] == [str(base["queries"]), *told]


def test_the_hub_reads_the_same_figures_from_the_metadata(checkpoint, report):
    card = checkpoint.generate_model_card(report=report, name="owner/name")
    data = ModelCard(str(card)).data
    found = {(r.dataset_type, r.metric_type): r.metric_value for r in data.eval_results}
    for model in ("cross-corpus", "in-corpus"):
        selectivity = matrix(report, model)["selectivity"]
        assert found[model, "selectivity"] == pytest.approx(selectivity, abs=1e-4)
    assert found["set", "ndcg_at_10"] == 0.39
    assert data.library_name == "subspace"
    assert data.license is None


def test_layout_encoder_data_and_use_are_those_of_the_manifest(checkpoint):
    card = checkpoint.generate_model_card(name="owner/name")
    assert rows(card, "Blocks")["topic"] == ["3"]
    assert rows(card, "Encoder")["model"] == ["some-model"]
    assert rows(card, "Encoder")["query_prompt"] == ["`'Query: '`"]
    assert rows(card, "Data")["known"][-1] == "`abababababab`"
    assert "`--encoder` must name one with the same files" in card.text
    embedded = replace(checkpoint, encoder_model="minilm").generate_model_card()
    assert "`--encoder`" not in embedded.text
    assert 'load_checkpoint("owner/name")' in card.text


def test_without_a_report_nothing_is_claimed(checkpoint):
    card = checkpoint.generate_model_card()
    assert "No measurement came with it" in card.text
    assert "How well" not in card.text
    assert card.data.eval_results is None


def test_a_report_without_cross_corpus_figures_makes_a_card_that_says_so(
    checkpoint, report, measured, tmp_path
):
    readings = tuple(each for each in measured.readings if each.model != CROSS_CORPUS)
    models = tuple(model for model in measured.models if model != CROSS_CORPUS)
    write_report(replace(measured, readings=readings, models=models, base=()), folder=tmp_path)
    card = checkpoint.generate_model_card(report=tmp_path)
    assert "### Cross-corpus" not in card.text
    assert "### In-corpus" in card.text
    assert "was not read on corpora that it was not fitted on" in card.text
    assert "was not compared with the raw embedding's" in card.text
    whole = checkpoint.generate_model_card(report=report)
    assert "was not read on corpora" not in whole.text


def test_what_leaks_is_said_among_what_it_cannot_do(checkpoint, report):
    limits = checkpoint.generate_model_card(report=report).text.split("## What it cannot do")[1]
    measured = matrix(report, "cross-corpus")
    for block, values in zip(measured["blocks"], measured["values"], strict=True):
        for factor, value in zip(measured["factors"], values, strict=True):
            leaks = block in measured["retention"] and factor != block and (value or 0) >= 0.3
            line = next((x for x in limits.splitlines() if f"The {block} block also" in x), "")
            assert (f"{value or 0:.2f} of {factor}" in line) == leaks
    assert "other languages" in limits


def test_licences_are_stated_or_not_stated_and_never_guessed(checkpoint, tmp_path):
    stated = "{checkpoint: cc-by-4.0, sources: {known: {licence: MIT, attribution: A. Author}}}"
    (tmp_path / "licences.yaml").write_text(stated)
    card = checkpoint.generate_model_card(licences=tmp_path / "licences.yaml")
    assert rows(card, "Data")["known"][:2] == ["MIT", "A. Author"]
    assert rows(card, "Data")["second"][0] == "not stated"
    assert card.data.license == "cc-by-4.0"
    nothing = checkpoint.generate_model_card()
    assert rows(nothing, "Data")["known"][0] == "not stated"
    assert "Licence of the tensors: not stated." in nothing.text


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{sources: {knwon: {licence: MIT}}}", "names knwon, but .* known, second"),
        ("[]", "must hold"),
        ("{sources: {known: MIT}}", "must hold"),
        ("{licences: {}}", "must hold"),
        ("{checkpoint: 3}", "must hold"),
        ("{", "cannot read"),
        ("", "must hold"),
    ],
)
def test_licences_that_cannot_be_used_are_refused(content, message, checkpoint, tmp_path):
    (tmp_path / "licences.yaml").write_text(content)
    with pytest.raises(ConfigError, match=f"--licences: .*{message}"):
        checkpoint.generate_model_card(licences=tmp_path / "licences.yaml")


def test_a_report_that_is_missing_damaged_or_of_another_checkpoint_is_refused(
    checkpoint, report, tmp_path
):
    with pytest.raises(ConfigError, match="write it with `subspace probe --output"):
        checkpoint.generate_model_card(report=tmp_path)
    for content in ("{", "[]", "{}", '{"about": {"checkpoint": 3}, "matrices": []}'):
        (tmp_path / "separation.json").write_text(content)
        with pytest.raises(ConfigError, match="--report"):
            checkpoint.generate_model_card(report=tmp_path)
    other = replace(checkpoint, training={"ranks": {"topic": 1}})
    with pytest.raises(ConfigError, match=r"of another checkpoint \(training differ\)"):
        other.generate_model_card(report=report)


def test_a_fit_of_the_same_settings_with_another_seed_is_another_checkpoint(
    checkpoint, report, tmp_path
):
    projection = make_checkpoint(seed=1, widths={"topic": 3, "style": 2}).projection
    other = replace(checkpoint, projection=projection)
    assert other.manifest() == checkpoint.manifest()
    with pytest.raises(ConfigError, match=r"of another checkpoint \(tensors differ\)"):
        other.generate_model_card(report=report)
    change_report(report, tmp_path, lambda found: found["about"].pop("projection"))
    other.generate_model_card(report=tmp_path)  # of a version that did not record it


@pytest.mark.parametrize(
    "change",
    [
        lambda report: report.update(matrices=[1]),
        lambda report: report.update(matrices={}),
        lambda report: report.update(base_retrieval=[{"name": "set"}]),
        lambda report: report.update(warnings=[3]),
        lambda report: report["about"].update(checkpoint="text"),
        lambda report: report["about"]["checkpoint"].update(encoder="text"),
        lambda report: report["matrices"][0].update(values=[["0.5"]]),
        lambda report: report["matrices"][0]["values"].pop(),
        lambda report: report["matrices"][0]["values"][0].pop(),
        lambda report: report["matrices"][0].update(selectivity_interval=[0.1]),
        lambda report: report["matrices"][0].update(retention={"topic": None}),
    ],
)
def test_a_report_of_another_shape_is_one_sentence(change, checkpoint, report, tmp_path):
    change_report(report, tmp_path, change)
    with pytest.raises(ConfigError, match=r"--report: .* is no separation report, or is damaged"):
        checkpoint.generate_model_card(report=tmp_path)


def change_report(source, target, change) -> None:
    found = json.loads((source / "separation.json").read_text())
    change(found)
    (target / "separation.json").write_text(json.dumps(found))


def test_of_a_checkpoint_that_was_cut_the_card_has_the_widths_and_no_figures(checkpoint, report):
    card = checkpoint.generate_model_card(report=report, cut={"style": 1})
    assert rows(card, "Blocks") == {"block": ["dimensions"], "---": ["---"], "style": ["1"]}
    assert "How well" not in card.text
    assert card.data.eval_results is None
    assert "was measured before blocks were cut or weighted" in card.text
    assert "Nothing was measured" in card.text
    assert "before blocks were cut" not in checkpoint.generate_model_card(cut={"style": 1}).text
    whole = checkpoint.generate_model_card(report=report)
    assert "How well" in whole.text
    assert "before blocks were cut" not in whole.text


def test_names_cannot_break_a_table(checkpoint):
    odd = replace(checkpoint, data_sha256={"a|b\nc": "ab" * 32})
    assert "| a\\|b c | not stated |" in odd.generate_model_card().text
