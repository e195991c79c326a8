"""`subspace probe`: what every block holds of every factor."""

import argparse

from subspace.cli.arguments import (
    Commands,
    add_checkpoint,
    add_store,
    make_folder,
    open_encoder,
)


def add_command(commands: "Commands[argparse.ArgumentParser]") -> None:
    """Declares the command's arguments."""
    parser = commands.add_parser(
        "probe",
        help="measure what every block holds of every factor",
        description="Trains linear probes on the training texts, scores them on the test texts "
        "and writes separation.json, separation.md and separation.png. Every number is relative "
        "to the same probe on the raw embedding.",
        epilog="example: subspace probe --checkpoint checkpoints/demo --data data/factorial "
        "--output runs/report",
    )
    add_checkpoint(parser)
    add_store(parser)
    parser.add_argument(
        "--data",
        required=True,
        nargs="+",
        metavar="DIR",
        help="files or folders of labelled JSONL, or a folder of such folders",
    )
    parser.add_argument(
        "--exclude", nargs="*", default=[], metavar="NAME", help="sources to leave out"
    )
    parser.add_argument("--output", required=True, metavar="DIR", help="folder of the report")
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> None:
    from subspace.checkpoint import load_checkpoint
    from subspace.evaluation import matrix_lines, measure_separation, write_report
    from subspace.labels import label_source
    from subspace.records import hash_records, read_records

    output = make_folder(arguments.output)
    records = read_records(arguments.data, exclude=arguments.exclude)
    checkpoint = load_checkpoint(arguments.checkpoint)
    encoder = open_encoder(checkpoint, encoder=arguments.encoder, store=arguments.store)
    separation = measure_separation(
        checkpoint.projection,
        embeddings={
            name: encoder.encode([record.text for record in source], progress=True)
            for name, source in records.items()
        },
        labels={name: label_source(name, source) for name, source in records.items()},
        raw=checkpoint.fingerprint.last_layer,
        progress=True,
    )
    write_report(
        separation,
        folder=output,
        about={
            "checkpoint": checkpoint.manifest(),
            "data": {name: hash_records(source) for name, source in records.items()},
        },
    )
    if separation.readings:
        print("\n".join(matrix_lines(separation)))
        print(f"selectivity {separation.selectivity():.2f} (own minus leakage; raw embedding: 0)")
    else:
        print("nothing could be read; the reasons:")
    for reason in separation.left_out:
        print(f"left out: {reason}")
    print(f"report -> {arguments.output}")
