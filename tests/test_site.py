"""The documentation builds as a site without a warning, and every link in it leads somewhere."""

import html
import logging
import os
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from command_line import ROOT

import subspace

os.environ["NO_MKDOCS_2_WARNING"] = "1"  # before the theme is imported: its authors' note

from mkdocs.commands.build import build
from mkdocs.config import load_config
from mkdocs.exceptions import Abort
from mkdocs.utils.yaml import yaml_load

DOCS = ROOT / "docs"
LINK = re.compile(r"<([a-z]+)\b[^>]*?\s(?:href|src)=\"?([^\"\s>]+)")
IDENTIFIER = re.compile(r"\s(?:id|name)=\"?([^\"\s>]+)")


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """The site, as `make docs` builds it but for what takes long; a warning fails."""
    folder = tmp_path_factory.mktemp("site")
    written = yaml_load((ROOT / "mkdocs.yml").read_text(encoding="utf-8"))
    search, plugin = written["plugins"]
    assert search == "search"  # no index of all words
    # Signatures on one line: laying them out starts a program for each.
    plugin["mkdocstrings"]["handlers"]["python"]["options"]["separate_signature"] = False
    config = load_config(str(ROOT / "mkdocs.yml"), site_dir=str(folder), plugins=[plugin])
    said: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: said.append(record.getMessage())
    logging.getLogger("mkdocs").addHandler(handler)
    try:
        config.plugins.on_startup(command="build", dirty=False)
        build(config)
    except Abort:
        pytest.fail("\n".join(said))
    finally:
        config.plugins.on_shutdown()
        logging.getLogger("mkdocs").removeHandler(handler)
    assert said == []
    return folder


@pytest.fixture(scope="module")
def pages(site) -> dict[str, str]:
    """Every page, by its place in the site."""
    found = sorted(site.rglob("*.html"))
    return {page.relative_to(site).as_posix(): page.read_text(encoding="utf-8") for page in found}


def links(page: str) -> Iterator[tuple[str, str]]:
    for tag, target in LINK.findall(page):
        yield tag, html.unescape(target)


def test_every_page_of_the_documentation_is_in_the_navigation(pages):
    navigation = pages["index.html"].split("md-sidebar--primary", 1)[1].split("md-sidebar--sec")[0]
    for page in DOCS.glob("*.md"):
        name = "index.html" if page.stem == "README" else f"{page.stem}.html"
        assert name in pages
        there = name == "index.html" or f'href="{name}"' in navigation
        assert there, f"{page.name} is not in `nav` of mkdocs.yml"


def test_every_link_inside_the_site_leads_to_a_file_and_a_place_in_it(site, pages):
    places = {
        name: set(map(html.unescape, IDENTIFIER.findall(page))) for name, page in pages.items()
    }
    broken, count = [], 0
    for name, page in pages.items():
        for _, target in links(page):
            parts = urlsplit(target)
            if parts.scheme or name == "404.html":  # which is served at every address
                continue
            count += 1
            path = (site / name).parent / unquote(parts.path) if parts.path else site / name
            place = path.resolve().relative_to(site.resolve()).as_posix() if path.exists() else None
            anchors = places.get(place)
            if place is None or (
                parts.fragment and anchors and unquote(parts.fragment) not in anchors
            ):
                broken.append(f"{name}: {target}")
    assert count > 1000
    assert broken == []


def test_nothing_is_loaded_from_elsewhere(site, pages):
    for name, page in pages.items():
        loaded = [target for tag, target in links(page) if tag != "a" and "//" in target]
        assert loaded == [], name
        assert not re.search(r"(?:url\(|@import)[^;)]*//", page), name
    for style in site.rglob("*.css"):
        assert not re.search(r"(?:url\(|@import)\s*['\"]?(?:https?:)?//", style.read_text("utf-8"))


def test_the_reference_has_every_public_name(pages):
    for name in subspace.__all__:
        assert f'id="subspace.{name}"' in pages["api/subspace.html"], name
    assert 'id="subspace.Index.search"' in pages["api/subspace.html"]
    assert 'id="subspace.retrieval.explain"' in pages["api/subspace.retrieval.html"]


def test_the_reference_has_what_examples_import(pages):
    there = "".join(page for name, page in pages.items() if name.startswith("api/"))
    sources = "".join(path.read_text(encoding="utf-8") for path in DOCS.glob("*.md"))
    imports = re.findall(r"^from (subspace[\w.]*) import ([\w, ]+)$", sources, re.MULTILINE)
    assert len(imports) > 10
    for module, names in imports:
        for name in names.split(", "):
            found = {f'id="{module}.{name}"', f'id="subspace.{name}"'}
            assert any(one in there for one in found), f"{module}.{name}: name it in __all__"


def test_pages_read_as_on_a_code_host(pages):
    """A list without a blank line before it, say, is text to the site's Markdown."""
    for name, page in pages.items():
        if name.startswith("api/"):
            continue
        article = page.split("<article", 1)[-1].split("</article>")[0]
        text = re.sub(r"<(pre|code|svg)\b.*?</\1>", "", article, flags=re.DOTALL)
        for paragraph in re.findall(r"<(?:p|li)>(.*?)</(?:p|li)>", text, re.DOTALL):
            assert not re.search(r"^\s*(?:[-*]|\d+\.) |^\|.*\|$|```|\]\(|\*\*", paragraph, re.M), (
                name
            )
    for source in DOCS.glob("*.md"):
        text = re.sub(r"```.*?```|`[^`]*`", "", source.read_text(encoding="utf-8"), flags=re.DOTALL)
        for mark in ("\n:::", "\n!!!", "\n???", "\n===", "{:", "{{", "[TOC]"):
            assert mark not in text, f"{source.name}: {mark!r} is understood by one generator alone"
