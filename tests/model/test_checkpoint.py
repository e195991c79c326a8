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
from models import DIM, FINGERPRINT, assert_equal, make_model, with_heads, with_queries
from safetensors.numpy import load_file, save_file
from safetensors.torch import save_file as save_tensors

from subspace.errors import CheckpointError, LayoutError
from subspace.model import LinearHead, Model, load
from subspace.model.checkpoint import manifest
from subspace.model.checkpoint_folder import check_target
from subspace.model.reference import find_reference


def save_lightning(path: Path, *, found: object, state: object = None) -> Path:
    """A file as the trainer writes it: the manifest and the tensors among other state."""
    projection = make_model().projection
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
    torch.save(whole if found is None else {**whole, "subspace": found}, path)
    return path


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    make_model().save(tmp_path / "saved")
    return tmp_path / "saved"


def change_manifest(folder: Path, change: Callable[[dict], object]) -> None:
    found = json.loads((folder / "config.json").read_text())
    changed = change(found)
    text = json.dumps(found if changed is None else changed)
    (folder / "config.json").write_text(text)


def refusal(path: Path | str) -> str:
    with pytest.raises(CheckpointError) as caught:
        load(path)
    assert str(path) in str(caught.value)
    return str(caught.value)


# What was saved is loaded.


def test_a_saved_folder_loads_as_it_was(saved):
    assert_equal(load(saved), make_model())
    assert names_of(saved) == ["config.json", "model.safetensors"]


def test_a_loaded_checkpoint_projects_to_the_same_bits(saved):
    x = np.random.default_rng(1).normal(size=(5, DIM)).astype(np.float32)
    expected = make_model().projection(x)
    np.testing.assert_array_equal(load(str(saved)).projection(x), expected)


@pytest.mark.parametrize(
    "arrange",
    [np.asfortranarray, lambda weight: np.repeat(weight, 2, axis=0)[::2]],
    ids=["column by column", "every second row"],
)
def test_the_round_trip_does_not_depend_on_how_the_weights_lie_in_memory(arrange, tmp_path):
    plain = make_model()
    other = make_model(weight=arrange(plain.projection.weight))
    np.testing.assert_array_equal(other.projection.weight, plain.projection.weight)
    other.save(tmp_path / "other")
    assert_equal(load(tmp_path / "other"), plain)


def test_a_lightning_file_loads_like_a_folder(tmp_path):
    model = make_model()
    path = save_lightning(tmp_path / "last.ckpt", found=manifest(model))
    assert_equal(load(path), model)


def test_a_lightning_file_of_half_precision_training_loads_or_is_refused(tmp_path):
    half = {"weight": torch.ones(5, DIM).bfloat16(), "mean": torch.zeros(DIM).bfloat16()}
    path = save_lightning(tmp_path / "half.ckpt", found=manifest(make_model()), state=half)
    try:
        weight = load(path).projection.weight
    except CheckpointError:
        return
    np.testing.assert_array_equal(weight, np.ones((5, DIM), np.float32))


def test_the_same_checkpoint_gives_the_same_bytes(saved, tmp_path):
    make_model().save(tmp_path / "again")
    for path in saved.iterdir():
        assert path.read_bytes() == (tmp_path / "again" / path.name).read_bytes()


def test_saving_over_a_checkpoint_replaces_it(saved):
    other = make_model(seed=1, widths={"tone": 3})
    other.save(saved)
    assert_equal(load(saved), other)
    assert names_of(saved) == ["config.json", "model.safetensors"]


def test_other_users_may_read_a_saved_checkpoint(saved):
    assert all(path.stat().st_mode & 0o044 == 0o044 for path in saved.iterdir())


# A save that fails leaves everything as it was.


def test_saving_to_the_path_of_a_file_is_refused_and_leaves_the_file(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_text("mine")
    with pytest.raises(CheckpointError, match=r"cannot write.*notes\.txt"):
        make_model().save(path)
    with pytest.raises(CheckpointError, match=r"cannot write.*notes\.txt"):
        make_model().save(path / "below")
    assert [p.name for p in tmp_path.iterdir()] == ["notes.txt"]
    assert path.read_text() == "mine"


def test_saving_over_another_models_folder_is_refused_and_leaves_the_model(tmp_path):
    """The file names are those of every model on the hub, an encoder's for instance."""
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    (tmp_path / "model.safetensors").write_bytes(b"its weights")
    with pytest.raises(CheckpointError, match=str(tmp_path)):
        make_model().save(tmp_path)
    assert (tmp_path / "config.json").read_text() == '{"model_type": "bert"}'
    assert (tmp_path / "model.safetensors").read_bytes() == b"its weights"


@pytest.mark.parametrize("content", ['{"model_type": "bert"}', "[]", "{ // not JSON", ""])
def test_a_foreign_config_alone_is_not_written_over(content, tmp_path):
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(CheckpointError, match=r"config\.json was not written by subspace"):
        make_model().save(tmp_path)
    assert (tmp_path / "config.json").read_text() == content
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]


def test_whether_a_checkpoint_can_be_written_is_said_without_writing(saved, tmp_path):
    foreign, file = tmp_path / "foreign", tmp_path / "file"
    foreign.mkdir()
    (foreign / "model.safetensors").write_bytes(b"its weights")
    file.write_text("mine")
    for taken in (foreign, file, file / "below"):
        with pytest.raises(CheckpointError, match=str(taken)):
            check_target(taken)
    for free in (saved, tmp_path / "deep" / "new"):
        check_target(free)
    (saved / "last.ckpt").write_bytes(b"to resume from")
    check_target(saved)
    assert not (tmp_path / "deep").exists()
    assert_equal(load(saved), make_model())


def names_of(folder: Path) -> list[str]:
    """Without the lock."""
    return sorted(path.name for path in folder.iterdir() if path.name != ".lock")


SAVING = """
import sys
from models import make_model

for number in range(40):
    make_model(seed=int(sys.argv[2])).save(sys.argv[1])
"""


def test_readers_beside_two_writers_load_one_checkpoint_or_the_other(saved):
    tests = Path(__file__).parents[1]
    writers = [
        subprocess.Popen([sys.executable, "-c", SAVING, str(saved), seed], cwd=tests)
        for seed in "01"
    ]
    seen = set()
    while any(writer.poll() is None for writer in writers):
        found = load(saved)
        seed = found.recipe["step"]
        assert_equal(found, make_model(seed=seed))
        seen.add(seed)
    assert [writer.wait() for writer in writers] == [0, 0]
    assert seen == {0, 1}
    assert names_of(saved) == ["config.json", "model.safetensors"]


# Saves again and again in processes that die, with nothing tidied up, at some move of a file.
KILLED = """
import os, shutil, sys
from pathlib import Path
from models import make_model

def save_and_die(folder, *, seed, moves):
    pid = os.fork()
    if pid:
        os.waitpid(pid, 0)
        return
    replace, left = os.replace, [moves]

    def dying(source, target):
        if not left[0]:
            os._exit(9)
        left[0] -= 1
        replace(source, target)

    os.replace = dying
    make_model(seed=seed).save(folder)
    os._exit(0)

for moves in range(4):
    names = ("saved", "fresh", "again")
    saved, fresh, again = (Path(sys.argv[1], f"{name}-{moves}") for name in names)
    make_model().save(saved)
    for folder in (saved, fresh):
        save_and_die(folder, seed=1, moves=moves)
    shutil.copytree(saved, again)
    save_and_die(again, seed=2, moves=1)  # one move later, over what the first one left
"""


@pytest.fixture(scope="module")
def killed(tmp_path_factory) -> Path:
    """Folders in which saves were killed, by the number of moves that came before."""
    place = tmp_path_factory.mktemp("killed")
    tests = Path(__file__).parents[1]
    subprocess.run([sys.executable, "-c", KILLED, str(place)], cwd=tests, check=True, timeout=60)
    return place


@pytest.mark.parametrize(("moves", "is_new"), [(0, False), (1, False), (2, True), (3, True)])
def test_a_save_killed_at_any_moment_leaves_the_old_checkpoint_or_the_new_one(
    moves, is_new, killed
):
    saved, fresh, again = (killed / f"{name}-{moves}" for name in ("saved", "fresh", "again"))
    assert_equal(load(saved), make_model(seed=1 if is_new else 0))
    if is_new:
        assert_equal(load(fresh), make_model(seed=1))
    else:
        assert "is no checkpoint" in refusal(fresh)
    assert_equal(load(again), make_model(seed=1 if is_new else 0))
    for folder in (saved, fresh, again):
        make_model(seed=3).save(folder)
        assert_equal(load(folder), make_model(seed=3))
        assert names_of(folder) == ["config.json", "model.safetensors"]


def test_a_manifest_that_cannot_be_moved_leaves_the_old_checkpoint(saved, monkeypatch):
    replace = os.replace

    def failing(source, target):
        if Path(target).name == "config.json":
            raise OSError("no")
        replace(source, target)

    monkeypatch.setattr(os, "replace", failing)
    with pytest.raises(CheckpointError, match="cannot write"):
        make_model(seed=1).save(saved)
    assert_equal(load(saved), make_model())
    assert names_of(saved) == ["config.json", "model.safetensors"]


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
        make_model(seed=1).save(saved)
    assert_equal(load(saved), make_model())
    assert names_of(saved) == ["config.json", "model.safetensors"]


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere"
)
def test_a_folder_that_may_not_be_written_keeps_the_old_checkpoint(saved):
    saved.chmod(0o555)
    with pytest.raises(CheckpointError, match="cannot write"):
        make_model(seed=1).save(saved)
    saved.chmod(0o755)
    assert_equal(load(saved), make_model())


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
    assert_equal(load(saved), make_model())


def test_tensors_of_another_checkpoint_are_refused(saved, tmp_path):
    make_model(seed=1).save(tmp_path / "other")
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
    path = save_lightning(tmp_path / "nan.ckpt", found=manifest(make_model()), state=broken)
    assert "NaN or infinity" in refusal(path)


# Queries may have tensors of their own.


def test_what_queries_are_projected_with_is_loaded_to_the_bit(tmp_path):
    model = with_queries(make_model())
    model.save(tmp_path / "saved")
    found = load(tmp_path / "saved")
    assert_equal(found, model)
    x = np.random.default_rng(1).normal(size=(3, DIM)).astype(np.float32)
    for kind in ("document", "query"):
        np.testing.assert_array_equal(
            found.project(x, kind=kind).array, model.project(x, kind=kind).array
        )
    documents, queries = found.project(x), found.project(x, kind="query")
    assert not np.allclose(documents.array, queries.array)


@pytest.mark.parametrize("lacking", ["offset", "query_weight", "query_offset"])
def test_half_of_what_queries_need_is_refused(lacking, tmp_path):
    with_queries(make_model()).save(tmp_path / "saved")
    tensors = load_file(tmp_path / "saved" / "model.safetensors")
    del tensors[lacking]
    save_file(tensors, tmp_path / "saved" / "model.safetensors")
    assert "either all or none" in refusal(tmp_path / "saved")


# Heads lie among the tensors; weights and spreads in the manifest.


def whole() -> Model:
    return replace(
        with_heads(with_queries(make_model())),
        default_weights={"style": 0.25, "topic": 0.75},
        score_spreads={"style": 0.125, "topic": 0.5},
    )


def test_heads_weights_and_spreads_are_loaded_as_they_were(tmp_path):
    model = whole()
    model.save(tmp_path / "saved")
    found = load(tmp_path / "saved")
    assert_equal(found, model)
    assert names_of(found.folder) == ["config.json", "model.safetensors"]
    assert found.default_weights == {"style": 0.25, "topic": 0.75}
    assert found.score_spreads == {"style": 0.125, "topic": 0.5}
    assert found.score_scales == {"style": 1.0, "topic": 0.25}
    x = np.random.default_rng(1).normal(size=(8, DIM)).astype(np.float32)
    predicted = found.predict(found.project(x))
    assert predicted == model.predict(model.project(x))
    assert set(predicted["style"]) <= {"casual", "formal", "ünïcode"}
    assert len(set(predicted["style"])) > 1
    np.testing.assert_allclose(
        predicted["topic"] - found.heads["topic"].bias[0],
        found.project(x).array @ found.direction("topic"),
        atol=1e-6,
    )


def test_a_head_without_bias_stays_without(tmp_path):
    model = whole()
    heads = {**model.heads, "style": replace(model.heads["style"], bias=None)}
    model = replace(model, heads=heads)
    model.save(tmp_path / "saved")
    found = load(tmp_path / "saved")
    x = np.ones((2, DIM), dtype=np.float32)
    assert set(found.predict(found.project(x))) == set(heads) - {"style"}
    np.testing.assert_array_equal(found.direction("style:formal"), model.direction("style:formal"))


def test_what_is_not_said_is_equal_weights_and_spreads(saved):
    found = load(saved)
    assert found.heads == {}
    assert found.default_weights == {"style": 0.5, "topic": 0.5}
    assert found.score_scales == {"style": 1.0, "topic": 1.0}


def test_a_save_of_a_model_without_heads_leaves_none_of_another_there(tmp_path):
    whole().save(tmp_path / "saved")
    make_model().save(tmp_path / "saved")
    assert_equal(load(tmp_path / "saved"), make_model())


@pytest.mark.parametrize("damage", ["missing", "narrow", "NaN", "classes", "extra"])
def test_heads_that_do_not_fit_are_refused(damage, tmp_path):
    whole().save(tmp_path / "saved")
    path = tmp_path / "saved" / "model.safetensors"
    tensors = load_file(path)
    if damage == "missing":
        del tensors["heads.style.bias"]
    elif damage == "narrow":
        tensors["heads.style.weight"] = tensors["heads.style.weight"][:, :1].copy()
    elif damage == "NaN":
        tensors["heads.topic.weight"][0, 0] = np.nan
    elif damage == "classes":
        change_manifest(tmp_path / "saved", lambda m: m["heads"].update(style=["a", "b"]))
    else:
        change_manifest(tmp_path / "saved", lambda m: m["heads"].update(mood=None))
    save_file(tensors, path)
    message = refusal(tmp_path / "saved")
    assert any(name in message for name in ("heads.", "the head of 'style'", "'topic' holds NaN"))


@pytest.mark.parametrize(
    "change",
    [
        {
            "heads": {
                "mood": LinearHead(np.zeros((1, 2), np.float32), np.zeros(1, np.float32), None)
            }
        },
        {"default_weights": {"style": 1.0}},
        {"score_spreads": {"style": 1.0, "topic": np.inf}},
        {"fingerprint": replace(FINGERPRINT, dim=DIM + 1)},
    ],
    ids=["heads", "weights", "spreads", "encoder"],
)
def test_parts_that_do_not_fit_make_no_model(change):
    with pytest.raises(LayoutError):
        replace(make_model(), **change)


# Reference models come with the package, and are loaded by a name.


@pytest.fixture
def package(tmp_path, monkeypatch) -> Path:
    """A package folder as a wheel lays it out, with a reference model `tiny`."""
    package = tmp_path / "site-packages" / "subspace"
    whole().save(package / "checkpoints" / "tiny")
    (package / "checkpoints" / "empty").mkdir()
    monkeypatch.setattr("subspace.model.reference.files", lambda name: package)
    monkeypatch.chdir(tmp_path)
    return package


def test_a_reference_model_is_loaded_by_its_name(package):
    assert_equal(load("tiny"), whole())
    assert load("tiny").folder == package / "checkpoints" / "tiny"
    assert find_reference("tiny-2") is None
    for name in ("empty", "huge", "../tiny", "owner/tiny", "./tiny", ""):
        assert find_reference(name) is None


def test_a_source_checkout_has_them_beside_its_source(tmp_path, monkeypatch):
    package = tmp_path / "src" / "subspace"
    monkeypatch.setattr("subspace.model.reference.files", lambda name: package)
    make_model().save(tmp_path / "checkpoints" / "tiny-2")
    assert find_reference("tiny-2") == tmp_path / "checkpoints" / "tiny-2"


def test_a_folder_of_a_reference_models_name_comes_first(package, tmp_path):
    make_model(seed=1).save(tmp_path / "tiny")
    assert_equal(load("tiny"), make_model(seed=1))


def test_a_name_that_is_nowhere_is_refused_with_what_there_is(package):
    assert "a reference model (minilm, minilm-last)" in refusal("tinny")


# What does not fit is refused.


@pytest.mark.parametrize("version", [0, 1, 2, 4, "3", True, None])
def test_another_format_version_is_refused_with_both_versions_and_its_writer(version, saved):
    change_manifest(saved, lambda m: m.update(format_version=version, package_version="7.8.9"))
    message = refusal(saved)
    assert f"format version {version!r}" in message
    assert "reads 3: fit it again" in message
    assert "7.8.9" in message or version is None
    assert "\n" not in message


def test_a_folder_as_format_2_was_written_is_refused_by_its_version(saved):
    """Not by a key that it lacks, which would say nothing of what to do."""

    def as_it_was(found: dict) -> dict:
        old = {key: found[key] for key in ("blocks", "input_dim", "encoder", "data")}
        return {"format_version": 2, "package_version": "0.1.0", **old, "training": {"step": 3}}

    change_manifest(saved, as_it_was)
    assert "format version 2, this version of subspace reads 3" in refusal(saved)


@pytest.mark.parametrize(
    "blocks", [{"style": 2, "topic": 2}, {"style": 5, "topic": 0}, {"style": "5"}, {}], ids=repr
)
def test_a_layout_that_does_not_fit_the_tensors_is_refused(blocks, saved):
    change_manifest(saved, lambda m: m.update(blocks=blocks))
    assert "cannot be used" in refusal(saved)


@pytest.mark.parametrize("where", ["manifest", "fingerprint"])
def test_another_input_dimension_is_refused(where, saved):
    def change(found: dict) -> None:
        place = found if where == "manifest" else found["encoder"]["fingerprint"]
        place["input_dim" if where == "manifest" else "dim"] = DIM + 1

    change_manifest(saved, change)
    message = refusal(saved)
    assert f"takes {DIM} dimensions" in message
    assert str(DIM + 1) in message


@pytest.mark.parametrize(
    "key",
    [
        "blocks",
        "input_dim",
        "encoder",
        "data",
        "recipe",
        "heads",
        "default_weights",
        "score_spreads",
    ],
)
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
        ("recipe", ["step", 3]),
        ("default_weights", ["style", 0.5]),
        ("default_weights", {"style": "heavy", "topic": 0.5}),
        ("default_weights", {"style": 1.0}),
        ("score_spreads", {"style": 0.0, "topic": 0.5}),
        ("score_spreads", {"style": 0.5}),
        ("heads", ["style"]),
        ("heads", {"style": None}),
    ],
)
def test_a_manifest_with_a_value_of_another_kind_is_refused(key, value, saved):
    change_manifest(saved, lambda m: m.update({key: value}))
    refusal(saved)


@pytest.mark.parametrize("change", ["unknown", "missing"])
def test_a_fingerprint_with_other_fields_is_refused_by_their_names(change, saved):
    def other_fields(found: dict) -> None:
        fingerprint = found["encoder"]["fingerprint"]
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
    path = save_lightning(tmp_path / "foreign.ckpt", found=None)
    assert "was not written by subspace" in refusal(path)


@pytest.mark.parametrize("state", [{}, [], {"weight": [1.0], "mean": 2.0}], ids=repr)
def test_a_lightning_file_without_the_tensors_is_refused(state, tmp_path):
    found = manifest(make_model())
    refusal(save_lightning(tmp_path / "empty.ckpt", found=found, state=state))


@pytest.mark.parametrize("found", [None, [], {"format_version": 9}], ids=repr)
def test_a_lightning_file_with_another_manifest_is_refused(found, tmp_path):
    path = tmp_path / "other.ckpt"
    torch.save({"subspace": found, "state_dict": {}}, path)
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
    path = save_lightning(tmp_path / "whole.ckpt", found=manifest(make_model()))
    content = path.read_bytes()
    for length in range(0, len(content), 97):
        path.write_bytes(content[:length])
        refusal(path)


# The encoder.


def test_the_encoder_it_was_made_for_is_accepted():
    make_model().check_encoder(replace(FINGERPRINT))


def test_a_copy_of_the_encoder_in_another_folder_is_accepted():
    make_model().check_encoder(replace(FINGERPRINT, model="a-copy"))
    # Counter-check: other content in a folder of the same name, or another name on the hub.
    with pytest.raises(CheckpointError, match="revision: 'sha256:00', not 'sha256:11'"):
        make_model().check_encoder(replace(FINGERPRINT, revision="sha256:11"))
    on_hub = replace(FINGERPRINT, model="some/model", revision="c0ffee")
    with pytest.raises(CheckpointError, match="model: 'some/model', not 'a/fork'"):
        replace(make_model(), fingerprint=on_hub).check_encoder(replace(on_hub, model="a/fork"))


@pytest.mark.parametrize("trained_on_hub", [True, False])
def test_a_commit_and_a_folder_are_refused_with_what_cannot_be_compared(trained_on_hub):
    on_hub = replace(FINGERPRINT, model="some/model", revision="c0ffee")
    mine, theirs = (on_hub, FINGERPRINT) if trained_on_hub else (FINGERPRINT, on_hub)
    with pytest.raises(CheckpointError) as caught:
        replace(make_model(), fingerprint=mine).check_encoder(replace(theirs, pooling="cls"))
    message = str(caught.value)
    assert "the commit 'c0ffee' of 'some/model' on the hub" in message
    assert "the hash of the files of 'some-model' ('sha256:00')" in message
    assert "cannot be compared" in message
    assert "pooling: 'mean', not 'cls'" in message
    assert ("give 'some/model'" in message) == trained_on_hub


def test_models_can_be_told_apart_but_not_compared():
    assert make_model() != make_model()
    assert len({make_model(), make_model()}) == 2


def test_another_encoder_is_refused_with_every_field_that_differs_and_no_other():
    other = replace(FINGERPRINT, pooling="cls", layers=(2,), revision="sha256:11")
    with pytest.raises(CheckpointError) as caught:
        make_model().check_encoder(other)
    message = str(caught.value)
    assert "pooling: 'mean', not 'cls'" in message
    assert "layers: [1, -1], not [2]" in message
    assert "revision: 'sha256:00', not 'sha256:11'" in message
    assert "max_length" not in message
    assert "dtype" not in message


def test_the_encoders_spec_spells_out_the_fingerprint_and_may_move_to_another_folder(saved):
    spec = load(saved).encoder
    assert (spec.model, spec.pooling, spec.layers) == ("folder/of/some-model", "mean", (1, -1))
    assert (spec.device, spec.revision, spec.dtype) == (None, None, "float32")
    moved = load(saved, encoder="elsewhere", device="cpu").encoder
    assert moved == replace(spec, model="elsewhere", device="cpu")


def test_an_offset_without_a_matrix_for_queries_is_refused_before_it_is_saved():
    plain = make_model().projection
    with pytest.raises(LayoutError, match="go together"):
        replace(plain, offset=np.zeros(plain.layout.dim, np.float32))
