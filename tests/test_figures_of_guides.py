"""Pages that gather figures of other pages have them as they stand there."""

import re

import pytest
from command_line import ROOT

DOCS = ROOT / "docs"
PAGES = ("choosing", "what-does-not-work")
LINK = re.compile(r"\]\(([^)#]+)(?:#[^)]*)?\)")
FIGURE = re.compile(r"(?<![\w.])\d*\.\d+(?!\w|\.\d)")  # without its sign


def read(page: str) -> str:
    return (DOCS / page).read_text(encoding="utf-8")


def sections(page: str) -> list[str]:
    return re.split(r"^(?=#)", re.sub(r"`[^`]*`", "", read(page)), flags=re.MULTILINE)


def unfounded(section: str) -> list[str]:
    """Figures of a section that none of the pages it links to has."""
    linked = " ".join(read(target) for target in LINK.findall(section))
    there = {figure.lstrip("0") for figure in FIGURE.findall(linked)}
    figures = FIGURE.findall(LINK.sub("]", section))
    return [figure for figure in figures if figure.lstrip("0") not in there]


@pytest.mark.parametrize("page", PAGES)
def test_every_figure_stands_in_a_page_that_its_section_links_to(page):
    found = [FIGURE.findall(LINK.sub("]", section)) for section in sections(f"{page}.md")]
    assert sum(map(len, found)) > 30
    for section in sections(f"{page}.md"):
        assert unfounded(section) == [], section


def test_a_figure_of_another_page_is_found_out():
    assert unfounded("style 0.067 ([results](results.md#by-source))") == []
    assert unfounded("style 0.0671 and -0.034 ([results](results.md))") == ["0.0671"]
    assert unfounded("style 0.067 ([limits](limits.md))") == ["0.067"]
