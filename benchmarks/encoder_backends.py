"""How fast texts are encoded by each backend, beside sentence-transformers and plain runtimes.

    python benchmarks/encoder_backends.py encode --data FOLDER --texts 1500
    python benchmarks/encoder_backends.py encode --data FOLDER --texts 1500 --dtype bfloat16
    python benchmarks/encoder_backends.py encode --data FOLDER --texts 100 --model qwen3 \
        --runtimes openvino --rounds 3
    python benchmarks/encoder_backends.py query
    python benchmarks/encoder_backends.py cold --data FOLDER
    python benchmarks/encoder_backends.py whole

`encode`: real texts, tokenising included, in turn in one process, five rounds, with the same
threads. `qwen3` has the shape of Qwen3-Embedding-0.6B and random weights, which are written to
`--folder` once. `plain openvino` and `plain onnx` are the runtimes as one would use them by hand:
the tokenizers library, padded batches of texts of like length with 2,048 to 8,192 tokens, whichever
is fastest, and all threads on one batch. `query`: one short query at a time. `cold`: the whole
process of `subspace search` over 3,000 texts, its seconds, those of the processor, and its memory.
`whole`: a query over 100,000 random items from its text to its hits, beside the bare encoder and a
bare product with a matrix of as many rows.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import tokenizers
from encode import draw_texts, find_model, of_usual_length, say_ratio, timed
from qwen3_shape import SIZES

import subspace
from subspace.arrays import Ints, Vectors
from subspace.blocks import unit_blocks
from subspace.encoder import Encoder, EncoderSpec
from subspace.encoder.backends.converted import (
    TABLE,
    available_threads,
    folder_of,
    smallest_cosine,
)
from subspace.encoder.backends.runtimes import ENVIRONMENT_VARIABLE, load_runtime
from subspace.encoder.model_files import locate_model
from subspace.encoder.pooling import OWN_MEAN
from subspace.encoder.tokens import OwnTokens, Tokenizer, cut_batches, load_tokenizer

# A process that was started by a large one counts that one's memory as its own at its start.
_SEARCH = """
import sys
from subspace.cli import main

code = main(sys.argv[1:])
print(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")), file=sys.stderr)
sys.exit(code)
"""
Encode = Callable[[Sequence[str]], Vectors]
RUNTIMES = ("openvino", "onnx")
BUDGETS = (2048, 8192)
QWEN3_LAYERS = (0, 4, 14, -1)  # those of configs/qwen3.yaml
QUERY = "how do I keep slugs away from lettuce"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", choices=["encode", "query", "cold", "whole"])
    parser.add_argument("--data", type=Path, help="folder with JSONL")
    parser.add_argument("--texts", type=int, default=1500)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--dtype", choices=["float32", "bfloat16"], default="float32")
    parser.add_argument("--model", choices=["minilm", "qwen3"], default="minilm")
    parser.add_argument("--folder", type=Path, default=Path("runs/qwen3-shape"))
    parser.add_argument("--size", choices=SIZES, default="0.6B")
    parser.add_argument("--runtimes", nargs="*", choices=RUNTIMES, default=RUNTIMES)
    arguments = parser.parse_args()
    if arguments.model != "minilm" and arguments.what != "encode":
        parser.error("--model is for `encode`: the others measure minilm")
    if arguments.what == "query":
        compare_queries(arguments.rounds)
        return
    if arguments.what == "whole":
        compare_whole(arguments.rounds)
        return
    if arguments.data is None:
        parser.error("--data is needed")
    corpus = draw_texts(arguments.data, count=20_000)
    texts = of_usual_length(corpus)
    if arguments.what == "cold":
        compare_cold(texts[:3000], rounds=arguments.rounds)
    else:
        spec = subspace.load("minilm").encoder
        if arguments.model == "qwen3":
            spec = EncoderSpec(model=find_model(arguments, corpus), layers=QWEN3_LAYERS)
        compare_encoding(
            texts[: arguments.texts],
            spec=replace(spec, dtype=arguments.dtype, device="cpu"),
            runtimes=arguments.runtimes,
            rounds=arguments.rounds,
        )


def compare_encoding(
    texts: Sequence[str], *, spec: EncoderSpec, runtimes: Sequence[str], rounds: int
) -> None:
    import torch

    torch.set_num_threads(available_threads())
    encoders = {name: Encoder(replace(spec, backend=name)) for name in ("torch", *runtimes)}
    contenders: dict[str, Encode] = {}
    for name, encoder in encoders.items():
        encoder.encode(texts[:100])
        contenders[f"subspace, {name}"] = encoder.encode
    for name in runtimes:
        plain = PlainRuntime(name, encoders[name])
        times = {most: timed(partial(plain, texts, most=most))[0] for most in BUDGETS}
        best = min(times, key=lambda most: times[most])
        print(f"plain {name}: best with {best} tokens a batch of {BUDGETS}")
        contenders[f"plain {name}"] = partial(plain, most=best)
    contenders["sentence-transformers, float32"] = open_sentence_transformers(spec.model)
    seconds, vectors = run_in_turn(contenders, texts, rounds=rounds)
    print(f"{len(texts)} texts, {spec.dtype}, {available_threads()} threads, {rounds} rounds")
    wanted = vectors["subspace, torch"]
    layers = len(spec.layers)
    print("| what | median s | smallest cosine to torch |\n|---|---|---|")
    for name, taken in seconds.items():
        same = vectors[name].shape == wanted.shape
        cosine = f"{smallest_cosine(vectors[name], wanted, layers=layers):.6f}" if same else ""
        print(f"| {name} | {statistics.median(taken):.2f} | {cosine} |")
    for one in ("subspace, torch", *(f"subspace, {name}" for name in runtimes)):
        for other in (*(f"plain {name}" for name in runtimes), "sentence-transformers, float32"):
            say_ratio(f"{one} over {other}", seconds[other], seconds[one])


class PlainRuntime:
    """A converted model without this package's batches and streams."""

    def __init__(self, name: str, encoder: Encoder) -> None:
        """Opens what the encoder was converted to."""
        fingerprint = encoder.fingerprint
        folder = folder_of(name, fingerprint=fingerprint)
        runtime = load_runtime(name)
        self._graph = runtime.open_graph(
            folder / runtime.FILE,
            dtype=fingerprint.dtype,
            streams=1,
            threads=available_threads(),
        )
        self._table: Vectors = np.load(folder / TABLE, mmap_mode="r")
        self._dim = fingerprint.dim
        model = locate_model(encoder.spec.model, revision=None).folder
        self._tokenizer = tokenizers.Tokenizer.from_file(str(model / "tokenizer.json"))
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(fingerprint.max_length)
        # Early layers of causal models are pooled over a text's own tokens, a second mask.
        self._own: OwnTokens | None = None
        if fingerprint.early_pooling == OWN_MEAN:
            tokenizer = load_tokenizer(model)
            own = Tokenizer(tokenizer, max_length=fingerprint.max_length, lowercase=False)
            self._own = own.own_tokens(encoder.prompt("document"))

    def __call__(self, texts: Sequence[str], *, most: int) -> Vectors:
        """Encodes texts, so many tokens with their padding at a time."""
        ids = [one.ids for one in self._tokenizer.encode_batch(list(texts))]
        found = np.empty((len(texts), self._dim), dtype=np.float32)
        for positions in cut_batches([len(one) for one in ids], most=most, padded=True):
            found[positions] = self._run([ids[position] for position in positions])
        return found

    def _run(self, batch: Sequence[Sequence[int]]) -> Vectors:
        longest = max(map(len, batch))
        tokens: Ints = np.zeros((len(batch), longest), dtype=np.int64)
        masks = np.zeros((1 if self._own is None else 2, len(batch), longest), dtype=np.float32)
        for row, one in enumerate(batch):
            tokens[row, : len(one)] = one
            masks[0, row, : len(one)] = 1
            if self._own is not None:
                masks[1, row, self._own.pooled(np.asarray(one))] = 1
        return self._graph(np.asarray(self._table[tokens]), *masks)


def open_sentence_transformers(model_name: str) -> Encode:
    from sentence_transformers import SentenceTransformer

    folder = locate_model(model_name, revision=None).folder
    model = SentenceTransformer(str(folder), device="cpu")

    def encode(texts: Sequence[str]) -> Vectors:
        found: Vectors = model.encode(list(texts), batch_size=16, normalize_embeddings=True)
        return found

    return encode


def run_in_turn(
    contenders: dict[str, Encode], texts: Sequence[str], *, rounds: int
) -> tuple[dict[str, list[float]], dict[str, Vectors]]:
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    vectors: dict[str, Vectors] = {}
    for number in range(rounds):
        names = list(contenders)
        for name in names[number % len(names) :] + names[: number % len(names)]:
            taken, vectors[name] = timed(partial(contenders[name], texts))
            seconds[name].append(taken)
    return seconds, vectors


def compare_queries(rounds: int) -> None:
    """Short queries one by one, a hundred of each backend in turn."""
    spec = replace(subspace.load("minilm").encoder, device="cpu")
    encoders = {name: Encoder(replace(spec, backend=name)) for name in ("torch", *RUNTIMES)}
    taken: dict[str, list[float]] = {name: [] for name in encoders}
    for number in range(20 * rounds):
        for name, encoder in encoders.items():
            texts = [f"{QUERY} {number}"]
            taken[name].append(timed(partial(encoder.encode, texts, kind="query"))[0])
    print("| backend | median ms | slowest of nine in ten |\n|---|---|---|")
    for name, seconds in taken.items():
        later = sorted(1e3 * one for one in seconds[5:])
        print(f"| {name} | {statistics.median(later):.1f} | {later[-len(later) // 10]:.1f} |")


def compare_whole(rounds: int, *, items: int = 100_000) -> None:
    """A query from its text to its hits, and what no search can do without, in turn."""
    model = subspace.load("minilm")
    encoder, layout = model.open_encoder(), model.layout
    encoder.prepare()
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((items, layout.dim), dtype=np.float32)
    rows = unit_blocks(rows, layout=layout).astype(np.float32)
    with (
        tempfile.TemporaryDirectory() as folder,
        subspace.Index.create(Path(folder) / "index", model) as index,
    ):
        for start in range(0, items, 10_000):
            names = range(start, start + 10_000)
            records = [subspace.Record(id=str(n), text=f"item {n}") for n in names]
            index.blocks.add(records, rows[start : start + 10_000])
        weights = dict.fromkeys(layout, 0.25)

        def search(query: str) -> None:
            index.search(query, weights=weights, k=10)

        def bare(query: str) -> None:
            blocks = model.project(encoder.encode([query], kind="query"), kind="query")
            scores = rows @ blocks.array[0]
            np.argpartition(scores, -10)

        taken: dict[str, list[float]] = {"search": [], "bare": []}
        for number in range(10 * rounds):
            for name, run in (("search", search), ("bare", bare)):
                taken[name].append(timed(partial(run, f"{QUERY} {number}"))[0])
    for name, seconds in taken.items():
        print(f"{name}: median {1e3 * statistics.median(seconds[5:]):.1f} ms")
    say_ratio("search over bare", taken["search"][5:], taken["bare"][5:])


def compare_cold(texts: Sequence[str], *, rounds: int) -> None:
    """Whole processes of `subspace search`, with the converted model and with torch, in turn."""
    with tempfile.TemporaryDirectory() as folder:
        index = str(Path(folder) / "index")
        records = [subspace.Record(id=str(n), text=text) for n, text in enumerate(texts)]
        subspace.Index.create(index, subspace.load("minilm"), records).close()
        found: dict[str, list[tuple[float, float, int]]] = {"torch": [], "auto": []}
        for number in range(rounds + 1):
            for backend, runs in found.items():
                measured = run_search(index, backend=backend)
                if number:  # the first one of each reads files from the disk
                    runs.append(measured)
    print(f"{len(texts)} texts, {rounds} rounds")
    print("| backend | median s | slowest s | processor s | MB |\n|---|---|---|---|---|")
    for backend, runs in found.items():
        wall, cpu, memory = (sorted(column) for column in zip(*runs, strict=True))
        print(
            f"| {backend} | {statistics.median(wall):.2f} | {wall[-1]:.2f} | "
            f"{statistics.median(cpu):.2f} | {memory[-1] / 1e3:.0f} |"
        )
    for at, what in enumerate(("seconds", "processor seconds")):
        say_ratio(what, [one[at] for one in found["torch"]], [one[at] for one in found["auto"]])


def run_search(index: str, *, backend: str) -> tuple[float, float, int]:
    """Seconds of one search, those of the processor, and most memory in kB (Linux alone)."""
    options = ["--checkpoint", "minilm", "--index", index, "--query", QUERY, "--json"]
    environment = {**os.environ, ENVIRONMENT_VARIABLE: backend}
    # The first one of all compiles what it imports, as with any program.
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    start = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, "-c", _SEARCH, "search", *options],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )
    assert process.stderr is not None
    said = process.stderr.read()
    _, status, used = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"the search failed: {said}")
    return seconds, used.ru_utime + used.ru_stime, int(said.split()[-2])


if __name__ == "__main__":
    main()
