"""Nothing is sent unless the user said so, on a terminal or with --yes."""

import argparse
import os
import sys
from pathlib import Path

import pytest
from stub_openai import serve

from subspace.cli.label_language_model import add_language_model_arguments, make_language_model
from subspace.data.records import Record
from subspace.errors import ConfigError

RECORDS = [Record(id=f"d{n}", text=f"text {'x' * n}") for n in range(5)]


def make(stub_url, folder, *more):
    parser = argparse.ArgumentParser()
    add_language_model_arguments(parser)
    given = ["--base-url", stub_url, "--model", "stub", "--answers", str(folder / "a.jsonl"), *more]
    return make_language_model(parser.parse_args(given), factors=["style", "complexity"])


def test_with_yes_it_says_what_it_does_before_and_after(tmp_path, capfd):
    with serve() as stub:
        options = ("--yes", "--repeat", "0.5", "--prices", "1000,2000")
        annotator = make(stub.base_url, tmp_path, *options)
        assert annotator.origin == "language-model:stub"
        assert annotator.factors == ("style", "complexity")
        found = list(annotator.annotate(RECORDS))
    assert all(set(factors) == {"style", "complexity"} for factors in found)
    said = capfd.readouterr()
    assert "asking for 8 texts in 2 requests, about" in said.err
    assert "at the prices given" in said.err
    assert "5 of 5 texts have all labels; 200 tokens sent and 20 answered in this run" in said.out
    assert "| style | first answer | second answer | 3 | kappa |" in said.out


def test_without_a_terminal_and_without_yes_nothing_is_sent(tmp_path, monkeypatch):
    with serve() as stub, Path(os.devnull).open() as nowhere:
        monkeypatch.setattr(sys, "stdin", nowhere)
        with pytest.raises(ConfigError, match="give --yes"):
            list(make(stub.base_url, tmp_path).annotate(RECORDS))
    assert stub.bodies == []


@pytest.mark.parametrize(("typed", "sent"), [("y\n", 1), ("\n", 0), ("n\n", 0), ("\x04", 0)])
def test_on_a_terminal_it_asks(tmp_path, monkeypatch, typed, sent):
    keyboard, terminal = os.openpty()
    with serve() as stub, os.fdopen(terminal) as stdin, os.fdopen(keyboard, "w") as keys:
        monkeypatch.setattr(sys, "stdin", stdin)
        keys.write(typed)
        keys.flush()
        run = make(stub.base_url, tmp_path).annotate(RECORDS)
        if sent:
            assert len(list(run)) == len(RECORDS)
        else:
            with pytest.raises(ConfigError, match="nothing was sent"):
                list(run)
        assert len(stub.bodies) == sent


@pytest.mark.parametrize(
    ("more", "match"),
    [
        (["--base-url", ""], "--base-url is needed"),
        (["--model", ""], "--model is needed"),
        (["--prices", "1"], "--prices must read like"),
        (["--prices", "a,b"], "--prices must read like"),
        (["--rubric", "nowhere.yaml"], "--rubric: cannot read nowhere.yaml"),
        (["--batch", "0"], "--batch must be 1 or more"),
    ],
)
def test_wrong_arguments_are_refused(tmp_path, more, match):
    with pytest.raises(ConfigError, match=match):
        make("http://127.0.0.1:9/v1", tmp_path, *more)
