"""`subspace embed`: texts to blocks."""

import argparse
import contextlib
import json
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
    open_encoder,
)
from subspace.errors import ConfigError

if TYPE_CHECKING:
    from subspace.cli.embed_shards import ShardJob
    from subspace.encoder import Kind
    from subspace.model import Checkpoint

_TRAINER = ("devices", "accelerator", "strategy", "num_nodes")


def add_command(commands: "Commands[argparse.ArgumentParser]") -> None:
    """Declares the command's arguments."""
    parser = commands.add_parser(
        "embed",
        help="write the blocks of every text to an .npz file or a folder of shards",
        description="Writes `embeddings` (texts x dimensions, float32, block by block in layout "
        "order, each block of unit length), `ids` and `layout` (JSON) to an .npz file; or, where "
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
        "--shard-size", type=int, default=4096, metavar="N", help="texts per shard (%(default)s)"
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
    trainer = {name: getattr(arguments, f"trainer.{name}") for name in _TRAINER}
    trainer = {name: value for name, value in trainer.items() if value is not None}
    if Path(arguments.output).suffix != ".npz":
        _write_shards(arguments, trainer=trainer)
    elif trainer:
        raise ConfigError("--trainer.* needs a folder as --output: processes write shards")
    else:
        _write_file(arguments)


def _write_file(arguments: argparse.Namespace) -> None:
    import numpy as np

    from subspace.data.retrieval_sets import read_documents
    from subspace.model import load_checkpoint

    output = check_file(arguments.output)
    documents = read_documents(corpus_file(arguments.input))
    checkpoint = load_checkpoint(arguments.checkpoint)
    encoder = open_encoder(
        checkpoint,
        encoder=arguments.encoder,
        store=arguments.store,
        dtype=arguments.encoder_dtype,
    )
    encoder.warns = False  # said in the end, of stored texts as well
    projection = checkpoint.projection
    project = projection.queries if arguments.queries else projection
    kind: Kind = "query" if arguments.queries else "document"
    texts = [document.text for document in documents]
    raw = encoder.encode(texts, kind=kind, progress=True)
    partial = output.with_name(f".{output.stem}.partial.npz")
    try:
        np.savez(
            partial,
            embeddings=project(raw),
            ids=np.array([document.id for document in documents]),
            layout=np.array(json.dumps(projection.layout.to_widths())),
        )
        os.replace(partial, output)
    except OSError as error:
        raise ConfigError(f"cannot write {output}: {error}") from error
    finally:
        with contextlib.suppress(OSError):  # the error that led here says more
            partial.unlink(missing_ok=True)
    print(f"{len(documents)} texts, {projection.layout.dim} dimensions -> {output}")
    _say_truncated(encoder.encoder.count_truncated(texts, kind=kind), checkpoint=checkpoint)


def _write_shards(arguments: argparse.Namespace, *, trainer: dict[str, str]) -> None:
    from subspace.cli.embed_shards import plan_shards, write_missing

    if arguments.shard_size < 1:
        raise ConfigError(f"--shard-size must be 1 or more, got {arguments.shard_size}")
    if Path(arguments.output).suffix and not Path(arguments.output).is_dir():
        raise ConfigError(f"--output must end in .npz or be a folder, got {arguments.output}")
    make_folder(arguments.output)
    job = plan_shards(arguments, first=_is_first_process())
    if trainer:
        from subspace.cli.embed_in_parallel import write_in_parallel  # imports the trainer

        write_in_parallel(job, settings=trainer)
    else:
        write_missing(job)
    if _is_first_process():
        _say_shards(job)


def _say_shards(job: "ShardJob") -> None:
    """What was written.

    Raises:
        StoreError: A process left some of it undone.
    """
    shards = job.shards
    shards.check_done()
    print(
        f"{shards.source.texts} texts, {shards.layout.dim} dimensions, {len(shards)} shards "
        f"-> {shards.folder}"
    )
    _say_truncated(shards.truncated(), checkpoint=job.checkpoint)


def _say_truncated(count: int, *, checkpoint: "Checkpoint") -> None:
    if count:
        longest = checkpoint.fingerprint.max_length
        print(
            f"{count} texts are longer than the encoder's {longest} tokens; what is beyond was not "
            "read"
        )


def _is_first_process() -> bool:
    """Whether no launcher started this process beside another that says what there is to say."""
    return os.environ.get("LOCAL_RANK", "0") == "0" and os.environ.get("NODE_RANK", "0") == "0"
