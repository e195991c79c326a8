"""What the README prints is what its commands print."""

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
NUMBER = re.compile(r"[-+]?\d+\.\d+")


def shown(name: str) -> str:
    found = re.search(rf"<!-- demo: {name} -->\n```\n(.*?)```", README, re.DOTALL)
    assert found, f"README has no block '{name}'"
    return found[1]


def run_python(code: str, *, cwd: Path) -> list[str]:
    """Lines that a piece of Python prints."""
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=cwd, text=True, capture_output=True, check=False
    )
    assert result.returncode == 0, result.stderr[-2000:]
    return result.stdout.splitlines()


def python_blocks(text: str = README) -> list[str]:
    return re.findall(r"```python\n(.*?)```", text, re.DOTALL)


@pytest.fixture(scope="module")
def demo(tmp_path_factory) -> Path:
    """A folder in which the demo has been run, with its output in `out.txt`."""
    folder = tmp_path_factory.mktemp("demo")
    for name in ("configs", "data"):
        (folder / name).symlink_to(ROOT / name)
    command = Path(sys.executable).with_name("subspace")
    result = subprocess.run(
        ["sh", ROOT / "demo.sh", command],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        text=True,
        capture_output=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    (folder / "out.txt").write_text(result.stdout, encoding="utf-8")
    return folder


def test_the_separation_table_is_what_the_demo_prints(demo):
    """Numbers may differ in the second decimal, as processors round differently."""
    table = [line for line in shown("separation").splitlines() if line.startswith("|")]
    out = (demo / "out.txt").read_text(encoding="utf-8").splitlines()
    start = next(n for n, line in enumerate(out) if line.startswith("| block"))
    for expected, printed in zip(table, out[start:], strict=False):
        assert NUMBER.sub("#", printed) == NUMBER.sub("#", expected)
        for mine, theirs in zip(NUMBER.findall(printed), NUMBER.findall(expected), strict=True):
            assert float(mine) == pytest.approx(float(theirs), abs=0.06)


def test_the_hits_are_what_the_demo_prints(demo):
    """One near tie of four may fall the other way on another processor."""

    def hits(text: str) -> list[list[str]]:
        queries = text.split("query: ")[1:]
        return [re.findall(r"^ \d\. .*\]  (\S+)$", query, re.MULTILINE) for query in queries]

    printed = hits((demo / "out.txt").read_text(encoding="utf-8"))
    expected = hits(shown("search"))
    assert [len(ids) for ids in expected] == [4, 4]
    for mine, theirs in zip(printed, expected, strict=True):
        assert len(set(mine) & set(theirs)) >= 3
    assert printed[0] != printed[1]


def test_the_python_example_runs_and_shows_two_rankings(demo):
    code = python_blocks()[0]
    assert len(code.strip().splitlines()) <= 10
    ids = [line.split()[1] for line in run_python(code, cwd=demo)]
    assert len(ids) == 6
    assert ids[:3] != ids[3:]


def test_every_python_example_runs_in_the_order_of_reading(demo):
    """After the feedback of the second, recency and importance count."""
    lines = run_python("\n".join(python_blocks()), cwd=demo)
    parts = ast.literal_eval(lines[-1])
    assert set(parts) == {"recency", "importance", "relevance"}
    assert parts["recency"] > 0


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
