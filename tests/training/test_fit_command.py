"""`subspace fit | validate | test` as its users call it, every shipped configuration included."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from subspace.cli.fit import run_training
from subspace.errors import ConfigError
from subspace.fitting.recipe import Recipe
from subspace.model import load
from subspace.model.checkpoint import manifest
from subspace.training.sgd import train

ROOT = Path(__file__).resolve().parents[2]
# Those of loggers are run by tests/cli/test_fit_logging.py.
CONFIGS = [
    path
    for path in sorted((ROOT / "configs").glob("*.yaml"))
    if path.stem not in ("wandb", "tensorboard")
]
BLOCKS = {"topic": 6, "style": 4, "complexity": 4, "specificity": 4}
DEMO = ("--config", str(ROOT / "configs/demo.yaml"))
SGD = (*DEMO, "--config", str(ROOT / "configs/sgd.yaml"))

pytestmark = pytest.mark.filterwarnings(
    # Lightning's own use of names that torch and jsonargparse have deprecated.
    "ignore::DeprecationWarning",
    "ignore:.*could not find the monitored key",  # of a run that ends before it is validated
    "ignore:.*isinstance.treespec, LeafSpec.*",
)


@pytest.fixture(scope="session")
def tiny(stored) -> list[str]:
    """What makes any shipped configuration run in a second, on a tiny real encoder."""
    return [
        f"--data.sources={json.dumps(stored['sources'])}",
        f"--data.encoder.model={stored['encoder'].model}",
        "--data.encoder.layers=[1,2]",
        *(
            f"--data.encoder.{key}=null"
            for key in ("revision", "query_prompt", "pooling", "max_length")
        ),
        f"--data.store={stored['store']}",
        f"--model.blocks={json.dumps(BLOCKS)}",
        "--data.steps_per_epoch=3",
        "--data.batch_size=32",
        "--trainer.max_epochs=2",
        "--trainer.accelerator=cpu",
        "--trainer.enable_progress_bar=false",
    ]


@pytest.fixture
def run(tiny, tmp_path, monkeypatch):
    """Runs a command in an empty folder; raises what its user would be told."""
    monkeypatch.chdir(tmp_path)

    def run(verb: str, configs: tuple[str, ...], *options: str) -> None:
        run_training([verb, *configs, *tiny, *options])

    return run


@pytest.mark.parametrize("config", CONFIGS, ids=lambda path: path.stem)
def test_every_shipped_configuration_fits(config, run, tmp_path, capsys):
    trained = config.stem == "sgd"  # is added to another one
    run("fit", (*(DEMO if trained else ()), "--config", str(config)))
    name = "demo" if trained else config.stem
    folder = tmp_path / "checkpoints" / name
    written = json.loads((folder / "config.json").read_text())
    assert written["blocks"] == BLOCKS
    assert written["default_weights"] == {**dict.fromkeys(BLOCKS, 0.0), "topic": 1.0}
    assert set(written["heads"]) == set(BLOCKS)
    assert written["recipe"]["solver"] == ("sgd" if trained else "closed_form")
    for file in ("best.ckpt", "last.ckpt"):
        assert (folder / file).is_file() == trained
    settings = yaml.safe_load((folder / "training.yaml").read_text())
    assert settings["model"]["blocks"] == BLOCKS
    out = capsys.readouterr().out
    assert f"checkpoint -> checkpoints/{name}" in out
    assert "next: subspace index" in out
    assert not (tmp_path / "runs").exists()  # nothing is logged unless it is asked for


def test_the_command_line_and_python_give_the_same_model(run, encoded, tmp_path):
    """The closed form to the bit, and training from there too."""
    run("fit", DEMO)
    start = load(tmp_path / "checkpoints/demo")
    solved = encoded.solve(Recipe.from_json(start.recipe))
    run("fit", SGD, "--output", "trained")
    trained = train(solved, encoded, batch_size=32, steps_per_epoch=3, max_epochs=2)
    for found, wanted in ((start, solved), (load(tmp_path / "trained"), trained)):
        np.testing.assert_array_equal(found.projection.weight, wanted.projection.weight)
        np.testing.assert_array_equal(found.projection.mean, wanted.projection.mean)
        assert manifest(found) == manifest(wanted)
        for factor, head in found.heads.items():
            np.testing.assert_array_equal(head.weight, wanted.heads[factor].weight)


@pytest.fixture(scope="module")
def trained(tiny, tmp_path_factory) -> Path:
    """A folder of a run."""
    output = tmp_path_factory.mktemp("trained")
    run_training(["fit", *SGD, *tiny, "--output", str(output)])
    return output


@pytest.mark.parametrize(
    ("verb", "name", "stage"), [("validate", "best", "val"), ("test", "last", "test")]
)
def test_files_of_a_run_are_scored(verb, name, stage, run, trained, capsys):
    run(verb, SGD, "--output", str(trained), "--ckpt_path", name)
    assert f"{stage}/loss" in capsys.readouterr().out


def test_best_is_what_the_folder_holds(trained):
    folder, best = load(trained), load(trained / "best.ckpt")
    np.testing.assert_array_equal(folder.projection.weight, best.projection.weight)
    assert folder.heads
    assert not best.heads
    assert folder.recipe["steps"] == best.recipe["steps"] > 0


def test_a_run_that_may_be_interrupted_goes_on(run, tmp_path):
    """`last` may be named from the first time on."""
    options = ("--ckpt_path", "last", "--output", "a")
    run("fit", SGD, *options, "--trainer.max_epochs", "1")
    run("fit", SGD, *options)
    run("fit", SGD, "--output", "b")
    one, other = load(tmp_path / "a/last.ckpt"), load(tmp_path / "b/last.ckpt")
    np.testing.assert_array_equal(one.projection.weight, other.projection.weight)


def test_where_training_does_not_help_the_start_is_kept_and_said(run, tmp_path, capsys):
    # The heads alone are trained, so that validation sees no difference.
    run("fit", SGD, "--model.losses.contrastive=0", "--model.losses.keep=0")
    assert "no step of training improved on its start" in capsys.readouterr().out
    run("fit", DEMO, "--output", "start")
    start, kept = load(tmp_path / "start"), load(tmp_path / "checkpoints/demo")
    best = load(tmp_path / "checkpoints/demo/best.ckpt")
    np.testing.assert_array_equal(kept.projection.weight, start.projection.weight)
    np.testing.assert_array_equal(best.projection.weight, start.projection.weight)


def test_a_run_of_less_than_an_epoch_can_be_resumed_and_used(run, tmp_path):
    run("fit", SGD, "--trainer.max_steps", "2")
    folder = tmp_path / "checkpoints/demo"
    weights = [load(path).projection.weight for path in (folder, folder / "last.ckpt")]
    np.testing.assert_array_equal(*weights)
    assert load(folder).recipe["steps"] == 2


def test_two_processes_train_one_model(tiny, tmp_path):
    """The second is started as the first was, with as many steps."""
    output = f"--output={tmp_path / 'two'}"
    command = ["fit", *SGD, *tiny, output, "--trainer.devices=2"]
    done = subprocess.run(
        [sys.executable, "-m", "subspace", *command],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        cwd=tmp_path,
        text=True,
        capture_output=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("checkpoint -> ") == 1
    assert load(tmp_path / "two").recipe["solver"] == "sgd"


def test_sources_can_be_held_out(run, tmp_path):
    run("fit", SGD, '--data.held_out=["graded"]', '--model.blocks={"topic": 6, "style": 4}')
    assert set(load(tmp_path / "checkpoints/demo").data) == {"parallel", "detailed"}


def test_blocks_may_be_given_by_width_or_by_settings(run, tmp_path):
    run("fit", DEMO, '--model.blocks={"style": 3, "topic": {"width": 2, "layers": [2]}}')
    blocks = load(tmp_path / "checkpoints/demo").recipe["blocks"]
    assert list(blocks) == ["style", "topic"]
    assert (blocks["style"]["width"], blocks["style"]["signal_power"]) == (3, 0.5)
    assert (blocks["topic"]["layers"], blocks["topic"]["signal_power"]) == ([2], 0.0)


@pytest.mark.parametrize(
    ("verb", "extra", "message"),
    [
        ("validate", [], "--ckpt_path is missing"),
        ("validate", ["--ckpt_path", "best", "--output", "no"], "there is no file no/best.ckpt"),
        ("validate", ["--ckpt_path", "last", "--output", "no"], "there is no file no/last.ckpt"),
        ("fit", ["--ckpt_path", "nowhere.ckpt"], "there is no file nowhere.ckpt"),
        ("fit", ["--trainer.limit_val_batches", "0"], "limit_val_batches is 0"),
        ("fit", ["--checkpoint.monitor", "val/mood"], "'val/mood', which nothing logs"),
        ("fit", ["--model.learning_rate", "1e30"], "diverged.*learning_rate"),
        (
            "fit",
            ["--trainer.val_check_interval", "7"],
            "val_check_interval is 7, but an epoch has 3",
        ),
        ("fit", ["--trainer.check_val_every_n_epoch", "3"], "check_val_every_n_epoch is 3, but"),
        ("fit", ["--trainer.accumulate_grad_batches", "0"], "accumulate_grad_batches must be 1"),
        ("fit", ["--trainer.overfit_batches", "1"], "overfit_batches cannot be used"),
        ("fit", ["--trainer.precision", "64"], "precision is 64-true, but"),
        ("fit", ["--trainer.precision", "7"], "^trainer.precision cannot be 7; it takes Literal"),
        ("fit", ["--trainer.strategy", "foo"], "^trainer: .*invalid strategy name"),
        ("fit", ["--trainer.accelerator", "foo"], "^trainer: .*invalid accelerator name"),
        ("fit", ["--trainer.devices", "foo"], "^trainer: `devices`"),
        ("fit", ["--seed_everything", "-3"], "seed_everything must be 0 or more"),
        ("fit", ["--data.sources", "5"], r"^data.sources cannot be 5; it takes list\[str\], null"),
        ("fit", ["--data.batch_size", "x"], "data.batch_size.*Got value: x"),
    ],
)
def test_what_cannot_be_done_is_said_in_one_sentence(verb, extra, message, run):
    with pytest.raises(ConfigError, match=message) as caught:
        run(verb, SGD, *extra)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("form", ["--config {}", "--config={}", "-c {}"])
def test_a_key_that_stands_twice_in_a_configuration_is_refused(form, run, tmp_path):
    path = tmp_path / "twice.yaml"
    path.write_text("model:\n  learning_rate: 0.1\ntrainer:\n  max_epochs: 1\nmodel: {}\n")
    with pytest.raises(ConfigError, match=r"twice.yaml: 'model' stands twice .* line 1 .* line 5"):
        run("fit", SGD, *form.format(path).split())
    with pytest.raises(ConfigError, match=r"model\.blocks"):
        run("fit", SGD, "--model.blocks={topic: 3, topic: 4}")


def test_the_closed_form_resumes_nothing(run, trained):
    with pytest.raises(ConfigError, match="closed form has no use for it"):
        run("fit", DEMO, "--ckpt_path", str(trained / "last.ckpt"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--config", "nowhere.yaml"], "File does not exist: .*nowhere.yaml"),
        (["--data.sourcez", "x"], "sourcez"),
        (["--model.solver", "adam"], "adam"),
    ],
)
def test_what_cannot_be_parsed_is_said_without_a_page_of_usage(arguments, message, run):
    with pytest.raises(ConfigError, match=message) as caught:
        run("fit", DEMO, *arguments)
    assert len(str(caught.value)) < 200
