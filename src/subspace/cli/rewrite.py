"""`subspace rewrite`: the same texts with one factor changed."""

import argparse
from pathlib import Path

from subspace.cli.arguments import Commands
from subspace.errors import ConfigError


def add_command(commands: "Commands[argparse.ArgumentParser]") -> None:
    """Declares the command's arguments."""
    parser = commands.add_parser(
        "rewrite",
        help="rewrite texts so that one factor changes and the content stays",
        description="Writes every text and its rewrites as labelled JSONL. The texts of one "
        "original share its group; a rewrite is labelled with the factor that its rule changes "
        "(style: the name of the rule; complexity and specificity: -1 less, +1 more; an original "
        "is `as written` and 0).",
        epilog="example: subspace rewrite --input data/factorial/records.jsonl "
        "--output runs/rewritten.jsonl --factors specificity",
    )
    parser.add_argument("--input", required=True, metavar="F", help="JSONL with `id` and `text`")
    parser.add_argument("--output", required=True, metavar="G", help="the JSONL file to write")
    parser.add_argument(
        "--factors", nargs="+", metavar="NAME", help="factors to change (default: all with rules)"
    )
    parser.add_argument(
        "--rules", type=int, metavar="N", help="rules drawn for each factor (default: all)"
    )
    parser.set_defaults(run=_run)


def _run(arguments: argparse.Namespace) -> None:
    from tqdm import tqdm

    from subspace.data.records import read_records
    from subspace.files import write_lines
    from subspace.fitting.weak import RULES, rewrite_records

    known = tuple(dict.fromkeys(rule.factor for rule in RULES))
    factors = tuple(arguments.factors or known)
    unknown = [factor for factor in factors if factor not in known]
    if unknown:
        raise ConfigError(
            f"--factors: no rule changes {', '.join(unknown)}; there are rules for "
            f"{', '.join(known)}"
        )
    if arguments.rules is not None and arguments.rules < 1:
        raise ConfigError(f"--rules must be 1 or more, got {arguments.rules}")
    sources = read_records([arguments.input])
    records = [record for source in sources.values() for record in source]
    lines = [
        line
        for record in tqdm(records, desc="rewriting", unit="text")
        for line in rewrite_records(record, factors=factors, per_factor=arguments.rules)
    ]
    write_lines(Path(arguments.output), lines)
    print(f"{len(records)} texts, {len(lines) - len(records)} rewrites -> {arguments.output}")
