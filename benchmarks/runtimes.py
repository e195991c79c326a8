"""Whether another runtime would encode faster: torch.compile and ONNX Runtime beside the encoder.

    pip install onnxruntime onnx onnxscript
    python benchmarks/runtimes.py --data FOLDER

MiniLM in float32 on a processor, the texts of encode.py. The other runtimes get padded batches of
texts of like length, of the token budget that is fastest for each; exporting and compiling are not
counted. Vectors must agree.
"""

import argparse
import statistics
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from encode import draw_texts, timed

from subspace.arrays import Ints, Vectors
from subspace.blocks import unit
from subspace.encoder import Encoder, EncoderSpec
from subspace.encoder.model_files import locate_model
from subspace.encoder.tokens import cut_batches

# Ids and mask (texts, tokens) to the last layer's states.
Run = Callable[[Ints, Ints], Vectors]
BUDGETS = (512, 2048, 8192)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with JSONL")
    parser.add_argument("--texts", type=int, default=500)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    corpus = draw_texts(arguments.data, count=20_000)
    texts = [text for text in corpus if 5 <= len(text.split()) <= 400][: arguments.texts]
    encoder = Encoder(EncoderSpec(model="minilm", device="cpu", backend="torch"))
    ids = encoder._tokenizer(texts).ids
    contenders: dict[str, Callable[[], Vectors]] = {"subspace": lambda: encoder.encode(texts)}
    wanted = contenders["subspace"]()
    for name, run in (("torch.compile", compile_model()), ("ONNX Runtime", open_onnx())):
        times = {}
        for most in BUDGETS:
            trial = partial(encode_padded, run, ids, most=most)
            trial()  # warm: shapes are compiled once
            times[most] = timed(trial)[0]
        best = min(times, key=lambda most: times[most])
        contenders[name] = partial(encode_padded, run, ids, most=best)
        cosine = float((contenders[name]() * wanted).sum(axis=1).min())
        print(f"{name}: best with {best} tokens of {BUDGETS}, smallest cosine {cosine:.6f}")
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(arguments.rounds):
        for name, encode in contenders.items():
            seconds[name].append(timed(encode)[0])
    print("| runtime | s | over subspace |\n|---|---|---|")
    for name, taken in seconds.items():
        ratios = [a / b for a, b in zip(taken, seconds["subspace"], strict=True)]
        print(f"| {name} | {statistics.median(taken):.2f} | {statistics.median(ratios):.2f} |")


def compile_model() -> Run:
    import torch
    from transformers import AutoModel

    model = AutoModel.from_pretrained(locate_model("minilm", revision=None).folder).eval()
    compiled: Any = torch.compile(model, dynamic=True)

    def run(ids: Ints, mask: Ints) -> Vectors:
        with torch.inference_mode():
            states: Any = compiled(
                input_ids=torch.from_numpy(ids), attention_mask=torch.from_numpy(mask)
            )
            found: Vectors = states.last_hidden_state.numpy()
        return found

    return run


def open_onnx() -> Run:
    import onnxruntime
    import torch
    from transformers import AutoModel

    folder = locate_model("minilm", revision=None).folder
    model = AutoModel.from_pretrained(folder, attn_implementation="eager").eval()
    sizes = {0: torch.export.Dim("texts"), 1: torch.export.Dim("tokens", max=512)}
    example = {name: torch.ones((2, 7), dtype=torch.long) for name in ("input_ids", "mask")}
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "model.onnx"
        torch.onnx.export(
            model,
            (),
            str(path),
            kwargs={"input_ids": example["input_ids"], "attention_mask": example["mask"]},
            dynamic_shapes={"input_ids": sizes, "attention_mask": sizes},
            dynamo=True,
            external_data=False,
        )
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        session = onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"]
        )

    def run(ids: Ints, mask: Ints) -> Vectors:
        found: Vectors = session.run(None, {"input_ids": ids, "attention_mask": mask})[0]
        return found

    return run


def encode_padded(run: Run, ids: Sequence[Ints], *, most: int) -> Vectors:
    """Mean-pooled unit vectors (N, dim)."""
    pooled: dict[int, Vectors] = {}
    for positions in cut_batches([len(one) for one in ids], most=most, padded=True):
        longest = len(ids[positions[0]])
        tokens = np.zeros((len(positions), longest), dtype=np.int64)
        mask = np.zeros_like(tokens)
        for row, position in enumerate(positions):
            tokens[row, : len(ids[position])] = ids[position]
            mask[row, : len(ids[position])] = 1
        states = run(tokens, mask)
        means = (states * mask[..., None]).sum(axis=1) / mask.sum(axis=1, keepdims=True)
        pooled.update(zip(positions.tolist(), means, strict=True))
    return unit(np.stack([pooled[n] for n in range(len(ids))]))


if __name__ == "__main__":
    main()
