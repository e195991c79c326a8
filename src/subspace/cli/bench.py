"""`subspace bench`: side-by-side tables on one's own texts."""

import argparse

from subspace.cli.arguments import Commands
from subspace.cli.bench_protocols import add_protocols
from subspace.cli.bench_riv import add_riv


def add_command(commands: "Commands[argparse.ArgumentParser]") -> None:
    """Declares the command's arguments."""
    parser = commands.add_parser(
        "bench",
        help="compare ways to search on one's own texts",
        description="Side-by-side tables on a retrieval set (BEIR layout): `protocols` compares "
        "what gets embedded and how it is cut up; `riv` replays its queries as tasks under every "
        "mix of recency, importance and relevance.",
        epilog="example: subspace bench riv --data my/skills --checkpoint checkpoints/minilm "
        "--output runs/riv",
    )
    benches = parser.add_subparsers(title="benches", metavar="BENCH", required=True)
    add_protocols(benches)
    add_riv(benches)
