"""The page in a real Chromium: it ranks as a search does, and asks only its own server."""

import json
import os
import shutil
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from retrieval_world import LAYOUT, QUERY, TEXTS

from subspace.retrieval import PRESETS

sync_api = pytest.importorskip("playwright.sync_api", reason="needs the package playwright")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
if CHROMIUM is None:
    pytest.skip("needs Chromium: apt-get install chromium", allow_module_level=True)

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


@pytest.fixture(scope="session")
def server(checkpoint, folder, usage, tmp_path_factory):
    """Its address, and the file that what it did in the network is noted in."""
    arguments = ["--checkpoint", checkpoint, "--index", folder, "--usage", usage, "--port", "18150"]
    noted = tmp_path_factory.mktemp("server") / "server.log"
    with (
        noted.open("w") as log,
        subprocess.Popen(
            [sys.executable, "-c", SERVER, "explore", *map(str, arguments)],
            env={**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        ) as process,
    ):
        try:
            address = next((line for line in process.stdout if line.startswith("http")), None)
            assert address, noted.read_text()[-2000:]
            yield address.split()[0], noted
        finally:
            process.terminate()


@pytest.fixture(scope="module")  # its event loop would stand in the way of others'
def browser():
    with sync_api.sync_playwright() as playwright:
        yield playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])


def expect(page, ids: list[str], *, column: str = "weighted") -> None:
    """Waits until a column shows these items in this order."""
    page.wait_for_function(
        "([column, ids]) => ids.join() === Array.from("
        "document.querySelectorAll(`#${column} li b`), bold => bold.textContent).join()",
        arg=[column, ids],
        timeout=20_000,
    )


def slider(page, name: str):
    return page.get_by_role("slider", name=name, exact=True)


def move_weights(page, search) -> None:
    """A slider ranks anew; a mix by name sets its sliders, and one that is moved clears it."""
    page.fill("#text", QUERY)
    page.press("#text", "Enter")
    expect(page, search(QUERY), column="default")
    expect(page, search(QUERY))
    slider(page, "complexity").press("End")
    after = search(QUERY, weights="topic=1,style=0.25,complexity=1")
    assert after != search(QUERY)
    expect(page, after)
    assert page.locator("#weighted .move.up").count() > 0
    page.locator(".slider:has-text('topic') button").click()
    expect(page, search(QUERY, weights="topic=1"))
    page.click("text=all equal")
    equal = ",".join(f"{name}=1" for name in LAYOUT)
    expect(page, search(QUERY, weights=equal))
    page.click("#preset")
    page.click("text=balanced")
    expect(page, search(QUERY, weights=equal, preset="balanced"))
    recency, importance, relevance = PRESETS["balanced"]
    assert slider(page, "recency").get_attribute("aria-valuenow") == str(recency)
    slider(page, "recency").press("End")
    mix = f"{equal},riv=1,{importance},{relevance}"
    expect(page, search(QUERY, weights=mix))
    page.wait_for_selector("#preset >> text=mixes by name")
    assert page.locator("#weighted code").inner_text() == mix
    page.check("input[value=item]")
    expect(page, search(QUERY, weights=mix, scope="item"))
    page.click("text=default")
    slider(page, "recency").press("Home")


def compare_texts(page, texts: dict[str, str]) -> None:
    """An answer is counted, is in the file that is saved, and asks about two other texts."""
    asked = page.locator(".choice").all_inner_texts()
    page.locator(".choice").first.click()
    page.wait_for_selector("#weighted >> text=complexity: 1 answer;")
    page.wait_for_function(
        "asked => document.querySelector('.choice').innerText !== asked", arg=asked[0]
    )
    with page.expect_download() as saved:
        page.click("#save")
    (line,) = Path(saved.value.path()).read_text(encoding="utf-8").splitlines()
    told = json.loads(line)
    assert [texts[told["more"]], texts[told["less"]]] == asked


def show_markup(page, markup: str) -> None:
    """Markup in texts and queries stays text."""
    page.fill("#text", markup)
    page.press("#text", "Enter")
    page.wait_for_selector("#default li:has-text('markup')")
    row = page.locator("#default li:has(b:text-is('markup'))")
    assert row.locator(".text").inner_text().endswith(markup)
    assert page.locator("main img, main .text b").count() == 0
    assert page.title() == "subspace explore"


def draw_maps(page) -> None:
    """Every text is a point in every block; a missing report says how to make one."""
    page.click("text=Map of the blocks")
    page.wait_for_selector("#map .point", state="attached")
    assert page.locator("#map .point").count() == (len(TEXTS) + 1) * len(LAYOUT)
    page.wait_for_selector("#map >> text=loud", state="attached")
    page.click("text=Separation")
    page.wait_for_selector("text=subspace probe --checkpoint")


def test_the_page_ranks_as_a_search_does_and_asks_only_its_own_server(browser, server, index):
    address, noted = server
    page = browser.new_page(viewport={"width": 1280, "height": 800})
    asked, wrong = [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: wrong.append(message.text) if message.type == "error" else 0)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.goto(address)
    page.wait_for_selector("#weighted >> text=Type a query")

    move_weights(page, lambda *a, **o: [hit.id for hit in index.search(*a, k=8, **o)])
    compare_texts(page, {one.id: one.text for one in index.blocks.sample.documents})
    show_markup(page, index.blocks.engine.fetch(["markup"]).documents[0].text)
    draw_maps(page)

    page.close()
    assert not wrong
    assert len(asked) > 10
    hosts = {urlsplit(url).netloc for url in asked if not url.startswith(("data:", "blob:"))}
    assert hosts == {urlsplit(address).netloc}
    connections = [line for line in noted.read_text().splitlines() if line.startswith("socket.")]
    assert connections  # its own address at least
    assert all("127.0.0.1" in line for line in connections)


# Contrast of the text of elements with the page (WCAG 2.2, 1.4.3).
CONTRAST = """(selectors) => {
    const light = (colour) => {
        const [r, g, b] = colour.match(/[0-9.]+/g).map((one) => one / 255)
            .map((c) => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const page = light(getComputedStyle(document.body).backgroundColor);
    return selectors.map((selector) => {
        const style = getComputedStyle(document.querySelector(selector));
        const own = light(document.querySelector(selector) instanceof SVGElement
            ? style.fill : style.color);
        return (Math.max(own, page) + 0.05) / (Math.min(own, page) + 0.05);
    });
}"""
READ = (
    "h1",
    ".note",
    "#default .text",
    "#weighted .move",
    ".badge",
    ".gone",
    "code",
    ".slider button",
)
DRAWN = ("#curve .xtick text", "#curve .y2tick text", "#curve .legendtext")


def focused(page) -> tuple[str | None, str]:
    """The name of what has the focus, and the style of its outline."""
    return tuple(
        page.evaluate(
            "() => { const e = document.activeElement, own = e.getAttribute('aria-label'); "
            "return [own || e.id || e.textContent, getComputedStyle(e).outlineStyle]; }"
        )
    )


def use_keys(page, search) -> None:
    """Keys alone reach sliders and buttons, which have names and a visible focus."""
    page.fill("#text", QUERY)
    page.press("#text", "Enter")
    expect(page, search(QUERY))
    reached = {}
    for _ in range(42):
        page.keyboard.press("Tab")
        name, outline = focused(page)
        if name == "complexity":
            page.keyboard.press("End")
            expect(page, search(QUERY, weights="topic=1,style=0.25,complexity=1"))
        reached[name] = outline
    assert {*LAYOUT, *(f"only {name}" for name in LAYOUT), "toward complexity", "liked"} <= {
        *reached
    }
    assert any(name.startswith("served well: ") for name in reached)
    assert {outline for name, outline in reached.items() if name != "other"} == {"solid"}
    assert page.get_by_role("button", name="but style").count() == 1  # a dropdown and its label


def show_changes(page, search) -> None:
    """What entered is marked and what left is listed, in words."""
    before, after = search(QUERY), search(QUERY, weights="topic=1,style=0.25,complexity=1")
    marked = page.locator("#weighted li:has(.badge:text-is('entered')) b").all_inner_texts()
    assert {*marked} == {*after} - {*before} != set()
    assert {*page.locator(".left .gone").all_inner_texts()} == {*before} - {*after}
    said = page.get_by_role("status").inner_text()
    assert said == f"{len(marked)} entered, {len(marked)} left the first 8"


def test_a_narrow_dark_page_is_read_and_used_with_keys_alone(browser, server, index):
    address, _ = server
    page = browser.new_page(viewport={"width": 360, "height": 740}, color_scheme="dark")
    page.goto(address)
    page.wait_for_selector("#weighted >> text=Type a query")
    assert page.locator("details.group[open]").count() == 0  # rankings before controls
    for group in page.locator("details.group > summary").all():
        group.press("Enter")
    use_keys(page, lambda *a, **o: [hit.id for hit in index.search(*a, k=8, **o)])
    show_changes(page, lambda *a, **o: [hit.id for hit in index.search(*a, k=8, **o)])
    page.wait_for_selector("#curve .legendtext")
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    dark = page.evaluate(CONTRAST, [*READ, *DRAWN])
    assert min(dark) > 4.5
    page.emulate_media(color_scheme="light")
    light = page.evaluate(CONTRAST, [*READ, *DRAWN])
    assert min(light) > 4.5
    assert dark != light

    page.get_by_role("tab", name="Search").press("ArrowRight")
    assert page.get_by_role("tab", selected=True).inner_text() == "Map of the blocks"
    page.wait_for_selector("#map .point", state="attached")
    titles = page.locator("#map .annotation-text").all()
    boxes = [title.bounding_box() for title in titles]
    assert len(boxes) == len(LAYOUT)  # one below the other
    assert all(above["y"] < below["y"] for above, below in pairwise(boxes))
    page.close()
