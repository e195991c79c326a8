"""`subspace bench`: compares ways to search on the user's own texts."""

import argparse

from subspace.cli import bench_protocols, bench_riv, bench_steer
from subspace.cli.arguments import Commands


def add_command(commands: "Commands[argparse.ArgumentParser]") -> None:
    """Declares the command's arguments."""
    parser = commands.add_parser(
        "bench",
        help="compare ways to search your own texts",
        description="Writes side-by-side tables. `protocols` compares what gets embedded, and how "
        "it is cut up, on a retrieval set (BEIR layout); `riv` replays the queries of such a set "
        "as tasks, under every mix of recency, importance and relevance; `steer` measures how far "
        "a weight moves the hits, on labelled texts.",
        epilog="example: subspace bench riv --data my/skills --checkpoint minilm --output runs/riv",
    )
    benches = parser.add_subparsers(title="benches", metavar="BENCH", required=True)
    for bench in (bench_protocols, bench_riv, bench_steer):
        bench.add_command(benches)
