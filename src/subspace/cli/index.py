"""`subspace index`: encodes documents and builds an index to search."""

import argparse
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from subspace.cli.arguments import (
    Commands,
    add_checkpoint,
    add_encoder_dtype,
    add_store,
    corpus_file,
    read_pairs,
    read_values,
)

if TYPE_CHECKING:
    from subspace.arrays import Vectors
    from subspace.data import Record
    from subspace.model import Model
    from subspace.retrieval import Index

# Number of texts that are projected and added at once.
_BATCH = 10_000
# Number of texts whose mean the blocks are centred on, if there are more.
_CENTRED_ON = 10_000
# Two texts have one score between them, whose deviation would be 0.
_SPREAD_OF = 3


def add_command(commands: "Commands[argparse.ArgumentParser]") -> None:
    """Declares the command's arguments."""
    parser = commands.add_parser(
        "index",
        help="build an index of texts to search in",
        description="Encodes texts, projects them to blocks and writes an index. Weights are given "
        "with each search, so an index never has to be built again for other weights.",
        epilog="example: subspace index --checkpoint checkpoints/demo "
        "--input data/factorial/records.jsonl --output runs/index",
    )
    add_checkpoint(parser)
    add_encoder_dtype(parser)
    add_store(parser)
    parser.add_argument(
        "--input",
        required=True,
        metavar="F",
        help="JSONL with `id` (or `_id`), `text` and perhaps `title`, `metadata` and `factors`, "
        "or a folder with a corpus.jsonl",
    )
    parser.add_argument(
        "--shards",
        metavar="DIR",
        help="a folder that `subspace embed` wrote of --input: nothing is encoded, and blocks are "
        "not centred on these texts",
    )
    parser.add_argument(
        "--output",
        required=True,
        metavar="INDEX",
        help="the folder to write; or postgresql://USER@HOST/DB#TABLE, http://HOST:PORT#COLLECTION "
        "(Milvus) or FILE.db#COLLECTION (Milvus, embedded)",
    )
    parser.add_argument(
        "--engine",
        choices=["numpy", "faiss", "pgvector", "milvus"],
        help="numpy (exact) or faiss (compressed, for 100,000 texts and more) for a folder; "
        "by default numpy, or what goes with the address",
    )
    parser.add_argument(
        "--dtype",
        choices=["float32", "float16"],
        help="how a folder keeps vectors: float16 takes half of the space",
    )
    parser.add_argument(
        "--setting",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="of the engine: method=hnsw or rescore=1000 (faiss), hnsw=true (pgvector), "
        "index=HNSW (milvus)",
    )
    parser.add_argument(
        "--usage",
        metavar="F",
        help="a usage log: also say how much recency and importance vary among these texts",
    )
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> None:
    from subspace.model import load
    from subspace.retrieval import Index
    from subspace.retrieval.engines import check_target, show_target

    if arguments.usage is not None:
        _check_usage(arguments.usage)
    settings = _read_settings(arguments)
    check_target(arguments.output, engine=arguments.engine, settings=settings)
    model = load(arguments.checkpoint, encoder=arguments.encoder)
    centre_on, batches = _embedded(arguments, model=model)
    # An existing index is replaced only now that the embeddings are there.
    with Index.create(
        arguments.output,
        model,
        centre_on=centre_on,
        engine=arguments.engine,
        settings=settings,
        usage=arguments.usage,
    ) as index:
        for records, vectors in tqdm(batches, desc="indexing", unit="batch", leave=False):
            if centre_on is None:  # stored blocks
                index.blocks.add(records, vectors)
            else:
                index.add(records, vectors=vectors)
        index.save()
        print(f"{len(index)} texts -> {show_target(arguments.output)}")
        if arguments.engine == "faiss" and index.blocks.engine.exact:
            print("so few texts are searched exactly: faiss compresses where that is faster")
        _say_spread(index)


def _check_usage(path: str) -> None:
    """Raises unless the usage log can be opened. Call before long work."""
    from subspace.retrieval import UsageLog

    UsageLog.open(path, create=False).close()


def _embedded(
    arguments: argparse.Namespace, *, model: "Model"
) -> "tuple[Vectors | None, Iterator[tuple[Sequence[Record], Vectors]]]":
    """Returns vectors to centre the blocks on, and records with their vectors in batches.

    With --shards there are no raw vectors: the first is None, and the batches hold blocks. Wrong
    input raises before the first batch.
    """
    import numpy as np

    from subspace.data import read_documents
    from subspace.model.embed_texts import open_stored_encoder
    from subspace.model.embedding_shards import read_shards
    from subspace.retrieval.engines import check_limits

    path = corpus_file(arguments.input)
    if arguments.shards is not None:
        for some, _ in read_shards(arguments.shards, texts=path, projection=model.projection):
            check_limits(arguments.output, some)
        return None, read_shards(arguments.shards, texts=path, projection=model.projection)
    records = read_documents(path)
    check_limits(arguments.output, records)
    encoder = open_stored_encoder(model, store=arguments.store, dtype=arguments.encoder_dtype)
    if arguments.encoder_dtype == "auto":
        print(f"the encoder computes in {encoder.encoder.fingerprint.dtype}")
    texts = [record.text for record in records]
    encoder.warns = False  # as it knows only of texts that were not stored before
    rows = encoder.rows(texts, progress=True)
    cut = encoder.encoder.measure_truncation(texts)
    if cut:
        print(cut.say(max_length=model.fingerprint.max_length, of=len(texts)))
    drawn = np.random.default_rng(0).permutation(len(rows))[:_CENTRED_ON]
    centre_on = encoder.store.read(rows[np.sort(drawn)])
    parts = [slice(start, start + _BATCH) for start in range(0, len(records), _BATCH)]
    return centre_on, ((records[part], encoder.store.read(rows[part])) for part in parts)


def _read_settings(arguments: argparse.Namespace) -> dict[str, Any]:
    pairs = read_pairs(arguments.setting, option="--setting")
    settings: dict[str, Any] = {name: read_values(values[-1])[0] for name, values in pairs.items()}
    if arguments.dtype:
        settings["dtype"] = arguments.dtype
    return settings


def _say_spread(index: "Index") -> None:
    spread = index.blocks.score_spread
    if spread.items < _SPREAD_OF:
        print(f"{spread.items} texts are too few to say how much their scores vary")
        return
    spreads = ", ".join(f"{name} {value:.3f}" for name, value in spread.blocks.items())
    print(f"standard deviation of scores among {spread.items} texts: {spreads}")
    if index.blocks.history is not None:
        for part, values in index.blocks.history_spread().items():
            shown = ", ".join(f"{name} {value:.3f}" for name, value in values.blocks.items())
            print(
                f"standard deviation of {part} among the texts: {shown}; "
                f"in item scope {values.items:.3f}"
            )
