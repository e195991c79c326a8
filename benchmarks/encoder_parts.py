"""What the encoder spends its time on in torch, part by part, beside matrix products.

    OMP_NUM_THREADS=2 python benchmarks/encoder_parts.py --data FOLDER --texts 300

MiniLM on real texts of 5 to 400 words, packed as always, under torch's own profiler; tokenising and
Python are not counted. On processors without instructions for bfloat16 its products are emulated,
and slow; so are the two small ones inside attention. All other parts read two bytes for a number,
compute in float32 and write two bytes. The last lines are arithmetic: if products ran at a
`--speed` (GFLOP/s of all threads) and the other parts as here, which share of that is reached.
"""

import argparse
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import torch
from encode import DTYPES, count_tokens, draw_texts, of_usual_length, product_shapes
from torch.profiler import ProfilerActivity, profile

from subspace.encoder import Encoder, EncoderSpec
from subspace.encoder.backends.converted import available_threads

MODEL = "minilm"
# Words in the names of torch's operations, in the order in which they are looked for.
PARTS = {
    "attention": ("attention", "softmax"),
    "products": ("mm", "matmul", "linear", "mkldnn"),
    "activation": ("gelu",),
    "norms": ("layer_norm",),
    "sums": ("add", "mul"),
    "copies": ("copy", "cat", "clone", "index", "embedding"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with JSONL")
    parser.add_argument("--texts", type=int, default=300)
    parser.add_argument("--speed", type=float, nargs="*", default=[500.0, 1000.0, 2000.0])
    arguments = parser.parse_args()
    texts = of_usual_length(draw_texts(arguments.data, count=20_000))[: arguments.texts]
    torch.set_num_threads(available_threads())
    found = {dtype: measure(texts, dtype=dtype) for dtype in DTYPES}
    config = Encoder(EncoderSpec(model=MODEL))._config
    tokens = int(count_tokens(MODEL, texts).sum())
    places = tokens * config.num_hidden_layers
    operations = 2 * sum(m * n for m, n in product_shapes(config))
    print(f"{len(texts)} texts, {tokens:,} tokens, {available_threads()} threads")
    print("| ns per token and layer | " + " | ".join(DTYPES) + " |\n|---|---|---|")
    for part in (*PARTS, "rest"):
        row = " | ".join(f"{1e9 * found[dtype][part] / places:,.0f}" for dtype in DTYPES)
        print(f"| {part} | {row} |")
    print(f"products: {operations / 1e6:.2f} million operations per token and layer")
    for dtype in DTYPES:
        others = (sum(found[dtype].values()) - found[dtype]["products"]) / places
        for speed in arguments.speed:
            products = operations / speed / 1e9
            share = products / (products + others)
            print(f"{dtype}, products at {speed:,.0f} GFLOP/s: {share:.0%} of that")


def measure(texts: Sequence[str], *, dtype: str) -> dict[str, float]:
    """Seconds inside each part, of the calling thread: others compute while it does, or wait."""
    encoder = Encoder(EncoderSpec(model=MODEL, dtype=dtype, device="cpu", backend="torch"))
    encoder.encode(texts[:20])
    with profile(activities=[ProfilerActivity.CPU]) as run:
        encoder.encode(texts)
    found: dict[str, float] = defaultdict(float)
    for event in run.key_averages():
        named = (part for part, words in PARTS.items() if any(word in event.key for word in words))
        found[next(named, "rest")] += event.self_cpu_time_total / 1e6
    return found


if __name__ == "__main__":
    main()
