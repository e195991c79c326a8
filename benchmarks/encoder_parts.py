"""What the encoder spends its time on in torch, part by part, beside matrix products.

    python benchmarks/encoder_parts.py --data FOLDER --texts 300

Real texts of 5 to 400 words, packed as always, under torch's own profiler. Products in bfloat16 are
emulated on processors that have none, and slow; the other parts are not: they read two bytes for a
number, compute in float32 and write two bytes. The last lines say which share of a ceiling is left
beside these other parts if products run at that ceiling (`--ceiling`, GFLOP/s of all threads).
"""

import argparse
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from encode import DTYPES, count_operations, count_tokens, draw_texts, find_model
from qwen3_shape import SIZES

from subspace.encoder import Encoder, EncoderSpec
from subspace.encoder.backends.converted import available_threads

# Words in the names of torch's operations, in the order in which they are looked for.
PARTS = {
    "attention": ("attention", "softmax"),
    "products": ("mm", "linear", "mkldnn"),
    "activation": ("gelu", "silu"),
    "norms": ("layer_norm", "rsqrt", "mean", "pow"),
    "sums": ("add", "mul"),
    "copies": ("copy", "cat", "clone", "index", "embedding"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with JSONL")
    parser.add_argument("--model", choices=("minilm", "qwen3"), default="minilm")
    parser.add_argument("--size", choices=SIZES, default="0.6B")
    parser.add_argument("--folder", type=Path, default=Path("runs/qwen3-shape"))
    parser.add_argument("--texts", type=int, default=300)
    parser.add_argument("--ceiling", type=float, nargs="*", default=[150.0, 500.0, 1500.0])
    arguments = parser.parse_args()
    corpus = draw_texts(arguments.data, count=20_000)
    model = find_model(arguments, corpus)
    texts = [text for text in corpus if 5 <= len(text.split()) <= 400][: arguments.texts]
    tokens = count_tokens(model, texts)
    operations = count_operations(model, tokens)
    found = {dtype: measure(model, texts, dtype=dtype) for dtype in DTYPES}
    depth = Encoder(EncoderSpec(model=model))._config.num_hidden_layers
    places = int(tokens.sum()) * depth
    print(f"{len(texts)} texts, {tokens.sum():,} tokens, {available_threads()} threads")
    print("| ns per token and layer | " + " | ".join(DTYPES) + " |\n|---|---|---|")
    for part in (*PARTS, "rest"):
        row = " | ".join(f"{1e9 * found[dtype][part] / places:,.0f}" for dtype in DTYPES)
        print(f"| {part} | {row} |")
    print(f"{operations / places / 1e6:.2f} million operations per token and layer")
    for dtype in DTYPES:
        others = sum(found[dtype].values()) - found[dtype]["products"]
        for ceiling in arguments.ceiling:
            products = operations / ceiling / 1e9
            share = products / (products + others)
            print(f"{dtype}, products at {ceiling:,.0f} GFLOP/s: {share:.0%} of the ceiling")


def measure(model: str, texts: Sequence[str], *, dtype: str) -> dict[str, float]:
    """Seconds inside each part, of the calling thread: others compute while it does, or wait."""
    from torch.profiler import ProfilerActivity, profile

    encoder = Encoder(EncoderSpec(model=model, dtype=dtype, device="cpu", backend="torch"))
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
