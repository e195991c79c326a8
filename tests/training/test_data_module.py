"""FactorData: what is read, what is held out, what a validation batch holds."""

import json
from pathlib import Path

import numpy as np
import pytest

from subspace.errors import ConfigError, LayoutError
from subspace.fitting.block_spec import BlockSpec
from subspace.fitting.weak.weak_supervision import WeakSupervision
from subspace.training.data_module import FactorData, _first_groups
from subspace.training.training_parts import training_heads, training_parts


def test_without_data_the_message_names_the_key_and_the_variable(monkeypatch):
    monkeypatch.delenv("SUBSPACE_DATA", raising=False)
    with pytest.raises(ConfigError, match=r"data\.sources.*SUBSPACE_DATA"):
        FactorData().prepare_data()


def test_the_environment_variable_names_the_folder(monkeypatch, stored):
    monkeypatch.setenv("SUBSPACE_DATA", stored["sources"][0])
    data = FactorData(**{**stored, "sources": None})
    assert set(data.fitting_data.sources) == {"parallel", "graded", "detailed"}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"batch_size": 1}, "batch_size must be 2"),
        ({"steps_per_epoch": 0}, "steps_per_epoch 1"),
        ({"seed": -1}, "seed 0 or more"),
        ({"origin_weights": {"features": float("nan")}}, "origin_weights: 'features'"),
    ],
)
def test_settings_out_of_range_are_refused_by_name(settings, message):
    with pytest.raises(ConfigError, match=message):
        FactorData(**settings)


def test_nothing_is_learned_from_sources_held_out_and_they_alone_judge(stored):
    data = FactorData(**stored, held_out=["graded"])
    assert set(data.fitting_data.sources) == {"parallel", "detailed"}
    assert set(data.fitting_data.moments) == {"parallel", "detailed"}
    assert "complexity" not in data.fitting_data.factors
    (batch,) = data.val_dataloader()
    source = data.held_out["graded"]
    judged = source.rows[source.labels.splits != 2]  # not its test texts
    assert batch.source == -1
    wanted = {row.tobytes() for row in data.fitting_data.vectors[judged]}
    assert {row.tobytes() for row in batch.x.numpy()} <= wanted
    assert len(batch.x) == 128  # four training batches
    # Counter-check: without it, the validation texts of all sources judge.
    plain = FactorData(**stored)
    assert [batch.source for batch in plain.val_dataloader()] == [0, 1, 2]
    assert "complexity" in plain.fitting_data.factors


@pytest.mark.parametrize(
    ("held_out", "message"),
    [
        (["nowhere"], "held_out: there is no source 'nowhere'; there are detailed, graded, paral"),
        (["parallel", "graded", "detailed"], "held_out names all sources"),
    ],
    ids=["unknown", "all"],
)
def test_names_that_cannot_be_held_out_are_refused(held_out, message, stored):
    with pytest.raises(ConfigError, match=message):
        FactorData(**stored, held_out=held_out).prepare_data()


def test_rewrites_are_one_more_source_to_train_on_and_none_to_judge_by(stored, tmp_path):
    texts = [
        {
            "id": str(n),
            "text": f"They do not need help with the big car, and it is very good {n}.",
            "factors": {"style": "plain" if n % 2 else "loud"},
            "split": "validation" if n % 4 == 0 else "train",
        }
        for n in range(16)
    ]
    path = tmp_path / "written.jsonl"
    path.write_text("".join(json.dumps(text) + "\n" for text in texts))
    settings = {**stored, "sources": [str(path)], "weak": WeakSupervision(rewrites=4, rules=2)}
    data = FactorData(**settings)
    parts = training_parts(data.fitting_data)
    assert list(parts) == ["written", "written (rewrites)"]
    rewritten = parts["written (rewrites)"].labels
    assert rewritten.columns["style"].class_count > 1
    assert len(np.unique(rewritten.groups)) < len(rewritten)
    heads = [str(head) for head in training_heads(data.fitting_data)]
    assert "style of written (2 classes)" in heads
    assert any(name.startswith("style of written (rewrites)") for name in heads)
    (batch,) = data.val_dataloader()
    assert batch.source == 0
    assert len(batch.x) == 4


def test_without_validation_texts_the_message_says_what_to_do(stored, tmp_path):
    path = Path(stored["sources"][0]) / "graded" / "records.jsonl"
    (tmp_path / "s.jsonl").write_text(path.read_text().replace('"validation"', '"train"'))
    data = FactorData(**{**stored, "sources": [str(tmp_path / "s.jsonl")]})
    with pytest.raises(ConfigError, match=r"'validation' and 'test'.*data\.held_out"):
        data.val_dataloader()
    assert len(list(data.test_dataloader())) == 1


def test_blocks_are_those_given_or_the_librarys_own_for_what_is_labelled(stored):
    data = FactorData(**stored, weak=WeakSupervision(features=0.5), origin_weights={"x": 0.1})
    own = data.recipe(None)
    assert list(own.blocks) == ["topic", "style", "complexity", "specificity"]
    assert own.blocks["style"] == BlockSpec(width=64)  # no wider than the two layers
    assert (own.weak.features, own.origin_weights) == (0.5, {"x": 0.1})
    given = data.recipe({"style": 3, "topic": {"width": 2, "layers": [2]}})
    assert given.blocks["style"] == BlockSpec(width=3)
    assert given.blocks["topic"].signal_power == 0  # as topic is, unless said otherwise
    with pytest.raises(LayoutError, match="width of block 'style'"):
        data.recipe({"style": 0})


def test_a_validation_batch_cuts_no_group_and_is_spread_over_the_source():
    groups = np.repeat(np.arange(40), 3)
    groups = np.concatenate([groups, np.full(80, -1)])
    kept = _first_groups(groups, limit=50)
    assert 40 <= len(kept) <= 50
    taken = groups[kept][groups[kept] >= 0]
    assert (np.unique(taken, return_counts=True)[1] == 3).all()
    assert taken.max() > 20
    assert (groups[kept] < 0).any()
    assert (kept == _first_groups(groups, limit=50)).all()
    assert sorted(_first_groups(groups, limit=500)) == list(range(200))
    assert len(_first_groups(np.zeros(9, dtype=np.int64), limit=4)) == 9
