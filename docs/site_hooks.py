"""What `mkdocs build` adds to the pages of docs/, which stay as a code host shows them.

Files outside docs/ that pages link to (the README, the log, sources) are published under
`project/`, by their path in the repository, and links to them are rewritten. The reference of the
Python API is made from what every package exports by `__all__`.
"""

import ast
import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

import subspace

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent
SOURCES = ROOT / "src" / "subspace"
# Files outside docs/ that the navigation names; those that pages link to are found.
PAGES = ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "LOG.md")
PACKAGES = ("data", "encoder", "model", "fitting", "retrieval", "evaluation", "labelling")
MODULES = ("blocks", "errors")
PREFIX = "project/"
LINK = re.compile(r"(!?\[[^\]]*\]\()\s*([^)\s]+)(?=\))")
EXTERNAL = re.compile(r"[a-z][a-z+.-]*:|#|/", re.IGNORECASE)


def on_files(files: Files, /, *, config: MkDocsConfig) -> Files:
    """Adds the files outside docs/ and the pages of the API."""
    for path in sorted(_find_outside()):
        uri = PREFIX + path
        files.append(File.generated(config, uri, abs_src_path=str(ROOT / path)))
    for uri, content in make_reference().items():
        files.append(File.generated(config, uri, content=content))
    return files


def on_page_markdown(markdown: str, /, *, page: Page, **_: object) -> str:
    """Points links at where a file is in the site, instead of in the repository."""
    uri = page.file.src_uri
    return markdown if uri.startswith("api/") else rewrite_links(markdown, uri=uri)


def rewrite_links(markdown: str, *, uri: str) -> str:
    """Rewrites the links of a page that lies at `uri` in the site."""
    place = _to_repository(uri)

    def rewrite(match: re.Match[str]) -> str:
        target, _, anchor = match[2].partition("#")
        if EXTERNAL.match(match[2]):
            return match[0]
        found = posixpath.normpath(posixpath.join(posixpath.dirname(place), target))
        if not (ROOT / found).is_file():
            return match[0]  # no link, or one that the build warns of
        new = posixpath.relpath(_to_site(found), posixpath.dirname(uri) or ".")
        return match[1] + new + (f"#{anchor}" if anchor else "")

    return LINK.sub(rewrite, markdown)


def make_reference() -> dict[str, str]:
    """Makes the pages of the API: Markdown by place in the site."""
    top = subspace.__all__
    pages = {"api/subspace.md": _page("subspace", [f"subspace.{name}" for name in top])}
    for room in PACKAGES:
        names = _exported(SOURCES / room / "__init__.py")
        shown = [f"subspace.{room}.{name}" for name in names if name not in top]
        also = [name for name in names if name in top]
        pages[f"api/subspace.{room}.md"] = _page(f"subspace.{room}", shown, also=also)
    for module in MODULES:
        names = [name for name in _defined(SOURCES / f"{module}.py") if name not in top]
        shown = [f"subspace.{module}.{name}" for name in names]
        pages[f"api/subspace.{module}.md"] = _page(f"subspace.{module}", shown)
    pages["api/subspace.integrations.md"] = _integrations()
    return pages


def _page(title: str, names: list[str], *, also: list[str] | None = None) -> str:
    parts = [f"# {title}"]
    if also:
        parts.append(
            "Also here: " + ", ".join(f"[{name}](subspace.md#subspace.{name})" for name in also)
        )
    return "\n\n".join([*parts, *(f"::: {name}" for name in names)]) + "\n"


def _integrations() -> str:
    shown = []
    folder = SOURCES / "integrations"
    for path in sorted([*folder.glob("*.py"), *folder.glob("*/__init__.py")]):
        module = path.parent.name if path.name == "__init__.py" else path.stem
        if path.parent != folder or path.name != "__init__.py":
            shown += [f"subspace.integrations.{module}.{name}" for name in _exported(path)]
    return _page("subspace.integrations", shown)


def _exported(path: Path) -> list[str]:
    """Reads `__all__` of a module without importing it."""
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__":
            return list(ast.literal_eval(node.value))
    return []


def _defined(path: Path) -> list[str]:
    """Reads the names of public classes and functions of a module."""
    body = ast.parse(path.read_text(encoding="utf-8")).body
    kinds = (ast.ClassDef, ast.FunctionDef)
    return [node.name for node in body if isinstance(node, kinds) and not node.name.startswith("_")]


def _find_outside() -> set[str]:
    """Finds the files outside docs/ that pages link to, and those that these link to."""
    found = set(PAGES)
    waiting = [*DOCS.glob("*.md"), *(ROOT / page for page in PAGES)]
    while waiting:
        page = waiting.pop()
        for match in LINK.finditer(page.read_text(encoding="utf-8")):
            path = (page.parent / match[2].partition("#")[0]).resolve()
            outside = path.is_relative_to(ROOT) and not path.is_relative_to(DOCS)
            if EXTERNAL.match(match[2]) or not outside or not path.is_file():
                continue
            name = path.relative_to(ROOT).as_posix()
            if name not in found:
                found.add(name)
                waiting += [path] if path.suffix == ".md" else []
    return found


def _to_repository(uri: str) -> str:
    return uri.removeprefix(PREFIX) if uri.startswith(PREFIX) else f"docs/{uri}"


def _to_site(path: str) -> str:
    return path.removeprefix("docs/") if path.startswith("docs/") else PREFIX + path
