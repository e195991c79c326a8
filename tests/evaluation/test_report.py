"""The report: everything in it, the same bytes for the same numbers, readable files."""

import json
import re
from dataclasses import replace

import numpy as np
import pytest
from worlds import EVERYTHING, PLANTED, RAW, cut, embedded, make_labels, plant

from subspace.evaluation import CROSS_CORPUS, IN_CORPUS, Report, measure_report, report_tables
from subspace.evaluation.base_retrieval import BaseRetrieval
from subspace.evaluation.report_tables import FILES, headline

BASE = BaseRetrieval(
    name="set",
    queries=10,
    raw_ndcg=0.4,
    ndcg=0.39,
    by_block={"topic": 0.1, "style": 0.2, "complexity": 0.3},
    correlation=0.9,
)


COUNT = 1200
pytestmark = pytest.mark.usefixtures("short_networks")


def measure(**changes) -> Report:
    known = make_labels(count=COUNT, source="known")
    new = make_labels(count=COUNT, source="new", seed=1)
    settings = {
        "sources": {"known": embedded(known), "new": embedded(new)},
        "raw": RAW,
        "seen": ["known"],
        "cross_corpus": {"known": cut(EVERYTHING)},
        "baselines": {"copies": cut(EVERYTHING)},
        "base": [BASE],
        "about": {"encoder": "tiny"},
        "seeds": 2,
    }
    return measure_report(cut(PLANTED), **{**settings, **changes})


def measure_one(*, labels=None, **changes) -> Report:
    """Of one source alone, which takes a fraction of the time."""
    labels = make_labels(count=COUNT, source="known") if labels is None else labels
    settings = {"sources": {"known": embedded(labels)}, "cross_corpus": {}, "baselines": {}}
    return measure(**{**settings, "base": [], "seeds": 1, **changes})


@pytest.fixture(scope="module")
def report(short_networks) -> Report:
    return measure()


@pytest.fixture(scope="module")
def one(short_networks) -> Report:
    return measure_one()


@pytest.fixture(scope="module")
def files(report, tmp_path_factory) -> dict[str, bytes]:
    return written(report, tmp_path_factory.mktemp("report") / "new" / "folder")


def refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def written(report: Report, folder) -> dict[str, bytes]:
    report.save(folder)
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_seen_sources_are_in_corpus_and_all_others_cross_corpus(report):
    where = {(r.source, r.model) for r in report.readings}
    assert ("known", IN_CORPUS) in where
    assert ("new", IN_CORPUS) not in where
    assert ("new", CROSS_CORPUS) in where
    own = report.matrix(IN_CORPUS)
    assert own.selectivity() > 0.75
    # The projection solved without `known` holds everything in every block.
    folds = [r for r in report.readings if r.model == CROSS_CORPUS and r.source == "known"]
    assert {r.block for r in folds} == {"topic", "style"}


def test_baselines_are_read_everywhere_and_the_raw_embedding_has_no_selectivity(report):
    copies = report.matrix("copies")
    assert copies.selectivity() == pytest.approx(0, abs=0.05)
    assert report.models[0] == "raw"
    assert {r.relative for r in report.readings if r.model == "raw"} == {1.0}


def test_the_files_are_a_json_a_markdown_a_png_and_an_html_page(files):
    assert sorted(files) == sorted(FILES)
    assert files["separation.png"].startswith(b"\x89PNG\r\n\x1a\n")
    assert files["separation.html"].startswith(b"<!doctype html>")


def test_the_json_holds_everything_and_no_nan(report, files):
    json.dumps(report.to_json(), allow_nan=False)
    document = json.loads(files["separation.json"], parse_constant=refuse_constant)
    assert document["about"] == {"encoder": "tiny", "seeds": 2}
    found = next(
        m
        for m in document["matrices"]
        if (m["model"], m["probe"], m["controlled"]) == (IN_CORPUS, "linear", True)
    )
    own = report.matrix(IN_CORPUS)
    assert found["values"] == own.values.tolist()
    assert found["selectivity"] == own.selectivity()
    low, high = found["selectivity_interval"]
    assert low < found["selectivity"] < high
    assert len(found["selectivity_by_seed"]) == 2
    assert len(document["readings"]) == len(report.readings)
    assert document["base_retrieval"][0]["relative"] == pytest.approx(0.975)
    for part in ("geometry", "source_probe", "disentanglement", "precisions", "lengths"):
        assert document[part]


def test_the_pages_say_the_headline_and_the_matrices(report, files):
    page, markdown = files["separation.html"].decode(), files["separation.md"].decode()
    selectivity = f"{report.matrix(CROSS_CORPUS).selectivity():.2f}"
    assert f"| cross-corpus | controlled | linear probe | {selectivity} |" in markdown
    assert f"<td>{selectivity}</td>" in page
    for title in ("Base retrieval", "DCI, MIG and SAP", "Geometry", "Control labels", "Confounds"):
        assert title in markdown
        assert title in page
    assert not re.search(r"\bnan\b", markdown + page)
    assert "http" not in page  # nothing is fetched
    rows = [line for line in markdown.splitlines() if line.startswith("|")]
    tables = "\n".join(rows).count("|---|")
    assert tables > 8


def test_the_input_layers_stand_beside_the_baselines(files):
    """They hold every factor, so they are shown with what they hold, and separate nothing."""
    part = measure_one(raw=slice(0, 7))
    held = part.matrix("all layers")
    values = ", ".join(f"{held.values[0, held.factors.index(block)]:.2f}" for block in part.blocks)
    line = f"| all layers | linear probe | {values} | 0.00 |"
    assert line in report_tables.to_markdown(part)
    # Where the raw embedding is all there is, there is nothing to show.
    assert "| all layers |" not in files["separation.md"].decode()


def test_texts_in_a_page_are_escaped(one, tmp_path):
    warned = replace(one, warnings=("<script>alert(1)</script>",))
    page = written(warned, tmp_path)["separation.html"].decode()
    assert "<script>" not in page
    assert "&lt;script&gt;" in page


def test_a_block_whose_scores_do_not_vary_is_warned_of(one):
    labels = make_labels(count=COUNT, source="known")
    x = plant(labels)
    x[:, 15] = 1
    assert one.warnings == ()
    still = measure_report(
        cut({"topic": slice(0, 4), "style": slice(15, 16)}),
        sources={"known": embedded(labels, x)},
        raw=RAW,
        seen=["known"],
        seeds=1,
    )
    assert "block 'style'" in still.warnings[0]


def test_the_same_seeds_give_the_same_bytes_and_other_seeds_do_not(one, tmp_path):
    first = written(one, tmp_path / "first")
    assert written(measure_one(), tmp_path / "again") == first
    other = written(measure_one(seeds=2), tmp_path / "other")
    assert all(other[name] != first[name] for name in FILES)


def test_nothing_to_read_is_a_report_that_says_so(tmp_path):
    labels = make_labels(count=60, source="known")
    report = measure_one(labels=labels)
    files = written(report, tmp_path)
    document = json.loads(files["separation.json"], parse_constant=refuse_constant)
    assert document["matrices"] == []
    assert headline(report)["rows"] == []
    assert "a probe needs 30" in files["separation.md"].decode()


def test_a_report_is_written_over_an_older_one_and_not_half(one, report, tmp_path, monkeypatch):
    first = written(replace(one, warnings=("older",)), tmp_path)
    monkeypatch.setattr("subspace.evaluation.report_tables.to_html", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        report.save(tmp_path)
    assert {path.name: path.read_bytes() for path in sorted(tmp_path.iterdir())} == first


def test_swap_accuracy_is_measured_where_there_are_groups():
    labels = make_labels(count=COUNT, source="known")
    groups = np.arange(len(labels)) // 6 // 4 * 6 + np.arange(len(labels)) % 6
    grouped = type(labels)(labels.source, labels.columns, groups=groups, splits=labels.splits)
    report = measure_one(labels=grouped)
    by_block = {(s.factor, s.model, s.block): s.accuracy for s in report.swaps}
    assert by_block["style", IN_CORPUS, "style"] > 0.6
    assert {factor for factor, _, _ in by_block} == {"topic", "style", "complexity"} - {
        "complexity"
    }


def test_the_scores_themselves_stand_beside_every_share_on_the_console_too(report):
    shown = str(report)
    table = report_tables.scores_table(report)
    assert table["head"][:3] == ["factor", "chance", "raw"]
    assert {"in-corpus", "cross-corpus", "copies"} <= set(table["head"])
    for row in table["rows"]:
        assert f"| {' | '.join(row)} |" in shown
        for cell in (cell for cell in row[2:] if cell != "-"):
            score, low, high = map(float, re.findall(r"[\d.]+", cell))
            assert low - 0.05 <= score <= high + 0.05
    assert table["title"] in report_tables.to_markdown(report)


def test_nothing_is_said_twice(one):
    shown = str(replace(one, warnings=("a warning",)))
    lines = [line for line in shown.splitlines() if line and not line.startswith("|")]
    assert len(lines) == len(set(lines))
    assert shown.count("a warning") == 1


def test_a_share_of_a_score_that_may_be_chance_is_not_given():
    """With few test texts, a raw score above chance by the margin can still be chance."""
    labels = make_labels(count=300, source="known")
    rng = np.random.default_rng(0)
    x = rng.normal(size=embedded(labels).x.shape).astype(np.float32)
    found = measure(
        sources={"known": replace(embedded(labels), x=x)}, cross_corpus={}, baselines={}, base=[]
    )
    assert all("at chance" in reason for reason in found.left_out)
    assert len(found.left_out) == 3
    assert not found.readings
    assert str(found).count("95 % interval") == 3
