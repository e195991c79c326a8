"""How fast texts are encoded, beside sentence-transformers and beside bare matrix products.

    python benchmarks/encode.py --data FOLDER --model minilm --texts 1500
    python benchmarks/encode.py --data FOLDER --model qwen3 --texts 300
    python benchmarks/encode.py --data FOLDER --model qwen3 --queries 5000

Texts of 5 to 400 words are drawn from every JSONL below FOLDER. `qwen3` has the shape of
Qwen3-Embedding-0.6B (`--size` for others) and random weights, written to `--folder` once. Every
contender runs in this process, in turn, round by round, with the same threads;
sentence-transformers at the batch size that was fastest for it on the first texts. The ceiling
is what this processor does in matrix products of the model's own shapes.
"""

import argparse
import itertools
import random
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from qwen3_shape import QUERY_PROMPT, SIZES, write_model

from subspace.arrays import Ints, Vectors
from subspace.data.retrieval_sets import read_documents
from subspace.encoder import Encoder, EncoderSpec
from subspace.encoder.model_files import locate_model
from subspace.errors import RecordError

Encode = Callable[[list[str]], Vectors]
OURS, THEIRS = "subspace", "sentence-transformers"
DTYPES = ("float32", "bfloat16")
BATCH_SIZES = (1, 4, 8, 16, 32, 64)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with JSONL")
    parser.add_argument("--model", choices=("minilm", "qwen3"), required=True)
    parser.add_argument("--size", choices=SIZES, default="0.6B")
    parser.add_argument("--folder", type=Path, default=Path("runs/qwen3-shape"))
    parser.add_argument("--texts", type=int, default=300)
    parser.add_argument("--queries", type=int, default=0, help="measure the shared prefix instead")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--dtype", choices=DTYPES, action="append", help="default: both")
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    dtypes = arguments.dtype or list(DTYPES)
    corpus = draw_texts(arguments.data, count=20_000)
    model = find_model(arguments, corpus)
    options = {"device": arguments.device, "rounds": arguments.rounds}
    if arguments.queries:
        for dtype in dtypes:
            compare_prefix(model, draw_queries(corpus, arguments.queries), dtype=dtype, **options)
    else:
        texts = of_usual_length(corpus)[: arguments.texts]
        compare(model, texts, dtypes=dtypes, **options)


def draw_texts(folder: Path, *, count: int) -> list[str]:
    """Texts of all sources, as many of each as there are, shuffled."""
    sources = []
    for path in sorted(folder.rglob("*.jsonl*")):
        try:
            sources.append([document.text for document in read_documents(path)])
        except RecordError:
            continue  # queries, pairs and the like
    rng = random.Random(0)
    drawn = [text for texts in sources for text in rng.sample(texts, min(len(texts), 1500))]
    rng.shuffle(drawn)
    return drawn[:count]


def of_usual_length(texts: Sequence[str]) -> list[str]:
    """Those of 5 to 400 words."""
    return [text for text in texts if 5 <= len(text.split()) <= 400]


def draw_queries(corpus: Sequence[str], count: int) -> list[str]:
    """The first 4 to 16 words of texts: as long as people's queries are."""
    rng = random.Random(0)
    return [" ".join(rng.choice(corpus).split()[: rng.randint(4, 16)]) for _ in range(count)]


def find_model(arguments: argparse.Namespace, corpus: Sequence[str]) -> str:
    if arguments.model == "minilm":
        return "minilm"
    folder: Path = arguments.folder / arguments.size
    if not (folder / "sentence_bert_config.json").exists():
        write_model(folder, size=arguments.size, texts=corpus)
    return str(folder)


def compare(
    model: str, texts: list[str], *, dtypes: Sequence[str], device: str, rounds: int
) -> None:
    """Both libraries in every dtype, in turn: seconds, ratios, agreement, share of the ceiling."""
    contenders: dict[tuple[str, str], Encode] = {}
    for dtype in dtypes:
        contenders[OURS, dtype] = make_ours(model, dtype=dtype, device=device)
        contenders[THEIRS, dtype] = make_theirs(model, dtype=dtype, device=device, texts=texts)
    tokens = count_tokens(model, texts)
    print(f"{len(texts)} texts, {tokens.sum():,} tokens ({tokens.min()} to {tokens.max()})")
    ceilings: dict[str, list[float]] = {dtype: [] for dtype in dtypes}

    def between() -> None:
        for dtype, rates in ceilings.items():
            rates.append(measure_ceiling(model, dtype=dtype, device=device))

    seconds, vectors = run_in_turn(contenders, texts, rounds=rounds, between=between)
    exact = vectors.get((THEIRS, "float32"))
    print("| contender | s | texts/s | GFLOP/s | of the ceiling | smallest cosine |")
    print("|---|---|---|---|---|---|")
    operations = count_operations(model, tokens)
    for (who, dtype), times in seconds.items():
        middle = statistics.median(times)
        rate = operations / middle / 1e9
        shares = [operations / t / 1e9 / c for t, c in zip(times, ceilings[dtype], strict=True)]
        share = statistics.median(shares)
        worst = "-"
        if exact is not None:
            worst = f"{(vectors[who, dtype] * exact).sum(axis=1).min():.6f}"
        speed = len(texts) / middle
        print(
            f"| {who}, {dtype} | {middle:.1f} ({min(times):.1f} to {max(times):.1f}) "
            f"| {speed:.1f} | {rate:.0f} | {share:.0%} | {worst} |"
        )
    for dtype in dtypes:
        for other in dict.fromkeys(("float32", dtype)):
            if other in dtypes:
                say_ratio(
                    f"{OURS} {dtype} over {THEIRS} {other}",
                    seconds[THEIRS, other],
                    seconds[OURS, dtype],
                )


def compare_prefix(model: str, queries: list[str], *, dtype: str, device: str, rounds: int) -> None:
    """The same queries with the instruction computed once, and with every query."""
    spec = EncoderSpec(
        model=model, dtype=dtype, device=device, query_prompt=QUERY_PROMPT, backend="torch"
    )
    shared, whole = Encoder(spec), Encoder(spec)
    whole._torch._share_beginning = _share_nothing  # type: ignore[method-assign]  # the other path
    contenders: dict[tuple[str, str], Encode] = {
        ("shared", dtype): lambda texts: shared.encode(texts, kind="query"),
        ("whole", dtype): lambda texts: whole.encode(texts, kind="query"),
    }
    seconds, vectors = run_in_turn(contenders, queries, rounds=rounds)
    worst = (vectors["shared", dtype] * vectors["whole", dtype]).sum(axis=1).min()
    own = count_tokens(model, queries)
    prompt = count_tokens(model, [QUERY_PROMPT])[0] - 1
    print(
        f"{len(queries)} queries of {own.mean():.1f} tokens with an instruction of {prompt}, "
        f"{dtype}: smallest cosine {worst:.6f}"
    )
    say_ratio("shared prefix over none", seconds["whole", dtype], seconds["shared", dtype])


def _share_nothing(ids: Sequence[Ints], *, prompt: Ints) -> None:  # noqa: ARG001
    return None


def make_ours(model: str, *, dtype: str, device: str) -> Encode:
    encoder = Encoder(EncoderSpec(model=model, dtype=dtype, device=device, backend="torch"))
    return lambda texts: encoder.encode(texts)


def make_theirs(model: str, *, dtype: str, device: str, texts: list[str]) -> Encode:
    """sentence-transformers at its best batch size, found on the first eighth of the texts."""
    import torch
    from sentence_transformers import SentenceTransformer

    folder = locate_model(model, revision=None).folder
    theirs = SentenceTransformer(
        str(folder), device=device, model_kwargs={"dtype": getattr(torch, dtype)}
    )
    sample = texts[: max(32, len(texts) // 8)]

    def encode(size: int, texts: list[str]) -> Vectors:
        vectors: Any = theirs.encode(texts, batch_size=size, normalize_embeddings=True)
        return np.asarray(vectors, dtype=np.float32)

    encode(8, sample[:8])
    times = {size: timed(partial(encode, size, sample))[0] for size in BATCH_SIZES}
    best = min(times, key=lambda size: times[size])
    print(f"{THEIRS}, {dtype}: best batch size {best} of {', '.join(map(str, BATCH_SIZES))}")
    return lambda texts: encode(best, texts)


def run_in_turn(
    contenders: dict[tuple[str, str], Encode],
    texts: list[str],
    *,
    rounds: int,
    between: Callable[[], None] = lambda: None,
) -> tuple[dict[tuple[str, str], list[float]], dict[tuple[str, str], Vectors]]:
    """Seconds of every round and the vectors of the last, after a short warm-up.

    Args:
        contenders: By name.
        texts: What each encodes.
        rounds: How often.
        between: Called in every round, to measure something else in the same minutes.
    """
    for encode in contenders.values():
        encode(texts[:16])
    seconds: dict[tuple[str, str], list[float]] = {name: [] for name in contenders}
    vectors: dict[tuple[str, str], Vectors] = {}
    for _ in range(rounds):
        for name, encode in contenders.items():
            taken, vectors[name] = timed(partial(encode, texts))
            seconds[name].append(taken)
            print(f"{' '.join(name)}: {taken:.1f} s", flush=True)
        between()
    return seconds, vectors


def count_tokens(model: str, texts: Sequence[str]) -> Ints:
    encoder = Encoder(EncoderSpec(model=model))
    return np.array([len(ids) for ids in encoder._tokenizer(list(texts)).ids])


def count_operations(model: str, tokens: Ints) -> float:
    """Of all matrix products: two per weight and token, and four per pair of tokens and number.

    A causal token sees those before it alone; what is computed in vain is not counted.
    """
    config = Encoder(EncoderSpec(model=model))._config
    weights = sum(m * n for m, n in product_shapes(config)) * config.num_hidden_layers
    heads = config.num_attention_heads * head_width(config)
    causal = config.model_type == "qwen3"
    pairs = (tokens.astype(float) ** 2).sum() / (2 if causal else 1)
    return float(2 * weights * tokens.sum() + 4 * heads * config.num_hidden_layers * pairs)


def product_shapes(config: Any) -> list[tuple[int, int]]:
    """Shapes (in, out) of the weights of one layer."""
    hidden, wide = config.hidden_size, config.intermediate_size
    queries = config.num_attention_heads * head_width(config)
    few = getattr(config, "num_key_value_heads", config.num_attention_heads) * head_width(config)
    mlp = [(hidden, wide), (wide, hidden)]
    if config.model_type == "qwen3":
        mlp.append((hidden, wide))
    return [(hidden, queries), (hidden, few), (hidden, few), (queries, hidden), *mlp]


def head_width(config: Any) -> int:
    own = getattr(config, "head_dim", None)
    return int(own or config.hidden_size // config.num_attention_heads)


def measure_ceiling(model: str, *, dtype: str, device: str) -> float:
    """GFLOP/s of a layer's products with nothing between them, at the best number of tokens.

    By the faster of MKL and oneDNN in float32: torch takes the first.
    """
    import torch

    shapes = product_shapes(Encoder(EncoderSpec(model=model))._config)
    kind = getattr(torch, dtype)
    weights = [torch.randn(n, m, device=device).to(kind) for m, n in shapes]
    best = 0.0
    multipliers: list[Callable[[Any, Any], Any]] = [torch.nn.functional.linear]
    if device == "cpu" and dtype == "float32":
        onednn = torch.ops.mkldnn._linear_pointwise
        multipliers.append(lambda x, w: onednn(x, w, None, "none", [], ""))
    with torch.inference_mode():
        for tokens, product in itertools.product((512, 1024, 2048, 4096), multipliers):
            inputs = [torch.randn(tokens, m, device=device).to(kind) for m, _ in shapes]
            operations = 2 * tokens * sum(m * n for m, n in shapes)

            def multiply(inputs: list[Any] = inputs, product: Any = product) -> None:
                for one, weight in zip(inputs, weights, strict=True):
                    product(one, weight)
                if device != "cpu":
                    torch.cuda.synchronize()

            multiply()
            times = [timed(multiply)[0] for _ in range(max(5, int(2e11 / operations)))]
            best = max(best, operations / statistics.median(times) / 1e9)
    return best


def timed(run: Callable[[], Any]) -> tuple[float, Any]:
    start = time.perf_counter()
    result = run()
    return time.perf_counter() - start, result


def say_ratio(what: str, slow: Sequence[float], fast: Sequence[float]) -> None:
    """The median over rounds of seconds over seconds, with the smallest and the largest."""
    ratios = [a / b for a, b in zip(slow, fast, strict=True)]
    print(f"{what}: {statistics.median(ratios):.2f}x ({min(ratios):.2f} to {max(ratios):.2f})")


if __name__ == "__main__":
    main()
