"""What the README says is what its commands and examples do."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from command_line import ROOT, lay_out_project

README = (ROOT / "README.md").read_text(encoding="utf-8")


def python_blocks(text: str = README) -> list[str]:
    return re.findall(r"```python\n(.*?)```", text, re.DOTALL)


def run_python(code: str, *, cwd: Path) -> list[str]:
    """Lines that a piece of Python prints, in an interpreter of its own."""
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=cwd, text=True, capture_output=True, check=False
    )
    assert result.returncode == 0, result.stderr[-2000:]
    return result.stdout.splitlines()


@pytest.fixture(scope="module")
def demo(tmp_path_factory) -> Path:
    """A folder in which the demo has been run, with its output in `out.txt`."""
    folder = tmp_path_factory.mktemp("demo")
    lay_out_project(folder)
    command = Path(sys.executable).with_name("subspace")
    result = subprocess.run(
        ["sh", ROOT / "demo.sh", command], cwd=folder, text=True, capture_output=True, check=False
    )
    assert result.returncode == 0, result.stderr[-3000:]
    (folder / "out.txt").write_text(result.stdout, encoding="utf-8")
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
    run_python("\n".join(blocks), cwd=demo)


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
