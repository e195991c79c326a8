"""The pages under docs/ do what they say, and every command says what it does."""

import argparse
import contextlib
import importlib.util
import os
import re
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from string import Template

import pytest
from command_line import ROOT, lay_out_project, run

from subspace.cli.main import _make_parser, main

DOCS = ROOT / "docs"
# Pages whose examples run: those of one row in this order, in one folder, as later ones use what
# earlier ones made.
PAGES = {
    "how-to pages": (
        "how-to-own-factors",
        "how-to-own-encoder",
        "how-to-own-corpus",
        "how-to-server-engines",
        "how-to-stored-vectors",
        "how-to-langchain",
        "how-to-llama-index",
        "how-to-mteb",
        "how-to-scikit-learn",
        "how-to-folder",
    ),
    "the tutorial": ("tutorial",),
    "few labels": ("adapt",),
    "an agent": ("agent",),
}
BLOCK = re.compile(
    r"(?:<!-- not run: (?P<why>[^\n]+) -->\n)?```(?P<kind>\w+)\n(?P<code>.*?)```", re.S
)


@dataclass(frozen=True)
class Block:
    kind: str
    code: str
    why_not: str | None


def read_blocks(page: str) -> list[Block]:
    text = (DOCS / f"{page}.md").read_text(encoding="utf-8")
    assert text.count("```") == 2 * len(list(BLOCK.finditer(text)))
    return [Block(m["kind"], m["code"], m["why"]) for m in BLOCK.finditer(text)]


@pytest.fixture
def project(tmp_path) -> Path:
    """A folder to work in."""
    lay_out_project(tmp_path)
    return tmp_path


def run_block(block: Block, *, folder: Path) -> None:
    """Runs an example in this process, which has imported what most of them need."""
    if block.kind == "python":
        with contextlib.chdir(folder):
            exec(compile(block.code, "example", "exec"), {})
    else:
        run_shell(block.code, folder=folder)


def run_shell(code: str, *, folder: Path) -> None:
    lines = iter(code.splitlines())
    variables: dict[str, str] = {}
    for line in lines:
        written = re.fullmatch(r"cat > (\S+) <<'?END'?", line)
        named = re.match(r"([A-Z]+)=", line)
        if written:
            text = "\n".join(iter(lines.__next__, "END"))
            (folder / written[1]).write_text(text + "\n", encoding="utf-8")
        elif named:
            variables[named[1]] = value_of(named[1], line, folder=folder)
        elif line:
            # As in a shell, but also within single quotes; one that is not set is an error.
            words = [Template(word).substitute(variables) for word in shlex.split(line)]
            assert words[0] == "subspace", line
            run(*words[1:], cwd=folder)


def value_of(name: str, assignment: str, *, folder: Path) -> str:
    """What a shell assigns to a variable."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    result = subprocess.run(
        ["sh", "-euc", f'{assignment}\nprintf %s "${name}"'],
        cwd=folder,
        env={**os.environ, "PATH": path},
        text=True,
        capture_output=True,
        check=False,
    )
    assert result.returncode == 0, f"{assignment}\n{result.stderr[-2000:]}"
    return result.stdout


@pytest.mark.parametrize("pages", PAGES.values(), ids=PAGES)
def test_every_example_of_the_pages_runs(pages, project):
    for page in pages:
        for block in read_blocks(page):
            shown = block.why_not or block.kind in ("yaml", "json") or "pip install" in block.code
            if not shown:
                run_block(block, folder=project)


@pytest.mark.parametrize("page", [page for pages in PAGES.values() for page in pages])
def test_examples_that_are_not_run_are_calls_that_exist(page):
    parser = _make_parser()
    for block in read_blocks(page):
        for line in block.code.splitlines() if block.why_not else ():
            program, command, *arguments = shlex.split(line)
            assert program == "subspace"
            if command != "fit":
                parser.parse_args([command, *arguments])


def test_every_how_to_page_is_run():
    elsewhere = {"how-to-vector-stores"}  # needs servers: tests/retrieval/engines
    assert {path.stem for path in DOCS.glob("how-to-*.md")} == {*PAGES["how-to pages"], *elsewhere}


def test_the_index_names_every_page():
    index = (DOCS / "README.md").read_text(encoding="utf-8")
    for page in DOCS.glob("*.md"):
        assert page.name == "README.md" or f"]({page.name})" in index, page.name


def test_the_reference_of_yaml_keys_is_what_the_parser_reads():
    path = DOCS / "make_reference_yaml.py"
    spec = importlib.util.spec_from_file_location(path.stem, path)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    assert script.make_page() == script.PAGE.read_text(encoding="utf-8"), (
        "run: python docs/make_reference_yaml.py"
    )


def every_command() -> list[argparse.ArgumentParser]:
    """Parsers of all commands, those within commands too."""
    found = [_make_parser()]
    for parser in found:  # grows meanwhile
        for action in parser._actions:
            if isinstance(action, argparse._SubParsersAction):
                found.extend(action.choices.values())
    return found[1:]


@pytest.mark.parametrize("parser", every_command(), ids=lambda parser: parser.prog)
def test_the_help_of_every_command_is_sentences_and_an_example_that_parses(parser):
    assert re.fullmatch(r"[A-Z].*[.]", parser.description, re.S)
    found = re.fullmatch(r"example: (subspace .*)", parser.epilog)
    assert found, parser.epilog
    example = shlex.split(found[1])
    assert " ".join(example).startswith(parser.prog)
    _make_parser().parse_args(example[1:])
    assert all(action.help or action.dest == "==SUPPRESS==" for action in parser._actions)


@pytest.mark.parametrize("command", ["fit", "validate", "test"])
def test_the_help_of_training_ends_with_an_example_that_parses(command, capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    with pytest.raises(SystemExit):
        main([command, "--help"])
    out = " ".join(capsys.readouterr().out.split())
    found = re.search(r"example: subspace (\w+ .*)$", out)
    assert found, out[-300:]
    example = shlex.split(found[1])
    assert example[0] == command
    with pytest.raises(SystemExit) as stop:
        main([*example, "--print_config"])
    assert stop.value.code == 0
    written = capsys.readouterr().out
    assert "output: checkpoints/" + ("mine" if command == "fit" else "demo") in written
