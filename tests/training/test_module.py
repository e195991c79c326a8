"""Training: the same seed gives the same weights, resuming is exact, the start holds it."""

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.callbacks import EarlyStopping, ModelCheckpoint
from pytorch_lightning.loggers import CSVLogger

from subspace.encoder import EncoderSpec
from subspace.errors import CheckpointError, ConfigError, LayoutError
from subspace.fitting.closed_form import solve_closed_form
from subspace.fitting.recipe import Recipe
from subspace.model import load
from subspace.model.checkpoint import manifest
from subspace.training.data_module import FactorData
from subspace.training.losses import LossWeights
from subspace.training.module import ProjectionModule

pytestmark = pytest.mark.filterwarnings(
    # Batches are slices of a mapped file; workers would only add copying.
    "ignore:.*does not have many workers",
    # Lightning's own use of a torch name that torch has deprecated.
    "ignore:.*isinstance.treespec, LeafSpec.*",
)

STEPS_PER_EPOCH = 5  # of the fixture `stored`
BLOCKS = {"topic": {"width": 6, "layers": [2]}, "style": {"width": 4, "layers": [1]}}
BLOCKS |= {"complexity": 4}
WIDTHS = {"topic": 6, "style": 4, "complexity": 4}
WIDTH = 32  # of one layer


def make_module(blocks: dict = BLOCKS, **settings) -> ProjectionModule:
    return ProjectionModule(blocks, solver="sgd", **settings)


def make_trainer(**arguments) -> pl.Trainer:
    quiet = {
        "max_epochs": -1,
        "logger": False,
        "accelerator": "cpu",
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "enable_checkpointing": False,
    }
    return pl.Trainer(**{**quiet, **arguments})


def fit(stored: dict, *, steps: int, seed: int = 0, **settings) -> ProjectionModule:
    module = make_module(**settings)
    make_trainer(max_steps=steps).fit(module, datamodule=FactorData(**stored, seed=seed))
    return module


def moved(module: ProjectionModule) -> torch.Tensor:
    """Largest change of any entry, by block."""
    change = (module.weight - module.start).detach().abs()
    return torch.stack([change[module.layout.slice(name)].max() for name in module.layout])


def test_the_same_seed_gives_the_same_weights_bit_for_bit_and_another_seed_others(stored):
    first, again = fit(stored, steps=7), fit(stored, steps=7)
    assert torch.equal(first.weight, again.weight)
    assert not torch.equal(first.weight, fit(stored, steps=7, seed=1).weight)


@pytest.mark.parametrize("interrupted_at", [3, STEPS_PER_EPOCH, 8])
def test_resumed_training_equals_uninterrupted_training_bit_for_bit(
    stored, tmp_path, interrupted_at
):
    """In the middle of an epoch, at its end, and in a later epoch."""
    whole = fit(stored, steps=12)

    trainer = make_trainer(max_steps=interrupted_at)
    trainer.fit(make_module(), datamodule=FactorData(**stored))
    trainer.save_checkpoint(tmp_path / "half.ckpt")
    resumed = make_module()
    make_trainer(max_steps=12).fit(
        resumed,
        datamodule=FactorData(**stored),
        ckpt_path=tmp_path / "half.ckpt",
        weights_only=True,
    )

    assert resumed.trainer.global_step == 12
    assert resumed.start_metrics == whole.start_metrics
    for mine, theirs in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(mine, theirs)


def test_training_starts_at_the_closed_form_and_the_closed_form_itself_is_not_trained(
    stored, encoded
):
    module = fit(stored, steps=0)
    start = solve_closed_form(encoded.moments, blocks=module.recipe.blocks, layers=(1, 2))
    np.testing.assert_array_equal(module.weight.detach().numpy(), start.weight)
    np.testing.assert_array_equal(module.projection.mean, start.mean)
    with pytest.raises(ConfigError, match="takes no step"):
        make_trainer().fit(ProjectionModule(BLOCKS), datamodule=FactorData(**stored))


def test_blocks_that_are_left_out_are_topic_and_every_labelled_factor(stored):
    module = ProjectionModule(None, solver="sgd")
    make_trainer(max_steps=0).fit(module, datamodule=FactorData(**stored))
    assert list(module.layout) == ["topic", "style", "complexity", "specificity"]


def test_a_block_never_gets_to_read_a_layer_that_is_not_its_own(stored):
    module = fit(stored, steps=10, losses=LossWeights(anchor=0, erasure=1))
    rows = {name: module.weight[module.layout.slice(name)].detach() for name in module.layout}
    assert (rows["topic"][:, :WIDTH] == 0).all()
    assert (rows["style"][:, WIDTH:] == 0).all()
    # Counter-check: it has moved, and the other block reads both.
    assert (moved(module) > 1e-3).all()
    assert (rows["complexity"][:, :WIDTH] != 0).any()
    assert (rows["complexity"][:, WIDTH:] != 0).any()


def test_a_heavy_anchor_keeps_the_projection_at_its_start(stored):
    free = fit(stored, steps=20, losses=LossWeights(anchor=0), learning_rate=1e-2)
    held = fit(stored, steps=20, losses=LossWeights(anchor=1e6), learning_rate=1e-2)

    def distance(module: ProjectionModule) -> float:
        """In the metric of the total scatter, as the anchor measures it."""
        weigher = fit(stored, steps=0, losses=LossWeights(contrastive=0, probe=0, keep=0))
        weigher.weight.data.copy_(module.weight)
        batch = next(iter(FactorData(**stored).val_dataloader()))
        terms = weigher.loss_terms(batch)
        return float(torch.stack(list(terms.values())).mean().detach())

    assert distance(held) < 0.02 * distance(free)


def test_training_lowers_the_loss_that_it_minimises(stored):
    data = FactorData(**stored)
    module = make_module()
    make_trainer(max_steps=60).fit(module, datamodule=data)
    batches = [data.train_dataloader().dataset[number] for number in range(20)]

    @torch.no_grad()
    def loss(trained: ProjectionModule) -> float:
        return float(np.mean([float(trained.total(trained.loss_terms(b))) for b in batches]))

    start = make_module()
    make_trainer(max_steps=0).fit(start, datamodule=data)
    assert loss(module) < loss(start)


def test_the_start_is_judged_as_validation_would_judge_it(stored):
    module = make_module()
    data = FactorData(**stored)
    (judged,) = make_trainer().validate(module, datamodule=data, verbose=False)
    make_trainer(max_steps=1).fit(module, datamodule=data)
    assert judged == pytest.approx(module.start_metrics, rel=1e-5)
    # Heads start untrained and the anchor is no property of texts: neither is in the sum.
    terms = {name: value for name, value in judged.items() if name != "val/loss"}
    kinds = {name.split("/")[1] for name in terms}
    assert kinds == {"contrastive", "probe", "keep", "anchor"}


def test_every_term_is_logged_by_name_and_a_term_of_weight_zero_is_left_out(stored):
    module = make_module(losses=LossWeights(keep=0, erasure=1))
    trainer = make_trainer(max_epochs=1)
    trainer.fit(module, datamodule=FactorData(**stored))
    named = {key.removeprefix("val/") for key in trainer.callback_metrics if key.startswith("val/")}
    kinds = ("contrastive", "probe", "anchor", "erasure")
    assert named == {f"{kind}/{block}" for kind in kinds for block in BLOCKS} | {"loss"}


def test_what_a_measure_says_is_logged_and_can_be_monitored(stored, tmp_path):
    module = make_module()
    module.measure = lambda projection: {"size": float(np.abs(projection.weight).sum())}
    best = ModelCheckpoint(tmp_path, monitor="val/size", mode="max", filename="best")
    trainer = make_trainer(max_epochs=2, callbacks=[best], enable_checkpointing=True)
    trainer.fit(module, datamodule=FactorData(**stored))
    assert module.start_metrics["val/size"] > 0
    found = load(best.best_model_path).projection.weight
    assert float(best.best_model_score) == pytest.approx(np.abs(found).sum(), rel=1e-5)


@pytest.mark.parametrize(
    ("every", "expected"), [(3, [2, 5, 8]), (1, list(range(10))), (0, [])], ids=repr
)
def test_training_terms_are_logged_at_the_steps_that_were_asked_for(
    every, expected, stored, tmp_path
):
    logger = CSVLogger(tmp_path)
    make_trainer(max_steps=10, log_every_n_steps=every, logger=logger, limit_val_batches=0).fit(
        make_module(), datamodule=FactorData(**stored)
    )
    path = Path(logger.log_dir) / "metrics.csv"
    rows = list(csv.DictReader(path.read_text().splitlines())) if path.exists() else []
    assert [int(row["step"]) for row in rows if row.get("train/loss")] == expected


# Files of a run.


@pytest.fixture(scope="module")
def run_file(stored, tmp_path_factory) -> Path:
    """A Lightning file of a run of two steps."""
    trainer = make_trainer(max_steps=2)
    trainer.fit(make_module(), datamodule=FactorData(**stored))
    path = tmp_path_factory.mktemp("run") / "run.ckpt"
    trainer.save_checkpoint(path)
    return path


def resume(stored: dict, path: Path, *, verb: str, blocks: dict = BLOCKS) -> ProjectionModule:
    module = make_module(blocks)
    run = getattr(make_trainer(max_steps=3), verb)
    run(module, datamodule=FactorData(**stored), ckpt_path=path, weights_only=True)
    return module


def test_a_lightning_file_is_read_without_pickle_and_equals_the_module(stored, tmp_path):
    module = make_module()
    trainer = make_trainer(max_steps=2)
    trainer.fit(module, datamodule=FactorData(**stored))
    trainer.save_checkpoint(tmp_path / "run.ckpt")
    read, held = load(tmp_path / "run.ckpt"), module.to_model()
    np.testing.assert_array_equal(read.projection.weight, held.projection.weight)
    assert manifest(read) == manifest(held)
    recipe = Recipe.from_json(read.recipe)
    assert (recipe.solver, recipe.steps) == ("sgd", 2)
    assert recipe.blocks == module.recipe.blocks
    assert read.default_weights == {"topic": 1, "style": 0, "complexity": 0}
    assert set(read.data) == {"parallel", "graded", "detailed"}


@pytest.mark.parametrize("verb", ["fit", "validate", "test"])
@pytest.mark.parametrize(
    ("blocks", "said"),
    [
        ({"topic": 6, "complexity": 4, "style": 4}, f"blocks: {WIDTHS}, not"),  # the same shapes
        ({"topic": 5, "style": 5, "complexity": 4}, f"blocks: {WIDTHS}, not"),
        ({"topic": 6, "style": 8}, f"blocks: {WIDTHS}, not"),
        ({**BLOCKS, "style": 4}, "block 'style': {'width': 4, 'layers': [1]"),
    ],
    ids=["order", "widths", "names", "layers"],
)
def test_a_run_with_other_blocks_is_refused_with_both(verb, blocks, said, stored, run_file):
    with pytest.raises(CheckpointError) as caught:
        resume(stored, run_file, verb=verb, blocks=blocks)
    assert said in str(caught.value)


def test_a_run_with_another_encoder_is_refused_with_what_differs(stored, tiny_qwen, run_file):
    other = {**stored, "encoder": EncoderSpec(model=str(tiny_qwen), layers=(1, 2), max_length=20)}
    with pytest.raises(CheckpointError, match="max_length: 128, not 20"):
        resume(other, run_file, verb="validate")


def test_a_run_goes_on_with_a_copy_of_its_encoder(stored, tiny_qwen, run_file, tmp_path):
    copy = shutil.copytree(tiny_qwen, tmp_path / "a-copy")
    elsewhere = {**stored, "encoder": EncoderSpec(model=str(copy), layers=(1, 2))}
    expected = resume(stored, run_file, verb="validate").weight
    assert torch.equal(resume(elsewhere, run_file, verb="validate").weight, expected)


def test_a_run_with_other_training_heads_is_refused_with_both(stored, run_file, tmp_path):
    """Style has two classes; with a third in the texts its head is another."""
    folder = tmp_path / "texts"
    shutil.copytree(stored["sources"][0], folder)
    lines = (folder / "parallel" / "records.jsonl").read_text()
    (folder / "parallel" / "records.jsonl").write_text(lines.replace("loud", "LOUD", 4))
    resume(stored, run_file, verb="validate")
    with pytest.raises(CheckpointError, match="heads: ") as caught:
        resume({**stored, "sources": [str(folder)]}, run_file, verb="validate")
    assert "style of parallel (2 classes)" in str(caught.value)
    assert "style of parallel (3 classes)" in str(caught.value)


def test_a_file_of_another_project_is_refused(stored, run_file, tmp_path):
    state = torch.load(run_file, weights_only=True)
    del state["subspace"]
    torch.save(state, tmp_path / "foreign.ckpt")
    with pytest.raises(CheckpointError, match="was not written by subspace"):
        resume(stored, tmp_path / "foreign.ckpt", verb="validate")


# What is refused.


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"blocks": {"topic": 0}}, LayoutError, "topic"),
        ({"blocks": {"topic": {"widht": 3}}}, ConfigError, "topic.*widht"),
        *(
            ({name: value}, ConfigError, f"model.{name} must be .* and finite, got {value}")
            for name in ("learning_rate", "temperature", "hard_weight")
            for value in (-1.0, float("nan"), float("inf"))
        ),
    ],
)
def test_wrong_settings_are_refused_by_name(settings, error, message):
    with pytest.raises(error, match=message):
        ProjectionModule(**settings)


@pytest.mark.parametrize("weight", [-1.0, float("nan"), float("inf")])
def test_wrong_loss_weights_are_refused_by_name(weight):
    with pytest.raises(ConfigError, match="keep"):
        LossWeights(keep=weight)


@pytest.mark.parametrize(
    ("blocks", "message"),
    [
        ({"topic": 6, "style": 100}, r"style.*100 wide.*narrower"),
        ({"topic": 4, "mood": 4}, r"mood.*complexity, .*topic"),
        ({"topic": {"width": 4, "layers": [7]}}, r"'topic' reads layer 7.*layers 1, 2"),
    ],
    ids=["width", "factor", "layer"],
)
def test_blocks_that_cannot_be_solved_are_refused(blocks, message, stored):
    with pytest.raises(ConfigError, match=message):
        make_trainer(max_steps=1).fit(make_module(blocks), datamodule=FactorData(**stored))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"overfit_batches": 1}, "overfit_batches cannot be used"),
        ({"precision": 64}, "precision is 64-true.*32-true"),
        (
            {"limit_val_batches": 0, "callbacks": [EarlyStopping("val/loss")]},
            "limit_val_batches is 0.*val/loss",
        ),
        (
            {"callbacks": [EarlyStopping("val/mood")]},
            r"'val/mood', which nothing logs; there are .*val/loss",
        ),
    ],
    ids=["overfit", "precision", "no validation", "monitor"],
)
def test_a_trainer_that_cannot_do_what_it_is_set_to_is_refused(settings, message, stored):
    with pytest.raises(ConfigError, match=message):
        make_trainer(max_steps=1, **settings).fit(make_module(), datamodule=FactorData(**stored))
