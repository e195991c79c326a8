"""The page in a real Chromium: it ranks as the API does, and asks nobody but its own server."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from test_searcher import CHECKPOINT, OTHER, QUERY, TEXTS

from subspace.cli import main
from subspace.retrieval import PRESETS, Searcher, UsageLog

sync_api = pytest.importorskip("playwright.sync_api", reason="needs the package playwright")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
if CHROMIUM is None:
    pytest.skip("needs Chromium: apt-get install chromium", allow_module_level=True)

MARKUP = "<img src=x onerror=\"document.title='taken over'\"><b>bold</b> bread, bread and bread"
# Starts the command, and notes every address that it connects to.
SERVER = """
import sys
def note(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo"):
        print(event, arguments[1] if event == "socket.connect" else arguments[0], file=sys.stderr)
sys.addaudithook(note)
from subspace.cli import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """An index, one of its texts markup, and a usage log."""
    folder = tmp_path_factory.mktemp("browser")
    lines = [
        {"id": name, "text": text, "factors": {"style": "loud" if "!!!" in text else "calm"}}
        for name, text in {**TEXTS, "markup": MARKUP}.items()
    ]
    (folder / "texts.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    arguments = [
        *("--checkpoint", CHECKPOINT, "--input", folder / "texts.jsonl"),
        *("--output", folder / "index", "--store", folder / "store"),
    ]
    assert main(["index", *map(str, arguments)]) == 0
    with UsageLog.open(folder / "usage.db", clock="steps") as log:
        log.add({"tennis": 1.0, "tax": 0.0}.items())
    return folder


@pytest.fixture(scope="module")
def server(folder):
    """Its address; what it did in the network is in `server.log`."""
    arguments = [
        *("--checkpoint", CHECKPOINT, "--index", folder / "index"),
        *("--usage", folder / "usage.db", "--port", "18150"),
    ]
    with (folder / "server.log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-c", SERVER, "explore", *map(str, arguments)],
            env={**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
        said = next((line for line in process.stdout if line.startswith("http")), None)
        assert said, (folder / "server.log").read_text()[-2000:]
        yield said.split()[0]
        process.terminate()
        process.wait()
        process.stdout.close()


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])


@pytest.fixture
def page(browser, server):
    """The page as it opens; at the end, every request went to its server and nothing failed."""
    page = browser.new_page(viewport={"width": 1280, "height": 800})
    asked, wrong = [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: wrong.append(message.text) if message.type == "error" else 0)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.goto(server)
    page.wait_for_selector("#weighted >> text=Type a query")
    yield page
    page.close()
    assert len(asked) > 10
    hosts = {urlsplit(url).netloc for url in asked if not url.startswith(("data:", "blob:"))}
    assert hosts == {urlsplit(server).netloc}
    assert not wrong


@pytest.fixture(scope="module")
def searcher(folder):
    with Searcher.open(CHECKPOINT, folder / "index", usage=folder / "usage.db") as searcher:
        yield searcher


def ask(page, text: str, *, box: str = "#text") -> None:
    page.fill(box, text)
    page.press(box, "Enter")


def slider(page, name: str):
    return page.locator(f".slider:has(.name:text-is('{name}')) [role=slider]")


def expect(page, ids: list[str], *, column: str = "weighted") -> None:
    """Waits until a column shows these items in this order."""
    shown = [f"#{column} li:nth-child({n}) b >> text='{name}'" for n, name in enumerate(ids, 1)]
    for selector in shown:
        page.wait_for_selector(selector, timeout=10_000)
    assert page.locator(f"#{column} li b").all_inner_texts() == ids


def best(searcher, query, **options) -> list[str]:
    return [hit.id for hit in searcher.search(query, k=8, standardize=True, **options)]


def weights(searcher, **changes: float) -> dict[str, float]:
    return {**dict.fromkeys(searcher.layout, 1.0), **changes}


def test_a_slider_ranks_anew_as_the_api_does(page, searcher):
    ask(page, QUERY)
    before = best(searcher, QUERY, weights=weights(searcher))
    expect(page, before)
    expect(page, [hit.id for hit in searcher.search(QUERY, k=8)], column="equal")
    slider(page, "residual").press("Home")
    slider(page, "style").press("ArrowLeft")
    after = best(searcher, QUERY, weights=weights(searcher, residual=0.0, style=0.95))
    assert after != before
    expect(page, after)
    assert page.locator("#weighted .move.up").count() > 0
    said = page.locator("#weighted code").inner_text()  # to take along
    assert best(searcher, QUERY, weights=said) == after


def test_two_texts_are_one_composed_query(page, searcher):
    ask(page, QUERY)
    ask(page, OTHER, box="#other")
    query = {**dict.fromkeys(searcher.layout, QUERY), "style": OTHER}
    expect(page, best(searcher, query, weights=weights(searcher)))


def test_one_block_alone_and_all_again(page, searcher):
    ask(page, QUERY)
    page.locator(".slider:has-text('topic') button").click()
    expect(page, best(searcher, QUERY, weights={"topic": 1}))
    page.click("text=all equal")
    expect(page, best(searcher, QUERY, weights=weights(searcher)))


def test_a_mix_by_name_sets_its_sliders_and_loses_its_name_when_one_is_moved(page, searcher):
    ask(page, QUERY)
    page.click("#preset")
    page.click("text=balanced")
    expect(page, best(searcher, QUERY, weights=weights(searcher), preset="balanced"))
    recency, importance, relevance = PRESETS["balanced"]
    assert slider(page, "recency").get_attribute("aria-valuenow") == str(recency)
    slider(page, "recency").press("End")
    mix = f",riv=1,{importance},{relevance}"
    table = ",".join(f"{name}=1" for name in searcher.layout) + mix
    expect(page, best(searcher, QUERY, weights=table))
    page.wait_for_selector("#preset >> text=mixes by name")
    assert page.locator("#weighted code").inner_text().endswith(f",riv=1,{importance},{relevance}")
    page.uncheck("#standardize input")
    page.check("input[value=item]")
    expect(page, [hit.id for hit in searcher.search(QUERY, weights=table, k=8, scope="item")])


def test_markup_in_texts_and_queries_stays_text(page, searcher):
    ask(page, MARKUP)
    expect(page, best(searcher, MARKUP, weights=weights(searcher)))
    assert page.locator("#weighted li").first.locator(".text").inner_text().endswith(MARKUP)
    assert page.locator("main img, main .text b").count() == 0
    assert page.title() == "subspace explore"


def test_a_text_of_100_000_characters_is_searched_and_an_empty_one_is_not(page, searcher):
    long = "bread and soup " * 6667
    ask(page, long)
    expect(page, best(searcher, long, weights=weights(searcher)))
    ask(page, "   ")
    page.wait_for_selector("#weighted >> text=Type a query")


def test_weights_that_are_all_0_are_said_and_the_page_goes_on(page, searcher):
    ask(page, QUERY)
    page.locator(".slider:has-text('topic') button").click()
    expect(page, best(searcher, QUERY, weights={"topic": 1}))
    slider(page, "topic").press("Home")
    page.wait_for_selector("#weighted >> text=at least one weight must be above 0")
    slider(page, "topic").press("End")
    expect(page, best(searcher, QUERY, weights={"topic": 1}))


def test_the_maps_are_drawn_and_a_missing_report_says_how_to_make_one(page):
    page.click("text=Map of the blocks")
    page.wait_for_selector("#map .point", state="attached")
    assert page.locator("#map .point").count() == (len(TEXTS) + 1) * 5
    page.wait_for_selector("#map >> text=loud", state="attached")
    page.click("text=Separation")
    page.wait_for_selector("text=subspace probe --checkpoint")


def test_the_server_asked_nobody(folder, page):
    log = (folder / "server.log").read_text().splitlines()
    noted = [line for line in log if line.startswith("socket.")]
    assert noted  # its own address at least
    assert all("127.0.0.1" in line for line in noted)
