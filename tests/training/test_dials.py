"""Every key of the YAML files does what its text says: none is dead, and none is forgotten here."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from subspace.cli.fit import run_training
from subspace.errors import SubspaceError
from subspace.model import Model, load

ROOT = Path(__file__).resolve().parents[2]
KEY = re.compile(r"^\| `((?:output|seed_everything|model|data)[\w.]*)` \|", re.MULTILINE)
BLOCKS = {
    "topic": {"width": 4, "layers": [2]},
    "style": {"width": 3},
    "complexity": {"width": 3},
}
# By key, a value that changes the tensors of a fit; `sgd` where only training reads it.
CLOSED = {
    "model.blocks": {"topic": 5, "style": 4, "complexity": 3},
    "model.solver": "sgd",
    "data.exclude": ["detailed"],
    "data.origin_weights": {"features": 0.0},
    "data.encoder.layers": [0, 2],
    "data.encoder.max_length": 8,
    "data.encoder.pooling": "mean",
    "data.encoder.early_pooling": "lasttoken",
    "data.encoder.document_prompt": "passage: ",
    "data.encoder.dtype": "bfloat16",
    "data.weak.features": 2.0,
    "data.weak.rewrites": 20,
}
OF_A_BLOCK = {
    "width": 5,
    "layers": [1],
    "signal_power": 1.5,
    "noise_power": 0.0,
    "shrinkage": 0.9,
}
SGD = {
    "seed_everything": 7,
    "model.learning_rate": 0.05,
    "model.temperature": 1.0,
    "model.losses.contrastive": 0.0,
    "model.losses.probe": 50.0,
    "model.losses.keep": 200.0,
    "model.losses.anchor": 1000.0,
    "model.losses.erasure": 50.0,
    "data.held_out": ["detailed"],
    "data.batch_size": 8,
    "data.steps_per_epoch": 9,
}
# Keys with a test of their own below.
OTHERS = {
    "output",
    "model.hard_weight",
    "data.sources",
    "data.store",
    "data.weak.rules",
    "data.encoder.model",
    "data.encoder.revision",
    "data.encoder.query_prompt",
    "data.encoder.device",
    "data.encoder.batch_tokens",
    "data.encoder.backend",
}

pytestmark = pytest.mark.filterwarnings(
    # Lightning's own use of names that torch and jsonargparse have deprecated.
    "ignore::DeprecationWarning",
    "ignore:.*could not find the monitored key",
    "ignore:.*isinstance.treespec, LeafSpec.*",
)


@pytest.fixture(scope="module")
def fit(stored, tmp_path_factory):
    """Fits on a copy of the labelled folder, some of whose labels no human gave."""
    place = tmp_path_factory.mktemp("dials")
    for source in Path(stored["sources"][0]).iterdir():
        (place / "data" / source.name).mkdir(parents=True)
        lines = (source / "records.jsonl").read_text(encoding="utf-8").splitlines()
        records = [json.loads(line) for line in lines]
        for record in records[::3]:
            if "complexity" in record["factors"]:
                record["origins"] = {"complexity": "features"}
        text = "".join(json.dumps(record) + "\n" for record in records)
        (place / "data" / source.name / "records.jsonl").write_text(text)
    usual = {
        "output": str(place / "out"),
        "model.blocks": BLOCKS,
        "data.sources": [str(place / "data")],
        "data.encoder.model": str(stored["encoder"].model),
        "data.encoder.layers": [1, 2],
        "data.store": str(place / "store"),
        "data.batch_size": 32,
        "data.steps_per_epoch": 3,
        "trainer.max_epochs": 2,
        "trainer.accelerator": "cpu",
        "trainer.enable_progress_bar": False,
    }

    def fit(**changed: object) -> Model:
        given = {**usual, **changed}
        options = (f"--{key}={json.dumps(value)}" for key, value in given.items())
        run_training(["fit", *(option.replace('="', "=").rstrip('"') for option in options)])
        return load(str(given["output"]))

    return fit


@pytest.fixture(scope="module")
def closed(fit) -> Model:
    return fit()


@pytest.fixture(scope="module")
def trained(fit) -> Model:
    return fit(**{"model.solver": "sgd", **LIVELY})


# At these, a few steps leave the start, so that what only training reads can be seen.
LIVELY = {"model.learning_rate": 0.02, "model.losses.anchor": 0.1, "model.losses.erasure": 0.5}


def differs(one: Model, other: Model) -> bool:
    """Tells whether the tensors of projection or heads differ by more than rounding."""
    pairs = [(one.projection.weight, other.projection.weight)]
    for factor in one.heads.keys() & other.heads.keys():
        pairs.append((one.heads[factor].weight, other.heads[factor].weight))
    return any(
        mine.shape != theirs.shape or np.abs(mine - theirs).max() > 1e-4 * np.abs(mine).max()
        for mine, theirs in pairs
    )


@pytest.mark.parametrize("key", CLOSED)
def test_a_key_of_the_fit_changes_the_model(key, fit, closed):
    assert differs(fit(**{key: CLOSED[key]}), closed)


@pytest.mark.parametrize("setting", OF_A_BLOCK)
def test_a_setting_of_a_block_changes_the_block(setting, fit, closed):
    blocks = {**BLOCKS, "style": {**BLOCKS["style"], setting: OF_A_BLOCK[setting]}}
    found = fit(**{"model.blocks": blocks})
    assert found.layout.to_widths()["topic"] == 4
    assert differs(found, closed)


@pytest.mark.parametrize("key", SGD)
def test_a_key_of_training_changes_the_model(key, fit, trained):
    assert differs(fit(**{"model.solver": "sgd", **LIVELY, key: SGD[key]}), trained)


def test_the_weight_of_hard_negatives_counts_where_they_are_not_far_apart_yet(fit):
    """At a low temperature, negatives of labels that are told apart easily count nothing."""
    warm = {"model.solver": "sgd", **LIVELY, "model.temperature": 2.0, "data.batch_size": 128}
    assert differs(fit(**warm, **{"model.hard_weight": 40.0}), fit(**warm))


def test_keys_that_say_where_and_with_what(fit, closed, tmp_path, tiny_qwen):
    found = fit(
        **{
            "output": str(tmp_path / "mine"),
            "data.store": str(tmp_path / "vectors"),
            "data.encoder.batch_tokens": 64,
            "data.encoder.device": "cpu",
            "data.encoder.backend": "torch",
            "data.encoder.query_prompt": "ask: ",
        }
    )
    assert (tmp_path / "mine/model.safetensors").exists()
    assert any((tmp_path / "vectors").rglob("*"))
    assert not differs(found, closed)  # how it is computed changes nothing
    assert found.fingerprint.query_prompt == "ask: "
    rewritten = {"data.weak.rewrites": 20}
    assert differs(fit(**rewritten, **{"data.weak.rules": 1}), fit(**rewritten))
    for key, wrong in (
        ("data.sources", [str(tmp_path / "nowhere")]),
        ("data.encoder.model", str(tmp_path / "nowhere")),
        ("data.encoder.device", "nowhere"),
        ("data.encoder.batch_tokens", 0),
        ("data.encoder.backend", "abacus"),
    ):
        with pytest.raises(SubspaceError):
            fit(**{key: wrong, "data.store": str(tmp_path / "empty")})


def test_no_key_is_forgotten():
    page = (ROOT / "docs/reference-yaml.md").read_text(encoding="utf-8")
    known = {*CLOSED, *SGD, *OTHERS, *(f"model.blocks.NAME.{name}" for name in OF_A_BLOCK)}
    assert set(KEY.findall(page)) == known
