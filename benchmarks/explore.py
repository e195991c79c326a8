"""How fast `subspace explore` answers a slider: the server alone, and until the browser shows it.

    python benchmarks/explore.py --items 10000

Random unit blocks, the repository's own corpus as texts, over and over: time depends on neither.
Two layouts: that of checkpoints/minilm (312 dimensions in five blocks), and the production one
(four blocks of 256) by a random projection. `browser` is from the key that moves a slider to the
first frame in which the ranking has changed, in a headless Chromium; `server` is the same request
sent again, from weights to the ranking as components. Medians and 95th percentiles.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from dataclasses import replace
from pathlib import Path

import numpy as np
from playwright.sync_api import sync_playwright

from subspace.blocks import BlockLayout, unit_blocks
from subspace.data.retrieval_sets import Document, read_documents
from subspace.model import load_checkpoint
from subspace.model.projection import Projection
from subspace.retrieval import create_engine
from subspace.retrieval.index import digest_projection

QUERY = "how do I grow tomatoes from seed"
# Resolves with the milliseconds from a key to the frame that shows another ranking.
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


def make(folder: Path, *, wide: bool, items: int) -> None:
    rng = np.random.default_rng(0)
    checkpoint = load_checkpoint("checkpoints/minilm")
    if wide:
        layout = BlockLayout(("topic", "style", "complexity", "specificity"), (256,) * 4)
        weight = rng.normal(size=(layout.dim, checkpoint.projection.input_dim))
        projection = Projection(
            weight=weight.astype(np.float32), mean=checkpoint.projection.mean, layout=layout
        )
        checkpoint = replace(checkpoint, projection=projection)
    checkpoint.save(folder / "checkpoint")
    layout = checkpoint.projection.layout
    texts = [document.text for document in read_documents("data/factorial/records.jsonl")]
    documents = [Document(id=f"item {n}", text=texts[n % len(texts)]) for n in range(items)]
    vectors = rng.normal(size=(items, layout.dim)).astype(np.float32)
    digest = digest_projection(checkpoint.projection)
    engine = create_engine(folder / "index", layout=layout, projection_digest=digest)
    engine.upsert(documents, unit_blocks(vectors, layout=layout).astype(np.float32))
    engine.save()


def measure(folder: Path, *, repeats: int) -> dict[str, list[float]]:
    """Milliseconds of each answer."""
    command = [sys.executable, "-m", "subspace", "explore", "--port", "8250"]
    arguments = ["--checkpoint", folder / "checkpoint", "--index", folder / "index"]
    server = subprocess.Popen([*command, *map(str, arguments)], stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    address = next(line for line in server.stdout if line.startswith("http")).split()[0]
    times: dict[str, list[float]] = {"server": [], "browser": []}
    try:
        with sync_playwright() as playwright:
            chromium = playwright.chromium.launch(
                executable_path=shutil.which("chromium"), args=["--no-sandbox"]
            )
            page = chromium.new_page(viewport={"width": 1280, "height": 800})
            page.goto(address)
            page.fill("#text", QUERY)
            page.press("#text", "Enter")
            page.wait_for_selector("#weighted li")
            slider = page.locator(".slider [role=slider]").first.element_handle()
            for n in range(repeats):
                key = "ArrowLeft" if n // 10 % 2 == 0 else "ArrowRight"  # to and fro
                with page.expect_request(lambda asked: asked.method == "POST") as posted:
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--items", type=int, default=10_000)
    parser.add_argument("--repeats", type=int, default=60)
    arguments = parser.parse_args()
    print("| dimensions | measured | median ms | 95th percentile ms |\n|---|---|---|---|")
    for wide in (False, True):
        with tempfile.TemporaryDirectory() as folder:
            make(Path(folder), wide=wide, items=arguments.items)
            times = measure(Path(folder), repeats=arguments.repeats)
        for name, values in times.items():
            low, high = np.percentile(values, [50, 95])
            print(f"| {1024 if wide else 312} | {name} | {low:.0f} | {high:.0f} |", flush=True)


if __name__ == "__main__":
    main()
