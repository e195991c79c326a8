"""The command line as its users call it."""

import json
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from command_line import ROOT, run, tiny

from subspace.data import read_documents
from subspace.model import load
from subspace.retrieval import Index

SGD = [part for name in ("demo", "sgd") for part in ("--config", ROOT / "configs" / f"{name}.yaml")]
BLOCKS = {"topic": 6, "style": 4, "complexity": 4, "specificity": 4}


@pytest.fixture(scope="module")
def trained(labelled_folder, tiny_qwen, tmp_path_factory) -> Path:
    """A folder in which a checkpoint and an index were made by the command line."""
    folder = tmp_path_factory.mktemp("trained")
    given = tiny(labelled_folder, tiny_qwen)
    run("fit", "--config", ROOT / "configs" / "demo.yaml", *given, cwd=folder)
    run("fit", *SGD, "--output", "checkpoints/sgd", *given, cwd=folder)
    source = next(iter(sorted(labelled_folder.iterdir()))) / "records.jsonl"
    (folder / "texts.jsonl").write_bytes(source.read_bytes())
    run(
        *("index", "--checkpoint", "checkpoints/demo", "--input", "texts.jsonl"),
        *("--output", "index"),
        cwd=folder,
    )
    return folder


def test_validate_and_test_read_the_file_to_resume_from(trained, labelled_folder, tiny_qwen):
    settings = [*SGD, "--output", "checkpoints/sgd", *tiny(labelled_folder, tiny_qwen)]
    checkpoint = ["--ckpt_path", "checkpoints/sgd/last.ckpt"]
    assert "val/loss" in run("validate", *settings, *checkpoint, cwd=trained).stdout
    assert "test/loss" in run("test", *settings, *checkpoint, cwd=trained).stdout


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ([], "--ckpt_path is missing"),
        (["--ckpt_path", "best", "--output", "nowhere"], "there is no file nowhere/best.ckpt"),
        (["--ckpt_path", "last", "--output", "nowhere"], "there is no file nowhere/last.ckpt"),
        (["--ckpt_path", "texts.jsonl"], "texts.jsonl is no checkpoint"),
        (
            [
                *("--ckpt_path", "last"),
                "--model.blocks={topic: 6, complexity: 4, style: 4, specificity: 4}",
            ],
            "blocks: {'topic': 6, 'style': 4, 'complexity': 4, 'specificity': 4}, not",
        ),
    ],
    ids=["none", "no best", "no last", "no checkpoint", "other blocks"],
)
def test_what_cannot_be_scored_is_refused(extra, message, trained, labelled_folder, tiny_qwen):
    settings = [*SGD, "--output", "checkpoints/sgd", *tiny(labelled_folder, tiny_qwen)]
    result = run("validate", *settings, *extra, cwd=trained, expect=2)
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert "val/loss" not in result.stdout


def test_the_best_checkpoint_of_a_run_can_be_named_so(trained, labelled_folder, tiny_qwen):
    settings = [*SGD, "--output", "checkpoints/sgd", *tiny(labelled_folder, tiny_qwen)]
    assert "val/loss" in run("validate", *settings, "--ckpt_path", "best", cwd=trained).stdout


def test_the_closed_form_needs_no_trainer(trained):
    recipe = load(trained / "checkpoints/demo").recipe
    assert (recipe["solver"], recipe["steps"]) == ("closed_form", 0)
    assert not (trained / "checkpoints/demo/last.ckpt").exists()


def test_embed_writes_blocks_ids_and_layout_alike_from_both_forms(trained):
    found = {}
    for form in ("checkpoints/sgd", "checkpoints/sgd/best.ckpt"):
        run(
            *("embed", "--checkpoint", form, "--input", "texts.jsonl", "--output", "out.npz"),
            cwd=trained,
        )
        with np.load(trained / "out.npz", allow_pickle=False) as file:
            found[form] = {name: file[name] for name in file.files}
    folder, lightning = found.values()
    assert set(folder) == {"embeddings", "ids", "layout"}
    assert folder["embeddings"].dtype == np.float32
    ids = [json.loads(line)["id"] for line in (trained / "texts.jsonl").read_text().splitlines()]
    assert folder["ids"].tolist() == ids
    layout = json.loads(str(folder["layout"]))
    assert list(layout) == ["topic", "style", "complexity", "specificity"]
    assert folder["embeddings"].shape == (len(ids), sum(layout.values()))
    np.testing.assert_array_equal(folder["embeddings"], lightning["embeddings"])


def write_set(folder: Path, *, judgements: str = "") -> Path:
    """A retrieval set of ten songs that are asked for."""
    folder.mkdir()
    for name, frame in (("corpus", "the {} song of the {} choir"), ("queries", "play {} by {}")):
        lines = (
            json.dumps({"_id": f"{name[0]}{n}", "text": frame.format("lo" * n, "la" * (n % 3))})
            for n in range(1, 11)
        )
        (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n")
    if judgements:
        (folder / "qrels.tsv").write_text(judgements)
    return folder


@pytest.fixture(scope="module")
def reads_queries(trained, labelled_folder, tiny_qwen) -> Path:
    """A checkpoint whose encoder reads more of a query than the prompt before it."""
    given = [*tiny(labelled_folder, tiny_qwen), "--data.encoder.max_length=128"]
    demo = ROOT / "configs" / "demo.yaml"
    run("fit", "--config", demo, *given, "--output", "checkpoints/long", cwd=trained)
    return trained / "checkpoints/long"


def test_adapt_writes_a_checkpoint_to_index_and_search_with(trained, reads_queries):
    write_set(trained / "songs", judgements="q1\tc1\t1\nq2\tc2\t1\n")
    base = ["adapt", "--checkpoint", reads_queries, "--pairs", "songs"]
    out = run(*base, "--output", "checkpoints/adapted", cwd=trained).stdout
    assert "10 queries, 2 with judgements, 10 documents" in out
    model, before = (load(trained / "checkpoints" / name) for name in ("adapted", "long"))
    assert list(model.recipe["queries"]) == ["songs"]
    assert "it predicts no labels of topic any more" in out
    assert model.projection.digest != before.projection.digest
    new = ["--checkpoint", "checkpoints/adapted"]
    run(
        *("index", *new, "--input", "songs/corpus.jsonl", "--output", "songs/index"),
        cwd=trained,
    )
    found = run("search", *new, "--index", "songs/index", "--query", "play lolo", cwd=trained)
    assert "query: play lolo" in found.stdout
    run("export", *new, "--to", "folder", "songs/shared", cwd=trained)
    assert "adapted to 10 queries of songs" in (trained / "songs/shared/README.md").read_text()


@pytest.mark.parametrize(
    ("judgements", "message"),
    [
        ("", None),
        ("q1\tnone\t1\n", "judges an unknown query or document: 'q1', 'none'"),
        ("q1\n", "qrels.tsv:1: must be query-id, corpus-id and a grade, got 'q1'"),
    ],
)
def test_what_adapt_reads_is_checked(judgements, message, reads_queries, tmp_path):
    folder = write_set(tmp_path / "set", judgements=judgements)
    base = ["adapt", "--checkpoint", reads_queries, "--pairs", folder]
    expect = 2 if message else 0
    said = run(*base, "--output", "out", cwd=tmp_path, expect=expect)
    assert message is None or message in said.stderr
    assert (tmp_path / "out").exists() == (message is None)
    missing = [*base[:-1], tmp_path / "nowhere", "--output", "other"]
    assert "nowhere" in run(*missing, cwd=tmp_path, expect=2).stderr


def test_probe_writes_the_report(trained, labelled_folder):
    """In-corpus, and cross-corpus from the settings that the checkpoint carries."""
    out = run(
        *("probe", "--checkpoint", "checkpoints/demo", "--data", labelled_folder),
        *("--output", "report", "--seeds", "1"),
        cwd=trained,
    ).stdout
    report = json.loads((trained / "report/separation.json").read_text())
    assert report["blocks"] == ["topic", "style", "complexity", "specificity"]
    assert report["readings"]
    models = {matrix["model"] for matrix in report["matrices"]}
    assert {"in-corpus", "random rotation", "PCA"} <= models
    # Topic alone is labelled in two sources: no other block can be solved without its own.
    assert {row["factor"] for row in report["steering"]} == {"topic"}
    projection = load(trained / "checkpoints/demo").projection
    assert report["about"]["projection"] == projection.digest
    assert "| topic |" in out
    assert "| topic | alike | blocks |" in out
    assert (trained / "report/separation.md").is_file()
    assert (trained / "report/separation.html").read_text().startswith("<!doctype html>")
    assert (trained / "report/separation.png").read_bytes().startswith(b"\x89PNG")


def test_texts_that_the_checkpoint_has_not_seen_are_cross_corpus(trained, labelled_folder):
    (trained / "new").mkdir(exist_ok=True)
    lines = (labelled_folder / "parallel" / "records.jsonl").read_text().replace("I saw", "We saw")
    (trained / "new" / "records.jsonl").write_text(lines)
    run(
        *("probe", "--checkpoint", "checkpoints/demo", "--data", "new", "--seeds", "1"),
        *("--output", "report-new"),
        cwd=trained,
    )
    report = json.loads((trained / "report-new/separation.json").read_text())
    models = {matrix["model"] for matrix in report["matrices"]}
    assert "cross-corpus" in models
    assert "in-corpus" not in models


LOG = ("--usage", "u.db", "--clock", "steps")


def search(cwd: Path, *arguments: str) -> dict:
    base = ("search", "--checkpoint", "checkpoints/demo", "--index", "index", "--json")
    return json.loads(run(*base, *arguments, cwd=cwd).stdout)


def test_search_prints_parts_that_sum_to_the_score(trained):
    found = search(trained, "--query", "how to cook a stew", "-k", "7")
    blocks = ["topic", "style", "complexity", "specificity"]
    assert found["weights"]["relevance"] == dict.fromkeys(blocks, 0.0) | {"topic": 1.0}
    assert found["weights"]["recency"] == dict.fromkeys(blocks, 0.0)
    assert len(found["hits"]) == 7
    for hit in found["hits"]:
        parts = [value for block in hit["parts"].values() for value in block.values()]
        assert hit["score"] == pytest.approx(sum(parts), abs=1e-6)
    scores = [hit["score"] for hit in found["hits"]]
    assert scores == sorted(scores, reverse=True)


def test_two_weightings_give_two_rankings(trained):
    topic = search(trained, "--query", "how to cook a stew", "--weights", "topic=1")
    style = search(trained, "--query", "how to cook a stew", "--weights", "style=1")
    assert [hit["id"] for hit in topic["hits"]] != [hit["id"] for hit in style["hits"]]
    assert all(set(hit["parts"]["style"].values()) == {0} for hit in topic["hits"])


def test_search_prints_a_table_for_people(trained):
    out = run(
        *("search", "--checkpoint", "checkpoints/demo", "--index", "index"),
        *("--query", "stew", "--weights", "topic=0.7,style=0.1"),
        cwd=trained,
    ).stdout
    assert "weights: topic=0.7 style=0.1 complexity=0 specificity=0" in out
    assert " 1. " in out


def test_what_was_used_comes_back_in_block_and_in_item_scope(trained):
    """Uses are logged, and the same search then ranks what was used, and its like, higher."""
    first = search(trained, "--query", "stew", "-k", "100")["hits"]
    last = first[-1]["id"]
    for _ in range(2):
        out = run(
            *("feedback", "--usage", "usage.db", "--clock", "steps", "--index", "index"),
            *("--used", f"{last}=1"),
            cwd=trained,
        ).stdout
        assert "1 use -> usage.db" in out
    options = ("--query", "stew", "--preset", "recency_importance", "--usage", "usage.db")
    for scope in ("item", "block"):
        found = search(trained, *options, "--scope", scope, "-k", "100")
        assert found["scope"] == scope
        ranks = [hit["id"] for hit in found["hits"]]
        assert ranks.index(last) < (1 if scope == "item" else 50)
    both = search(trained, *options, "--scope", "both")
    assert [found["scope"] for found in both] == ["block", "item"]
    # Counter-check: relevance alone ranks as before.
    assert search(trained, "--query", "stew", "-k", "100", "--usage", "usage.db")["hits"] == first


def test_a_search_explains_its_hits_in_words(trained):
    base = ("search", "--checkpoint", "checkpoints/demo", "--index", "index", "--query", "slugs")
    shown = run(*base, "--explain", "-k", "2", cwd=trained).stdout
    assert "By block: topic" in shown
    assert "The hit above" in shown
    (found,) = [json.loads(run(*base, "--explain", "--json", "-k", "2", cwd=trained).stdout)]
    assert found["hits"][1]["explanation"].startswith(f"'{found['hits'][1]['id']}' is hit 2 of 2")
    plain = json.loads(run(*base, "--json", "-k", "2", cwd=trained).stdout)
    assert "explanation" not in plain["hits"][0]


def test_the_log_goes_out_as_jsonl_and_comes_back(trained):
    run("feedback", "--usage", "one.db", "--used", "a=1", "--used", "b", cwd=trained)
    strange = ("--used", '"c=d/e\\n"=0.5', "--used", '"f=1"')
    run("feedback", "--usage", "strange.db", *strange, "--export", "uses.jsonl", cwd=trained)
    uses = [json.loads(line) for line in (trained / "uses.jsonl").read_text().splitlines()]
    assert [(use["item"], use.get("success")) for use in uses] == [("c=d/e\n", 0.5), ("f=1", None)]
    run("feedback", "--usage", "one.db", "--export", "uses.jsonl", cwd=trained)
    run("feedback", "--usage", "two.db", "--import", "uses.jsonl", cwd=trained)
    run("feedback", "--usage", "two.db", "--export", "again.jsonl", cwd=trained)
    uses = [json.loads(line) for line in (trained / "uses.jsonl").read_text().splitlines()]
    assert [(use["item"], use["success"]) for use in uses] == [("a", 1.0), ("b", None)]
    assert (trained / "again.jsonl").read_text() == (trained / "uses.jsonl").read_text()


def test_agents_share_an_index_and_a_log_each_with_its_own_uses_and_pins(trained):
    last, before = (
        search(trained, "--query", "stew", "-k", "100")["hits"][n]["id"] for n in (-1, -2)
    )
    log = ("--usage", "agents.db", "--clock", "steps")
    use = ("feedback", *log, "--index", "index", "--namespace", "alice")
    out = run(*use, "--used", f"{last}=1", "--query-id", "q", "--pin", before, cwd=trained).stdout
    assert "1 use -> agents.db" in out and "1 pin -> agents.db" in out
    again = run(*use, "--used", f"{last}=1", "--query-id", "q", "--pin", before, cwd=trained).stdout
    assert "0 uses -> agents.db (1 counted before)" in again and "0 pins" in again
    options = ("--query", "stew", "--usage", "agents.db", "--preset", "recency_importance")
    scoped = (*options, "--scope", "item", "-k", "2")
    found = search(trained, *scoped, "--namespace", "alice")
    assert found["namespace"] == "alice"
    assert {hit["id"] for hit in found["hits"]} == {last, before}
    # The counter-check: for another they are what they were, and without the pin as well.
    other = search(trained, *scoped, "--namespace", "bob")["hits"]
    assert not {hit["id"] for hit in other} & {last, before}
    assert search(trained, *scoped)["hits"] == other
    own = ("feedback", *log, "--namespace", "alice")
    assert "1 pin removed" in run(*own, "--unpin", before, cwd=trained).stdout
    assert before not in [h["id"] for h in search(trained, *scoped, "--namespace", "alice")["hits"]]
    run(*own, "--export", "alice.jsonl", cwd=trained)
    run("feedback", *log, "--namespace", "bob", "--export", "bob.jsonl", cwd=trained)
    assert json.loads((trained / "alice.jsonl").read_text())["namespace"] == "alice"
    assert (trained / "bob.jsonl").read_text() == ""


def test_an_old_item_that_did_well_sinks_only_without_the_floor(trained):
    first = search(trained, "--query", "stew", "-k", "100")["hits"][-1]["id"]
    run("feedback", "--usage", "old.db", "--clock", "steps", "--used", f"{first}=1", cwd=trained)
    uses = "".join(json.dumps({"item": "elsewhere", "time": n}) + "\n" for n in range(1, 90))
    (trained / "later.jsonl").write_text(uses)
    run("feedback", "--usage", "old.db", "--import", "later.jsonl", cwd=trained)
    options = ("--query", "stew", "--usage", "old.db", "--riv", "0.9,0.1,0", "--scope", "item")
    ranks = [
        [hit["id"] for hit in search(trained, *options, *floor, "-k", "999")["hits"]].index(first)
        for floor in ((), ("--recency-floor", "0"))
    ]
    assert ranks[0] == 0 and ranks[1] > 50


def test_the_bandit_chooses_and_learns_from_ratings_once(trained):
    options = ("--usage", "bandit-usage.db", "--bandit", "arms.db", "--seed", "3")
    found = search(trained, "--query", "stew", "--preset", "auto", *options)
    rate = ("feedback", *options, "--query-id", found["query_id"], "--ratings", "relevance=5")
    assert f"rated: {found['arm']}" in run(*rate, cwd=trained).stdout
    assert "was rated before" in run(*rate, cwd=trained, expect=2).stderr
    wrong = ("feedback", *options, "--query-id", "nobody", "--success", "1")
    assert "no query 'nobody'" in run(*wrong, cwd=trained, expect=2).stderr


def test_what_is_used_of_a_search_tells_the_bandit_which_hits_were_good(trained):
    """Counter-check: without a success, or without the bandit's file, it is only logged."""
    options = ("--usage", "hits-usage.db", "--bandit", "hits-arms.db")
    found = search(trained, "--query", "stew", "--preset", "auto", *options)
    good = found["hits"][0]["id"]
    rate = ("feedback", *options, "--query-id", found["query_id"], "--used", good)
    assert "compared" not in run(*rate, cwd=trained).stdout
    rate = (*rate[:-1], f"{good}=1")
    told = run(*rate, cwd=trained).stdout
    assert f"compared by its hits: {found['arm']}" in told and "1 use" in told
    # Told of again, or of a search with weights of its own: logged, and nothing is learned.
    again = run(*rate, cwd=trained).stdout
    assert "the bandit learned nothing" in again and "0 uses -> " in again
    own = (*rate[:-4], "--query-id", "with own weights", *rate[-2:])
    told = run(*own, cwd=trained).stdout
    assert "the bandit learned nothing" in told and "1 use -> " in told


def test_a_search_is_rated_in_its_own_namespace(trained):
    options = ("--usage", "own-usage.db", "--bandit", "own-arms.db", "--namespace", "alice")
    found = search(trained, "--query", "stew", "--preset", "auto", *options)
    rate = ("feedback", *options, "--query-id", found["query_id"])
    other = (*rate, "--namespace", "bob")
    whole = run(*other, "--success", "1", cwd=trained, expect=2).stderr
    assert "no query" in whole and "namespace 'bob'" in whole
    good = f"{found['hits'][0]['id']}=1"
    assert "learned nothing" in run(*other, "--used", good, cwd=trained).stdout
    assert "compared by its hits" in run(*rate, "--used", good, cwd=trained).stdout


def test_a_query_can_be_an_item_a_composition_or_a_file_of_texts(trained):
    everything = search(trained, "--query", "stew", "-k", "3")["hits"]
    item = everything[0]["id"]
    like = search(trained, "--like", item)
    assert item not in [hit["id"] for hit in like["hits"]]
    composed = search(
        trained,
        "--compose",
        "topic=stew",
        "--compose",
        f"style=@{item}",
        "--weights",
        "topic=1,style=1",
    )
    assert set(composed["hits"][0]["parts"]["complexity"].values()) == {0}
    lines = [{"id": "q1", "text": "stew"}, {"id": "q2", "text": "goal"}]
    (trained / "queries.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    batch = search(trained, "--queries", "queries.jsonl", "-k", "3")
    assert [found["query"] for found in batch] == ["q1", "q2"]
    assert [hit["id"] for hit in batch[0]["hits"]] == [hit["id"] for hit in everything]


def test_hits_can_be_filtered_by_what_labels_them(trained):
    first = json.loads((trained / "texts.jsonl").read_text().splitlines()[0])
    wanted = first["factors"]["specificity"]
    where = ("--where", f"specificity={wanted!r}", "-k", "50")
    assert [hit["id"] for hit in search(trained, "--query", "stew", *where)["hits"]] == [
        first["id"]
    ]
    base = ("search", "--checkpoint", "checkpoints/demo", "--index", "index", "--query", "stew")
    for where, said in (
        ("specificity=many", "metadata 'specificity' is a number here, never a text"),
        (f'specificity="{wanted!r}"', "metadata 'specificity' is a number here, never a text"),
        ("specificty>=2", "no item has metadata 'specificty'"),
    ):
        assert said in run(*base, "--where", where, cwd=trained, expect=2).stderr
    above = search(trained, "--query", "stew", "--where", f"specificity>{wanted!r}", "-k", "50")
    assert above["hits"]
    assert all(hit["metadata"]["specificity"] > wanted for hit in above["hits"])


def test_index_says_how_much_scores_vary(trained):
    out = run(
        *("index", "--checkpoint", "checkpoints/demo", "--input", "texts.jsonl"),
        *("--output", "index-again", "--dtype", "float16"),
        cwd=trained,
    ).stdout
    assert "standard deviation of scores among" in out
    assert "topic" in out


def test_an_index_is_centred_on_its_texts(trained):
    model, records = load(trained / "checkpoints/demo"), read_documents(trained / "texts.jsonl")
    raw = model.open_encoder().encode([record.text for record in records])
    wanted = model.centre_of(raw)
    with Index.open(trained / "index", model) as index:
        found = index.blocks.engine.centre
        stored = index.blocks.engine.fetch([record.id for record in records]).vectors
    np.testing.assert_allclose(found.embedding, wanted.embedding, atol=1e-5)
    assert found.score_spreads == pytest.approx(wanted.score_spreads, rel=1e-3)
    np.testing.assert_allclose(stored, model.centred_on(raw).project(raw).array, atol=1e-3)
    assert not np.allclose(stored, model.project(raw).array, atol=1e-2)


SEARCH = ("--checkpoint", "checkpoints/demo", "--index", "index", "--query", "stew")
LOG_OF_BESIDE = ("--usage", "beside.db", "--bandit", "beside-arms.db")


def test_wrong_feedback_logs_nothing_that_stood_beside_it(trained):
    """So that the same, corrected, counts once."""
    beside = ("--usage", "beside.db", "--used", "a=1", "--query-id", "nobody", "--success", "1")
    run("feedback", *beside, cwd=trained, expect=2)
    missing = run("feedback", *beside, "--bandit", "beside-arms.db", cwd=trained, expect=2)
    assert "there is no bandit beside-arms.db" in missing.stderr
    assert not (trained / "beside-arms.db").exists()
    assert not (trained / "beside.db").exists()
    # What can only be seen in the log: there was no such search.
    run("search", *SEARCH, *LOG_OF_BESIDE, "--preset", "auto", cwd=trained)
    assert (
        "no query 'nobody'"
        in run("feedback", *beside, "--bandit", "beside-arms.db", cwd=trained, expect=2).stderr
    )
    run("feedback", "--usage", "beside.db", "--export", "beside.jsonl", cwd=trained)
    assert (trained / "beside.jsonl").read_text() == ""


def test_ratings_can_be_on_another_scale_and_any_chosen_search_can_be_rated(trained):
    (trained / "arms.yaml").write_text("a: {topic: 1}\nb: {style: 1}\n")
    options = ("--usage", "scale.db", "--bandit", "scale-arms.db", "--arms", "arms.yaml")
    out = run(
        *("search", "--checkpoint", "checkpoints/demo", "--index", "index", "--query", "stew"),
        *("--preset", "auto", *options),
        cwd=trained,
    ).stdout
    query_id = out.partition("query id ")[2].split()[0]
    rate = ("feedback", *options, "--query-id", query_id, "--ratings", "relevance=0.8")
    assert "between 1.0 and 5.0" in run(*rate, cwd=trained, expect=2).stderr
    assert "rated: " in run(*rate, "--scale", "0,1", cwd=trained).stdout


@pytest.mark.parametrize(
    ("arms", "message"),
    [
        ("1: {topic: 1}", "must hold weights by name"),
        ("presets: balanced", "must hold weights by name"),
        ("calm: balanced", "must hold weights by name"),
        ("presets: [best]", "no preset 'best'"),
        ("blocks: {1: {topic: 1}}", "cannot be called"),
        ("a: {mood: 1}", "no block 'mood'"),
        ("blocks: {m: {mood: 1}}", "no block 'mood'"),
    ],
)
def test_wrong_arms_are_one_sentence(trained, arms, message):
    (trained / "wrong.yaml").write_text(arms)
    result = run(
        *("search", "--checkpoint", "checkpoints/demo", "--index", "index", "--query", "stew"),
        *("--preset", "auto", "--usage", "arms-usage.db", "--bandit", "wrong-arms.db"),
        *("--arms", "wrong.yaml"),
        cwd=trained,
        expect=2,
    )
    assert message in result.stderr
    assert "Traceback" not in result.stderr


def test_reading_makes_no_usage_log(trained):
    for command in (
        ("feedback", "--usage", "typo.db", "--export", "uses.jsonl"),
        (
            *("search", "--checkpoint", "checkpoints/demo", "--index", "index"),
            *("--query", "stew", "--usage", "typo.db"),
        ),
    ):
        assert "there is no usage log typo.db" in run(*command, cwd=trained, expect=2).stderr
    assert not (trained / "typo.db").exists()


def test_an_index_that_cannot_be_built_leaves_the_one_that_is_there(trained):
    base = ("index", "--checkpoint", "checkpoints/demo", "--input", "texts.jsonl")
    target = "kept.db#items"
    run(*base, "--output", target, cwd=trained)
    run(*base, "--output", target, "--encoder", "nowhere", cwd=trained, expect=2)
    found = run(
        *("search", "--checkpoint", "checkpoints/demo", "--index", target, "--json"),
        *("--query", "stew"),
        cwd=trained,
    ).stdout
    assert len(json.loads(found)["hits"]) == 10


def test_settings_of_an_engine_are_taken_and_unknown_ones_refused(trained):
    base = ("index", "--checkpoint", "checkpoints/demo", "--input", "texts.jsonl")
    fast = ("--output", "fast", "--engine", "faiss", "--setting", "method=hnsw")
    run(*base, *fast, cwd=trained)
    manifest = json.loads((trained / "fast" / "manifest.json").read_text())
    assert manifest["settings"]["method"] == "hnsw"
    wrong = run(*base, "--output", "slow", "--setting", "speed=1", cwd=trained, expect=2)
    assert "has no setting 'speed'; it has dtype" in wrong.stderr


@pytest.mark.parametrize("output", ["index-usage", "index-usage.db#items"])
def test_index_says_how_much_recency_and_importance_vary(output, trained):
    run("feedback", "--usage", "varies.db", "--used", "a=1", cwd=trained)
    out = run(
        *("index", "--checkpoint", "checkpoints/demo", "--input", "texts.jsonl"),
        *("--output", output, "--usage", "varies.db"),
        cwd=trained,
    ).stdout
    assert "standard deviation of recency among the texts: topic" in out
    assert "standard deviation of importance among the texts: topic" in out
    wrong = run(
        *("index", "--checkpoint", "checkpoints/demo", "--input", "texts.jsonl"),
        *("--output", "never", "--usage", "nowhere.db"),
        cwd=trained,
        expect=2,
    )
    assert "there is no usage log nowhere.db" in wrong.stderr
    assert not (trained / "never").exists()


def test_presets_are_listed_with_their_values(tmp_path):
    listed = json.loads(run("presets", "--json", cwd=tmp_path).stdout)
    assert len(listed) == 12
    assert listed["balanced"] == [0.33, 0.33, 0.34]
    assert "importance_relevance" in run("presets", cwd=tmp_path).stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--query", "stew", "--like", "a"), "give one of"),
        ((), "give one of"),
        (("--query", ""), "empty"),
        (("--like", "nobody"), "not in the index: nobody"),
        (("--compose", "mood=x"), "no block 'mood'"),
        (("--compose", "topic"), "--compose must read like"),
        (("--query", "stew", "--preset", "best"), "no preset 'best'"),
        (("--query", "stew", "--preset", "balanced"), "--usage on the command line"),
        (("--query", "stew", "--riv", "1,2"), "riv=0.15,0.15,0.7"),
        (("--query", "stew", "--riv", "1,0,0", "--preset", "balanced"), "--riv goes with"),
        (("--query", "stew", "--preset", "auto", "--usage", "u.db"), "--bandit is needed"),
        (
            ("--query", "stew", "--preset", "auto", "--bandit", "b.db"),
            "--preset auto needs --usage: the usage log in which it notes what it chose",
        ),
        *(
            (("--query", "stew", *more, option, "7"), f"{option} has no effect here: it needs")
            for option in ("--arms", "--bandit", "--seed")
            for more in ((), ("--preset", "balanced", *LOG))
        ),
        (("--query", "stew", "-k", "0"), "k must be a whole number"),
        (("--query", "stew", "--candidates", "0"), "candidates must be a whole number"),
        (("--query", "stew", "--where", "topic"), "--where must read like"),
        (("--query", "stew", *LOG, "--recency", "fast"), "linear:50"),
        (("--query", "stew", *LOG, "--recency", "linear:7d"), "counts steps"),
        (("--query", "stew", *LOG, "--half-life", "soon"), "a time must read like"),
        (("--query", "stew", "--half-life", "5"), "--half-life is of a usage log: give --usage"),
        (("--query", "stew", "--recency-floor", "0"), "--recency-floor is of a usage log"),
        (("--query", "stew", "--namespace", "alice"), "--namespace is of a usage log"),
        (("--query", "stew", *LOG, "--importance-floor", "2"), "must be between 0 and 1"),
        (("--query", "stew", *LOG, "--namespace", ""), "the namespace is empty"),
        (("--query", "stew", "--usage", "texts.jsonl"), "texts.jsonl cannot be used"),
    ],
)
def test_a_wrong_search_is_one_sentence(trained, arguments, message):
    result = run(
        *("search", "--checkpoint", "checkpoints/demo", "--index", "index", *arguments),
        cwd=trained,
        expect=2,
    )
    assert message in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "say what to do"),
        (("--used", "a=2"), "between 0 and 1"),
        (("--used", "a=often"), "a number is needed after '=', got 'often'; an id that holds '='"),
        (("--used", '"a=b"0.5'), "--used must read like ID"),
        (("--used", '"a=b'), "the quotes around an id must close"),
        (("--used", "a=1", "--used", "a=0"), "given twice"),
        (("--used", "nobody", "--index", "index"), "not in the index index: nobody"),
        (("--success", "1"), "give its --query-id"),
        (("--import", "nowhere.jsonl"), "nowhere.jsonl: cannot be read"),
        (("--used", "a", "--namespace", ""), "the namespace is empty: give a name"),
        (("--used", "a", "--namespace", "a\nb"), "a namespace has no control characters"),
        (("--used", "a", "--namespace", "a" * 201), "at most 200 characters"),
        (("--pin", "nobody", "--index", "index"), "not in the index index: nobody"),
        (("--pin", "a", "--unpin", "a"), "'a' is given in both"),
        (("--pin", ""), "a pin names the id of an item"),
        (
            ("--used", "a", "--recency", "linear:5"),
            "--recency has no effect here: it needs a search",
        ),
        (("--used", "a", "--bandit", "b"), "--bandit has no effect here: it needs --success or"),
        (("--used", "a", "--scale", "0,9"), "--scale has no effect here: it needs --ratings"),
        (("--export", "b", "--query-id", "q"), "--query-id has no effect here: it needs --used"),
        (("--export", "wrong.db"), "--export: wrong.db is the file of --usage too, which would"),
        (("--import", "b", "--export", "b"), "--export: b is the file of --import too"),
        (
            ("--export", "b", "--bandit", "b", "--success", "1", "--query-id", "q"),
            "--export: b is the file of --bandit too, which would be lost",
        ),
    ],
)
def test_wrong_feedback_is_one_sentence(trained, arguments, message):
    result = run("feedback", "--usage", "wrong.db", *arguments, cwd=trained, expect=2)
    assert message in result.stderr
    assert "Traceback" not in result.stderr


def test_what_orders_nothing_is_said(trained):
    given = ["search", "--checkpoint", "checkpoints/demo", "--index", "index", "--query", "stew"]
    for option in (("--scope", "item"), ("--scope", "both"), ("--candidates", "50")):
        said = run(*given, *option, cwd=trained).stderr
        assert f"WARNING: {option[0]} orders nothing here: relevance alone counts" in said
    leaning = run(*given, "--candidates", "50", "--toward", "complexity=1", cwd=trained)
    assert "orders nothing" not in leaning.stderr
    with_log = (*given, *LOG, "--preset", "balanced", "--scope", "item", "--candidates", "50")
    run("feedback", "--usage", "usage.db", "--used", "0", cwd=trained)
    assert "orders nothing" not in run(*with_log, cwd=trained).stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--dtype", "float16", "--setting", "dtype=float32"), "--dtype float16 contradicts"),
        (("--setting", "dtype=float16", "--setting", "dtype=float32"), "'dtype' is given twice"),
        (("--rebuild",), "--rebuild has no effect here: it needs a folder of notes"),
        (("--shards", "s", "--encoder-dtype", "auto"), "--encoder-dtype has no effect here"),
    ],
)
def test_an_index_is_not_built_with_options_that_contradict_or_do_nothing(
    options, message, trained
):
    given = ["index", "--checkpoint", "checkpoints/demo", "--input", "texts.jsonl"]
    result = run(*given, "--output", "contrary", *options, cwd=trained, expect=2)
    assert message in result.stderr
    assert not (trained / "contrary").exists()


def test_a_log_goes_through_links_and_pipes_and_replaces_neither(trained, tmp_path):
    run("feedback", "--usage", "piped.db", "--clock", "steps", "--used", "a", cwd=trained)
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("target")
    read: list[str] = []
    reader = threading.Thread(target=lambda: read.append((tmp_path / "pipe").read_text()))
    reader.start()
    for name in ("pipe", "link"):
        out = run("feedback", "--usage", "piped.db", "--export", tmp_path / name, cwd=trained)
        assert out.stdout == f"1 use -> {tmp_path / name}\n"
    reader.join(timeout=30)
    assert json.loads(read[0])["item"] == "a"
    assert (tmp_path / "target").read_text() == read[0]
    assert (tmp_path / "pipe").is_fifo()
    assert (tmp_path / "link").is_symlink()


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ("mood=1", "no block 'mood'; the blocks are topic, style"),
        ("topic=-1", "'topic'"),
        ("topic=nan", "'topic'"),
        ("topic=0,style=0", "at least one"),
        ("topic", "topic=0.7,style=0.1"),
    ],
)
def test_wrong_weights_are_refused_in_one_line(trained, weights, message):
    result = run(
        *("search", "--checkpoint", "checkpoints/demo", "--index", "index"),
        *("--query", "stew", "--weights", weights),
        cwd=trained,
        expect=2,
    )
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert result.stdout == ""


@pytest.mark.parametrize(
    ("command", "output", "message"),
    [
        ("fit", "foreign", "foreign/config.json was not written by subspace"),
        ("index", "foreign", "foreign is no index and no empty folder"),
        ("index", "texts.jsonl", "texts.jsonl is no index and no empty folder"),
        ("index", "texts.jsonl/below", "cannot write the index texts.jsonl/below"),
        ("embed", "folder.npz", "folder.npz is a folder"),
        ("embed", "texts.jsonl/below.npz", "cannot write to texts.jsonl"),
        ("adapt", "foreign", "foreign/config.json was not written by subspace"),
    ],
)
def test_an_output_that_cannot_be_is_one_sentence_before_any_work(
    command, output, message, trained, labelled_folder, tiny_qwen
):
    (trained / "foreign").mkdir(exist_ok=True)
    (trained / "foreign" / "config.json").write_text('{"model_type": "bert"}')
    (trained / "folder.npz").mkdir(exist_ok=True)
    if not (trained / "set").exists():
        write_set(trained / "set")
    reading = ["--checkpoint", "checkpoints/demo", "--input", "texts.jsonl", "--store", "untouched"]
    arguments = {
        "fit": [
            *("--config", ROOT / "configs" / "sgd.yaml", *tiny(labelled_folder, tiny_qwen)),
            "--data.store=untouched",
        ],
        "index": reading,
        "embed": reading,
        "adapt": ["--checkpoint", "checkpoints/demo", "--pairs", "set", "--store", "untouched"],
    }
    result = run(command, *arguments[command], "--output", output, cwd=trained, expect=2)
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert not (trained / "untouched").exists(), "nothing was encoded"
    assert [path.name for path in (trained / "foreign").iterdir()] == ["config.json"]


@pytest.mark.parametrize("store", ["ours", "ours/embeddings", "./ours/../ours/embeddings"])
def test_a_store_in_the_folder_of_the_index_is_refused_before_any_work(store, trained):
    given = ["index", "--checkpoint", "checkpoints/demo", "--input", "texts.jsonl"]
    result = run(*given, "--output", "ours", "--store", store, cwd=trained, expect=2)
    assert (
        f"--store {store} lies in --output ours, and an index has its folder for" in result.stderr
    )
    assert not (trained / "ours").exists()


@pytest.mark.parametrize("solver", ["closed_form", "sgd"])
def test_a_fit_into_a_folder_of_other_things_is_refused_before_any_work(
    solver, trained, labelled_folder, tiny_qwen
):
    (trained / "others").mkdir(exist_ok=True)
    (trained / "others" / "records.jsonl").write_text("mine")
    given = [*tiny(labelled_folder, tiny_qwen), "--data.store=untouched"]
    options = ["--config", ROOT / "configs" / "demo.yaml", f"--model.solver={solver}"]
    result = run("fit", *options, *given, "--output", "others", cwd=trained, expect=2)
    assert "others is no checkpoint and not empty: it holds records.jsonl" in result.stderr
    assert [path.name for path in (trained / "others").iterdir()] == ["records.jsonl"]
    assert not (trained / "untouched").exists()


@pytest.mark.parametrize("command", ["probe", "fit"])
def test_an_output_that_is_a_file_is_one_sentence_before_any_work(
    command, trained, labelled_folder, tiny_qwen
):
    arguments = {
        "probe": ["--checkpoint", "checkpoints/demo", "--data", labelled_folder],
        "fit": ["--config", ROOT / "configs" / "sgd.yaml", *tiny(labelled_folder, tiny_qwen)],
    }
    result = run(command, *arguments[command], "--output", "texts.jsonl", cwd=trained, expect=2)
    assert "--output: cannot write to texts.jsonl" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_missing_checkpoint_is_one_sentence(tmp_path):
    result = run(
        *("search", "--checkpoint", "nowhere", "--index", "index", "--query", "stew"),
        cwd=tmp_path,
        expect=2,
    )
    assert result.stderr.startswith("subspace: there is no checkpoint nowhere")


def test_an_unreachable_encoder_is_one_sentence(labelled_folder, tmp_path):
    arguments = ["--data.encoder.model=nobody/nothing", f"--data.sources=[{labelled_folder}]"]
    result = run("fit", *arguments, cwd=tmp_path, expect=2)
    assert "neither on this machine nor reachable" in result.stderr
    assert "Traceback" not in result.stderr


def test_every_wrong_line_is_printed(trained):
    (trained / "wrong.jsonl").write_text('{"id": "a"}\nnot json\n{"id": "b", "text": "fine"}\n')
    result = run(
        *("embed", "--checkpoint", "checkpoints/demo", "--input", "wrong.jsonl"),
        *("--output", "out2.npz"),
        cwd=trained,
        expect=2,
    )
    assert "wrong.jsonl:1" in result.stderr
    assert "wrong.jsonl:2" in result.stderr
    assert not (trained / "out2.npz").exists()


READING = {
    "search": [
        *("search", "--checkpoint", "checkpoints/demo", "--index", "index", "--query", "stew")
    ],
    "embed": [
        *("embed", "--checkpoint", "checkpoints/demo", "--input", "texts.jsonl"),
        *("--output", "out.npz"),
    ],
}


@pytest.mark.parametrize("command", READING)
def test_the_reading_side_imports_no_trainer(trained, command):
    code = (
        "import sys; from subspace.cli import main; "
        f"assert main({READING[command]!r}) == 0; "
        "unwanted = {'pytorch_lightning', 'wandb', 'jsonargparse', 'subspace.fitting'}; "
        "loaded = unwanted & set(sys.modules); "
        "assert not loaded, loaded"
    )
    result = subprocess.run(
        [sys.executable, "-c", code],
        cwd=trained,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        text=True,
        capture_output=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize(
    "command",
    [
        "",
        "adapt",
        "embed",
        "probe",
        "discover",
        "index",
        "search",
        "feedback",
        "presets",
        "rewrite",
    ],
)
def test_help_is_there_for_every_command(command, tmp_path):
    out = run(*([command] if command else []), "--help", cwd=tmp_path).stdout
    assert "usage: subspace" in out
    assert "example: subspace" in out or "subspace fit --config" in out


def test_the_configuration_of_qwen3_fits_blocks_of_its_28_layers(
    labelled_folder, tiny_qwen, tmp_path
):
    """Tiny and with random weights, but of the depth, pooling and layers of the real one."""
    from transformers import Qwen3Config, Qwen3Model

    deep = tmp_path / "deep"
    shutil.copytree(tiny_qwen, deep)
    known = Qwen3Config.from_pretrained(deep).to_dict()
    config = Qwen3Config(**{**known, "num_hidden_layers": 28, "layer_types": None})
    Qwen3Model(config).save_pretrained(deep)
    settings = tiny(labelled_folder, deep)
    own = [one for one in settings if "layers" not in one and "steps" not in one]
    run(
        "fit", "--config", ROOT / "configs" / "qwen3.yaml", *own, "--output", "deep-k", cwd=tmp_path
    )
    model = load(tmp_path / "deep-k")
    found = model.fingerprint
    assert found.layers == (0, 4, 14, 28)
    assert (found.pooling, found.early_pooling) == ("lasttoken", "own mean")
    assert model.projection.input_dim == 4 * 32
    assert model.encode_query(["a dog"]).array.shape == (1, 18)
