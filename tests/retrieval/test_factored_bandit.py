"""Presets and block weights are learned side by side from one reward."""

import numpy as np
import pytest

from subspace.blocks import BlockLayout
from subspace.errors import BanditError, WeightsError
from subspace.retrieval.usage.bandit import WeightBandit
from subspace.retrieval.usage.factored_bandit import FactoredBandit
from subspace.retrieval.usage.usage_log import UsageLog
from subspace.retrieval.weights import Weights

LAYOUT = BlockLayout.from_widths({"topic": 2, "style": 2})
BLOCKS = {"content": {"topic": 1.0}, "manner": {"style": 1.0}}
PRESETS = ("balanced", "pure_recency", "pure_relevance")


def test_an_arm_is_the_outer_product_of_its_preset_and_its_block_weights():
    bandit = FactoredBandit(":memory:", blocks=BLOCKS)
    assert bandit.weights("balanced", layout=LAYOUT) == Weights.make(
        layout=LAYOUT, preset="balanced"
    )
    assert bandit.weights("balanced/manner", layout=LAYOUT) == Weights.make(
        layout=LAYOUT, preset="balanced", blocks={"style": 1}
    )
    bandit.close()


def test_the_best_pair_is_found_where_the_two_add_up():
    """Counter-check: the first draws are spread over all pairs."""
    bandit = FactoredBandit(":memory:", blocks=BLOCKS, presets=PRESETS, priors=None, seed=0)
    rng = np.random.default_rng(0)
    worth = {"pure_relevance": 0.5, "balanced": 0.3, "pure_recency": 0.0}
    chosen = []
    for _ in range(400):
        arm = bandit.choose()
        preset, _, blocks = arm.partition("/")
        chance = worth[preset] + 0.4 * (blocks == "content")
        bandit.update(arm, float(rng.random() < chance))
        chosen.append(arm)
    assert bandit.best() == "pure_relevance/content"
    assert len(set(chosen[:30])) >= 6
    late = chosen[-100:]
    assert late.count("pure_relevance/content") > 60
    bandit.close()


def test_posteriors_of_presets_are_those_of_a_bandit_over_presets_alone(tmp_path):
    path = tmp_path / "arms.db"
    alone = WeightBandit(path)
    for _ in range(5):
        alone.update("balanced", 1.0)
    alone.close()
    bandit = FactoredBandit(path, blocks=BLOCKS)
    assert bandit.presets.posteriors()["balanced"] == (6.0, 1.0)
    bandit.update("balanced/content", 0.5)
    bandit.close()
    again = WeightBandit(path)
    assert again.posteriors()["balanced"] == (6.5, 1.5)
    again.close()


def test_the_same_seed_draws_the_same(tmp_path):
    draws = []
    for _ in range(2):
        bandit = FactoredBandit(":memory:", blocks=BLOCKS, seed=7)
        draws.append([bandit.choose() for _ in range(20)])
        bandit.close()
    assert draws[0] == draws[1]


@pytest.mark.parametrize("arm", ["best", "balanced/mood", "/content", "balanced/content/more"])
def test_an_unknown_arm_is_refused_and_nothing_learned(arm):
    bandit = FactoredBandit(":memory:", blocks=BLOCKS)
    with pytest.raises(BanditError, match="no arm"):
        bandit.update(arm, 1.0)
    with pytest.raises(BanditError, match="no arm"):
        bandit.weights(arm, layout=LAYOUT)
    assert set(bandit.presets.posteriors().values()) == {(1.0, 1.0)}
    bandit.close()


@pytest.mark.parametrize("name", ["", "equal", "a/b"])
def test_block_weights_need_a_name_that_an_arm_can_be_told_by(name):
    with pytest.raises(BanditError, match="cannot be called"):
        FactoredBandit(":memory:", blocks={name: {"topic": 1.0}})


def test_a_reward_out_of_range_changes_neither():
    bandit = FactoredBandit(":memory:", blocks=BLOCKS)
    with pytest.raises(BanditError, match="reward"):
        bandit.update("balanced/content", 1.5)
    assert set(bandit.blocks.posteriors().values()) == {(1.0, 1.0)}
    bandit.close()


def test_if_one_of_the_two_cannot_learn_neither_has():
    bandit = FactoredBandit(":memory:", blocks=BLOCKS)
    bandit.blocks.connection.execute("DROP TABLE bandit_blocks")
    with pytest.raises(BanditError, match="cannot be written"):
        bandit.update("balanced/content", 1.0)
    assert set(bandit.presets.posteriors().values()) == {(1.0, 1.0)}
    bandit.close()


def test_block_weights_of_blocks_that_are_not_there_are_refused_before_they_are_drawn():
    bandit = FactoredBandit(":memory:", blocks={"mood": {"mood": 1.0}})
    with pytest.raises(WeightsError, match="no block 'mood'"):
        bandit.check(LAYOUT)
    bandit.close()


def test_a_usage_log_is_no_place_for_posteriors(tmp_path):
    UsageLog.open(tmp_path / "usage.db").close()
    with pytest.raises(BanditError, match=r"usage\.db is a usage log"):
        FactoredBandit(tmp_path / "usage.db", blocks=BLOCKS)
