"""`subspace rewrite`: rewrites texts so that one factor changes."""

import argparse

from subspace.cli.arguments import Commands, check_file
from subspace.cli.terminal import count


def add_command(commands: "Commands[argparse.ArgumentParser]") -> None:
    """Declares the command's arguments."""
    parser = commands.add_parser(
        "rewrite",
        help="rewrite texts so that one factor changes and the content stays",
        description="Writes every text and its rewrites as labelled JSONL. A text and its rewrites "
        "share a group. A rewrite is labelled with the factor that its rule changes: style with "
        "the name of the rule, complexity and specificity with -1 for less and +1 for more. The "
        "text itself is labelled `as written` and 0.",
        epilog="example: subspace rewrite --input data/factorial/records.jsonl "
        "--output runs/rewritten.jsonl --factors specificity",
    )
    parser.add_argument("--input", required=True, metavar="F", help="JSONL with `id` and `text`")
    parser.add_argument("--output", required=True, metavar="G", help="JSONL file to write")
    parser.add_argument(
        "--factors",
        nargs="+",
        metavar="NAME",
        help="factors to change (default: all that have rules)",
    )
    parser.add_argument(
        "--rules",
        type=int,
        metavar="N",
        help="number of rules to draw for each factor and text (default: all)",
    )
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> None:
    from subspace.labelling import rewrite_file

    check_file(arguments.output)
    texts, rewrites = rewrite_file(
        arguments.input,
        arguments.output,
        factors=arguments.factors,
        per_factor=arguments.rules,
        progress=True,
    )
    print(f"{count(texts, 'text')}, {count(rewrites, 'rewrite')} -> {arguments.output}")
