"""Training: the same seed gives the same weights, resuming is exact, the guard holds."""

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.loggers import CSVLogger
from test_stored_pairs import write_set

from subspace.encoder import EncoderSpec
from subspace.errors import CheckpointError, ConfigError, LayoutError
from subspace.fitting.closed_form import ClosedForm, solve_closed_form
from subspace.model import load_checkpoint
from subspace.training.data_module import FactorData, _first_groups
from subspace.training.losses import LossWeights
from subspace.training.module import SeparationModule
from subspace.training.pair_batches import PairBatch

pytestmark = pytest.mark.filterwarnings(
    # Batches are slices of a mapped file; workers would only add copying.
    "ignore:.*does not have many workers",
    # Lightning's own use of a torch name that torch has deprecated.
    "ignore:.*isinstance.treespec, LeafSpec.*",
)

BLOCKS = {"topic": 6, "style": 4, "complexity": 4}
STEPS_PER_EPOCH = 5


@pytest.fixture(scope="session")
def stored(labelled_folder: Path, tiny_qwen: Path, tmp_path_factory) -> dict:
    """Arguments of a data module whose vectors are stored."""
    arguments = {
        "sources": [str(labelled_folder)],
        "encoder": EncoderSpec(model=str(tiny_qwen), layers=(1, 2)),
        "store": str(tmp_path_factory.mktemp("store")),
        "batch_size": 32,
        "steps_per_epoch": STEPS_PER_EPOCH,
    }
    FactorData(**arguments).prepare_data()
    return arguments


def make_trainer(**arguments) -> pl.Trainer:
    quiet = {
        "logger": False,
        "accelerator": "cpu",
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "enable_checkpointing": False,
    }
    return pl.Trainer(**{**quiet, **arguments})


def fit(stored: dict, *, steps: int, seed: int = 0, **settings) -> SeparationModule:
    module = SeparationModule(BLOCKS, **settings)
    data = FactorData(**stored, seed=seed)
    make_trainer(max_steps=steps).fit(module, datamodule=data)
    return module


def test_the_same_seed_gives_the_same_weights_bit_for_bit(stored):
    first, again = fit(stored, steps=7), fit(stored, steps=7)
    assert torch.equal(first.weight, again.weight)


def test_another_seed_gives_other_weights(stored):
    assert not torch.equal(fit(stored, steps=7).weight, fit(stored, steps=7, seed=1).weight)


@pytest.mark.parametrize("interrupted_at", [3, STEPS_PER_EPOCH, 8])
def test_resumed_training_equals_uninterrupted_training_bit_for_bit(
    stored, tmp_path, interrupted_at
):
    """In the middle of an epoch, at its end, and in a later epoch."""
    whole = fit(stored, steps=12)

    trainer = make_trainer(max_steps=interrupted_at, enable_checkpointing=False)
    trainer.fit(SeparationModule(BLOCKS), datamodule=FactorData(**stored))
    trainer.save_checkpoint(tmp_path / "half.ckpt")
    resumed = SeparationModule(BLOCKS)
    make_trainer(max_steps=12).fit(
        resumed,
        datamodule=FactorData(**stored),
        ckpt_path=tmp_path / "half.ckpt",
        weights_only=True,
    )

    assert resumed.trainer.global_step == 12
    assert torch.equal(whole.weight, resumed.weight)
    for mine, theirs in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(mine, theirs)


@pytest.fixture(scope="module")
def run_file(stored, tmp_path_factory) -> Path:
    """A Lightning file of a run of two steps."""
    trainer = make_trainer(max_steps=2)
    trainer.fit(SeparationModule(BLOCKS), datamodule=FactorData(**stored))
    path = tmp_path_factory.mktemp("run") / "run.ckpt"
    trainer.save_checkpoint(path)
    return path


def resume(stored: dict, path: Path, *, verb: str, blocks: dict = BLOCKS) -> SeparationModule:
    module = SeparationModule(blocks)
    run = getattr(make_trainer(max_steps=3), verb)
    run(module, datamodule=FactorData(**stored), ckpt_path=path, weights_only=True)
    return module


@pytest.mark.parametrize("verb", ["fit", "validate", "test"])
@pytest.mark.parametrize(
    "blocks",
    [
        {"topic": 6, "complexity": 4, "style": 4},  # the same shapes, with another meaning
        {"topic": 5, "style": 5, "complexity": 4},
        {"topic": 6, "style": 8},
    ],
    ids=["order", "widths", "names"],
)
def test_a_run_with_other_blocks_is_refused_with_both(verb, blocks, stored, run_file):
    with pytest.raises(CheckpointError) as caught:
        resume(stored, run_file, verb=verb, blocks=blocks)
    assert f"blocks: {BLOCKS}, not {blocks}" in str(caught.value)


def test_a_run_with_another_encoder_is_refused_with_what_differs(stored, tiny_qwen, run_file):
    other = {**stored, "encoder": EncoderSpec(model=str(tiny_qwen), layers=(1, 2), max_length=20)}
    with pytest.raises(CheckpointError, match="max_length: 128, not 20"):
        resume(other, run_file, verb="validate")


def test_a_run_goes_on_with_a_copy_of_its_encoder(stored, tiny_qwen, run_file, tmp_path):
    copy = shutil.copytree(tiny_qwen, tmp_path / "a-copy")
    moved = {**stored, "encoder": EncoderSpec(model=str(copy), layers=(1, 2))}
    expected = resume(stored, run_file, verb="validate").weight
    assert torch.equal(resume(moved, run_file, verb="validate").weight, expected)


@pytest.mark.parametrize("named", [True, False], ids=["named", "from before they were named"])
def test_a_run_with_other_probe_heads_is_refused_with_both(named, stored, run_file, tmp_path):
    """Style has two classes; with a third in the texts its head is another."""
    folder = tmp_path / "texts"
    shutil.copytree(stored["sources"][0], folder)
    lines = (folder / "parallel" / "records.jsonl").read_text()
    (folder / "parallel" / "records.jsonl").write_text(lines.replace("loud", "LOUD", 4))
    state = torch.load(run_file, weights_only=True)
    if not named:
        del state["subspace_heads"]
    torch.save(state, tmp_path / "run.ckpt")
    resume(stored, tmp_path / "run.ckpt", verb="validate")
    with pytest.raises(CheckpointError, match="heads: ") as caught:
        resume({**stored, "sources": [str(folder)]}, tmp_path / "run.ckpt", verb="validate")
    if named:
        assert "style of parallel (2 classes)" in str(caught.value)
        assert "style of parallel (3 classes)" in str(caught.value)


def test_a_file_of_another_project_is_refused(stored, run_file, tmp_path):
    state = torch.load(run_file, weights_only=True)
    del state["subspace"]
    torch.save(state, tmp_path / "foreign.ckpt")
    with pytest.raises(CheckpointError, match="was not written by subspace"):
        resume(stored, tmp_path / "foreign.ckpt", verb="validate")


@pytest.mark.parametrize(
    ("every", "expected"), [(3, [2, 5, 8]), (1, list(range(10))), (0, [])], ids=repr
)
def test_training_terms_are_logged_at_the_steps_that_were_asked_for(
    every, expected, stored, tmp_path
):
    logger = CSVLogger(tmp_path)
    module = SeparationModule(BLOCKS)
    make_trainer(max_steps=10, log_every_n_steps=every, logger=logger, limit_val_batches=0).fit(
        module, datamodule=FactorData(**stored)
    )
    path = Path(logger.log_dir) / "metrics.csv"
    rows = list(csv.DictReader(path.read_text().splitlines())) if path.exists() else []
    assert [int(row["step"]) for row in rows if row.get("train/loss")] == expected


def test_training_starts_at_the_closed_form_and_closed_form_stays_there(stored):
    data = FactorData(**stored)
    data.prepare_data()
    described = data.training_data
    module = SeparationModule(BLOCKS, solver="closed_form")
    make_trainer(max_epochs=0).fit(module, datamodule=data)
    start = solve_closed_form(
        described.statistics,
        layout=module.layout,
        settings=ClosedForm(),
        raw=described.fingerprint.last_layer,
    )
    np.testing.assert_array_equal(module.weight.detach().numpy(), start.projection.weight)


def test_training_lowers_the_loss_that_it_minimises(stored):
    data = FactorData(**stored)
    start, trained = SeparationModule(BLOCKS), SeparationModule(BLOCKS)
    make_trainer(max_epochs=0).fit(start, datamodule=data)
    trainer = make_trainer(max_steps=60)
    trainer.fit(trained, datamodule=data)
    before = make_trainer().validate(start, datamodule=data, verbose=False)[0]
    after = make_trainer().validate(trained, datamodule=data, verbose=False)[0]
    assert after["val/loss"] < before["val/loss"]


def test_the_guard_holds_exactly_after_training_and_only_with_the_guard(stored):
    def leak(module: SeparationModule) -> float:
        shares = [
            (rows @ module._classes[name]).norm() / rows.norm()
            for name, rows in module.layout.split(module.weight.detach().T).items()
            for rows in [rows.T]
        ]
        return float(max(shares))

    # The sources are made of few classes, so that the guard can close all their directions.
    guarded = fit(stored, steps=20, closed_form=ClosedForm(guard=1.0))
    unguarded = fit(
        stored, steps=20, closed_form=ClosedForm(guard=0.0), losses=LossWeights(guard=0)
    )
    assert leak(guarded) < 1e-4
    assert leak(unguarded) > 1e-2


def test_every_term_is_logged_by_name_and_a_term_of_weight_zero_is_left_out(stored):
    module = SeparationModule(BLOCKS, losses=LossWeights(keep=0))
    trainer = make_trainer(max_epochs=1)
    trainer.fit(module, datamodule=FactorData(**stored))
    named = {key.removeprefix("val/") for key in trainer.callback_metrics if key.startswith("val/")}
    expected = {f"{kind}/{b}" for kind in ("contrastive", "probe", "guard") for b in BLOCKS}
    assert expected <= named
    assert not any("keep" in name for name in named)


def test_a_lightning_file_is_read_without_pickle_and_equals_the_module(stored, tmp_path):
    module = SeparationModule(BLOCKS)
    trainer = make_trainer(max_steps=2)
    trainer.fit(module, datamodule=FactorData(**stored))
    trainer.save_checkpoint(tmp_path / "run.ckpt")
    read, held = load_checkpoint(tmp_path / "run.ckpt"), module.to_checkpoint()
    np.testing.assert_array_equal(read.projection.weight, held.projection.weight)
    assert read.manifest() == held.manifest()
    assert (read.training["solver"], read.training["step"]) == ("sgd", 2)
    assert ClosedForm(**read.training["closed_form"]) == module._closed_form


def test_without_data_the_message_names_the_key_and_the_variable(monkeypatch):
    monkeypatch.delenv("SUBSPACE_DATA", raising=False)
    with pytest.raises(ConfigError, match=r"data\.sources.*SUBSPACE_DATA"):
        FactorData().prepare_data()


def test_the_environment_variable_names_the_folder(monkeypatch, stored):
    monkeypatch.setenv("SUBSPACE_DATA", stored["sources"][0])
    data = FactorData(**{**stored, "sources": None})
    data.prepare_data()
    assert data.training_data.data_sha256


def test_without_validation_texts_the_message_says_what_to_do(stored, tmp_path):
    path = Path(stored["sources"][0]) / "graded" / "records.jsonl"
    (tmp_path / "s.jsonl").write_text(path.read_text().replace('"validation"', '"train"'))
    data = FactorData(**{**stored, "sources": [str(tmp_path / "s.jsonl")]})
    with pytest.raises(ConfigError, match=r"split 'validation'.*leave `split` out"):
        make_trainer(max_epochs=1).fit(SeparationModule({"topic": 4}), datamodule=data)


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"blocks": {"topic": 0}}, LayoutError, "topic"),
        ({"learning_rate": 0.0}, ConfigError, "learning_rate"),
        ({"temperature": -1.0}, ConfigError, "temperature"),
        ({"hard_weight": 0.5}, ConfigError, "hard_weight"),
        *(
            ({name: value}, ConfigError, f"model.{name} must be .* and finite, got {value}")
            for name in ("learning_rate", "temperature", "hard_weight")
            for value in (float("nan"), float("inf"))
        ),
    ],
)
def test_wrong_settings_are_refused_by_name(settings, error, message):
    with pytest.raises(error, match=message):
        SeparationModule(**settings)


@pytest.mark.parametrize("weight", [-1.0, float("nan"), float("inf")])
def test_wrong_loss_weights_are_refused_by_name(weight):
    with pytest.raises(ConfigError, match="keep"):
        LossWeights(keep=weight)


def test_a_block_too_wide_for_the_encoder_says_what_to_change(stored):
    module = SeparationModule({"topic": 6, "style": 100, "complexity": 4})
    with pytest.raises(ConfigError, match=r"style.*100 wide.*narrower"):
        make_trainer(max_steps=1).fit(module, datamodule=FactorData(**stored))


def test_a_block_without_labels_names_the_factors_there_are(stored):
    module = SeparationModule({"topic": 4, "mood": 4})
    with pytest.raises(ConfigError, match=r"mood.*complexity, .*topic"):
        make_trainer(max_steps=1).fit(module, datamodule=FactorData(**stored))


@pytest.mark.parametrize(
    "settings",
    [
        {"blocks": BLOCKS, "closed_form": ClosedForm(spread=0.01)},
        {"blocks": {**BLOCKS, "residual": 2}},
    ],
    ids=["spread", "residual"],
)
def test_what_only_the_closed_form_can_keep_is_refused_for_training(settings):
    with pytest.raises(ConfigError, match=r"need model\.solver: closed_form"):
        SeparationModule(**settings)
    SeparationModule(**settings, solver="closed_form")


def test_an_epoch_that_accumulation_does_not_divide_is_refused(stored):
    data = FactorData(**{**stored, "steps_per_epoch": 3})
    trainer = make_trainer(max_steps=2, accumulate_grad_batches=2)
    with pytest.raises(ConfigError, match="must be a multiple of"):
        trainer.fit(SeparationModule(BLOCKS), datamodule=data)


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


# Blocks learned from pairs.

PAIR_BLOCKS = {"topic": 6, "match": 5, "style": 4, "answer": 7}


@pytest.fixture
def with_pairs(stored, tmp_path) -> dict:
    return {**stored, "pairs": [str(write_set(tmp_path / "asked"))]}


def fit_pairs(arguments: dict, *, steps: int, ckpt: Path | None = None, **settings):
    module = SeparationModule(PAIR_BLOCKS, **settings)
    trainer = make_trainer(max_steps=steps)
    trainer.fit(module, datamodule=FactorData(**arguments), ckpt_path=ckpt, weights_only=True)
    return module, trainer


def test_the_factors_blocks_do_not_change_when_pairs_are_learned_beside_them(stored, with_pairs):
    both, _ = fit_pairs(with_pairs, steps=0, solver="closed_form")
    alone = SeparationModule({"topic": 6, "style": 4}, solver="closed_form")
    make_trainer(max_steps=0).fit(alone, datamodule=FactorData(**stored))
    for block in ("topic", "style"):
        assert torch.equal(
            both.weight[both.layout.slice(block)], alone.weight[alone.layout.slice(block)]
        )


def test_training_on_pairs_lowers_their_loss_and_keeps_queries_in_line(with_pairs):
    start, _ = fit_pairs(with_pairs, steps=0)
    trained, _ = fit_pairs(with_pairs, steps=60)
    batch = FactorData(**with_pairs)
    batch.prepare_data()
    plan = batch._pair_plans("train")[0]
    for block in ("match", "answer"):
        before = start.loss_terms(plan.draw(0))[f"pairs/{block}"]
        assert trained.loss_terms(plan.draw(0))[f"pairs/{block}"] < before
    # Only the block with a matrix for queries tells them apart.
    layout = trained.layout
    for block in layout:
        rows = layout.slice(block)
        same = torch.equal(trained.query_weight[rows], trained.weight[rows])
        assert same == (block != "answer")
    wanted = trained.weight @ (trained.document_centre - trained.mean)
    rows = layout.slice("match")
    torch.testing.assert_close(trained.offset[rows], wanted[rows])
    assert not trained.offset[layout.slice("topic")].any()


def test_resumed_training_with_pairs_equals_uninterrupted_training(with_pairs, tmp_path):
    whole, _ = fit_pairs(with_pairs, steps=12)
    _, trainer = fit_pairs(with_pairs, steps=7)
    trainer.save_checkpoint(tmp_path / "part.ckpt")
    resumed, _ = fit_pairs(with_pairs, steps=12, ckpt=tmp_path / "part.ckpt")
    assert torch.equal(resumed.weight, whole.weight)
    assert torch.equal(resumed.query_weight, whole.query_weight)
    found = load_checkpoint(tmp_path / "part.ckpt").projection
    assert found.query is not None


def test_blocks_from_pairs_without_pairs_and_pairs_without_blocks_are_refused(stored, with_pairs):
    with pytest.raises(ConfigError, match=r"block 'match' is learned from pairs: give data\.pairs"):
        fit_pairs(stored, steps=0)
    with pytest.raises(ConfigError, match="no block learns from it"):
        fit(with_pairs, steps=0)


def test_validation_pairs_are_those_of_validation_queries(with_pairs):
    data = FactorData(**with_pairs)
    data.prepare_data()
    stored = data._pairs["asked"]
    (plan,) = data._pair_plans("validation")
    assert sorted(map(tuple, plan.pairs)) == sorted(map(tuple, stored.pairs_of("validation")))
    assert set(plan.pairs[:, 0]).isdisjoint(stored.pairs_of("train")[:, 0])
    assert plan.queries.dtype == np.float32


def test_batches_of_pairs_that_weigh_nothing_change_nothing_and_end_nothing(with_pairs):
    module, _ = fit_pairs(with_pairs, steps=30, losses=LossWeights(pairs=0))
    start, _ = fit_pairs(with_pairs, steps=0)
    rows = module.layout.slice("match")
    assert torch.equal(module.weight[rows], start.weight[rows])


def test_before_the_first_step_only_answer_tells_queries_apart(with_pairs):
    module, _ = fit_pairs(with_pairs, steps=0)
    for block in module.layout:
        rows = module.layout.slice(block)
        same = torch.equal(module.query_weight[rows], module.weight[rows])
        assert same == (block != "answer")


def test_keeping_the_raw_ranking_pulls_at_no_block_of_pairs(with_pairs):
    module, _ = fit_pairs(with_pairs, steps=0)
    data = FactorData(**with_pairs)
    data.prepare_data()
    batch = next(
        batch for batch in data._whole_sources("train") if not isinstance(batch, PairBatch)
    )
    module.zero_grad()
    terms = module.loss_terms(batch)
    sum(term for name, term in terms.items() if name.startswith("keep")).backward()
    for block in module.layout:
        pulled = bool(module.weight.grad[module.layout.slice(block)].abs().sum() > 0)
        assert pulled == (block not in ("match", "answer"))


def test_pairs_of_the_same_name_as_a_source_are_no_source(stored, tmp_path):
    folder = write_set(tmp_path / "one")
    data = FactorData(**{**stored, "pairs": [str(folder)]})
    data.prepare_data()
    name = next(iter(data._sources))
    renamed = folder.rename(tmp_path / name)
    data = FactorData(**{**stored, "pairs": [str(renamed)]})
    training = data.training_data
    assert training.data_sha256 == {n: s.sha256 for n, s in data._sources.items()}
    assert training.recipe["pairs_sha256"] == {name: data._pairs[name].sha256}


def test_blocks_of_pairs_alone_are_refused_by_name():
    with pytest.raises(ConfigError, match="needs a factor's block beside those"):
        SeparationModule({"match": 4})


def test_pairs_and_blocks_that_do_not_go_together_are_refused_before_anything_is_encoded(
    stored, with_pairs
):
    for arguments, factors in ((stored, ["topic", "match"]), (with_pairs, ["topic"])):
        data = FactorData(**{**arguments, "factors": factors})
        with pytest.raises(ConfigError, match=r"data\.pairs"):
            data.prepare_data()
        assert data._encoder is None
