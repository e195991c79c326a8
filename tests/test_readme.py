"""What the README says is what its commands and examples do."""

import contextlib
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from command_line import FEW_SCENES, ROOT, lay_out_project, run

README = (ROOT / "README.md").read_text(encoding="utf-8")


def python_blocks(text: str = README) -> list[str]:
    return re.findall(r"```python\n(.*?)```", text, re.DOTALL)


def run_python(code: str, *, cwd: Path) -> list[str]:
    """Lines that a piece of Python prints, in an interpreter that has imported nothing."""
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=cwd, text=True, capture_output=True, check=False
    )
    assert result.returncode == 0, result.stderr[-2000:]
    return result.stdout.splitlines()


def commands_of(script: Path, *, folder: Path) -> list[list[str]]:
    """Arguments of each call of `subspace` in a script, which runs with a recorder in its place."""
    recorder = folder / "subspace"
    recorder.write_text('#!/bin/sh\nprintf "%s\\0" "$@" >> calls\necho >> calls\n')
    recorder.chmod(0o700)
    subprocess.run(["sh", script, "./subspace"], cwd=folder, check=True, capture_output=True)
    calls = (folder / "calls").read_text(encoding="utf-8")
    return [call.split("\0") for call in calls.removesuffix("\0\n").split("\0\n")]


@pytest.fixture(scope="module")
def demo(tmp_path_factory) -> Path:
    """A folder in which the demo's commands have run, with their output in `out.txt`."""
    folder = tmp_path_factory.mktemp("demo")
    lay_out_project(folder, scenes=FEW_SCENES)
    calls = commands_of(ROOT / "demo.sh", folder=folder)
    assert [call[0] for call in calls] == ["fit", "index", *["search"] * 3, "probe"]
    said = [run(*call, cwd=folder).stdout for call in calls]
    (folder / "out.txt").write_text("".join(said), encoding="utf-8")
    return folder


def test_the_demo_shows_three_rankings_of_one_query(demo):
    out = (demo / "out.txt").read_text(encoding="utf-8")
    rankings = [
        re.findall(r"^ \d\. .*\]  (\S+)$", part, re.MULTILINE) for part in out.split("query: ")[1:]
    ]
    assert [len(ids) for ids in rankings] == [4, 4, 4]
    assert len({tuple(ids) for ids in rankings}) == 3
    assert all("astronomy-planet" in name for name in rankings[0])
    casual = [sum("casual" in name for name in ranking) for ranking in rankings]
    easy = [sum("-c1-" in name for name in ranking) for ranking in rankings]
    assert casual[2] > casual[0]
    assert easy[1] > easy[0]
    assert "| complexity | toward | blocks |" in out


def test_the_environments_of_demo_and_test_are_of_packages_that_are_declared():
    """uv only warns of an extra that is not there, and pip too."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for target, extra in (("demo", "minilm"), ("dev", "dev")):
        plan = subprocess.run(
            ["make", "--dry-run", "--always-make", f".venv/{target}"],
            cwd=ROOT,
            text=True,
            capture_output=True,
            check=True,
        ).stdout
        assert set(re.findall(r"'\.\[(.*?)\]'", plan)) == {extra}
        assert extra in project["optional-dependencies"]
        (torch,) = (one for one in project["dependencies"] if one.startswith("torch>"))
        assert f"'{torch}'" in plan


def test_the_fifteen_lines_run_as_they_stand(demo):
    (code,) = python_blocks()
    assert len(code.strip().splitlines()) <= 15
    lines = run_python(code, cwd=demo)
    assert len(lines) == 4
    assert "gardening" in lines[0]


def test_the_readme_fits_on_three_screens():
    assert len(README.splitlines()) <= 120


def test_the_python_of_the_page_on_retrieval_runs(demo):
    page = (ROOT / "docs" / "retrieval.md").read_text(encoding="utf-8")
    blocks = python_blocks(page)
    assert len(blocks) > 1
    with contextlib.chdir(demo):  # here, where all that it imports is imported
        exec(compile("\n".join(blocks), "retrieval.md", "exec"), {})


def test_the_tree_in_the_readme_is_the_tree():
    tree = README.split("## The house")[1].split("    configs/")[0]
    named = set(re.findall(r"^      (\S+)", tree, re.MULTILINE))
    package = ROOT / "src" / "subspace"
    there = {
        path.name + ("/" if path.is_dir() else "")
        for path in package.iterdir()
        if not path.name.startswith("_") and path.name != "py.typed"
    }
    assert named == there


def test_every_file_that_the_documents_link_to_exists():
    for document in [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), ROOT / "data/README.md"]:
        text = document.read_text(encoding="utf-8")
        for target in re.findall(r"\]\((?!http)([^)#]+)", text):
            assert (document.parent / target).exists(), f"{document}: {target}"
