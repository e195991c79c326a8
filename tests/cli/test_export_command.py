"""`subspace export`: what is wrong is one sentence, said before anything is written."""

from dataclasses import replace

import pytest
from test_checkpoint import make_checkpoint

from subspace.cli import main
from subspace.encoder import Encoder, EncoderSpec
from subspace.model import load_checkpoint


@pytest.fixture
def saved(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    make_checkpoint().save("saved")
    return tmp_path


def export(*arguments: str) -> int:
    return main(["export", "--checkpoint", "saved", *arguments])


def test_a_folder_gets_checkpoint_and_card(saved, capsys):
    assert export("--to", "folder", "out") == 0
    assert "checkpoint -> out" in capsys.readouterr().out
    assert load_checkpoint("out").manifest() == make_checkpoint().manifest()
    assert (saved / "out" / "README.md").is_file()


def test_the_working_directory_is_named_in_its_card(saved, monkeypatch):
    (saved / "mine").mkdir()
    monkeypatch.chdir(saved / "mine")
    assert main(["export", "--checkpoint", "../saved", "--to", "folder", "."]) == 0
    card = (saved / "mine" / "README.md").read_text()
    assert "\n# mine\n" in card
    assert 'load_checkpoint("mine")' in card


def test_the_working_directory_is_refused_before_any_work(saved, monkeypatch, capsys):
    (saved / "mine").mkdir()
    monkeypatch.chdir(saved / "mine")
    given = ["export", "--checkpoint", "../saved", "--to", "sentence-transformers"]
    for name in (".", "../mine"):
        assert main([*given, name]) == 2
        assert "is the working directory" in capsys.readouterr().err


def test_the_library_gets_the_chosen_blocks(saved, tiny_qwen, capsys):
    encoder = Encoder(EncoderSpec(model=str(tiny_qwen)))
    weight = make_checkpoint().projection.weight.repeat(8, axis=1)
    projection = replace(make_checkpoint().projection, weight=weight, mean=weight[0] * 0)
    replace(
        make_checkpoint(),
        projection=projection,
        fingerprint=encoder.fingerprint,
        encoder_model=str(tiny_qwen),
    ).save("saved")
    options = ("--weights", "topic=1,style=2", "--dims", "topic=2", "--encoder", str(tiny_qwen))
    assert export("--to", "sentence-transformers", "out", *options) == 0
    assert "4 dimensions (style 2, topic 2) -> out" in capsys.readouterr().out
    assert (saved / "out" / "modules.json").is_file()
    card = (saved / "out" / "README.md").read_text()
    assert "| style | 2 |\n| topic | 2 |\n" in card


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
    assert load_checkpoint("saved").manifest() == make_checkpoint().manifest()


def test_a_checkpoint_that_is_nowhere_is_said(saved, capsys):
    assert main(["export", "--checkpoint", "nowhere", "--to", "folder", "out"]) == 2
    assert "there is no checkpoint nowhere" in capsys.readouterr().err
