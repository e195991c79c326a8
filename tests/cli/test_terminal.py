"""What is printed can be read on any terminal, and a text of the index cannot look like a hit."""

import contextlib
import errno
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from retrieval_world import make_model

from subspace.cli.main import main
from subspace.cli.terminal import count, one_line, readable
from subspace.data.records import Record
from subspace.labelling import FeatureAnnotator
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
    assert "a text 1. +9.9999" in out  # on the line of its hit
    assert "forged \\x1b[2K 2. more \\u202egnp.exe" in out
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


class Full(io.RawIOBase):
    """A disk with room for some bytes."""

    def __init__(self, room: int, error: int) -> None:
        self.room, self.error = room, error

    def writable(self) -> bool:
        return True

    def write(self, data) -> int:
        if len(data) > self.room:
            raise OSError(self.error, os.strerror(self.error))
        self.room -= len(data)
        return len(data)


@pytest.mark.parametrize("room", [0, 100])
@pytest.mark.parametrize("buffer", [16, 100_000], ids=["while printing", "at the end"])
@pytest.mark.parametrize("command", [("presets",), ("presets", "--json"), ("--help",)])
def test_a_full_disk_behind_standard_output_is_one_sentence(
    room, buffer, command, monkeypatch, capsys
):
    stream = io.TextIOWrapper(io.BufferedWriter(Full(room, errno.ENOSPC), buffer))
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", stream)
        assert main(command) == 2
        assert sys.stdout is stream
    said = "subspace: cannot write to standard output: [Errno 28] No space left on device\n"
    assert capsys.readouterr().err == said
    assert stream.closed  # so that Python does not write what is left, and fail with a traceback


def test_a_search_as_json_says_it_too(folder, monkeypatch, capsys):
    stream = io.TextIOWrapper(io.BufferedWriter(Full(0, errno.EIO)))
    place = ("--checkpoint", str(folder / "K"), "--index", str(folder / "index"))
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", stream)
        assert main(["search", *place, "--query", "a", "--json"]) == 2
    assert "cannot write to standard output: [Errno 5]" in capsys.readouterr().err


def test_what_nobody_reads_any_more_is_no_error():
    command = [sys.executable, "-m", "subspace", "presets", "--json"]
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(command, stdout=writer, stderr=subprocess.PIPE, check=False, timeout=60)
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_long_id_is_shortened_in_lists_and_messages_and_whole_in_json(folder, capsys):
    place = ("--checkpoint", str(folder / "K"), "--index", str(folder / "index"))
    shown = f"{'i' * 100}…(100000 characters)…{'i' * 25}"
    assert main(["search", *place, "--query", "a"]) == 0
    assert f"  {shown}\n" in capsys.readouterr().out
    assert main(["list", "--index", str(folder / "index")]) == 0
    assert f"{shown}\n" in capsys.readouterr().out
    assert main(["search", *place, "--like", "k" * 100_000]) == 2
    said = capsys.readouterr().err
    assert f"not in the index: {'k' * 150}…(100000 characters)…" in said
    assert len(said) < 500
    with pytest.raises(SystemExit):
        main(["search", *place, "--query", "a", "-k", "9" * 400 + ".5"])
    assert "(404 characters)" in capsys.readouterr().err


@given(st.text(st.characters(codec="utf-8"), max_size=5000))
def test_a_message_is_short_lines_and_a_short_one_stays(text):
    shown = readable(text)
    assert len(shown.split("\n")) == len(text.split("\n"))
    if all(len(line) < 300 for line in text.split("\n")):
        assert shown == "\n".join(map(one_line, text.split("\n")))
    words = readable(" ".join(["word " * 10_000, "x" * 10_000]))
    assert len(words) < 2_000
    assert words.endswith("x")


def test_one_is_one_and_more_are_many():
    assert [count(n, "use") for n in (0, 1, 2)] == ["0 uses", "1 use", "2 uses"]
    assert count(2, "query", plural="queries") == "2 queries"


class Terminal(io.StringIO):
    """Shows what is written to it."""

    def isatty(self) -> bool:
        return True


def test_bars_are_for_terminals_alone(capsys):
    texts = [Record(id=str(n), text="a text") for n in range(3)]
    assert len(list(FeatureAnnotator().annotate(texts, progress=True))) == 3
    assert capsys.readouterr().err == ""
    terminal = Terminal()
    with contextlib.redirect_stderr(terminal):
        list(FeatureAnnotator().annotate(texts, progress=True))
    assert "counting: 100%" in terminal.getvalue()
