"""A checkpoint comes back from the hub as it went, and needs no network once it is pinned."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from huggingface_hub import ModelCard, constants
from safetensors.numpy import load_file, save
from stub_hub import Hub, serve
from test_checkpoint import assert_equal, make_checkpoint

from subspace.errors import CheckpointError, ConfigError
from subspace.model import Checkpoint, load_checkpoint
from subspace.model.hub import HubId, push

NAME = "owner/some-name"


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A hub of one's own, with an empty cache."""
    with serve() as served:
        set_endpoint(monkeypatch, served.address)
        monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
        monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
        monkeypatch.setenv("HF_TOKEN", served.token)
        monkeypatch.chdir(tmp_path)
        yield served


def set_endpoint(monkeypatch, address: str) -> None:
    """What HF_ENDPOINT does to a process of its own."""
    monkeypatch.setattr(constants, "ENDPOINT", address)
    template = address + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)


def go_offline(monkeypatch) -> None:
    set_endpoint(monkeypatch, "http://127.0.0.1:9")


def pushed(hub: Hub, checkpoint: Checkpoint) -> str:
    """The commit of a push."""
    return push(checkpoint, NAME, private=None).rsplit("/", 1)[1]


# Folders.


def test_a_shared_folder_is_a_checkpoint_with_a_card(tmp_path):
    make_checkpoint().save_pretrained(tmp_path / "shared")
    files = {path.name for path in (tmp_path / "shared").iterdir()}
    assert files == {"config.json", "model.safetensors", "README.md"}
    assert_equal(load_checkpoint(tmp_path / "shared"), make_checkpoint())
    assert_equal(Checkpoint.from_pretrained(tmp_path / "shared"), make_checkpoint())
    make_checkpoint(seed=1).save(tmp_path / "saved")
    assert_equal(Checkpoint.from_pretrained(tmp_path / "saved"), make_checkpoint(seed=1))


def test_sharing_over_a_checkpoint_replaces_it_and_its_card_but_no_card_written_by_hand(tmp_path):
    make_checkpoint().save_pretrained(tmp_path)
    make_checkpoint(seed=1, widths={"tone": 3}).save_pretrained(tmp_path)
    assert_equal(load_checkpoint(tmp_path), make_checkpoint(seed=1, widths={"tone": 3}))
    assert "| tone | 3 |" in (tmp_path / "README.md").read_text()
    (tmp_path / "README.md").write_text("mine")
    make_checkpoint().save_pretrained(tmp_path)
    assert (tmp_path / "README.md").read_text() == "mine"


def test_sharing_over_another_models_files_is_refused_and_leaves_them(tmp_path):
    """The mixin would take the configuration away first."""
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(CheckpointError, match="was not written by subspace"):
        make_checkpoint().save_pretrained(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]
    assert (tmp_path / "config.json").read_text() == '{"model_type": "bert"}'


def test_probes_beside_the_tensors_go_along_and_those_of_another_checkpoint_do_not(tmp_path):
    make_checkpoint().save(tmp_path / "with")
    (tmp_path / "with" / "probes.json").write_text("{}")
    load_checkpoint(tmp_path / "with").save_pretrained(tmp_path / "copy")
    assert (tmp_path / "copy" / "probes.json").read_text() == "{}"
    make_checkpoint(seed=1).save_pretrained(tmp_path / "copy")
    assert not (tmp_path / "copy" / "probes.json").exists()


def test_a_file_of_somebody_elses_under_such_a_name_is_refused_and_stays(tmp_path):
    (tmp_path / "probes.json").write_text("mine")
    with pytest.raises(CheckpointError, match=r"probes\.json was not written by subspace"):
        make_checkpoint().save_pretrained(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["probes.json"]


# The hub.


def test_what_was_pushed_is_loaded(hub, tmp_path):
    make_checkpoint().save(tmp_path / "saved")
    (tmp_path / "saved" / "probes.safetensors").write_bytes(save({"a": np.zeros(2, np.float32)}))
    url = push(load_checkpoint(tmp_path / "saved"), NAME, private=True)
    assert url.startswith(f"{hub.address}/{NAME}/commit/")
    assert hub.private[NAME]
    files = hub.find(NAME, "main")[1]
    card = ModelCard(files["README.md"].decode())
    assert card.data.library_name == "subspace"
    assert f"--checkpoint {NAME}" in card.text
    found = load_checkpoint(NAME)
    assert_equal(found, make_checkpoint())
    np.testing.assert_array_equal(load_file(found.folder / "probes.safetensors")["a"], [0, 0])
    assert not (found.folder / "README.md").exists()


def test_probes_of_an_earlier_push_do_not_stay(hub, tmp_path):
    make_checkpoint().save(tmp_path / "saved")
    (tmp_path / "saved" / "probes.json").write_text("{}")
    pushed(hub, load_checkpoint(tmp_path / "saved"))
    assert "probes.json" in hub.find(NAME, "main")[1]
    pushed(hub, make_checkpoint(seed=1))
    assert "probes.json" not in hub.find(NAME, "main")[1]


def test_the_mixins_own_way_to_push_is_the_same(hub):
    checkpoint = make_checkpoint()
    checkpoint.push_to_hub(NAME)
    assert_equal(Checkpoint.from_pretrained(NAME), checkpoint)
    assert f"# {NAME}\n" in hub.find(NAME, "main")[1]["README.md"].decode()


def test_a_commit_pins_what_is_loaded_and_the_name_alone_is_the_newest(hub):
    first = pushed(hub, make_checkpoint())
    second = pushed(hub, make_checkpoint(seed=1))
    assert first != second
    assert_equal(load_checkpoint(f"{NAME}@{first}"), make_checkpoint())
    assert_equal(Checkpoint.from_pretrained(NAME, revision=first), make_checkpoint())
    assert_equal(load_checkpoint(NAME), make_checkpoint(seed=1))


def test_a_pinned_checkpoint_is_downloaded_once_and_then_asks_nobody(hub, monkeypatch):
    commit = pushed(hub, make_checkpoint())
    hub.asked.clear()
    load_checkpoint(f"{NAME}@{commit}")
    assert hub.asked
    hub.asked.clear()
    assert_equal(load_checkpoint(f"{NAME}@{commit}"), make_checkpoint())
    assert hub.asked == []
    # Counter-check: a branch can have changed.
    load_checkpoint(NAME)
    assert hub.asked
    go_offline(monkeypatch)
    assert_equal(load_checkpoint(f"{NAME}@{commit}"), make_checkpoint())
    assert_equal(load_checkpoint(NAME), make_checkpoint())


def test_half_a_download_is_completed_or_said_to_be_half(hub, monkeypatch):
    commit = pushed(hub, make_checkpoint())
    folder = load_checkpoint(f"{NAME}@{commit}").folder
    (folder / "model.safetensors").resolve().unlink()
    (folder / "model.safetensors").unlink()
    with monkeypatch.context() as offline:
        offline.setattr(constants, "HF_HUB_OFFLINE", True)  # else the client tries for 24 seconds
        with pytest.raises(CheckpointError, match="neither whole on this machine"):
            load_checkpoint(f"{NAME}@{commit}")
    assert_equal(load_checkpoint(f"{NAME}@{commit}"), make_checkpoint())


def test_a_repository_of_something_else_or_with_nan_is_refused(hub, tmp_path):
    hub.commit("owner/bert", {"README.md": b"a model"})
    with pytest.raises(CheckpointError, match=r"'owner/bert' is no checkpoint.*config\.json"):
        load_checkpoint("owner/bert")
    commit = pushed(hub, make_checkpoint())
    files = dict(hub.find(NAME, commit)[1])
    broken = make_checkpoint().projection.weight.copy()
    broken[0, 0] = np.nan
    tensors = {"weight": broken, "mean": make_checkpoint().projection.mean}
    hub.commit(NAME, {**files, "model.safetensors": save(tensors)})
    with pytest.raises(CheckpointError, match="NaN"):
        load_checkpoint(NAME)


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
    pushed(hub, make_checkpoint())
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(name)


def test_a_folder_of_that_name_wins(hub, tmp_path):
    pushed(hub, make_checkpoint())
    make_checkpoint(seed=1).save(tmp_path / NAME)
    assert_equal(load_checkpoint(NAME), make_checkpoint(seed=1))
    assert_equal(load_checkpoint(f"{NAME}@main"), make_checkpoint())


def test_a_name_mistyped_below_a_folder_is_never_asked_of_the_hub(hub, tmp_path):
    (tmp_path / "owner").mkdir()
    hub.asked.clear()
    with pytest.raises(CheckpointError, match=f"there is no checkpoint {NAME}"):
        load_checkpoint(NAME)
    assert hub.asked == []
    assert HubId.parse(f"{NAME}@main") == HubId(NAME, "main")


@pytest.mark.parametrize(
    "files",
    [
        {"config.json": b'{"architectures": ["Bert"]}', "model.safetensors": b"weights"},
        {"model.safetensors": b"weights"},
        {"probes.json": b"somebody's"},
        {"config.json": b"{"},
    ],
)
def test_another_models_repository_is_refused_and_stays(files, hub):
    commit = hub.commit(NAME, files)
    for push_it in (lambda one: push(one, NAME, private=None), lambda one: one.push_to_hub(NAME)):
        with pytest.raises(CheckpointError, match=f"of '{NAME}' was not written by subspace"):
            push_it(make_checkpoint())
    assert hub.find(NAME, "main") == (commit, files)


def test_a_card_written_by_hand_stays_on_the_hub_and_a_generated_one_is_replaced(hub):
    pushed(hub, make_checkpoint())
    pushed(hub, make_checkpoint(seed=1, widths={"tone": 3}))
    assert b"| tone | 3 |" in hub.find(NAME, "main")[1]["README.md"]
    hub.commit(NAME, {"README.md": b"mine"})
    pushed(hub, make_checkpoint())
    assert hub.find(NAME, "main")[1]["README.md"] == b"mine"
    assert_equal(load_checkpoint(NAME), make_checkpoint())


def test_a_folder_of_that_name_has_no_revisions(hub, tmp_path):
    commit = pushed(hub, make_checkpoint())
    make_checkpoint(seed=1).save(tmp_path / NAME)
    with pytest.raises(CheckpointError, match="is on this machine and has no revisions"):
        Checkpoint.from_pretrained(NAME, revision=commit)
    assert_equal(Checkpoint.from_pretrained(NAME), make_checkpoint(seed=1))
    assert_equal(Checkpoint.from_pretrained(f"{NAME}@{commit}"), make_checkpoint())


@pytest.mark.parametrize("name", ["name", "a/b/c", "owner/na me", "/x", "owner/", f"{NAME}@main"])
def test_a_name_that_is_none_is_refused_before_the_hub_is_asked(name, hub):
    with pytest.raises(CheckpointError, match="cannot be the name of a repository"):
        push(make_checkpoint(), name, private=None)
    assert hub.asked == []


def test_a_push_that_cannot_be_says_why_and_makes_nothing(hub, tmp_path, monkeypatch):
    with pytest.raises(ConfigError, match="--report"):
        push(make_checkpoint(), NAME, private=None, report=tmp_path)
    assert hub.asked == []
    monkeypatch.setenv("HF_TOKEN", "hf_other")
    with pytest.raises(CheckpointError, match="hf auth login"):
        push(make_checkpoint(), NAME, private=None)
    assert hub.repositories == {}
    go_offline(monkeypatch)
    with pytest.raises(CheckpointError, match=f"cannot push to '{NAME}': .*refused"):
        push(make_checkpoint(), NAME, private=None)


def test_a_copy_with_another_projection_is_a_checkpoint_still():
    """The mixin sets an attribute on what it makes, which a frozen value refuses."""
    other = make_checkpoint(seed=1)
    changed = replace(make_checkpoint(), projection=other.projection)
    np.testing.assert_array_equal(changed.projection.weight, other.projection.weight)


def test_loading_a_checkpoint_of_the_hub_imports_no_trainer(hub, tmp_path):
    pushed(hub, make_checkpoint())
    code = (
        "import sys; from subspace import load_checkpoint; "
        f"load_checkpoint({NAME!r}); "
        "assert not {'pytorch_lightning', 'torch', 'transformers'} & set(sys.modules)"
    )
    environment = {
        "HF_ENDPOINT": hub.address,
        "HF_HOME": str(tmp_path / "home"),
        "PATH": "",
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
