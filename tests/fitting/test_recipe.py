"""A recipe is read from JSON as it was written, or refused."""

import json

import pytest

from subspace.errors import CheckpointError
from subspace.fitting.block_spec import BlockSpec
from subspace.fitting.recipe import Recipe
from subspace.fitting.weak.weak_supervision import WeakSupervision

RECIPE = Recipe(
    blocks={"topic": BlockSpec(width=3, layers=(-1,), signal_power=0.0), "style": BlockSpec()},
    solver="sgd",
    steps=700,
    weak=WeakSupervision(features=0.3, rewrites=10),
    origin_weights={"features": 0.5},
    queries={"asked": ("ab", "cd")},
)


def test_a_recipe_comes_back_from_json():
    written = json.loads(json.dumps(RECIPE.to_json()))
    found = Recipe.from_json(written)
    assert found == RECIPE
    assert list(found.blocks) == ["topic", "style"]


@pytest.mark.parametrize(
    "changes",
    [
        {"blocks": {"style": {"width": 3, "rank": 2}}},
        {"blocks": {"style": {"width": 0}}},
        {"weak": {"features": -1}},
        {"weak": {"measures": True}},
        {"steps": "many"},
    ],
    ids=str,
)
def test_what_is_no_recipe_is_refused(changes):
    with pytest.raises(CheckpointError, match="does not say how it was fitted"):
        Recipe.from_json({**RECIPE.to_json(), **changes})
    with pytest.raises(CheckpointError, match="cannot be fitted again"):
        Recipe.from_json({})
