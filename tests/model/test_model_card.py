"""A card says what was measured and stated, and where nothing was."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import ModelCard
from models import make_model, with_queries

from subspace.errors import ConfigError
from subspace.model import Model
from subspace.model.checkpoint import manifest
from subspace.model.model_card import make_card


@pytest.fixture(scope="module")
def model() -> Model:
    plain = make_model(widths={"topic": 3, "style": 2})
    return replace(plain, data={"known": "ab" * 32, "second": "cd" * 32})


def make_matrix(model: str, probe: str, *, controlled: bool, leak: float) -> dict[str, Any]:
    """As `subspace probe` writes one: what the blocks tell of three factors."""
    return {
        "model": model,
        "probe": probe,
        "controlled": controlled,
        "blocks": ["topic", "style"],
        "factors": ["topic", "style", "complexity"],
        "values": [[0.974, leak, None], [0.1234, 0.7512, 0.3]],
        "retention": {"topic": 0.974, "style": 0.7512},
        "leakage": {"topic": leak, "style": 0.2117},
        "selectivity": 0.86261 - leak / 2,
        "selectivity_interval": [0.5, 0.9] if controlled else None,
    }


def make_report(model: Model) -> dict[str, Any]:
    """A report on a model; cross-corpus its topic block leaks more."""
    return {
        "about": {
            "checkpoint": manifest(model),
            "projection": model.projection.digest,
            "data": {"known": "ab", "new": "cd"},
        },
        "matrices": [
            make_matrix(name, probe, controlled=controlled, leak=leak)
            for name, leak in (("in-corpus", 0.1), ("cross-corpus", 0.41))
            for controlled in (False, True)
            for probe in ("linear", "neighbours", "network")
        ],
        "base_retrieval": [
            {"name": "set", "queries": 10, "ndcg": 0.39, "raw_ndcg": 0.4, "relative": 0.975}
        ],
        "warnings": ["the factors topic and style are tied"],
        "left_out": ["specificity: too few texts"],
        "steering": [
            make_row("known", "blocks", 0.2, in_corpus=True),
            make_row("new", "blocks", 0.3),
            make_row("known", "counting", 0.1),
        ],
    }


def make_row(source: str, contender: str, gain: float, *, in_corpus: bool = False) -> dict:
    return {
        "source": source,
        "factor": "complexity",
        "kind": "toward",
        "contender": contender,
        "in_corpus": in_corpus,
        "gain": {"0.95": gain / 2, "0.9": gain},
    }


def write_report(report: dict[str, Any], folder: Path) -> Path:
    (folder / "separation.json").write_text(json.dumps(report))
    return folder


@pytest.fixture(scope="module")
def report(model, tmp_path_factory) -> Path:
    """The folder of a report."""
    return write_report(make_report(model), tmp_path_factory.mktemp("report"))


def rows(card: ModelCard, heading: str) -> dict[str, list[str]]:
    """The table below a heading: cells by the first of their line."""
    section = card.text.split(f"# {heading}")[1].split("\n#")[0]
    lines = [line.strip("| ").split(" | ") for line in section.splitlines() if line[:1] == "|"]
    return {line[0]: line[1:] for line in lines}


def matrix(folder: Path, name: str) -> dict:
    found = json.loads((folder / "separation.json").read_text())["matrices"]
    wanted = {"model": name, "probe": "linear", "controlled": True}
    return next(each for each in found if wanted.items() <= each.items())


def test_every_figure_of_the_card_is_the_reports(model, report):
    card = make_card(model, report=report)
    for name in ("cross-corpus", "in-corpus"):
        measured = matrix(report, name)
        shown = rows(card, f"{name.capitalize()}, linear probe")
        assert shown["block"] == measured["factors"]
        for block, values in zip(measured["blocks"], measured["values"], strict=True):
            told = ["-" if value is None else f"{value:.2f}" for value in values]
            assert [cell.strip("*") for cell in shown[block]] == told
    base = json.loads((report / "separation.json").read_text())["base_retrieval"][0]
    told = [f"{base[key]:.2f}" for key in ("ndcg", "raw_ndcg", "relative")]
    assert rows(card, "Base retrieval")["set"] == [str(base["queries"]), *told]


def test_a_card_shows_what_moves_the_hits_also_without_the_rest_of_a_report(
    model, report, tmp_path
):
    found = make_report(model)
    steering = {"about": found["about"], "rows": found["steering"]}
    (tmp_path / "steering.json").write_text(json.dumps(steering))
    for folder in (report, tmp_path):
        card = make_card(model, report=folder)
        section = card.text.split("## How far a weight moves the hits")[1].split("\n#")[0]
        assert "| complexity | toward | blocks | 2 | 0.250 |" in section
        assert "| complexity | toward | counting | 1 | 0.100 |" in section
        assert "Steering of known was measured with blocks that were fitted on it." in card.text
    assert "How well the blocks separate" not in card.text
    assert "was not read on corpora" not in card.text
    assert "Plain search with it was not compared" in card.text
    with pytest.raises(ConfigError, match=r"steering\.json is of another checkpoint"):
        make_card(with_queries(model), report=tmp_path)


def test_the_hub_reads_the_same_figures_from_the_metadata(model, report):
    card = make_card(model, report=report, name="owner/name")
    data = ModelCard(str(card)).data
    found = {(r.dataset_type, r.metric_type): r.metric_value for r in data.eval_results}
    for name in ("cross-corpus", "in-corpus"):
        selectivity = matrix(report, name)["selectivity"]
        assert found[name, "selectivity"] == pytest.approx(selectivity, abs=1e-4)
    assert found["set", "ndcg_at_10"] == 0.39
    assert data.library_name == "subspace"
    assert data.license is None


def test_layout_encoder_data_and_use_are_those_of_the_manifest(model):
    card = make_card(model, name="owner/name")
    assert rows(card, "Blocks")["topic"] == ["3"]
    assert rows(card, "Encoder")["model"] == ["some-model"]
    assert rows(card, "Encoder")["query_prompt"] == ["`'Query: '`"]
    assert rows(card, "Data")["known"][-1] == "`abababababab`"
    assert "`--encoder` must name one with the same files" in card.text
    by_name = replace(model.encoder, model="some-model")  # of the package, as `minilm` is
    assert "`--encoder`" not in make_card(replace(model, encoder=by_name)).text
    assert 'subspace.load("owner/name")' in card.text
    assert "Queries are projected by a matrix of their own." not in card.text
    assert "Queries are projected by a matrix of their own." in make_card(with_queries(model)).text


def test_without_a_report_nothing_is_claimed(model):
    card = make_card(model)
    assert "No measurement came with it" in card.text
    assert "How well" not in card.text
    assert card.data.eval_results is None


def test_a_report_without_cross_corpus_figures_makes_a_card_that_says_so(model, report, tmp_path):
    found = make_report(model)
    found["matrices"] = [one for one in found["matrices"] if one["model"] != "cross-corpus"]
    card = make_card(model, report=write_report({**found, "base_retrieval": []}, tmp_path))
    assert "### Cross-corpus" not in card.text
    assert "### In-corpus" in card.text
    assert "was not read on corpora that it was not fitted on" in card.text
    assert "was not compared with the raw embedding's" in card.text
    whole = make_card(model, report=report)
    assert "was not read on corpora" not in whole.text
    assert "was not compared" not in whole.text


def test_what_leaks_is_said_among_what_it_cannot_do(model, report):
    limits = make_card(model, report=report).text.split("## What it cannot do")[1]
    measured = matrix(report, "cross-corpus")
    for block, values in zip(measured["blocks"], measured["values"], strict=True):
        for factor, value in zip(measured["factors"], values, strict=True):
            leaks = block in measured["retention"] and factor != block and (value or 0) >= 0.3
            line = next((x for x in limits.splitlines() if f"The {block} block also" in x), "")
            assert (f"{value or 0:.2f} of {factor}" in line) == leaks
    assert "The style block keeps 0.75 of its own factor" in limits
    assert "The topic block keeps" not in limits
    for said in (
        "other languages",
        "The factors topic and style are tied.",
        "specificity: too few",
    ):
        assert said in limits


def test_licences_are_stated_or_not_stated_and_never_guessed(model, tmp_path):
    stated = "{checkpoint: cc-by-4.0, sources: {known: {licence: MIT, attribution: A. Author}}}"
    (tmp_path / "licences.yaml").write_text(stated)
    card = make_card(model, licences=tmp_path / "licences.yaml")
    assert rows(card, "Data")["known"][:2] == ["MIT", "A. Author"]
    assert rows(card, "Data")["second"][0] == "not stated"
    assert card.data.license == "cc-by-4.0"
    nothing = make_card(model)
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
def test_licences_that_cannot_be_used_are_refused(content, message, model, tmp_path):
    (tmp_path / "licences.yaml").write_text(content)
    with pytest.raises(ConfigError, match=f"--licences: .*{message}"):
        make_card(model, licences=tmp_path / "licences.yaml")


def test_a_report_that_is_missing_or_damaged_is_refused(model, tmp_path):
    with pytest.raises(ConfigError, match="write it with `subspace probe --output"):
        make_card(model, report=tmp_path)
    for content in ("{", "[]", "{}", '{"about": {"checkpoint": 3}, "matrices": []}'):
        (tmp_path / "separation.json").write_text(content)
        with pytest.raises(ConfigError, match="--report"):
            make_card(model, report=tmp_path)


def test_a_report_of_another_fit_or_another_encoder_is_refused(model, report):
    other = replace(
        model, projection=make_model(seed=1, widths=model.layout.to_widths()).projection
    )
    with pytest.raises(ConfigError, match=r"of another checkpoint \(projection differ\)"):
        make_card(other, report=report)
    other = replace(model, fingerprint=replace(model.fingerprint, pooling="cls"))
    with pytest.raises(ConfigError, match=r"of another checkpoint \(encoder differ\)"):
        make_card(other, report=report)


def test_what_else_a_model_holds_may_have_changed_since_it_was_measured(model, report):
    """Default weights are chosen after the measurement, and change no block."""
    other = replace(model, default_weights={"topic": 0.9, "style": 0.1}, recipe={})
    assert "How well" in make_card(other, report=report).text


@pytest.mark.parametrize(
    "change",
    [
        lambda report: report.update(matrices=[1]),
        lambda report: report.update(matrices={}),
        lambda report: report.update(base_retrieval=[{"name": "set"}]),
        lambda report: report.update(warnings=[3]),
        lambda report: report["about"].pop("projection"),
        lambda report: report["about"].update(checkpoint="text"),
        lambda report: report["about"]["checkpoint"].update(encoder="text"),
        lambda report: report["matrices"][0].update(values=[["0.5"]]),
        lambda report: report["matrices"][0]["values"].pop(),
        lambda report: report["matrices"][0]["values"][0].pop(),
        lambda report: report["matrices"][0].update(selectivity_interval=[0.1]),
        lambda report: report["matrices"][0].update(retention={"topic": None}),
    ],
)
def test_a_report_of_another_shape_is_one_sentence(change, model, report, tmp_path):
    found = json.loads((report / "separation.json").read_text())
    change(found)
    write_report(found, tmp_path)
    with pytest.raises(ConfigError, match=r"--report: .* is no separation report, or is damaged"):
        make_card(model, report=tmp_path)


def test_of_a_checkpoint_that_was_cut_the_card_has_the_widths_and_no_figures(model, report):
    card = make_card(model, report=report, cut={"style": 1})
    assert rows(card, "Blocks") == {"block": ["dimensions"], "---": ["---"], "style": ["1"]}
    assert "How well" not in card.text
    assert card.data.eval_results is None
    assert "was measured before blocks were cut or weighted" in card.text
    assert "Nothing was measured" in card.text
    assert "before blocks were cut" not in make_card(model, cut={"style": 1}).text
    whole = make_card(model, report=report)
    assert "How well" in whole.text
    assert "before blocks were cut" not in whole.text


def test_names_cannot_break_a_table(model):
    odd = replace(model, data={"a|b\nc": "ab" * 32})
    assert "| a\\|b c | not stated |" in make_card(odd).text
