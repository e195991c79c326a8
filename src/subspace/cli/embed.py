"""`subspace embed`: texts to blocks."""

import argparse
import contextlib
import json
import os
from pathlib import Path

from subspace.cli.arguments import Commands, add_checkpoint, add_store, check_file, open_encoder
from subspace.errors import ConfigError


def add_command(commands: "Commands[argparse.ArgumentParser]") -> None:
    """Declares the command's arguments."""
    parser = commands.add_parser(
        "embed",
        help="write the blocks of every text to an .npz file",
        description="Writes `embeddings` (texts x dimensions, float32, block by block in layout "
        "order, each block of unit length), `ids` and `layout` (JSON) to an .npz file.",
        epilog="example: subspace embed --checkpoint checkpoints/demo "
        "--input data/factorial/records.jsonl --output blocks.npz",
    )
    add_checkpoint(parser)
    add_store(parser)
    parser.add_argument("--input", required=True, metavar="F", help="JSONL with `id` and `text`")
    parser.add_argument("--output", required=True, metavar="F", help="the .npz file to write")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> None:
    import numpy as np

    from subspace.checkpoint import load_checkpoint
    from subspace.retrieval_sets import read_documents

    output = Path(arguments.output)
    if output.suffix != ".npz":
        raise ConfigError(f"--output must end in .npz, got {output}")
    check_file(output)
    documents = read_documents(arguments.input)
    checkpoint = load_checkpoint(arguments.checkpoint)
    encoder = open_encoder(checkpoint, encoder=arguments.encoder, store=arguments.store)
    raw = encoder.encode([document.text for document in documents], progress=True)
    partial = output.with_name(f".{output.stem}.partial.npz")
    try:
        np.savez(
            partial,
            embeddings=checkpoint.projection(raw),
            ids=np.array([document.id for document in documents]),
            layout=np.array(json.dumps(checkpoint.projection.layout.to_widths())),
        )
        os.replace(partial, output)
    except OSError as error:
        raise ConfigError(f"cannot write {output}: {error}") from error
    finally:
        with contextlib.suppress(OSError):  # the error that led here says more
            partial.unlink(missing_ok=True)
    print(f"{len(documents)} texts, {checkpoint.projection.layout.dim} dimensions -> {output}")
