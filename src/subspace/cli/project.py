"""`subspace project`: turns stored embeddings into blocks, without encoding texts again."""

import argparse
from pathlib import Path

from subspace.cli.arguments import Commands, check_file
from subspace.cli.terminal import count


def add_command(commands: "Commands[argparse.ArgumentParser]") -> None:
    """Declares the command's arguments."""
    parser = commands.add_parser(
        "project",
        help="turn stored embeddings into blocks, without encoding again",
        description="Writes the blocks of embeddings that are stored already (rows x dimensions, "
        "float32, each block of unit length) to an .npy file, and their layout beside it "
        "(blocks.npy: blocks.json). Row i is of row i of the input. The embeddings must be of the "
        "checkpoint's encoder and layers; those that are not of unit length are scaled to it, as "
        "the encoder scales them. Where a file beside the input (vectors.npy: vectors.json) holds "
        "their encoder's `fingerprint`, as the manifest of an embedding store does, it must be the "
        "checkpoint's. Memory does not grow with the number of embeddings.",
        epilog="example: subspace project --checkpoint checkpoints/minilm --input vectors.npy "
        "--output blocks.npy --blocks topic,style",
    )
    parser.add_argument(
        "--checkpoint",
        required=True,
        metavar="K",
        help="a folder with config.json and model.safetensors, a .ckpt file, or a hub id "
        "(owner/name[@revision])",
    )
    parser.add_argument(
        "--input",
        required=True,
        metavar="F",
        help="an .npy file of embeddings: rows x dimensions, float16, float32 or float64",
    )
    parser.add_argument("--output", required=True, metavar="F", help="the .npy file to write")
    parser.add_argument(
        "--queries",
        action="store_true",
        help="they are of queries: differs where a search was adapted to queries",
    )
    parser.add_argument(
        "--blocks", metavar="B,...", help="which blocks to write, in this order (default: all)"
    )
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> None:
    from subspace.model import load
    from subspace.model.project_vectors import project_file

    output = check_file(arguments.output)
    named = arguments.blocks
    projected = project_file(
        Path(arguments.input),
        output,
        model=load(arguments.checkpoint),
        kind="query" if arguments.queries else "document",
        blocks=None if named is None else [name.strip() for name in named.split(",")],
        progress=True,
    )
    print(f"{count(projected.rows, 'embedding')}, {projected.layout.dim} dimensions -> {output}")
