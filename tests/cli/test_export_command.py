"""`subspace export`: what is wrong is one sentence, said before anything is written."""

import pytest
from models import assert_equal, make_model, model_of
from stub_hub import serve_to

from subspace.cli import main
from subspace.encoder import Encoder, EncoderSpec
from subspace.errors import CheckpointError
from subspace.model import load
from subspace.model.checkpoint_folder import check_new_target


@pytest.fixture
def saved(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_model().save("saved")
    return tmp_path


def export(*arguments: str) -> int:
    return main(["export", "--checkpoint", "saved", *arguments])


def test_a_folder_gets_checkpoint_and_card(saved, capsys):
    assert export("--to", "folder", "out") == 0
    assert "checkpoint -> out" in capsys.readouterr().out
    assert_equal(load("out"), make_model())
    assert (saved / "out" / "README.md").is_file()


def test_the_working_directory_is_named_in_its_card(saved, monkeypatch):
    (saved / "mine").mkdir()
    monkeypatch.chdir(saved / "mine")
    assert main(["export", "--checkpoint", "../saved", "--to", "folder", "."]) == 0
    card = (saved / "mine" / "README.md").read_text()
    assert "\n# mine\n" in card
    assert 'subspace.load("mine")' in card


def test_the_working_directory_is_refused_before_any_work(saved, monkeypatch, capsys):
    (saved / "mine").mkdir()
    monkeypatch.chdir(saved / "mine")
    given = ["export", "--checkpoint", "../saved", "--to", "sentence-transformers"]
    for name in (".", "../mine"):
        assert main([*given, name]) == 2
        assert "is the working directory" in capsys.readouterr().err


def test_the_library_gets_the_chosen_blocks(saved, tiny_qwen, capsys):
    model_of(Encoder(EncoderSpec(model=str(tiny_qwen)))).save("saved")
    options = ("--weights", "topic=1,style=2", "--dims", "topic=2", "--encoder", str(tiny_qwen))
    assert export("--to", "sentence-transformers", "out", *options) == 0
    assert "4 dimensions (style 2, topic 2) -> out" in capsys.readouterr().out
    assert (saved / "out" / "modules.json").is_file()
    card = (saved / "out" / "README.md").read_text()
    assert "| style | 2 |\n| topic | 2 |\n" in card
    assert "trust_remote_code" not in card


def test_a_folder_that_holds_code_is_said_to(saved, tiny_qwen, capsys):
    model_of(Encoder(EncoderSpec(model=str(tiny_qwen), layers=(1, 2)))).save("saved")
    assert export("--to", "sentence-transformers", "out", "--encoder", str(tiny_qwen)) == 0
    said = capsys.readouterr().out
    assert "open it with SentenceTransformer('out', trust_remote_code=True)" in said
    assert (saved / "out" / "subspace_modules.py").is_file()


def test_the_hub_gets_it_and_the_commit_to_load_it_by_is_said(saved, monkeypatch, capsys):
    with serve_to(monkeypatch, cache=saved / "cache") as hub:
        assert export("--to", "hub", "me/demo", "--private") == 0
        commit = hub.find("me/demo", "main")[0]
        assert hub.private == {"me/demo": True}
        assert f"load it with --checkpoint me/demo@{commit}" in capsys.readouterr().out
        assert_equal(load(f"me/demo@{commit}"), make_model())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--to", "onnx", "out"), "--to must be folder, hub, sentence-transformers"),
        (("--to", "folder", "out", "--private"), "--private goes with --to hub alone"),
        (("--to", "hub", "a/b", "--dims", "topic=1"), "--dims goes with --to sentence-transf"),
        (("--to", "folder", "out", "--weights", "topic=1"), "--weights goes with"),
        (("--to", "folder", "out", "--encoder", "minilm"), "--encoder goes with"),
        (("--to", "folder", "out", "--report", "nowhere"), "cannot read nowhere/separation.json"),
        (("--to", "folder", "out", "--licences", "nowhere"), "--licences: cannot read nowhere"),
        (("--to", "folder", "saved/config.json"), "cannot write the checkpoint"),
        (("--to", "hub", "name"), "give OWNER/NAME"),
        (("--to", "sentence-transformers", "saved"), "saved is not empty"),
        (("--to", "sentence-transformers", "out", "--weights", "topic"), "weights must read like"),
        (("--to", "sentence-transformers", "out", "--weights", "mood=1"), "no block 'mood'"),
        (("--to", "sentence-transformers", "out", "--weights", "riv=1,1,1"), "cannot be folded"),
        (("--to", "sentence-transformers", "out", "--dims", "topic"), "--dims must read like"),
        (("--to", "sentence-transformers", "out", "--dims", "topic=9"), "1 to 3 dimensions"),
        (("--to", "sentence-transformers", "out"), "there is no model folder folder/of/some"),
    ],
)
def test_wrong_exports_are_one_sentence_and_write_nothing(arguments, message, saved, capsys):
    assert export(*arguments) == 2
    assert message in capsys.readouterr().err
    assert [path.name for path in saved.iterdir()] == ["saved"]
    assert_equal(load("saved"), make_model())


@pytest.mark.parametrize("foreign", ["manifest.json", "records.jsonl", "data/records.jsonl"])
def test_a_folder_of_other_things_is_refused_and_a_checkpoint_is_replaced(foreign, saved, capsys):
    (saved / "out" / foreign).parent.mkdir(parents=True)
    (saved / "out" / foreign).write_text("mine")
    adapt = ["adapt", "--checkpoint", "saved", "--labels", "nowhere.jsonl", "--output", "out"]
    for command in (lambda: export("--to", "folder", "out"), lambda: main(adapt)):
        assert command() == 2
        said = f"out is no checkpoint and not empty: it holds {foreign.split('/')[0]}; choose"
        assert said in capsys.readouterr().err
    assert [path.name for path in (saved / "out").iterdir()] == [foreign.split("/")[0]]
    make_model(seed=1).save("old")
    (saved / "old" / "notes.txt").write_text("of this checkpoint")
    assert export("--to", "folder", "old") == 0
    assert_equal(load("old"), make_model())


def test_a_card_by_hand_hidden_files_and_what_a_fit_left_are_no_other_things(saved):
    for number, name in enumerate(("README.md", ".git", "last.ckpt", "store/deep")):
        folder = saved / str(number)
        (folder / name).mkdir(parents=True)
        check_new_target(folder, beside=[folder / "store" / "deep"])
    with pytest.raises(CheckpointError, match="3 is no checkpoint and not empty: it holds store"):
        check_new_target(saved / "3", beside=[saved / "store"])


def test_a_link_to_an_empty_folder_stays_and_leads_to_what_the_library_gets(saved, tiny_qwen):
    model_of(Encoder(EncoderSpec(model=str(tiny_qwen)))).save("saved")
    (saved / "kept").mkdir()
    (saved / "link").symlink_to("kept")
    assert export("--to", "sentence-transformers", "link", "--encoder", str(tiny_qwen)) == 0
    assert (saved / "link").is_symlink()
    assert (saved / "kept" / "modules.json").is_file()


def test_a_checkpoint_that_is_nowhere_is_said(saved, capsys):
    assert main(["export", "--checkpoint", "nowhere", "--to", "folder", "out"]) == 2
    assert "there is no checkpoint nowhere" in capsys.readouterr().err
