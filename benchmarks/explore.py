"""Times the start of `subspace explore`, and its answer to a slider.

    python benchmarks/explore.py --items 100000

The index holds random vectors of the reference model, and texts of the repository's own corpus,
repeated; times depend on neither. `start` is the time from the command to the line with its
address, `first ranking` that from Enter to both rankings of the first query; both happen once.
`browser` is the time from the key that moves a slider to the
first frame in which the ranking has changed, in a headless Chromium. `server` is the time of the
same request sent again. Prints medians and 95th percentiles.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

import numpy as np
from playwright.sync_api import Request as PlaywrightRequest
from playwright.sync_api import sync_playwright

from subspace.data import Record, read_records
from subspace.model import load
from subspace.model.markdown import table
from subspace.retrieval import Index

QUERY = "how do I grow tomatoes from seed"
# Resolves to the milliseconds from a key to the frame that shows another ranking.
PRESS = """([slider, key]) => new Promise((resolve) => {
    const ranking = document.querySelector("#weighted");
    const before = ranking.innerHTML, start = performance.now();
    const watch = new MutationObserver(() => {
        if (ranking.innerHTML === before) return;
        watch.disconnect();
        requestAnimationFrame(() => resolve(performance.now() - start));
    });
    watch.observe(ranking, {childList: true, subtree: true, attributes: true,
        characterData: true});
    slider.dispatchEvent(new KeyboardEvent("keydown", {key, bubbles: true}));
})"""


def make(folder: Path, *, checkpoint: str, items: int) -> int:
    """Writes an index, and gives its number of dimensions."""
    model = load(checkpoint)
    texts = [record.text for record in read_records("data/factorial/records.jsonl")]
    shape = (items, model.projection.input_dim)
    vectors = np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
    with Index.create(folder, model) as index:
        index.add(
            (Record(id=f"item {n}", text=texts[n % len(texts)]) for n in range(items)),
            vectors=vectors,
        )
    return model.layout.dim


def measure(folder: Path, *, checkpoint: str, repeats: int) -> dict[str, list[float]]:
    """Measures the milliseconds of each answer."""
    command = [sys.executable, "-m", "subspace", "explore", "--port", "8250"]
    arguments = ["--checkpoint", checkpoint, "--index", str(folder)]
    begun = time.perf_counter()
    server = subprocess.Popen([*command, *arguments], stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    address = next(line for line in server.stdout if line.startswith("http")).split()[0]
    times = {"start": [1000 * (time.perf_counter() - begun)]}
    times |= {name: [] for name in ("first ranking", "server", "browser")}
    try:
        with sync_playwright() as playwright:
            chromium = playwright.chromium.launch(
                executable_path=shutil.which("chromium"), args=["--no-sandbox"]
            )
            page = chromium.new_page(viewport={"width": 1280, "height": 800})
            page.goto(address)
            page.fill("#text", QUERY)
            begun = time.perf_counter()
            page.press("#text", "Enter")
            page.wait_for_selector("#default li")
            page.wait_for_selector("#weighted li")
            times["first ranking"].append(1000 * (time.perf_counter() - begun))
            slider = page.locator(".slider [role=slider]").first.element_handle()
            for n in range(repeats):
                key = "ArrowLeft" if n // 10 % 2 == 0 else "ArrowRight"  # to and fro
                with page.expect_request(_is_ranking) as posted:
                    times["browser"].append(page.evaluate(PRESS, [slider, key]))
                asked = posted.value
                request = urllib.request.Request(
                    asked.url, data=asked.post_data_buffer, headers=asked.headers
                )
                start = time.perf_counter()
                with urllib.request.urlopen(request) as answer:
                    assert b"weighted" in answer.read()
                times["server"].append(1000 * (time.perf_counter() - start))
    finally:
        server.terminate()
        server.wait()
    return times


def _is_ranking(asked: PlaywrightRequest) -> bool:
    """Tells the request of the ranking from that of the curve below the sliders."""
    return asked.method == "POST" and '"weighted.children"' in (asked.post_data or "")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--checkpoint", default="minilm")
    parser.add_argument("--items", type=int, default=10_000)
    parser.add_argument("--repeats", type=int, default=60)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "index"
        dim = make(folder, checkpoint=arguments.checkpoint, items=arguments.items)
        times = measure(folder, checkpoint=arguments.checkpoint, repeats=arguments.repeats)
    rows = [
        (dim, name, *(f"{value:.0f}" for value in np.percentile(values, [50, 95])))
        for name, values in times.items()
    ]
    print("\n".join(table(("dimensions", "measured", "median ms", "95th percentile ms"), rows)))


if __name__ == "__main__":
    main()
