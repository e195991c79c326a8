"""A checkpoint comes back from the hub as it went, and needs no network once it is pinned."""

import os
import subprocess
import sys

import numpy as np
import pytest
from huggingface_hub import ModelCard, constants
from models import assert_equal, make_model, with_heads, with_queries
from safetensors.numpy import save
from stub_hub import Hub, serve_to, set_endpoint

from subspace.errors import CheckpointError, ConfigError
from subspace.model import Model, load
from subspace.model.hub import HubId, push

NAME = "owner/some-name"


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A hub of one's own, with an empty cache."""
    monkeypatch.chdir(tmp_path)
    with serve_to(monkeypatch, cache=tmp_path / "cache") as served:
        yield served


def go_offline(monkeypatch) -> None:
    set_endpoint(monkeypatch, "http://127.0.0.1:9")


def pushed(hub: Hub, model: Model) -> str:
    """The commit of a push."""
    return push(model, NAME).rsplit("/", 1)[1]


# Folders.


def test_a_shared_folder_is_a_checkpoint_with_a_card(tmp_path):
    make_model().save_pretrained(tmp_path / "shared")
    files = {path.name for path in (tmp_path / "shared").iterdir()}
    assert files == {"config.json", "model.safetensors", "README.md", ".lock"}
    assert_equal(load(tmp_path / "shared"), make_model())
    assert "\n# shared\n" in (tmp_path / "shared" / "README.md").read_text()
    make_model().save(tmp_path / "saved")
    assert not (tmp_path / "saved" / "README.md").exists(), "without a card where none is asked for"


def test_sharing_over_a_checkpoint_replaces_it_and_its_card_but_no_card_written_by_hand(tmp_path):
    make_model().save_pretrained(tmp_path)
    make_model(seed=1, widths={"tone": 3}).save_pretrained(tmp_path)
    assert_equal(load(tmp_path), make_model(seed=1, widths={"tone": 3}))
    assert "| tone | 3 |" in (tmp_path / "README.md").read_text()
    (tmp_path / "README.md").write_text("mine")
    make_model().save_pretrained(tmp_path)
    assert (tmp_path / "README.md").read_text() == "mine"


def test_sharing_over_another_models_files_is_refused_and_leaves_them(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(CheckpointError, match="was not written by subspace"):
        make_model().save_pretrained(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]
    assert (tmp_path / "config.json").read_text() == '{"model_type": "bert"}'


# The hub.


def test_what_was_pushed_is_loaded(hub):
    model = with_heads(with_queries(make_model()))
    url = push(model, NAME, private=True)
    assert url.startswith(f"{hub.address}/{NAME}/commit/")
    assert hub.private[NAME]
    files = hub.find(NAME, "main")[1]
    assert files.keys() >= {"config.json", "model.safetensors", "README.md"}
    card = ModelCard(files["README.md"].decode())
    assert card.data.library_name == "subspace"
    assert f"--checkpoint {NAME}" in card.text
    found = load(NAME)
    assert_equal(found, model)
    assert not (found.folder / "README.md").exists()


def test_a_models_own_way_to_push_is_the_same(hub):
    model = make_model()
    address = model.push_to_hub(NAME, private=True, commit_message="Mine")
    assert address == f"{hub.address}/{NAME}/commit/{hub.find(NAME, 'main')[0]}"
    assert hub.private[NAME]
    assert_equal(load(NAME), model)
    assert f"# {NAME}\n" in hub.find(NAME, "main")[1]["README.md"].decode()


def test_a_commit_pins_what_is_loaded_and_the_name_alone_is_the_newest(hub):
    first = pushed(hub, make_model())
    second = pushed(hub, make_model(seed=1))
    assert first != second
    assert_equal(load(f"{NAME}@{first}"), make_model())
    assert_equal(load(NAME, revision=first), make_model())
    assert_equal(load(NAME), make_model(seed=1))


def test_a_pinned_checkpoint_is_downloaded_once_and_then_asks_nobody(hub, monkeypatch):
    commit = pushed(hub, make_model())
    hub.asked.clear()
    load(f"{NAME}@{commit}")
    assert hub.asked
    hub.asked.clear()
    assert_equal(load(f"{NAME}@{commit}"), make_model())
    assert hub.asked == []
    # Counter-check: a branch can have changed.
    load(NAME)
    assert hub.asked
    go_offline(monkeypatch)
    assert_equal(load(f"{NAME}@{commit}"), make_model())
    assert_equal(load(NAME), make_model())


def test_half_a_download_is_completed_or_said_to_be_half(hub, monkeypatch):
    commit = pushed(hub, make_model())
    folder = load(f"{NAME}@{commit}").folder
    (folder / "model.safetensors").resolve().unlink()
    (folder / "model.safetensors").unlink()
    with monkeypatch.context() as offline:
        offline.setattr(constants, "HF_HUB_OFFLINE", True)  # else the client tries for 24 seconds
        with pytest.raises(CheckpointError, match="neither whole on this machine"):
            load(f"{NAME}@{commit}")
    assert_equal(load(f"{NAME}@{commit}"), make_model())


def test_a_repository_of_something_else_or_with_nan_is_refused(hub, tmp_path):
    hub.commit("owner/bert", {"README.md": b"a model"})
    with pytest.raises(CheckpointError, match=r"'owner/bert' is no checkpoint.*config\.json"):
        load("owner/bert")
    commit = pushed(hub, make_model())
    files = dict(hub.find(NAME, commit)[1])
    broken = make_model().projection.weight.copy()
    broken[0, 0] = np.nan
    tensors = {"weight": broken, "mean": make_model().projection.mean}
    hub.commit(NAME, {**files, "model.safetensors": save(tensors)})
    with pytest.raises(CheckpointError, match="NaN"):
        load(NAME)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("owner/nothing", "no such repository"),
        (f"{NAME}@v9", "no such revision"),
        ("owner/a/b", "there is no checkpoint owner/a/b"),
        ("./some-name", "there is no checkpoint"),
        ("some name/x", "there is no checkpoint"),
        (f"{NAME}@", "there is no checkpoint"),
    ],
)
def test_what_is_nowhere_is_said_in_one_sentence(name, message, hub):
    pushed(hub, make_model())
    with pytest.raises(CheckpointError, match=message):
        load(name)


def test_a_folder_of_that_name_wins(hub, tmp_path):
    pushed(hub, make_model())
    make_model(seed=1).save(tmp_path / NAME)
    assert_equal(load(NAME), make_model(seed=1))
    assert_equal(load(f"{NAME}@main"), make_model())


def test_a_name_mistyped_below_a_folder_is_never_asked_of_the_hub(hub, tmp_path):
    (tmp_path / "owner").mkdir()
    hub.asked.clear()
    with pytest.raises(CheckpointError, match=f"there is no checkpoint {NAME}"):
        load(NAME)
    assert hub.asked == []
    assert HubId.parse(f"{NAME}@main") == HubId(NAME, "main")


@pytest.mark.parametrize(
    "files",
    [
        {"config.json": b'{"architectures": ["Bert"]}', "model.safetensors": b"weights"},
        {"model.safetensors": b"weights"},
        {"config.json": b"{"},
    ],
)
def test_another_models_repository_is_refused_and_stays(files, hub):
    commit = hub.commit(NAME, files)
    for push_it in (push, Model.push_to_hub):
        with pytest.raises(CheckpointError, match=f"of '{NAME}' was not written by subspace"):
            push_it(make_model(), NAME)
    assert hub.find(NAME, "main") == (commit, files)


def test_a_card_written_by_hand_stays_on_the_hub_and_a_generated_one_is_replaced(hub):
    pushed(hub, make_model())
    pushed(hub, make_model(seed=1, widths={"tone": 3}))
    assert b"| tone | 3 |" in hub.find(NAME, "main")[1]["README.md"]
    hub.commit(NAME, {"README.md": b"mine"})
    pushed(hub, make_model())
    assert hub.find(NAME, "main")[1]["README.md"] == b"mine"
    assert_equal(load(NAME), make_model())


def test_a_folder_of_that_name_has_no_revisions(hub, tmp_path):
    commit = pushed(hub, make_model())
    make_model(seed=1).save(tmp_path / NAME)
    with pytest.raises(CheckpointError, match="is on this machine and has no revisions"):
        load(NAME, revision=commit)
    assert_equal(load(NAME), make_model(seed=1))
    assert_equal(load(f"{NAME}@{commit}"), make_model())


@pytest.mark.parametrize("name", ["name", "a/b/c", "owner/na me", "/x", "owner/", f"{NAME}@main"])
def test_a_name_that_is_none_is_refused_before_the_hub_is_asked(name, hub):
    with pytest.raises(CheckpointError, match="cannot be the name of a repository"):
        push(make_model(), name)
    assert hub.asked == []


def test_a_push_that_cannot_be_says_why_and_makes_nothing(hub, tmp_path, monkeypatch):
    with pytest.raises(ConfigError, match="--report"):
        push(make_model(), NAME, card={"report": tmp_path})
    assert hub.asked == []
    monkeypatch.setenv("HF_TOKEN", "hf_other")
    with pytest.raises(CheckpointError, match="hf auth login"):
        push(make_model(), NAME)
    assert hub.repositories == {}
    go_offline(monkeypatch)
    with pytest.raises(CheckpointError, match=f"cannot push to '{NAME}': .*refused"):
        push(make_model(), NAME)


def test_loading_a_checkpoint_of_the_hub_imports_no_trainer(hub, tmp_path):
    pushed(hub, make_model())
    code = (
        "import sys, subspace; "
        f"subspace.load({NAME!r}); "
        "assert not {'pytorch_lightning', 'torch', 'transformers'} & set(sys.modules)"
    )
    environment = {
        "HF_ENDPOINT": hub.address,
        "HF_HOME": str(tmp_path / "home"),
        "PATH": "",
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    }
    result = subprocess.run(
        [sys.executable, "-c", code],
        env=environment,
        cwd=tmp_path,
        text=True,
        capture_output=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
