"""`subspace embed`: encodes texts and writes their blocks."""

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from subspace.cli.arguments import (
    Commands,
    add_checkpoint,
    add_encoder_dtype,
    add_store,
    check_file,
    corpus_file,
    make_folder,
    refuse_without,
)
from subspace.cli.terminal import count
from subspace.errors import ConfigError

if TYPE_CHECKING:
    from subspace.encoder.truncation import Truncation
    from subspace.model.embed_shards import ShardJob
    from subspace.model.embed_texts import TextEmbedder

_SHARD_SIZE = 4096
_TRAINER = ("devices", "accelerator", "strategy", "num_nodes")


def add_command(commands: "Commands[argparse.ArgumentParser]") -> None:
    """Declares the command's arguments."""
    parser = commands.add_parser(
        "embed",
        help="write the blocks of every text to an .npz file or a folder of shards",
        description="Writes `embeddings` (texts x dimensions, float32, block by block in layout "
        "order, each block of unit length), `ids` and `layout` (JSON) to an .npz file (`ids_utf8` "
        "and `ids_offsets` in the place of `ids` where few are very long); or, where "
        "--output is a folder, shards of --shard-size texts, each done or absent, which a run "
        "killed at any moment goes on with, and which several processes or GPUs can share "
        "(--trainer.devices).",
        epilog="example: subspace embed --checkpoint checkpoints/demo "
        "--input data/factorial/records.jsonl --output blocks.npz",
    )
    add_checkpoint(parser)
    add_encoder_dtype(parser)
    add_store(parser)
    parser.add_argument(
        "--input",
        required=True,
        metavar="F",
        help="JSONL with `id` (or `_id`) and `text`, or a folder with a corpus.jsonl",
    )
    parser.add_argument(
        "--queries",
        action="store_true",
        help="the texts are queries: the encoder's prompt for these, and the projection's side",
    )
    parser.add_argument(
        "--output", required=True, metavar="F", help="the .npz file or the folder to write"
    )
    parser.add_argument(
        "--shard-size", type=int, metavar="N", help=f"texts per shard (default: {_SHARD_SIZE})"
    )
    trainer = parser.add_argument_group(
        "several processes", "passed on to Lightning's trainer, as `subspace fit` takes them"
    )
    for name, said in (
        ("devices", "how many, or which: 2, auto, 0,1"),
        ("accelerator", "cpu, gpu or auto"),
        ("strategy", "ddp, ddp_spawn or auto"),
        ("num_nodes", "machines, which must see the same folder"),
    ):
        trainer.add_argument(f"--trainer.{name}", metavar=name.upper(), help=said)
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> None:
    given = {name: getattr(arguments, f"trainer.{name}") for name in _TRAINER}
    trainer = {name: value for name, value in given.items() if value is not None}
    if Path(arguments.output).suffix != ".npz":
        _write_shards(arguments, trainer=trainer)
    elif trainer:
        raise ConfigError("--trainer.* needs a folder as --output: processes write shards")
    else:
        refuse_without(arguments, "shard_size", need="a folder as --output")
        _write_file(arguments)


def _write_file(arguments: argparse.Namespace) -> None:
    from subspace.model.embed_texts import embed_to_file

    output = check_file(arguments.output)
    embedder = _make_embedder(arguments)
    embedded = embed_to_file(corpus_file(arguments.input), output, embedder=embedder, progress=True)
    texts, dimensions = embedded.blocks.array.shape
    say_dtype(embedder)
    print(f"{count(texts, 'text')}, {dimensions} dimensions -> {output}")
    _say_truncated(embedded.truncation, of=texts, embedder=embedder)


def _write_shards(arguments: argparse.Namespace, *, trainer: dict[str, str]) -> None:
    from subspace.model.embed_shards import ShardJob

    given = arguments.shard_size
    size = _SHARD_SIZE if given is None else given
    folder, texts = Path(arguments.output), corpus_file(arguments.input)
    if size < 1:
        raise ConfigError(f"--shard-size must be 1 or more, got {size}")
    if folder.suffix and not folder.is_dir():
        raise ConfigError(f"--output must end in .npz or be a folder, got {folder}")
    make_folder(folder)
    embedder = _make_embedder(arguments)
    if _is_first_process():
        job = ShardJob.plan(texts, folder, embedder=embedder, texts_per_shard=size, progress=True)
    else:
        job = ShardJob.join(texts, folder, embedder=embedder)
    if trainer:
        from subspace.cli.embed_in_parallel import write_in_parallel  # imports the trainer

        write_in_parallel(job, settings=trainer)
    else:
        job.write_missing(progress=True)
        say_dtype(embedder)
    if _is_first_process():
        _say_shards(job)


def _make_embedder(arguments: argparse.Namespace) -> "TextEmbedder":
    from subspace.model import load
    from subspace.model.embed_texts import TextEmbedder

    return TextEmbedder(
        model=load(arguments.checkpoint, encoder=arguments.encoder),
        store=arguments.store,
        dtype=arguments.encoder_dtype,
        kind="query" if arguments.queries else "document",
    )


def say_dtype(embedder: "TextEmbedder") -> None:
    """Prints the data type that the encoder computes in, if the encoder chose it."""
    if embedder.dtype == "auto":
        print(f"the encoder computes in {embedder.encoder_dtype}")


def _say_shards(job: "ShardJob") -> None:
    """Prints what was written.

    Raises:
        StoreError: Some shards are missing.
    """
    shards = job.shards
    shards.check_done()
    print(
        f"{count(shards.source.texts, 'text')}, {shards.layout.dim} dimensions, "
        f"{count(len(shards), 'shard')} -> {shards.folder}"
    )
    _say_truncated(shards.truncation(), of=shards.source.texts, embedder=job.embedder)


def _say_truncated(cut: "Truncation", *, of: int, embedder: "TextEmbedder") -> None:
    if cut:
        what = "queries" if embedder.kind == "query" else "texts"
        print(cut.say(max_length=embedder.model.fingerprint.max_length, of=of, what=what))


def _is_first_process() -> bool:
    """Tells whether this is the first of the launched processes, which plans and reports."""
    return os.environ.get("LOCAL_RANK", "0") == "0" and os.environ.get("NODE_RANK", "0") == "0"
