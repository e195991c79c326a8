"""`subspace index`: encodes documents and builds an index to search."""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from subspace.cli.arguments import (
    Commands,
    add_checkpoint,
    add_encoder_dtype,
    add_store,
    corpus_file,
    read_single_pairs,
    read_values,
    refuse_store_inside,
    refuse_without,
)
from subspace.cli.terminal import count
from subspace.errors import ConfigError

if TYPE_CHECKING:
    from subspace.arrays import Vectors
    from subspace.data import Record
    from subspace.encoder.cached_encoder import CachedEncoder
    from subspace.model import Model
    from subspace.retrieval import Index
    from subspace.retrieval.follow import Former

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
        "with each search, so an index never has to be built again for other weights. An "
        "index of a folder of skills and notes is brought up to date: only what changed is "
        "encoded, and texts that were added otherwise stay.",
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
        "or a folder with a corpus.jsonl; or a folder of agent skills (X/SKILL.md) and Markdown "
        "notes (*.md)",
    )
    parser.add_argument(
        "--rebuild",
        action="store_true",
        help="build the index of a folder of notes again, centred anew, with the settings given",
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
    if arguments.shards is None:
        refuse_store_inside(arguments.store, arguments.output)
    else:
        refuse_without(arguments, "encoder_dtype", need="texts to encode, and --shards are encoded")
    if not _reads_notes(arguments):
        refuse_without(
            arguments, "rebuild", need="a folder of notes; from JSONL an index is always built anew"
        )
    check_target(arguments.output, engine=arguments.engine, settings=settings)
    model = load(arguments.checkpoint, encoder=arguments.encoder)
    former = _find_former(arguments)
    if former is not None and not arguments.rebuild:
        if former.projection_digest == model.projection.digest:
            _follow(arguments, model=model)
            return
        print("the index was built with another checkpoint, and is built again")
    centre_on, batches = _embedded(arguments, model=model, former=former)
    # An existing index is replaced only now that the embeddings are there.
    with Index.create(
        arguments.output,
        model,
        centre_on=centre_on,
        engine=arguments.engine,
        settings=settings,
        usage=arguments.usage,
    ) as index:
        for records, vectors in tqdm(
            batches, desc="indexing", unit="batch", leave=False, disable=None
        ):
            if centre_on is None:  # stored blocks
                index.blocks.add(records, vectors)
            else:
                index.add(records, vectors=vectors)
        if former is not None:
            _take_late(arguments.output, index=index, former=former)
        index.save()
        print(f"{count(len(index), 'text')} -> {show_target(arguments.output)}")
        if arguments.engine == "faiss" and index.blocks.engine.exact:
            print("so few texts are searched exactly: faiss compresses where that is faster")
        _say_spread(index)


def _take_late(target: str, *, index: "Index", former: "Former") -> None:
    """Takes up what others have changed by hand in an index while it was built again."""
    from subspace.retrieval.engines import is_folder
    from subspace.retrieval.follow import Former, find_former

    while is_folder(target):  # a server's was replaced when building began
        later = find_former(target)
        changed, gone = former.changes_to(later)
        if not changed and not gone:
            return
        index.add(changed)
        index.delete(gone)
        print(
            f"changed by others meanwhile, and taken up: {count(len(changed) + len(gone), 'text')}"
        )
        former = later or Former(former.projection_digest, ())


def _check_usage(path: str) -> None:
    """Raises unless the usage log can be opened. Call before long work."""
    from subspace.retrieval import UsageLog

    UsageLog.open(path, create=False).close()


def _reads_notes(arguments: argparse.Namespace) -> bool:
    """Tells whether --input is a folder of skills and notes."""
    return Path(arguments.input).is_dir() and not corpus_file(arguments.input).exists()


def _find_former(arguments: argparse.Namespace) -> "Former | None":
    """Returns what --output holds, if --input is of skills and notes.

    Raises:
        IndexFolderError: It is damaged: what was added to it by hand must not be lost unseen.
    """
    from subspace.errors import IndexFolderError
    from subspace.retrieval.engines import show_target
    from subspace.retrieval.follow import find_former

    if not _reads_notes(arguments):
        return None
    if arguments.shards is not None:
        raise ConfigError("--shards goes with JSONL, not with a folder of notes")
    try:
        return find_former(arguments.output)
    except IndexFolderError as error:
        raise IndexFolderError(
            f"{error}. It may hold texts that are not in {arguments.input}, so it was left as it "
            f"is: bring back a copy, or remove {show_target(arguments.output)} to build it from "
            "the folder alone"
        ) from error


def _follow(arguments: argparse.Namespace, *, model: "Model") -> None:
    """Brings an index of a folder up to date."""
    from subspace.retrieval import Index, follow_folder
    from subspace.retrieval.engines import show_target

    def encode(texts: Sequence[str]) -> "Vectors":
        encoder = _open_encoder(arguments, model=model)
        vectors = encoder.encode(texts, progress=True)
        _say_cut(encoder, texts)
        return vectors

    if arguments.engine or arguments.dtype or arguments.setting:
        print("the index keeps its engine and settings; --rebuild makes it again with those given")
    with Index.open(arguments.output, model, usage=arguments.usage) as index:
        changes = follow_folder(index, arguments.input, encode=encode, strict=True)
        index.save()
        print(changes.say())
        print(f"{count(len(index), 'text')} -> {show_target(arguments.output)}")
        _say_spread(index)


def _embedded(
    arguments: argparse.Namespace, *, model: "Model", former: "Former | None"
) -> "tuple[Vectors | None, Iterator[tuple[Sequence[Record], Vectors]]]":
    """Returns vectors to centre the blocks on, and records with their vectors in batches.

    With --shards there are no raw vectors: the first is None, and the batches hold blocks. Wrong
    input raises before the first batch.
    """
    import numpy as np

    from subspace.data import read_documents
    from subspace.model.embedding_shards import read_shards
    from subspace.retrieval.engines import check_limits

    path = corpus_file(arguments.input)
    if arguments.shards is not None:
        for some, _ in read_shards(arguments.shards, texts=path, projection=model.projection):
            check_limits(arguments.output, some)
        return None, read_shards(arguments.shards, texts=path, projection=model.projection)
    if _reads_notes(arguments):
        records = _read_notes(arguments.input, former=former)
    else:
        records = read_documents(path)
    check_limits(arguments.output, records)
    encoder = _open_encoder(arguments, model=model)
    texts = [record.text for record in records]
    rows = encoder.rows(texts, progress=True)
    _say_cut(encoder, texts)
    drawn = np.random.default_rng(0).permutation(len(rows))[:_CENTRED_ON]
    centre_on = encoder.store.read(rows[np.sort(drawn)])
    parts = [slice(start, start + _BATCH) for start in range(0, len(records), _BATCH)]
    return centre_on, ((records[part], encoder.store.read(rows[part])) for part in parts)


def _read_notes(folder: str, *, former: "Former | None") -> "Sequence[Record]":
    """Reads skills and notes, with what was added otherwise to the index that they replace."""
    from subspace.data import read_notes

    records = read_notes(folder)
    if former is None or not former.others:
        return records
    print(f"texts that did not come from the folder and are kept: {len(former.others)}")
    return former.join(records, folder=folder)


def _open_encoder(arguments: argparse.Namespace, *, model: "Model") -> "CachedEncoder":
    from subspace.model.embed_texts import open_stored_encoder

    model.open_encoder().prepare()  # what searches use; the store may have every vector already
    encoder = open_stored_encoder(model, store=arguments.store, dtype=arguments.encoder_dtype)
    if arguments.encoder_dtype == "auto":
        print(f"the encoder computes in {encoder.encoder.fingerprint.dtype}")
    encoder.warns = False  # as it knows only of texts that were not stored before
    return encoder


def _say_cut(encoder: "CachedEncoder", texts: Sequence[str]) -> None:
    cut = encoder.encoder.measure_truncation(texts)
    if cut:
        print(cut.say(max_length=encoder.encoder.fingerprint.max_length, of=len(texts)))


def _read_settings(arguments: argparse.Namespace) -> dict[str, Any]:
    pairs = read_single_pairs(arguments.setting, option="--setting")
    settings: dict[str, Any] = {name: read_values(value)[0] for name, value in pairs.items()}
    if arguments.dtype and settings.setdefault("dtype", arguments.dtype) != arguments.dtype:
        raise ConfigError(
            f"--dtype {arguments.dtype} contradicts --setting dtype={settings['dtype']}: give one "
            "of them"
        )
    return settings


def _say_spread(index: "Index") -> None:
    spread = index.blocks.score_spread
    if spread.items < _SPREAD_OF:
        are = "is" if spread.items == 1 else "are"
        print(f"{count(spread.items, 'text')} {are} too few to say how much their scores vary")
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
