"""`subspace discover`: finds the raw dimensions that carry a factor."""

import argparse
from dataclasses import replace
from typing import TYPE_CHECKING

from subspace.cli.arguments import Commands, add_sources, add_store, make_folder
from subspace.errors import ConfigError

if TYPE_CHECKING:
    from subspace.encoder.cached_encoder import CachedEncoder
    from subspace.model import Model


def add_command(commands: "Commands[argparse.ArgumentParser]") -> None:
    """Declares the command's arguments."""
    parser = commands.add_parser(
        "discover",
        help="rank the encoder's own dimensions by what they carry of each factor",
        description="Writes discover.json, discover.md and discover.png: which dimensions of the "
        "encoder's last layer carry each factor of labelled texts, without any training; whether "
        "other texts and other sources say the same; which texts lie at both ends; and how much "
        "the best 1, 8 and 64 hold, beside learned directions, principal components, random "
        "dimensions and, with a checkpoint, its blocks.",
        epilog="example: subspace discover --encoder minilm --data data/factorial "
        "--output runs/discover",
    )
    parser.add_argument(
        "--checkpoint", metavar="K", help="measure its blocks as well, and use its encoder"
    )
    parser.add_argument(
        "--encoder",
        metavar="MODEL",
        help="`minilm`, a folder or a hub id; with --checkpoint: where its encoder lies, if not "
        "where it says",
    )
    add_store(parser)
    add_sources(parser)
    parser.add_argument(
        "--factors", nargs="+", default=[], metavar="NAME", help="what to look for (default: all)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of halves and random dimensions")
    parser.add_argument("--output", required=True, metavar="DIR", help="folder of the tables")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> None:
    from subspace.data.records import hash_records, read_sources
    from subspace.evaluation.discovery import discover
    from subspace.evaluation.discovery_tables import held_table, write_discovery
    from subspace.evaluation.samples import draw_samples
    from subspace.model import load

    if arguments.checkpoint is None and arguments.encoder is None:
        raise ConfigError("give --encoder (such as minilm), or --checkpoint to use its encoder")
    if arguments.seed < 0:
        raise ConfigError(f"--seed must be 0 or more, got {arguments.seed}")
    output = make_folder(arguments.output)
    records = read_sources(arguments.data, exclude=arguments.exclude)
    samples, left_out = draw_samples(records, factors=list(dict.fromkeys(arguments.factors)))
    model = load(arguments.checkpoint, encoder=arguments.encoder) if arguments.checkpoint else None
    encoder = _open_encoder(arguments, model)
    texts = [record.text for sample in samples for record in sample.records]
    encoder.rows(texts, progress=True)  # all texts in one call, to show a single progress bar
    found = discover(
        samples,
        vectors=(encoder.encode([record.text for record in s.records]) for s in samples),
        raw=encoder.encoder.fingerprint.last_layer,
        projection=model.projection if model else None,
        seed=arguments.seed,
        progress=True,
    )
    trained = set(model.data.values()) if model else set()
    seen = [name for name, source in records.items() if hash_records(source) in trained]
    found = replace(found, left_out=tuple(left_out), trained_on=tuple(seen))
    write_discovery(found, folder=output)
    print("\n".join(held_table(found)))
    for reason in left_out:
        print(f"left out: {reason}")
    print(f"discovery -> {output}/discover.md")


def _open_encoder(arguments: argparse.Namespace, model: "Model | None") -> "CachedEncoder":
    if model is not None:
        from subspace.model.embed_texts import open_stored_encoder

        return open_stored_encoder(model, store=arguments.store)
    from subspace.encoder import EncoderSpec
    from subspace.encoder.cached_encoder import CachedEncoder

    return CachedEncoder.open(EncoderSpec(model=arguments.encoder), root=arguments.store)
