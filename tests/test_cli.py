"""The command line as its users call it, every shipped configuration included."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = sorted((ROOT / "configs").glob("*.yaml"))
ENVIRONMENT = {
    **os.environ,
    "HF_HUB_OFFLINE": "1",
    "OMP_NUM_THREADS": "1",
    "PYTHONWARNINGS": "default",
}


def run(*arguments: str | Path, cwd: Path, expect: int = 0) -> subprocess.CompletedProcess[str]:
    result = subprocess.run(
        [sys.executable, "-m", "subspace", *map(str, arguments)],
        cwd=cwd,
        env=ENVIRONMENT,
        text=True,
        capture_output=True,
        check=False,
    )
    assert result.returncode == expect, result.stderr[-3000:]
    return result


def tiny(labelled_folder: Path, tiny_qwen: Path) -> list[str]:
    """What makes any shipped configuration run in seconds, on a tiny real encoder."""
    return [
        f"--data.sources=[{labelled_folder}]",
        f"--data.encoder.model={tiny_qwen}",
        "--data.encoder.revision=null",
        "--data.encoder.layers=[1,2]",
        "--data.encoder.max_length=64",
        "--model.blocks={topic: 6, style: 4, complexity: 4, specificity: 4}",
        "--model.closed_form.ranks=null",
        "--data.steps_per_epoch=3",
        "--data.batch_size=32",
        "--trainer.max_epochs=2",
        "--trainer.accelerator=cpu",
    ]


@pytest.fixture(scope="module")
def trained(labelled_folder, tiny_qwen, tmp_path_factory) -> Path:
    """A folder in which a checkpoint and an index were made by the command line."""
    folder = tmp_path_factory.mktemp("trained")
    config = ROOT / "configs" / "demo.yaml"
    run("fit", "--config", config, *tiny(labelled_folder, tiny_qwen), cwd=folder)
    source = next(iter(sorted(labelled_folder.iterdir()))) / "records.jsonl"
    (folder / "texts.jsonl").write_bytes(source.read_bytes())
    run(
        *("index", "--checkpoint", "checkpoints/demo", "--input", "texts.jsonl"),
        *("--output", "index"),
        cwd=folder,
    )
    return folder


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.stem)
def test_every_shipped_configuration_trains(config, labelled_folder, tiny_qwen, tmp_path):
    overlay = config.stem == "wandb"
    configs = [CONFIGS[0], config] if overlay else [config]
    named = [argument for path in configs for argument in ("--config", path)]
    run("fit", *named, *tiny(labelled_folder, tiny_qwen), cwd=tmp_path)

    settings = yaml.safe_load(configs[0].read_text())
    folder = tmp_path / settings["output"]
    manifest = json.loads((folder / "config.json").read_text())
    assert manifest["blocks"] == {"topic": 6, "style": 4, "complexity": 4, "specificity": 4}
    assert (folder / "last.ckpt").is_file()
    assert (folder / "training.yaml").is_file()
    runs = list(tmp_path.glob("runs/wandb/offline-run-*"))
    assert bool(runs) == overlay, "W&B writes only where it is asked for, and only offline"


def test_validate_and_test_read_the_file_to_resume_from(trained, labelled_folder, tiny_qwen):
    settings = ["--config", ROOT / "configs" / "demo.yaml", *tiny(labelled_folder, tiny_qwen)]
    checkpoint = ["--ckpt_path", "checkpoints/demo/last.ckpt"]
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
    settings = ["--config", ROOT / "configs" / "demo.yaml", *tiny(labelled_folder, tiny_qwen)]
    result = run("validate", *settings, *extra, cwd=trained, expect=2)
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert "val/loss" not in result.stdout


def test_the_best_checkpoint_of_a_run_can_be_named_so(trained, labelled_folder, tiny_qwen):
    settings = ["--config", ROOT / "configs" / "demo.yaml", *tiny(labelled_folder, tiny_qwen)]
    assert "val/loss" in run("validate", *settings, "--ckpt_path", "best", cwd=trained).stdout


def test_the_closed_form_needs_no_step(labelled_folder, tiny_qwen, tmp_path):
    config = ROOT / "configs" / "demo.yaml"
    arguments = [*tiny(labelled_folder, tiny_qwen), "--model.solver=closed_form"]
    run("fit", "--config", config, *arguments, cwd=tmp_path)
    manifest = json.loads((tmp_path / "checkpoints/demo/config.json").read_text())
    assert manifest["training"]["solver"] == "closed_form"
    assert manifest["training"]["step"] == 0


def test_embed_writes_blocks_ids_and_layout_alike_from_both_forms(trained):
    found = {}
    for form in ("checkpoints/demo", "checkpoints/demo/best.ckpt"):
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


def test_probe_writes_the_report(trained, labelled_folder):
    """In-corpus, and cross-corpus from the settings that the checkpoint carries."""
    out = run(
        *("probe", "--checkpoint", "checkpoints/demo", "--data", labelled_folder),
        *("--output", "report", "--seeds", "2"),
        cwd=trained,
    ).stdout
    report = json.loads((trained / "report/separation.json").read_text())
    assert report["blocks"] == ["topic", "style", "complexity", "specificity"]
    assert report["readings"]
    models = {matrix["model"] for matrix in report["matrices"]}
    assert {"in-corpus", "closed form", "random rotation", "PCA"} <= models
    assert report["about"]["checkpoint"]["training"]["closed_form"]["guard"] == 0.9999
    assert "| topic |" in out
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


def search(cwd: Path, *arguments: str) -> dict:
    base = ("search", "--checkpoint", "checkpoints/demo", "--index", "index", "--json")
    return json.loads(run(*base, *arguments, cwd=cwd).stdout)


def test_search_prints_parts_that_sum_to_the_score(trained):
    found = search(trained, "--query", "how to cook a stew", "-k", "7")
    assert found["weights"] == dict.fromkeys(found["weights"], 0.25)
    assert len(found["hits"]) == 7
    for hit in found["hits"]:
        assert hit["score"] == pytest.approx(sum(hit["parts"].values()), abs=1e-6)
    scores = [hit["score"] for hit in found["hits"]]
    assert scores == sorted(scores, reverse=True)


def test_two_weightings_give_two_rankings(trained):
    topic = search(trained, "--query", "how to cook a stew", "--weights", "topic=1")
    style = search(trained, "--query", "how to cook a stew", "--weights", "style=1")
    assert [hit["id"] for hit in topic["hits"]] != [hit["id"] for hit in style["hits"]]
    assert all(hit["parts"]["style"] == 0 for hit in topic["hits"])


def test_search_prints_a_table_for_people(trained):
    out = run(
        *("search", "--checkpoint", "checkpoints/demo", "--index", "index"),
        *("--query", "stew", "--weights", "topic=0.7,style=0.1"),
        cwd=trained,
    ).stdout
    assert "weights: topic=0.70 style=0.10 complexity=0.00 specificity=0.00" in out
    assert " 1. " in out


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
    ],
)
def test_an_output_that_cannot_be_is_one_sentence_before_any_work(
    command, output, message, trained, labelled_folder, tiny_qwen
):
    (trained / "foreign").mkdir(exist_ok=True)
    (trained / "foreign" / "config.json").write_text('{"model_type": "bert"}')
    (trained / "folder.npz").mkdir(exist_ok=True)
    reading = ["--checkpoint", "checkpoints/demo", "--input", "texts.jsonl", "--store", "untouched"]
    arguments = {
        "fit": [
            *("--config", ROOT / "configs" / "demo.yaml", *tiny(labelled_folder, tiny_qwen)),
            "--data.store=untouched",
        ],
        "index": reading,
        "embed": reading,
    }
    result = run(command, *arguments[command], "--output", output, cwd=trained, expect=2)
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert not (trained / "untouched").exists(), "nothing was encoded"
    assert [path.name for path in (trained / "foreign").iterdir()] == ["config.json"]


@pytest.mark.parametrize("command", ["probe", "fit"])
def test_an_output_that_is_a_file_is_one_sentence_before_any_work(
    command, trained, labelled_folder, tiny_qwen
):
    arguments = {
        "probe": ["--checkpoint", "checkpoints/demo", "--data", labelled_folder],
        "fit": ["--config", ROOT / "configs" / "demo.yaml", *tiny(labelled_folder, tiny_qwen)],
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
        "loaded = {'pytorch_lightning', 'wandb', 'jsonargparse'} & set(sys.modules); "
        "assert not loaded, loaded"
    )
    result = subprocess.run(
        [sys.executable, "-c", code],
        cwd=trained,
        env=ENVIRONMENT,
        text=True,
        capture_output=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("command", ["", "embed", "probe", "index", "search"])
def test_help_is_there_for_every_command(command, tmp_path):
    out = run(*([command] if command else []), "--help", cwd=tmp_path).stdout
    assert "usage: subspace" in out
    assert "example: subspace" in out or "subspace fit --config" in out
