"""`train` and `fit`: what comes out is never worse than the start, and the same every time."""

import logging

import numpy as np
import pytest
import pytorch_lightning as pl

from subspace.data.records import read_records
from subspace.errors import ConfigError
from subspace.fitting.recipe import Recipe
from subspace.fitting.stored_sources import StoredSource
from subspace.training import fit
from subspace.training.data_module import FactorData
from subspace.training.losses import LossWeights
from subspace.training.module import ProjectionModule
from subspace.training.sgd import train

pytestmark = pytest.mark.filterwarnings(
    # `train` keeps these back itself; the trainer of this file does not.
    "ignore:.*does not have many workers",
    "ignore:.*isinstance.treespec, LeafSpec.*",
)

BLOCKS = {"topic": {"width": 6, "layers": [2]}, "style": 4, "complexity": 4}
QUICK = {"batch_size": 32, "steps_per_epoch": 5, "max_epochs": 3}


@pytest.fixture(scope="module")
def recipe(stored) -> Recipe:
    return FactorData(**stored).recipe(BLOCKS)


@pytest.fixture(scope="module")
def start(encoded, recipe):
    return encoded.solve(recipe)


def validation_loss(model, data, held_out=None) -> float:
    """What another run says of it that starts from it."""
    recipe = Recipe.from_json(model.recipe)
    module = ProjectionModule({n: s.to_json() for n, s in recipe.blocks.items()}, solver="sgd")
    module.start_from(model.projection)
    provider = FactorData.encoded(data, recipe=recipe, held_out=held_out, batch_size=32)
    trainer = pl.Trainer(
        accelerator="cpu", logger=False, enable_progress_bar=False, enable_checkpointing=False
    )
    (said,) = trainer.validate(module, datamodule=provider, verbose=False)
    return said["val/loss"]


def test_training_ends_below_its_start_with_heads_and_a_recipe_of_its_own(start, encoded, recipe):
    found = train(start, encoded, **QUICK)
    assert validation_loss(found, encoded) < validation_loss(start, encoded)
    again = Recipe.from_json(found.recipe)
    assert again.solver == "sgd"
    assert 0 < again.steps <= 15
    assert again.blocks == recipe.blocks
    assert set(found.heads) == set(start.heads)
    assert not np.array_equal(found.heads["style"].weight, start.heads["style"].weight)
    assert found.default_weights == start.default_weights
    assert found.data == start.data


def test_where_no_step_is_an_improvement_the_start_is_returned(start, encoded):
    """Such a learning rate destroys every block at once."""
    found = train(start, encoded, **QUICK, learning_rate=1e6)
    assert found is start


def test_the_same_seed_gives_the_same_model_and_another_seed_another(start, encoded):
    models = [train(start, encoded, **QUICK, seed=seed) for seed in (3, 3, 4)]
    weights = [model.projection.weight for model in models]
    np.testing.assert_array_equal(weights[0], weights[1])
    assert not np.array_equal(weights[0], weights[2])


def test_sources_that_are_held_out_judge_and_teach_nothing(encoded, recipe):
    held_out = {"parallel": encoded.sources["parallel"]}
    part = encoded.without("parallel")
    solved = part.solve(Recipe(blocks={n: recipe.blocks[n] for n in ("topic", "complexity")}))
    found = train(solved, part, held_out=held_out, **QUICK)
    assert validation_loss(found, part, held_out) <= validation_loss(solved, part, held_out)
    assert set(found.data) == {"graded", "detailed"}
    # Their labels are not looked at for learning: with others the steps are the same.
    provider = FactorData.encoded(part, recipe=recipe, held_out=held_out)
    (batch,) = provider.val_dataloader()
    assert batch.source == -1
    splits = held_out["parallel"].labels.splits
    assert len(batch.x) == (splits != 2).sum()  # without its test texts


def test_without_texts_to_judge_by_it_is_refused(start, encoded, recipe):
    def without_validation(source: StoredSource) -> StoredSource:
        labels = source.labels
        train_only = labels.take(labels.positions("train"))
        rows = source.rows[labels.positions("train")]
        return StoredSource(records=source.records, labels=train_only, rows=rows, sha256="")

    data = encoded.without()
    data.sources.update({n: without_validation(one) for n, one in encoded.sources.items()})
    with pytest.raises(ConfigError, match=r"to judge training by.*leave `split` out"):
        train(start, data, **QUICK)


def test_where_no_block_has_labels_there_is_nothing_to_train(encoded):
    solved = encoded.solve(
        FactorData.encoded(encoded, recipe=Recipe({})).recipe(
            {"mood": {"width": 4, "signal_power": 0.0}}
        )
    )
    with pytest.raises(ConfigError, match="labelled with mood"):
        train(solved, encoded, **QUICK)


@pytest.mark.parametrize("solver", ["closed_form", "sgd"])
def test_the_front_door_fits_records_with_either_solver(solver, stored, start, encoded):
    records = read_records(stored["sources"][0])
    settings = {"encoder": stored["encoder"], "store": stored["store"], "blocks": BLOCKS}
    quick = QUICK if solver == "sgd" else {}
    found = fit(records, solver=solver, **settings, **quick)
    if solver == "closed_form":
        np.testing.assert_array_equal(found.projection.weight, start.projection.weight)
    else:
        wanted = train(start, encoded, **QUICK)
        np.testing.assert_array_equal(found.projection.weight, wanted.projection.weight)
    assert Recipe.from_json(found.recipe).solver == solver


def test_the_front_door_refuses_what_its_solver_does_not_take(stored):
    with pytest.raises(ConfigError, match="max_epochs: only solver='sgd'"):
        fit([], max_epochs=3)
    with pytest.raises(ConfigError, match="solver is closed_form or sgd, got 'adam'"):
        fit([], solver="adam")


def test_training_is_silent_and_leaves_the_log_level_as_it_was(start, encoded, capfd):
    logger = logging.getLogger("pytorch_lightning")
    before = logger.level
    train(start, encoded, **QUICK, losses=LossWeights(probe=0))
    assert logger.level == before
    assert capfd.readouterr() == ("", "")
