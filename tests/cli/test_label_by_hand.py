"""`subspace label --by person` and `--pick` as their users call them, once in a real terminal."""

import io
import json
import os
import pty
import re
import select
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from command_line import ROOT, lay_out_project, run

from subspace.data.comparisons import read_comparisons
from subspace.data.records import read_records


@pytest.fixture(scope="module")
def corpus() -> list[str]:
    return [one.text for one in read_records(ROOT / "data" / "factorial")[::72]]


@pytest.fixture
def texts(corpus, tmp_path) -> Path:
    """Forty texts: two too short, and two of one group."""
    path = tmp_path / "texts.jsonl"
    lines = [{"id": f"t{n}", "text": text, "mine": n} for n, text in enumerate(corpus)]
    lines[3]["text"], lines[5]["text"] = "two words", "1"
    lines[7]["group"] = lines[8]["group"] = "g"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Path:
    """Vectors that every test uses."""
    return tmp_path_factory.mktemp("store")


@pytest.fixture
def pick(store) -> list[object]:
    """Options that choose with the model that comes with the package."""
    return ["--checkpoint", "minilm", "--store", store, "--pick"]


def label(*options: object, texts: Path, replies: str = "", monkeypatch=None, expect: int = 0):
    """Runs the command in the folder of the texts, with what is typed; returns what it printed."""
    if monkeypatch is not None:
        monkeypatch.setattr(sys, "stdin", io.StringIO(replies))
    arguments = ["label", "--input", texts.name, "--output", "out.jsonl"]
    return run(*arguments, *map(str, options), cwd=texts.parent, expect=expect)


def test_labels_by_hand(texts, monkeypatch):
    by = ["--by", "person", "--factors", "register", "--classes", "casual, formal"]
    said = label(*by, texts=texts, replies="1\n\nformal\nq\n", monkeypatch=monkeypatch).stdout
    assert "[1 of 40] t0\n  | Once in a while, plenty of" in said
    assert "\nregister: 1 casual, 2 formal (" in said
    assert said.endswith(
        "2 labels by hand, 1 skipped -> out.jsonl\nthe same command goes on from here\n"
    )
    found = read_records(texts.with_name("out.jsonl"))
    assert [(r.id, r.factors) for r in found] == [
        ("t0", {"register": "casual"}),
        ("t2", {"register": "formal"}),
    ]
    said = label(*by, texts=texts, replies="1\n", monkeypatch=monkeypatch).stdout
    assert "[3 of 40] t3" in said
    assert "3 labels by hand -> out.jsonl" in said


def test_classes_of_several_factors(texts, monkeypatch):
    by = ["--by", "person", "--factors", "register,depth", "--classes", "register=casual,formal"]
    label(*by, texts=texts, replies="2\n2\nq\n", monkeypatch=monkeypatch)
    (record,) = read_records(texts.with_name("out.jsonl"))
    assert record.factors == {"register": "formal", "depth": 2.0}


def test_picked_texts_are_asked_for_and_the_same_ones_again(texts, pick, monkeypatch):
    by = ["--by", "person", "--factors", "complexity", *pick, 10]
    said = label(*by, texts=texts, replies="1\n2\n", monkeypatch=monkeypatch).stdout
    assert said.startswith("picked 10 texts, spread over complexity and topics\n")
    assert "[3 of 10]" in said
    label(*by, texts=texts, replies="3\n" * 8, monkeypatch=monkeypatch)
    ids = [record.id for record in read_records(texts.with_name("out.jsonl"))]
    texts.with_name("out.jsonl").unlink()
    said = label(*by[2:], texts=texts).stdout
    assert said.endswith("10 texts to label -> out.jsonl\n")
    lines = [json.loads(line) for line in texts.with_name("out.jsonl").read_text().splitlines()]
    assert [line["id"] for line in lines] == ids
    assert all("factors" not in line and "mine" in line for line in lines)
    assert not {"t3", "t5"} & set(ids)
    assert len({"t7", "t8"} & set(ids)) < 2


def test_without_a_direction_texts_are_spread_over_topics(texts, pick):
    said = label("--factors", "depth", *pick, 4, "--seed", 3, texts=texts).stdout
    assert "picked 4 texts, spread over topics alone" in said


def test_if_near_duplicates_leave_fewer_it_is_said(texts, pick):
    lines = [{"id": str(n), "text": f"we {'eat cake' if n < 4 else 'see stars'}"} for n in range(8)]
    texts.write_text("".join(json.dumps(line) + "\n" for line in lines))
    said = label(*pick, 8, texts=texts).stdout
    assert "that is fewer than 8: all others say almost the same as one of them" in said
    assert len({int(r.id) < 4 for r in read_records(texts.with_name("out.jsonl"))}) == 2


def test_pairs_of_picked_texts_are_compared(texts, pick, monkeypatch):
    by = ["--by", "person", "--factors", "depth", "--pairs", *pick, 5]
    said = label(*by, texts=texts, replies="1\n2\n1\n", monkeypatch=monkeypatch).stdout
    assert "which one has more depth? 1 or 2 (" in said
    assert "3 comparisons by hand -> out.jsonl" in said
    found = read_comparisons(texts.with_name("out.jsonl"))
    assert len({frozenset((one.more, one.less)) for one in found}) == 3
    assert len({name for one in found for name in (one.more, one.less)}) <= 5


PERSON = ("--by", "person", "--factors", "register")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--by", "person"], "--by person needs --factors"),
        (["--by", "person,features"], "a person works alone"),
        ([*PERSON, "--overwrite"], "--overwrite is of annotators other than a person"),
        ([*PERSON, "--report", "r.md"], "--report is of annotators other than a person"),
        ([*PERSON, "--classes", "a"], "two classes or more"),
        ([*PERSON, "--classes", "a,,b"], "--classes must read like"),
        ([*PERSON, "--classes", "depth=a,b"], "--classes must read like"),
        (["--by", "person", "--factors", "x,y", "--classes", "a,b"], "x=casual,formal once for"),
        ([*PERSON, "--pairs", "--classes", "a,b"], "--classes is not for --pairs"),
        ([*PERSON, "--pairs", "--seed", "-1"], "--seed of 0 or more"),
        ([*PERSON, "--pick", "3"], "--pick needs --checkpoint"),
        (["--pick", "0", "--checkpoint", "minilm"], "--pick must be 1 or more"),
        (
            ["--pick", "39", "--checkpoint", "minilm"],
            "of its 40 texts, 38 have 3 words or more and no",
        ),
        (["--pick", "3", "--by", "features"], "--pick goes with --by person, or without --by"),
        (["--pairs"], "--pairs needs --by person"),
        (["--pick", "3", "--checkpoint", "minilm", "--pairs"], "--pairs needs --by person"),
        (["--classes", "a,b"], "--classes needs --by person"),
        ([*PERSON, "--output", "texts.jsonl"], "which would be lost"),
        (
            ["--pick", "3", "--checkpoint", "minilm", "--output", "texts.jsonl"],
            "which would be lost",
        ),
    ],
)
def test_wrong_arguments_are_refused(options, message, texts, monkeypatch):
    before = texts.read_bytes()
    said = label(*options, texts=texts, replies="1\n", monkeypatch=monkeypatch, expect=2)
    assert message in said.stderr
    assert len(said.stderr.splitlines()) == 1
    assert texts.read_bytes() == before
    assert not texts.with_name("out.jsonl").exists()


def test_picked_texts_are_not_written_over_labels(texts, pick):
    texts.with_name("out.jsonl").write_text("mine")
    said = label(*pick, 3, texts=texts, expect=2)
    assert "--output: out.jsonl exists, and may hold labels" in said.stderr
    assert texts.with_name("out.jsonl").read_text() == "mine"


@pytest.mark.slow
def test_the_commands_of_the_page_run(tmp_path, store, monkeypatch):
    lay_out_project(tmp_path)
    page = (ROOT / "docs" / "labels.md").read_text(encoding="utf-8")
    section = page.partition("## Labels by hand")[2].partition("\n## ")[0]
    commands = re.findall(r"^    subspace (.*)$", section, re.M)
    assert len(commands) == 3
    for command in commands:
        monkeypatch.setattr(sys, "stdin", io.StringIO("1\n2\n"))
        run(*shlex.split(command), "--store", store, cwd=tmp_path)
    assert len(read_records(tmp_path / "runs" / "register.jsonl")) == 2
    assert len(read_records(tmp_path / "runs" / "chosen.jsonl")) == 20  # one of each group
    assert len(read_comparisons(tmp_path / "runs" / "comparisons.jsonl")) == 2


class Terminal:
    """The command in a real pseudo-terminal."""

    def __init__(self, folder: Path) -> None:
        self._side, inner = pty.openpty()
        arguments = ["label", "--input", "texts.jsonl", "--output", "out.jsonl", *PERSON]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "subspace", *arguments],
            cwd=folder,
            stdin=inner,
            stdout=inner,
            stderr=inner,
            start_new_session=True,
            env={**os.environ, "COLUMNS": "80"},
            # Ctrl-C reaches a process through the terminal that controls it.
            preexec_fn=lambda: __import__("fcntl").ioctl(0, __import__("termios").TIOCSCTTY, 0),
        )
        os.close(inner)
        self._shown = ""

    def type(self, keys: str) -> None:
        os.write(self._side, keys.encode())

    def wait_for(self, text: str, *, again: str = "") -> str:
        """Returns what was shown until then; types `again` every few seconds until it is shown."""
        end = time.monotonic() + 60
        while text not in self._shown:
            assert time.monotonic() < end, self._shown
            if select.select([self._side], [], [], 3)[0]:
                self._shown += os.read(self._side, 4096).decode()
            elif again:
                self.type(again)
        before, _, self._shown = self._shown.partition(text)
        return before

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._side)


@pytest.fixture
def open_terminal(texts):
    opened = []

    def start() -> Terminal:
        opened.append(Terminal(texts.parent))
        return opened[-1]

    yield start
    for terminal in opened:
        terminal.close()


@pytest.mark.slow
def test_in_a_terminal_a_kill_loses_only_what_is_being_typed(texts, open_terminal):
    output = texts.with_name("out.jsonl")
    terminal = open_terminal()
    terminal.wait_for("[1 of 40] t0")
    terminal.wait_for("> ")
    terminal.type("1\n")
    terminal.wait_for("[2 of 40]")
    assert [record.id for record in read_records(output)] == ["t0"]
    terminal.wait_for("> ")
    terminal.type("2\n")
    terminal.wait_for("noted: register 2")
    terminal.type("3")  # and no enter
    os.kill(terminal.process.pid, signal.SIGKILL)
    terminal.process.wait()
    assert [record.id for record in read_records(output)] == ["t0", "t1"]
    again = open_terminal()
    again.wait_for("[3 of 40] t2")
    again.wait_for("> ")
    again.type("\x03")
    # Python misses a signal that comes as it begins to wait for a line; people press again.
    again.wait_for("2 labels by hand -> out.jsonl", again="\x03")
    assert again.process.wait(30) == 0
    last = open_terminal()
    last.wait_for("[3 of 40] t2")
    last.wait_for("> ")
    last.type("7\n")
    last.wait_for("> ")
    last.type("\x04")
    last.wait_for("3 labels by hand -> out.jsonl")
    assert last.process.wait(30) == 0
