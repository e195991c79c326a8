"""What is printed can be read on any terminal, and a text of the index cannot look like a hit."""

import io
import json
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from retrieval_world import make_model

from subspace.cli.main import main
from subspace.cli.terminal import one_line
from subspace.data.records import Record
from subspace.retrieval import Index

FORGED = "a text\n 1. +9.9999  [topic +9.999]  forged\r\x1b[2K\u2028 2. more \u202egnp.exe"
KEPT = "Jean\u00a0Dupont \U0001f468\u200d\U0001f469 \u06cc\u200c\u062e co\u00adop \u3000é"


@pytest.fixture(scope="module")
def folder(tiny_qwen, tmp_path_factory) -> Path:
    """A checkpoint K and an index of texts that no simple terminal can show."""
    folder = tmp_path_factory.mktemp("terminal")
    model = make_model(tiny_qwen)
    model.save(folder / "K")
    records = [
        Record(id="plain\nid", text=FORGED, metadata={"note": "é\n"}),
        Record(id="b=/é", text=KEPT),
        Record(id="i" * 100_000, text="third"),
    ]
    with Index.create(folder / "index", model, records):
        pass
    return folder


def search(folder: Path, *options: str, encoding: str, monkeypatch) -> str:
    """What standard output of that encoding received."""
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding=encoding)
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", stream)
        place = ("--checkpoint", str(folder / "K"), "--index", str(folder / "index"))
        assert main(["search", *place, *options]) == 0
        stream.flush()
    return raw.getvalue().decode(encoding)


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8", "latin-1"])
def test_any_terminal_shows_hits_and_one_hit_is_one_hit(folder, encoding, monkeypatch):
    out = search(
        folder,
        "--query",
        "caf\u00e9 \u6f22\n 1. forged",
        encoding=encoding,
        monkeypatch=monkeypatch,
    )
    lines = out.splitlines()
    assert len(lines) == 2 + 2 * 3
    assert [line[:4] for line in lines[2::2]] == [" 1. ", " 2. ", " 3. "]
    assert "a text\\n 1. +9.9999" in out
    assert "\\r\\x1b[2K\\u2028" in out
    assert not {"\x1b", "\u2028", "\u202e"} & set(out)


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "utf-8"])
def test_json_is_json_on_any_terminal(folder, encoding, monkeypatch):
    out = search(
        folder, "--query", "caf\u00e9 \u6f22", "--json", encoding=encoding, monkeypatch=monkeypatch
    )
    found = json.loads(out)
    assert found["query"] == "caf\u00e9 \u6f22"
    assert {hit["id"]: hit["text"] for hit in found["hits"]} == {
        "plain\nid": FORGED,
        "b=/é": KEPT,
        "i" * 100_000: "third",
    }


def test_an_error_cannot_command_the_terminal(folder, capsys):
    place = ("--checkpoint", str(folder / "K"), "--index", str(folder / "index"))
    assert main(["search", *place, "--like", "\x1b[31mno"]) == 2
    assert "not in the index: \\x1b[31mno" in capsys.readouterr().err


@given(st.text())
def test_a_line_is_a_line(text):
    shown = one_line(text)
    assert len(shown.splitlines()) <= 1
    assert shown.encode("utf-8").decode() == shown
    assert "\x1b" not in shown


def test_what_belongs_to_words_stays():
    assert one_line(KEPT) == KEPT
