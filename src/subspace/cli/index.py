"""`subspace index`: a set of documents, ready to be searched."""

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from subspace.arrays import Vectors
from subspace.cli.arguments import (
    Commands,
    add_checkpoint,
    add_encoder_dtype,
    add_store,
    corpus_file,
    open_encoder,
    read_pairs,
    read_values,
)
from subspace.model.score_spread import LOW

if TYPE_CHECKING:
    from subspace.data.retrieval_sets import Document
    from subspace.model import Checkpoint
    from subspace.model.projection import Projection
    from subspace.retrieval import BlockIndex, UsageLog

# Documents that are projected and added at once.
_BATCH = 10_000


def add_command(commands: "Commands[argparse.ArgumentParser]") -> None:
    """Declares the command's arguments."""
    parser = commands.add_parser(
        "index",
        help="build an index of texts to search in",
        description="Encodes texts, projects them to blocks and writes an index. Weights are given "
        "with each search, so an index never has to be built again for other weights. Says which "
        "blocks hardly vary among these texts, as a weight on such a block steers nothing.",
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
        help="a folder that `subspace embed` wrote of --input: nothing is encoded",
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
    from subspace.retrieval import UsageLog

    if arguments.usage is None:
        _build(arguments, usage=None)
        return
    with UsageLog.open(arguments.usage, create=False) as log:  # said before the work
        _build(arguments, usage=log)


def _build(arguments: argparse.Namespace, *, usage: "UsageLog | None") -> None:
    from tqdm import tqdm

    from subspace.model import load_checkpoint
    from subspace.retrieval import BlockIndex
    from subspace.retrieval.engines import check_target, create_engine, show_target
    from subspace.retrieval.index import digest_projection

    settings = _read_settings(arguments)
    check_target(arguments.output, engine=arguments.engine, settings=settings)
    checkpoint = load_checkpoint(arguments.checkpoint)
    projection = checkpoint.projection
    batches = _embedded(arguments, checkpoint=checkpoint)
    # An index that is there already is replaced only now, that the vectors are there.
    engine = create_engine(
        arguments.output,
        layout=projection.layout,
        projection_digest=digest_projection(projection),
        engine=arguments.engine,
        settings=settings,
    )
    with BlockIndex(engine, usage=usage) as index:
        for documents, blocks in tqdm(batches, desc="indexing", unit="batch", leave=False):
            engine.upsert(documents, blocks)
        index.save()
        print(f"{len(index)} texts -> {show_target(arguments.output)}")
        _say(index)
        if usage is not None:
            _say_history(index)


def _embedded(
    arguments: argparse.Namespace, *, checkpoint: "Checkpoint"
) -> "Iterator[tuple[Sequence[Document], Vectors]]":
    """Documents and their blocks, batch by batch; what can be wrong is said before the first."""
    from subspace.data.retrieval_sets import read_documents

    path = corpus_file(arguments.input)
    if arguments.shards is not None:
        return _of_shards(arguments.shards, path=path, projection=checkpoint.projection)
    documents = read_documents(path)
    encoder = open_encoder(
        checkpoint,
        encoder=arguments.encoder,
        store=arguments.store,
        dtype=arguments.encoder_dtype,
    )
    rows = encoder.rows([document.text for document in documents], progress=True)
    parts = [slice(start, start + _BATCH) for start in range(0, len(documents), _BATCH)]
    return (
        (documents[part], checkpoint.projection(encoder.store.read(rows[part]))) for part in parts
    )


def _of_shards(
    folder: str, *, path: Path, projection: "Projection"
) -> "Iterator[tuple[Sequence[Document], Vectors]]":
    from subspace.errors import StoreError
    from subspace.model.embedding_shards import EmbeddingShards
    from subspace.retrieval.index import digest_projection

    shards = EmbeddingShards.open(folder)
    if shards.projection_digest != digest_projection(projection):
        raise StoreError(f"the shards of {folder} were made with another checkpoint")
    if shards.kind != "document":
        raise StoreError(f"the shards of {folder} are of queries, not of documents")
    source = replace(shards.source, path=path)
    vectors = shards.vectors()  # refuses what is not done, before anything is written
    source.read(0)
    return ((source.read(number), part) for number, part in enumerate(vectors))


def _read_settings(arguments: argparse.Namespace) -> dict[str, Any]:
    pairs = read_pairs(arguments.setting, option="--setting")
    settings: dict[str, Any] = {name: read_values(values[-1])[0] for name, values in pairs.items()}
    if arguments.dtype:
        settings["dtype"] = arguments.dtype
    return settings


def _say_history(index: "BlockIndex") -> None:
    for part, spreads in index.history_spread().items():
        said = ", ".join(f"{name} {spread:.3f}" for name, spread in spreads.items())
        print(f"spread of {part} among the texts: {said}")
        low = [name for name, spread in spreads.items() if spread < LOW]
        if low:
            print(f"warning: {part} hardly varies (below {LOW}) in: {', '.join(low)}")


def _say(index: "BlockIndex") -> None:
    steering = index.steering
    spreads = ", ".join(f"{name} {spread:.3f}" for name, spread in steering.blocks.items())
    print(f"spread of scores among {steering.items} texts: {spreads}")
    if steering.warning():
        print(f"warning: {steering.warning()}")
    idle = {name: n for name, n in steering.idle_dimensions(index.layout).items() if n}
    if idle:
        widths = index.layout.to_widths()
        said = ", ".join(f"{name} {count} of {widths[name]}" for name, count in idle.items())
        print(f"dimensions that hardly vary (below {LOW} of their block's average): {said}")
