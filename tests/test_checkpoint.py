"""A checkpoint is read as it was written, or refused with the reason."""

import json
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from subspace.blocks import BlockLayout
from subspace.checkpoint import Checkpoint, load_checkpoint
from subspace.encoder import Fingerprint
from subspace.errors import CheckpointError, LayoutError
from subspace.projection import Projection

FINGERPRINT = Fingerprint(
    model="minilm",
    revision="sha256:0",
    pooling="mean",
    query_prompt="",
    document_prompt="",
    layers=(1, 6),
    max_length=256,
    normalise=True,
    dtype="float32",
    dim=8,
)


def make(seed: int = 0) -> Checkpoint:
    rng = np.random.default_rng(seed)
    return Checkpoint(
        projection=Projection(
            weight=rng.normal(size=(5, 8)).astype(np.float32),
            mean=rng.normal(size=8).astype(np.float32),
            layout=BlockLayout.from_widths({"topic": 3, "style": 2}),
        ),
        encoder_model="minilm",
        fingerprint=FINGERPRINT,
        data_sha256={"corpus": "abc"},
        training={"solver": "sgd", "step": 7},
    )


@pytest.fixture
def folder(tmp_path) -> Path:
    make().save(tmp_path / "k")
    return tmp_path / "k"


def change_manifest(folder: Path, **changes) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def change_tensors(folder: Path, **changes) -> None:
    path = folder / "model.safetensors"
    save_file({**load_file(path), **changes}, path)


def test_what_is_written_is_read(folder):
    found, given = load_checkpoint(folder), make()
    np.testing.assert_array_equal(found.projection.weight, given.projection.weight)
    np.testing.assert_array_equal(found.projection.mean, given.projection.mean)
    assert found.manifest() == given.manifest()
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors"]


def test_saving_again_replaces_the_old_one(folder):
    make(seed=1).save(folder)
    found = load_checkpoint(folder).projection.weight
    np.testing.assert_array_equal(found, make(seed=1).projection.weight)


def nan_weight() -> np.ndarray:
    weight = make().projection.weight.copy()
    weight[0, 0] = np.nan
    return weight


DAMAGE = {
    "no manifest": (lambda f: (f / "config.json").unlink(), "has no config.json"),
    "no tensors": (lambda f: (f / "model.safetensors").unlink(), r"has no model\.safetensors"),
    "manifest is no JSON": (lambda f: (f / "config.json").write_text("{"), "damaged"),
    "manifest is a list": (lambda f: (f / "config.json").write_text("[]"), "format version"),
    "tensors cut off": (lambda f: os.truncate(f / "model.safetensors", 60), "damaged"),
    "NaN": (lambda f: change_tensors(f, weight=nan_weight()), "NaN"),
    "other tensors": (
        lambda f: change_tensors(f, mean=np.zeros(8, dtype=np.float32)),
        "not the file",
    ),
    "one tensor more": (lambda f: change_tensors(f, x=np.zeros(1)), "must hold the tensors"),
    "a later format": (lambda f: change_manifest(f, format_version=2), "version 2.*reads 1"),
    "other widths": (lambda f: change_manifest(f, blocks={"topic": 9}), "layout needs 9"),
    "another dimension": (lambda f: change_manifest(f, input_dim=9), "manifest says 9"),
    "no blocks": (lambda f: change_manifest(f, blocks=None), "manifest"),
    "a garbled encoder": (lambda f: change_manifest(f, encoder={"model": "x"}), "fingerprint"),
    "an unknown field": (
        lambda f: change_manifest(f, encoder={"model": "x", "fingerprint": {"a": 1}}),
        "fingerprint",
    ),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_is_named(folder, kind):
    damage, message = DAMAGE[kind]
    damage(folder)
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(folder)


def test_a_missing_checkpoint_says_what_was_expected(tmp_path):
    with pytest.raises(CheckpointError, match=r"no checkpoint.*config\.json.*\.ckpt"):
        load_checkpoint(tmp_path / "nowhere")


class Malicious:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_a_pickle_that_poses_as_a_checkpoint_is_not_run(tmp_path):
    evil = tmp_path / "evil"
    torch.save(Malicious(evil), tmp_path / "a.ckpt")
    (tmp_path / "b.ckpt").write_bytes(pickle.dumps(Malicious(evil)))
    for name in ("a.ckpt", "b.ckpt"):
        with pytest.raises(CheckpointError, match="no checkpoint that can be read safely"):
            load_checkpoint(tmp_path / name)
        assert not evil.exists()


def test_a_lightning_file_of_something_else_is_refused(tmp_path):
    torch.save({"state_dict": {"weight": torch.zeros(2)}}, tmp_path / "foreign.ckpt")
    with pytest.raises(CheckpointError, match="not written by subspace"):
        load_checkpoint(tmp_path / "foreign.ckpt")


def test_a_failed_save_leaves_the_old_checkpoint_whole(folder, monkeypatch):
    def fail(*_):
        raise OSError("No space left on device")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(CheckpointError, match="No space left"):
        make(seed=1).save(folder)
    found = load_checkpoint(folder).projection.weight
    np.testing.assert_array_equal(found, make().projection.weight)
    assert len(list(folder.iterdir())) == 2


def test_a_place_that_cannot_be_a_folder_is_one_sentence(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match="cannot write"):
        make().save(tmp_path / "file")


def test_another_encoder_is_refused_with_what_differs():
    other = Fingerprint(**{**vars(FINGERPRINT), "pooling": "cls", "max_length": 128})
    with pytest.raises(CheckpointError, match=r"pooling: 'mean', not 'cls'.*max_length: 256"):
        make().check_encoder(other)
    make().check_encoder(FINGERPRINT)


def test_a_projection_checks_its_shapes_and_its_input():
    projection = make().projection
    with pytest.raises(LayoutError, match="7 dimensions, the projection takes 8"):
        projection(np.zeros((2, 7), dtype=np.float32))
    with pytest.raises(LayoutError, match="needs 5"):
        Projection(projection.weight[:4], projection.mean, projection.layout)
    with pytest.raises(LayoutError, match="mean has shape"):
        Projection(projection.weight, projection.mean[:3], projection.layout)


def test_a_projection_is_w_of_x_minus_mu_with_unit_blocks():
    projection = make().projection
    x = np.random.default_rng(2).normal(size=(3, 8)).astype(np.float32)
    z = (x - projection.mean) @ projection.weight.T
    expected = np.hstack(
        [part / np.linalg.norm(part, axis=1, keepdims=True) for part in (z[:, :3], z[:, 3:])]
    )
    np.testing.assert_allclose(projection(x), expected, atol=1e-6)
    assert projection(x).dtype == np.float32
