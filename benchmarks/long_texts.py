"""What the longest text that a model reads costs in memory: 32,768 tokens of the Qwen3 shape.

    python benchmarks/long_texts.py --data FOLDER

Memory beside the weights does not hang on the number of layers, as no layer's states outlive the
next one's, so a model of two layers shows it in a minute; so do the tokens beyond the limit, which
are cut and counted.
"""

import argparse
import resource
import time
from pathlib import Path

import numpy as np
from encode import draw_texts
from qwen3_shape import SIZES, write_model

from subspace.encoder import Encoder, EncoderSpec

LAYERS = 2


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with JSONL")
    parser.add_argument("--size", choices=SIZES, default="0.6B")
    parser.add_argument("--folder", type=Path, default=Path("runs/qwen3-shape"))
    parser.add_argument("--dtype", default="float32")
    arguments = parser.parse_args()
    corpus = draw_texts(arguments.data, count=20_000)
    folder = arguments.folder / f"{arguments.size}-{LAYERS}-layers"
    if not (folder / "sentence_bert_config.json").exists():
        write_model(folder, size=arguments.size, texts=corpus, layers=LAYERS)
    encoder = Encoder(EncoderSpec(model=str(folder), dtype=arguments.dtype))
    words = " ".join(corpus).split()
    encoder.encode(["a short text"])
    print("| tokens | s | memory beside weights and tokenizer, MiB | bound, MiB | cut |")
    print("|---|---|---|---|---|")
    before = peak()
    for tokens in (1024, 8192, 32_768, 40_000):
        text = cut(encoder, words, tokens=tokens)
        known = encoder.truncated
        start = time.perf_counter()
        vectors = encoder.encode([text, "a short one"])
        seconds = time.perf_counter() - start
        assert np.isfinite(vectors).all()
        read = min(tokens, 32_768)
        print(
            f"| {tokens:,} | {seconds:.1f} | {peak() - before:,.0f} "
            f"| {bound(arguments.size, read, dtype=arguments.dtype):,.0f} "
            f"| {encoder.truncated - known} |",
            flush=True,
        )


def cut(encoder: Encoder, words: list[str], *, tokens: int) -> str:
    """A text of about so many tokens, from words; found by halving."""
    low, high = 1, len(words)
    while low < high:
        middle = (low + high) // 2
        if len(encoder._tokenizer.prompt_ids(" ".join(words[:middle]))) < tokens - 1:
            low = middle + 1
        else:
            high = middle
    return " ".join(words[:low])


def bound(size: str, tokens: int, *, dtype: str) -> float:
    """MiB: three states as wide as the MLP and eight as wide as the model, at the same time."""
    hidden, wide, _, heads = SIZES[size]
    width = 4 if dtype == "float32" else 2
    return tokens * (3 * wide + 4 * hidden + 4 * heads * 128) * width / 2**20


def peak() -> float:
    """The most memory that this process has had by now, MiB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
