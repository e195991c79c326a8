"""A checkpoint is a contract: what was saved is loaded to the bit, and all else is refused."""

import json
import os
import pickle
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file
from safetensors.torch import save_file as save_tensors

from subspace.blocks import BlockLayout
from subspace.encoder import Fingerprint
from subspace.errors import CheckpointError, LayoutError
from subspace.model import Checkpoint, load_checkpoint
from subspace.model.projection import Projection, QuerySide

WIDTHS = {"style": 2, "topic": 3}
DIM = 4
FINGERPRINT = Fingerprint(
    model="some-model",
    revision="sha256:00",
    pooling="mean",
    query_prompt="Query: ",
    document_prompt="",
    layers=(1, -1),
    max_length=128,
    normalise=True,
    dtype="float32",
    dim=DIM,
)


def make_checkpoint(*, seed: int = 0, widths=WIDTHS, weight: np.ndarray | None = None):
    rng = np.random.default_rng(seed)
    layout = BlockLayout.from_widths(widths)
    if weight is None:
        weight = rng.normal(size=(layout.dim, DIM)).astype(np.float32)
    mean = np.linspace(-1, seed, DIM, dtype=np.float32)
    return Checkpoint(
        projection=Projection(weight=weight, mean=mean, layout=layout),
        encoder_model="folder/of/some-model",
        fingerprint=FINGERPRINT,
        data_sha256={"corpus": "ab" * 32},
        training={"solver": "closed_form", "step": seed},
    )


def assert_equal(found: Checkpoint, wanted: Checkpoint) -> None:
    np.testing.assert_array_equal(found.projection.weight, wanted.projection.weight)
    np.testing.assert_array_equal(found.projection.mean, wanted.projection.mean)
    assert found.projection.weight.dtype == np.float32
    assert found.manifest() == wanted.manifest()
    assert list(found.projection.layout) == list(wanted.projection.layout)


def save_lightning(path: Path, *, manifest: object, state: object = None) -> Path:
    """A file as the trainer writes it: the manifest and the tensors among other state."""
    projection = make_checkpoint().projection
    tensors = {
        "weight": torch.from_numpy(projection.weight),
        "mean": torch.from_numpy(projection.mean),
        "heads.0.linear.weight": torch.zeros(2, 3),
    }
    whole = {
        "epoch": 3,
        "pytorch-lightning_version": "2.6.0",
        "state_dict": tensors if state is None else state,
        "optimizer_states": [{"state": {}, "param_groups": [{"lr": 0.1}]}],
    }
    torch.save(whole if manifest is None else {**whole, "subspace": manifest}, path)
    return path


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    make_checkpoint().save(tmp_path / "saved")
    return tmp_path / "saved"


def change_manifest(folder: Path, change: Callable[[dict], object]) -> None:
    manifest = json.loads((folder / "config.json").read_text())
    changed = change(manifest)
    text = json.dumps(manifest if changed is None else changed)
    (folder / "config.json").write_text(text)


def refusal(path: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(path)
    assert str(path) in str(caught.value)
    return str(caught.value)


# What was saved is loaded.


def test_a_saved_folder_loads_as_it_was(saved):
    assert_equal(load_checkpoint(saved), make_checkpoint())
    assert sorted(path.name for path in saved.iterdir()) == ["config.json", "model.safetensors"]


def test_a_loaded_checkpoint_projects_to_the_same_bits(saved):
    x = np.random.default_rng(1).normal(size=(5, DIM)).astype(np.float32)
    expected = make_checkpoint().projection(x)
    np.testing.assert_array_equal(load_checkpoint(str(saved)).projection(x), expected)


@pytest.mark.parametrize(
    "arrange",
    [np.asfortranarray, lambda weight: np.repeat(weight, 2, axis=0)[::2]],
    ids=["column by column", "every second row"],
)
def test_the_round_trip_does_not_depend_on_how_the_weights_lie_in_memory(arrange, tmp_path):
    plain = make_checkpoint()
    other = make_checkpoint(weight=arrange(plain.projection.weight))
    np.testing.assert_array_equal(other.projection.weight, plain.projection.weight)
    other.save(tmp_path / "other")
    assert_equal(load_checkpoint(tmp_path / "other"), plain)


def test_a_lightning_file_loads_like_a_folder(tmp_path):
    checkpoint = make_checkpoint()
    path = save_lightning(tmp_path / "last.ckpt", manifest=checkpoint.manifest())
    assert_equal(load_checkpoint(path), checkpoint)


def test_a_lightning_file_of_half_precision_training_loads_or_is_refused(tmp_path):
    half = {"weight": torch.ones(5, DIM).bfloat16(), "mean": torch.zeros(DIM).bfloat16()}
    path = save_lightning(tmp_path / "half.ckpt", manifest=make_checkpoint().manifest(), state=half)
    try:
        weight = load_checkpoint(path).projection.weight
    except CheckpointError:
        return
    np.testing.assert_array_equal(weight, np.ones((5, DIM), np.float32))


def test_the_same_checkpoint_gives_the_same_bytes(saved, tmp_path):
    make_checkpoint().save(tmp_path / "again")
    for path in saved.iterdir():
        assert path.read_bytes() == (tmp_path / "again" / path.name).read_bytes()


def test_saving_over_a_checkpoint_replaces_it(saved):
    other = make_checkpoint(seed=1, widths={"tone": 3})
    other.save(saved)
    assert_equal(load_checkpoint(saved), other)
    assert sorted(path.name for path in saved.iterdir()) == ["config.json", "model.safetensors"]


def test_other_users_may_read_a_saved_checkpoint(saved):
    assert all(path.stat().st_mode & 0o044 == 0o044 for path in saved.iterdir())


# A save that fails leaves everything as it was.


def test_saving_to_the_path_of_a_file_is_refused_and_leaves_the_file(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("mine")
    with pytest.raises(CheckpointError, match=r"cannot write.*notes\.txt"):
        make_checkpoint().save(path)
    with pytest.raises(CheckpointError, match=r"cannot write.*notes\.txt"):
        make_checkpoint().save(path / "below")
    assert [p.name for p in tmp_path.iterdir()] == ["notes.txt"]
    assert path.read_text() == "mine"


def test_saving_over_another_models_folder_is_refused_and_leaves_the_model(tmp_path):
    """The file names are those of every model on the hub, an encoder's for instance."""
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    (tmp_path / "model.safetensors").write_bytes(b"its weights")
    with pytest.raises(CheckpointError, match=str(tmp_path)):
        make_checkpoint().save(tmp_path)
    assert (tmp_path / "config.json").read_text() == '{"model_type": "bert"}'
    assert (tmp_path / "model.safetensors").read_bytes() == b"its weights"


@pytest.mark.parametrize("content", ['{"model_type": "bert"}', "[]", "{ // not JSON", ""])
def test_a_foreign_config_alone_is_not_written_over(content, tmp_path):
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(CheckpointError, match=r"config\.json was not written by subspace"):
        make_checkpoint().save(tmp_path)
    assert (tmp_path / "config.json").read_text() == content
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]


def test_whether_a_checkpoint_can_be_written_is_said_without_writing(saved, tmp_path):
    foreign, file = tmp_path / "foreign", tmp_path / "file"
    foreign.mkdir()
    (foreign / "model.safetensors").write_bytes(b"its weights")
    file.write_text("mine")
    for taken in (foreign, file, file / "below"):
        with pytest.raises(CheckpointError, match=str(taken)):
            Checkpoint.check_target(taken)
    for free in (saved, tmp_path / "deep" / "new"):
        Checkpoint.check_target(free)
    (saved / "last.ckpt").write_bytes(b"to resume from")
    Checkpoint.check_target(saved)
    assert not list((tmp_path / "deep" / "new").iterdir())
    assert_equal(load_checkpoint(saved), make_checkpoint())


def save_and_die(folder: Path, *, seed: int, moves: int) -> None:
    """Saves in a process that dies, with nothing tidied up, at the move after `moves`."""
    code = """
import os, sys
from test_checkpoint import make_checkpoint

left, replace = int(sys.argv[2]), os.replace

def dying(source, target):
    global left
    if left == 0:
        os._exit(9)
    left -= 1
    replace(source, target)

os.replace = dying
make_checkpoint(seed=int(sys.argv[3])).save(sys.argv[1])
os._exit(0)
"""
    subprocess.run(
        [sys.executable, "-c", code, str(folder), str(moves), str(seed)],
        cwd=Path(__file__).parent,
        check=False,
        timeout=60,
    )


@pytest.mark.parametrize(("moves", "is_new"), [(0, False), (1, False), (2, True), (3, True)])
def test_a_save_killed_at_any_moment_leaves_the_old_checkpoint_or_the_new_one(
    moves, is_new, saved, tmp_path
):
    fresh = tmp_path / "fresh"
    for folder in (saved, fresh):
        save_and_die(folder, seed=1, moves=moves)
    assert_equal(load_checkpoint(saved), make_checkpoint(seed=1 if is_new else 0))
    if is_new:
        assert_equal(load_checkpoint(fresh), make_checkpoint(seed=1))
    else:
        assert "is no checkpoint" in refusal(fresh)
    # Killed again, one move later, over what the first one left.
    save_and_die(saved, seed=2, moves=1)
    assert_equal(load_checkpoint(saved), make_checkpoint(seed=1 if is_new else 0))
    for folder in (saved, fresh):
        make_checkpoint(seed=3).save(folder)
        assert_equal(load_checkpoint(folder), make_checkpoint(seed=3))
        assert {"config.json", "model.safetensors"} == {
            path.name for path in folder.iterdir() if not path.name.startswith(".partial-")
        }


def test_a_manifest_that_cannot_be_moved_leaves_the_old_checkpoint(saved, monkeypatch):
    replace = os.replace

    def failing(source, target):
        if Path(target).name == "config.json":
            raise OSError("no")
        replace(source, target)

    monkeypatch.setattr(os, "replace", failing)
    with pytest.raises(CheckpointError, match="cannot write"):
        make_checkpoint(seed=1).save(saved)
    assert_equal(load_checkpoint(saved), make_checkpoint())
    assert sorted(path.name for path in saved.iterdir()) == ["config.json", "model.safetensors"]


@contextmanager
def full_disk() -> Iterator[None]:
    """The system refuses to write more than 100 bytes to a file, as a full disk does."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_is_reported_and_leaves_the_old_checkpoint(saved):
    with full_disk(), pytest.raises(CheckpointError, match="cannot write"):
        make_checkpoint(seed=1).save(saved)
    assert_equal(load_checkpoint(saved), make_checkpoint())
    assert sorted(path.name for path in saved.iterdir()) == ["config.json", "model.safetensors"]


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere"
)
def test_a_folder_that_may_not_be_written_keeps_the_old_checkpoint(saved):
    saved.chmod(0o555)
    with pytest.raises(CheckpointError, match="cannot write"):
        make_checkpoint(seed=1).save(saved)
    saved.chmod(0o755)
    assert_equal(load_checkpoint(saved), make_checkpoint())


# What is missing or damaged is refused.


def test_a_missing_checkpoint_is_refused_with_what_to_give(tmp_path):
    message = refusal(tmp_path / "nothing")
    assert "config.json" in message
    assert ".ckpt" in message


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_folder_without_one_of_its_files_is_refused_by_its_name(name, saved):
    (saved / name).unlink()
    assert f"has no {name}" in refusal(saved)


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b'{"format_version": 1', b"\xff\xfe", b"[" * 100_000],
    ids=["empty", "open", "cut off", "not UTF-8", "too deep"],
)
def test_a_damaged_manifest_is_refused(content, saved):
    (saved / "config.json").write_bytes(content)
    assert "damaged" in refusal(saved)


@pytest.mark.parametrize("value", [[], 1, "text", None, {}], ids=repr)
def test_a_manifest_that_is_none_is_refused(value, saved):
    (saved / "config.json").write_text(json.dumps(value))
    assert "format version None" in refusal(saved)


def test_a_truncated_tensor_file_is_refused_wherever_it_is_cut(saved):
    content = (saved / "model.safetensors").read_bytes()
    for length in range(0, len(content), 5):
        (saved / "model.safetensors").write_bytes(content[:length])
        assert "damaged" in refusal(saved)


def test_a_flipped_bit_is_refused_wherever_it_is(saved):
    content = (saved / "model.safetensors").read_bytes()
    for position in range(0, len(content), 5):
        flipped = bytearray(content)
        flipped[position] ^= 1
        (saved / "model.safetensors").write_bytes(flipped)
        refusal(saved)
    (saved / "model.safetensors").write_bytes(content)
    assert_equal(load_checkpoint(saved), make_checkpoint())


def test_tensors_of_another_checkpoint_are_refused(saved, tmp_path):
    make_checkpoint(seed=1).save(tmp_path / "other")
    shutil.copy(tmp_path / "other" / "model.safetensors", saved)
    assert "is not the file that config.json was written for" in refusal(saved)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("name", ["weight", "mean"])
def test_values_that_are_not_finite_are_refused_and_the_message_says_so(name, value, saved):
    tensors = load_file(saved / "model.safetensors")
    tensors[name].flat[1] = value
    save_file(tensors, saved / "model.safetensors")
    assert "NaN or infinity" in refusal(saved)


def test_values_that_are_not_finite_are_refused_in_a_lightning_file_too(tmp_path):
    broken = {"weight": torch.full((5, DIM), torch.nan), "mean": torch.zeros(DIM)}
    manifest = make_checkpoint().manifest()
    path = save_lightning(tmp_path / "nan.ckpt", manifest=manifest, state=broken)
    assert "NaN or infinity" in refusal(path)


# Queries may have tensors of their own.


def with_queries() -> Checkpoint:
    plain = make_checkpoint()
    rng = np.random.default_rng(5)
    dim = plain.projection.layout.dim
    draw = [rng.normal(size=shape).astype(np.float32) for shape in ((dim, DIM), dim, dim)]
    query = QuerySide(weight=draw[0], offset=draw[1])
    return replace(plain, projection=replace(plain.projection, offset=draw[2], query=query))


def test_what_queries_are_projected_with_is_loaded_to_the_bit(tmp_path):
    checkpoint = with_queries()
    checkpoint.save(tmp_path / "saved")
    found = load_checkpoint(tmp_path / "saved")
    assert_equal(found, checkpoint)
    x = np.random.default_rng(1).normal(size=(3, DIM)).astype(np.float32)
    np.testing.assert_array_equal(found.projection(x), checkpoint.projection(x))
    np.testing.assert_array_equal(found.projection.queries(x), checkpoint.projection.queries(x))
    assert not np.allclose(found.projection.queries(x), found.projection(x))


def test_a_folder_of_format_1_is_read(saved):
    change_manifest(saved, lambda m: m.update(format_version=1))
    assert load_checkpoint(saved).projection.query is None


@pytest.mark.parametrize("lacking", ["offset", "query_weight", "query_offset"])
def test_half_of_what_queries_need_is_refused(lacking, tmp_path):
    with_queries().save(tmp_path / "saved")
    tensors = load_file(tmp_path / "saved" / "model.safetensors")
    del tensors[lacking]
    save_file(tensors, tmp_path / "saved" / "model.safetensors")
    assert "either all or none" in refusal(tmp_path / "saved")


# What does not fit is refused.


@pytest.mark.parametrize("version", [0, 3, "1", True, None])
def test_another_format_version_is_refused_with_both_versions_and_its_writer(version, saved):
    change_manifest(saved, lambda m: m.update(format_version=version, package_version="7.8.9"))
    message = refusal(saved)
    assert f"format version {version!r}" in message
    assert "reads 1 and 2" in message
    assert "7.8.9" in message or version is None


@pytest.mark.parametrize(
    "blocks", [{"style": 2, "topic": 2}, {"style": 5, "topic": 0}, {"style": "5"}, {}], ids=repr
)
def test_a_layout_that_does_not_fit_the_tensors_is_refused(blocks, saved):
    change_manifest(saved, lambda m: m.update(blocks=blocks))
    assert "cannot be used" in refusal(saved)


@pytest.mark.parametrize("where", ["manifest", "fingerprint"])
def test_another_input_dimension_is_refused(where, saved):
    def change(manifest: dict) -> None:
        place = manifest if where == "manifest" else manifest["encoder"]["fingerprint"]
        place["input_dim" if where == "manifest" else "dim"] = DIM + 1

    change_manifest(saved, change)
    message = refusal(saved)
    assert f"takes {DIM} dimensions" in message
    assert str(DIM + 1) in message


@pytest.mark.parametrize("key", ["blocks", "input_dim", "encoder", "data", "training"])
def test_a_manifest_without_a_key_is_refused_by_its_name(key, saved):
    change_manifest(saved, lambda m: {k: v for k, v in m.items() if k != key})
    assert f"'{key}'" in refusal(saved)


@pytest.mark.parametrize("key", ["model", "fingerprint"])
def test_an_encoder_without_a_key_is_refused_by_its_name(key, saved):
    change_manifest(saved, lambda m: m["encoder"].pop(key) and None)
    assert f"'{key}'" in refusal(saved)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("blocks", ["style", "topic"]),
        ("encoder", "some-model"),
        ("encoder", {"model": None, "fingerprint": FINGERPRINT.to_json()}),
        ("encoder", {"model": "some-model", "fingerprint": 5}),
        ("data", None),
        ("training", ["step", 3]),
    ],
)
def test_a_manifest_with_a_value_of_another_kind_is_refused(key, value, saved):
    change_manifest(saved, lambda m: m.update({key: value}))
    refusal(saved)


@pytest.mark.parametrize("change", ["unknown", "missing"])
def test_a_fingerprint_with_other_fields_is_refused_by_their_names(change, saved):
    def other_fields(manifest: dict) -> None:
        fingerprint = manifest["encoder"]["fingerprint"]
        if change == "unknown":
            fingerprint["whitening"] = True
        else:
            del fingerprint["pooling"]

    change_manifest(saved, other_fields)
    assert ("whitening" if change == "unknown" else "pooling") in refusal(saved)


@pytest.mark.parametrize(
    ("field", "value"),
    [("layers", []), ("layers", "ab"), ("max_length", "long"), ("model", 3), ("normalise", "no")],
)
def test_a_fingerprint_with_a_value_of_another_kind_is_refused(field, value, saved):
    change_manifest(saved, lambda m: m["encoder"]["fingerprint"].update({field: value}))
    refusal(saved)


@pytest.mark.parametrize(
    "tensors",
    [
        {"weight": np.zeros((5, DIM), np.float32)},
        {"weight": np.zeros((5, DIM), np.float32), "bias": np.zeros(DIM, np.float32)},
        {
            "weight": np.zeros((5, DIM), np.float32),
            "mean": np.zeros(DIM, np.float32),
            "extra": np.zeros(1, np.float32),
        },
    ],
    ids=["one missing", "another name", "one too many"],
)
def test_other_tensors_than_weight_and_mean_are_refused(tensors, saved):
    save_file(tensors, saved / "model.safetensors")
    assert "must hold the tensors weight and mean" in refusal(saved)


def test_tensors_of_a_type_that_numpy_does_not_know_are_refused(saved):
    tensors = {"weight": torch.zeros(5, DIM).bfloat16(), "mean": torch.zeros(DIM).bfloat16()}
    save_tensors(tensors, saved / "model.safetensors")
    refusal(saved)


# Files from elsewhere.


class Malicious:
    """A pickle that creates a file when it is loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


@pytest.mark.parametrize("writer", ["pickle", "torch", "torch, old format"])
def test_code_in_a_pickle_that_poses_as_a_checkpoint_is_not_run(writer, tmp_path):
    path, trace = tmp_path / "model.ckpt", tmp_path / "trace"
    payload = {"subspace": Malicious(trace), "state_dict": {}}
    if writer == "pickle":
        path.write_bytes(pickle.dumps(payload))
    else:
        torch.save(payload, path, _use_new_zipfile_serialization=writer == "torch")
    assert "cannot be read safely" in refusal(path).replace(
        "no checkpoint that can be", "cannot be"
    )
    assert not trace.exists()
    # Counter-check: read without care, it does run.
    if writer == "pickle":
        pickle.loads(path.read_bytes())
    else:
        torch.load(path, weights_only=False)
    assert trace.exists()


def test_a_lightning_file_of_another_project_is_refused(tmp_path):
    path = save_lightning(tmp_path / "foreign.ckpt", manifest=None)
    assert "was not written by subspace" in refusal(path)


@pytest.mark.parametrize("state", [{}, [], {"weight": [1.0], "mean": 2.0}], ids=repr)
def test_a_lightning_file_without_the_tensors_is_refused(state, tmp_path):
    manifest = make_checkpoint().manifest()
    refusal(save_lightning(tmp_path / "empty.ckpt", manifest=manifest, state=state))


@pytest.mark.parametrize("manifest", [None, [], {"format_version": 9}], ids=repr)
def test_a_lightning_file_with_another_manifest_is_refused(manifest, tmp_path):
    path = tmp_path / "other.ckpt"
    torch.save({"subspace": manifest, "state_dict": {}}, path)
    assert "format version" in refusal(path)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(content=st.binary(max_size=60))
@example(content=b"")
@example(content=b"\x80\x02K")
@example(content=b"\x80\x02}q\x00.")
@example(content=b"PK\x03\x04")
@example(content=b"{}")
@example(content=b"\xff")
def test_any_file_that_is_no_checkpoint_is_refused_without_a_traceback(content, tmp_path):
    path = tmp_path / "any.ckpt"
    path.write_bytes(content)
    refusal(path)


def test_a_lightning_file_that_is_cut_off_is_refused_wherever_it_is_cut(tmp_path):
    manifest = make_checkpoint().manifest()
    path = save_lightning(tmp_path / "whole.ckpt", manifest=manifest)
    content = path.read_bytes()
    for length in range(0, len(content), 97):
        path.write_bytes(content[:length])
        refusal(path)


# The encoder.


def test_the_encoder_it_was_made_for_is_accepted():
    make_checkpoint().check_encoder(replace(FINGERPRINT))


def test_a_copy_of_the_encoder_in_another_folder_is_accepted():
    make_checkpoint().check_encoder(replace(FINGERPRINT, model="a-copy"))
    # Counter-check: other content in a folder of the same name, or another name on the hub.
    with pytest.raises(CheckpointError, match="revision: 'sha256:00', not 'sha256:11'"):
        make_checkpoint().check_encoder(replace(FINGERPRINT, revision="sha256:11"))
    on_hub = replace(FINGERPRINT, model="some/model", revision="c0ffee")
    with pytest.raises(CheckpointError, match="model: 'some/model', not 'a/fork'"):
        replace(make_checkpoint(), fingerprint=on_hub).check_encoder(
            replace(on_hub, model="a/fork")
        )


@pytest.mark.parametrize("trained_on_hub", [True, False])
def test_a_commit_and_a_folder_are_refused_with_what_cannot_be_compared(trained_on_hub):
    on_hub = replace(FINGERPRINT, model="some/model", revision="c0ffee")
    mine, theirs = (on_hub, FINGERPRINT) if trained_on_hub else (FINGERPRINT, on_hub)
    with pytest.raises(CheckpointError) as caught:
        replace(make_checkpoint(), fingerprint=mine).check_encoder(replace(theirs, pooling="cls"))
    message = str(caught.value)
    assert "the commit 'c0ffee' of 'some/model' on the hub" in message
    assert "the hash of the files of 'some-model' ('sha256:00')" in message
    assert "cannot be compared" in message
    assert "pooling: 'mean', not 'cls'" in message
    assert ("give 'some/model'" in message) == trained_on_hub


def test_checkpoints_can_be_told_apart_but_not_compared():
    assert make_checkpoint() != make_checkpoint()
    assert len({make_checkpoint(), make_checkpoint()}) == 2


def test_another_encoder_is_refused_with_every_field_that_differs_and_no_other():
    other = replace(FINGERPRINT, pooling="cls", layers=(2,), revision="sha256:11")
    with pytest.raises(CheckpointError) as caught:
        make_checkpoint().check_encoder(other)
    message = str(caught.value)
    assert "pooling: 'mean', not 'cls'" in message
    assert "layers: [1, -1], not [2]" in message
    assert "revision: 'sha256:00', not 'sha256:11'" in message
    assert "max_length" not in message
    assert "dtype" not in message


def test_the_encoders_spec_spells_out_the_fingerprint_and_may_move_to_another_folder():
    spec = make_checkpoint().encoder_spec()
    assert (spec.model, spec.pooling, spec.layers) == ("folder/of/some-model", "mean", (1, -1))
    assert make_checkpoint().encoder_spec(model="elsewhere").model == "elsewhere"


def test_an_offset_without_a_matrix_for_queries_is_refused_before_it_is_saved():
    plain = make_checkpoint().projection
    with pytest.raises(LayoutError, match="go together"):
        replace(plain, offset=np.zeros(plain.layout.dim, np.float32))
